"""POET's data code: annotations and one image through flip, rotation, crop, resize and a chain of them.

`targets.json` says what the published code makes of the annotations, `targets_images.npz` what becomes of the
image. Compared is what the loss sees: the centre of people who have one, the visibility, the position of
joints that are seen and of labelled ones. Numbers under a joint that is not labelled mean nothing and differ:
ours are (0, 0), the published code drags them along.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from golden.report import Report
from posekit.data import transforms
from posekit.data.augment import transform_target
from posekit.layouts import layout_for
from posekit.losses.poet import encode_targets
from posekit.models.spec import IMAGENET

LOOSE = 0.05  # mean difference of resampled images in [0, 1]: image libraries resample differently


def targets(file: Path, report: Report) -> None:
    """All steps of one `targets*.json` and, if it is there, of its images."""
    stem = file.stem.removesuffix("_images")
    fields_file, images_file = file.with_name(f"{stem}.json"), file.with_name(f"{stem}_images.npz")
    if not report.has(fields_file):
        report.fail(file, "replay", f"{fields_file.name} belongs to it and is missing")
        return
    fields = report.fields(fields_file)
    size = tuple(fields["image_wh"])
    people = _people(fields["annotations"])
    image_id = fields["prepared"]["image_id"]
    _compare(
        fields_file,
        report,
        "prepared",
        _step(people, size, fields, "identity"),
        fields["prepared"],
        None,
        size,
    )
    steps = [name for name in fields if name not in ("image_wh", "annotations", "prepared")]
    for name in steps:
        target = fields[name]["target"]
        report.equal(fields_file, f"{name} image_id", image_id, target["image_id"])
        _compare(
            fields_file,
            report,
            name,
            _step(people, size, fields, name),
            target,
            fields[name]["encoded"],
            size,
        )
    if report.has(images_file):
        _compare_images(images_file, report, fields, size, steps)


def _people(annotations: list[dict]) -> dict[str, np.ndarray]:
    """The target of one image as a data set gives it: crowds are regions, not people."""
    rows = [row for row in annotations if not row["iscrowd"]]
    triples = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)
    return {
        "keypoints": triples[..., :2],
        "visibility": triples[..., 2].astype(np.uint8),
        "boxes": _corners([row["bbox"] for row in rows]),
        "areas": np.array([row["area"] for row in rows], np.float32),
        "ignore": _corners([row["bbox"] for row in annotations if row["iscrowd"]]),
    }


def _corners(boxes: list) -> np.ndarray:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _geometry(name: str, size: tuple[int, int], fields) -> tuple[np.ndarray, tuple[int, int], bool, bool]:
    """Matrix, new (width, height), does it flip, does it cut: of a step or a `chain_a_b_c` of steps."""
    chain = name.removeprefix("chain_").split("_") if name.startswith("chain_") else [name]
    matrices, flips, cuts = [transforms.identity()], False, False
    for step in chain:
        kind = re.match("[a-z]+", step).group()

        def given(key, step=step):
            return fields[name].get(key, fields.get(step, {}).get(key))

        if kind == "hflip":
            matrices.append(transforms.hflip(size[0]))
            flips = not flips
        elif kind == "rotate":
            matrices.append(transforms.rotate(given("angle_degrees"), *size))
        elif kind == "crop":
            top, left, height, width = given("region_top_left_height_width")
            matrices.append(transforms.crop(left, top))
            size, cuts = (width, height), True
        elif kind == "resize":
            new = transforms.size_with_aspect_ratio(*size, given("size"), given("max_size"))
            matrices.append(transforms.resize(*size, *new))
            size = new
        elif kind != "identity":
            raise ValueError(f"the step {step!r} of {name!r} is not known")
    return transforms.compose(*matrices), size, flips, cuts


def _step(people: dict, size: tuple[int, int], fields, name: str) -> dict[str, np.ndarray]:
    matrix, new_size, flips, cuts = _geometry(name, size, fields)
    order = layout_for(people["keypoints"].shape[1]).flip if flips else None
    return transform_target(people, matrix, size, new_size, order, cuts)


def _compare(file, report, name, ours, theirs, encoded, old_size) -> None:
    """One step: pixels in `theirs`, and the vector that the loss sees."""
    width, height = (int(value) for value in ours["size"])
    report.equal(file, f"{name} size", [height, width], theirs["size"])
    report.equal(file, f"{name} orig_size", [old_size[1], old_size[0]], theirs["orig_size"])
    rows = np.array(theirs["keypoints"], np.float64).reshape(len(theirs["labels"]), -1)
    if len(rows) != len(ours["keypoints"]):
        report.fail(file, f"{name} people", f"ours {len(ours['keypoints'])}, the reference {len(rows)}")
        return
    keypoints, visibility = torch.from_numpy(ours["keypoints"]), torch.from_numpy(ours["visibility"])
    labels, vectors = encode_targets(keypoints, visibility, torch.tensor([width, height]).float())
    vectors, seen, labelled = vectors.double().numpy(), ours["visibility"] == 2, ours["visibility"] > 0
    report.equal(file, f"{name} labels", labels.tolist(), theirs["labels"])
    report.equal(file, f"{name} iscrowd", [0] * len(rows), theirs["iscrowd"])
    report.compare(file, f"{name} area", ours["areas"], theirs["area"], rtol=1e-5)
    has_center = rows[:, 2] == 1
    report.compare(file, f"{name} vc", vectors[:, 2], rows[:, 2])
    scale = np.array([width, height])
    center = np.where(has_center[:, None], rows[:, :2], 0)
    report.compare(file, f"{name} centre", np.where(has_center[:, None], vectors[:, :2] * scale, 0), center, atol=1e-3)
    joints = rows[:, 3:].reshape(len(rows), -1, 3)
    report.compare(file, f"{name} v", seen.astype(float), joints[..., 2])
    position = joints[..., :2] + rows[:, None, :2]
    report.compare(file, f"{name} labelled joints, px", ours["keypoints"][labelled], position[labelled], atol=1e-3)
    if encoded is not None:
        theirs_seen = np.array(encoded, np.float64).reshape(rows.shape)
        counts = np.concatenate(
            [
                np.repeat(has_center[:, None], 2, 1),
                np.ones((len(rows), 1), bool),
                np.stack([seen, seen, np.ones_like(seen)], -1).reshape(len(rows), -1),
            ],
            1,
        )
        report.compare(
            file,
            f"{name} encoded",
            np.where(counts, vectors, 0),
            np.where(counts, theirs_seen, 0),
            atol=1e-5,
            note="what the loss uses",
        )


def _compare_images(file, report, fields, size, steps) -> None:
    """The image after each step: exact where no pixel is interpolated, else loose."""
    arrays = report.arrays(file)
    image = arrays["image"]
    report.equal(file, "image", list(image.shape), [size[1], size[0], 3])
    for name in steps:
        if f"image_{name}" not in arrays:
            continue
        matrix, new_size, _, _ = _geometry(name, size, fields)
        ours = transforms.warp(image, matrix, new_size).astype(float)
        reference = arrays[f"image_{name}"].astype(float)
        exact = np.array_equal(np.abs(matrix[:, :2]), np.eye(2)) and np.array_equal(matrix, matrix.round())
        if exact or ours.shape != reference.shape:
            report.compare(file, f"image_{name}", ours, reference)
        else:
            report.at_most(
                file,
                f"image_{name}",
                np.abs(ours - reference).mean() / 255,
                LOOSE,
                "mean difference of resampled pixels, of 1",
            )
    mean, std = IMAGENET
    for name in [name for name in arrays if name.startswith("normalised_")]:
        step, rows = re.fullmatch(r"normalised_(.*)_first(\d+)rows", name).groups()
        matrix, new_size, _, _ = _geometry(step, size, fields)
        pixels = transforms.warp(image, matrix, new_size)[: int(rows)] / 255
        ours = ((pixels - mean) / std).transpose(2, 0, 1)
        report.compare(file, name, ours, arrays[name], atol=1e-5)
