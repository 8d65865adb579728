"""POET's data code: annotations and one image through flip, rotation, crop, resize and a chain of them.

`targets.json` holds what the published code makes of the annotations, `targets_images.npz` what becomes of the image.
Compared is what the loss sees: the centre of people who have one, the visibility, the position of joints that are seen
and of labelled ones. Joints that are not labelled differ: ours are (0, 0), the published code keeps numbers there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from golden.checks import Check, Directory, Entries
from posekit.data import transforms
from posekit.data.augment import transform_target
from posekit.input_spec import IMAGENET
from posekit.layouts import layout_for
from posekit.losses.poet import encode_targets

RESAMPLED = 0.05  # mean difference of resampled images in [0, 1]: image libraries resample differently
INPUTS = ("image_wh", "annotations", "prepared")


def targets(file: Path, directory: Directory) -> Iterator[Check]:
    """The annotations as prepared, and after all steps of one `targets*.json`."""
    fields = directory.open(file)
    rows = [row for row in fields["annotations"] if not row["iscrowd"]]
    triples = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    people = {
        "keypoints": triples[..., :2],
        "visibility": triples[..., 2].astype(np.uint8),
        "boxes": np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        "areas": np.array([row["area"] for row in rows], np.float32),
        "ignore": np.zeros((0, 4), np.float32),
    }
    yield from _check_step(fields, "prepared", people, "identity", fields["prepared"], None)
    for name in [name for name in fields if name not in INPUTS]:
        target = fields[name]["target"]
        yield fields.equal(f"{name} image_id", fields["prepared"]["image_id"], target["image_id"])
        yield from _check_step(fields, name, people, name, target, fields[name]["encoded"])


def target_images(file: Path, directory: Directory) -> Iterator[Check]:
    """The image after each step: exact where no pixel is interpolated, else approximately."""
    arrays, fields = directory.together(file, file.with_name(f"{file.stem.removesuffix('_images')}.json"))
    image, size = arrays["image"], tuple(fields["image_wh"])
    yield arrays.equal("image", list(image.shape), [size[1], size[0], 3])
    for name in [name for name in fields if name not in INPUTS]:
        matrix, new_size, _ = _geometry(name, size, fields)
        ours, reference = transforms.warp(image, matrix, new_size).astype(float), arrays.get(f"image_{name}")
        exact = np.array_equal(np.abs(matrix[:, :2]), np.eye(2)) and np.array_equal(matrix, matrix.round())
        if exact or reference is None or ours.shape != reference.shape:
            yield arrays.check(f"image_{name}", ours)
        else:
            note = "mean difference of resampled pixels, of 1"
            yield arrays.at_most(f"image_{name}", np.abs(ours - reference).mean() / 255, RESAMPLED, note)
    for name in [name for name in arrays if name.startswith("normalised_")]:
        step, rows = re.fullmatch(r"normalised_(.*)_first(\d+)rows", name).groups()
        matrix, new_size, _ = _geometry(step, size, fields)
        pixels = (transforms.warp(image, matrix, new_size)[: int(rows)] / 255 - IMAGENET[0]) / IMAGENET[1]
        yield arrays.check(name, pixels.transpose(2, 0, 1), atol=1e-5)


def _geometry(name: str, size: tuple[int, int], fields: Entries) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Matrix, new (width, height), does it cut: of a step or a `chain_a_b_c` of steps."""
    chain = name.removeprefix("chain_").split("_") if name.startswith("chain_") else [name]
    matrices, cuts = [], False
    for step in chain:
        options, kind = fields.get(step, {}) | fields.get(name, {}), re.match("[a-z]+", step).group()
        if kind == "hflip":
            matrices.append(transforms.hflip(size[0]))
        elif kind == "rotate":
            matrices.append(transforms.rotate(options["angle_degrees"], *size))
        elif kind == "crop":
            top, left, height, width = options["region_top_left_height_width"]
            matrices.append(transforms.crop(left, top))
            size, cuts = (width, height), True
        elif kind == "resize":
            new = transforms.size_with_aspect_ratio(*size, options["size"], options["max_size"])
            matrices.append(transforms.resize(*size, *new))
            size = new
        elif kind != "identity":
            raise ValueError(f"the step {step!r} of {name!r} is not known")
    return transforms.compose(*matrices), size, cuts


def _check_step(fields: Entries, name: str, people: dict, step: str, theirs: dict, encoded) -> Iterator[Check]:
    """One step: pixels in `theirs`, and in `encoded` the vector that the loss sees."""
    old_size = tuple(fields["image_wh"])
    matrix, size, cuts = _geometry(step, old_size, fields)
    order = layout_for(people["keypoints"].shape[1]).flip
    ours = transform_target(people, matrix, old_size, size, order, cuts)
    rows = np.array(theirs["keypoints"], np.float64).reshape(len(theirs["labels"]), -1)
    yield fields.equal(f"{name} size", ours["size"].tolist(), theirs["size"][::-1])
    yield fields.equal(f"{name} orig_size", list(old_size[::-1]), theirs["orig_size"])
    yield fields.equal(f"{name} people", len(ours["keypoints"]), len(rows))
    if len(rows) != len(ours["keypoints"]):
        return
    keypoints, visibility = torch.from_numpy(ours["keypoints"]), torch.from_numpy(ours["visibility"])
    labels, vectors = encode_targets(keypoints, visibility, torch.tensor(size).float())
    vectors, seen, labelled = vectors.double().numpy(), ours["visibility"] == 2, ours["visibility"] > 0
    has_center, joints = rows[:, 2:3] == 1, rows[:, 3:].reshape(len(rows), -1, 3)
    center, position = np.where(has_center, rows[:, :2], 0), joints[..., :2] + rows[:, None, :2]
    yield fields.equal(f"{name} labels", labels.tolist(), theirs["labels"])
    yield fields.equal(f"{name} iscrowd", [0] * len(rows), theirs["iscrowd"])
    yield fields.check(f"{name} area", ours["areas"], theirs["area"], rtol=1e-5)
    yield fields.check(f"{name} vc", vectors[:, 2], rows[:, 2])
    yield fields.check(f"{name} centre", np.where(has_center, vectors[:, :2] * size, 0), center, atol=1e-3)
    yield fields.check(f"{name} v", seen.astype(float), joints[..., 2])
    yield fields.check(f"{name} labelled joints, px", ours["keypoints"][labelled], position[labelled], atol=1e-3)
    if encoded is not None:
        person = np.hstack([has_center, has_center, np.ones_like(has_center)])
        joint = np.stack([seen, seen, np.ones_like(seen)], -1).reshape(len(rows), -1)
        counts, reference = np.hstack([person, joint]), np.array(encoded, np.float64).reshape(rows.shape)
        ours, reference = np.where(counts, vectors, 0), np.where(counts, reference, 0)
        yield fields.check(f"{name} encoded", ours, reference, atol=1e-5, note="what the loss uses")
