"""RTMO's training step: `loss_*.npz`, every term, the total and gradient norms of whole models.

B images, M positives, N priors. The recorded targets are in the published pixel-index frame, the criterion's public
ones in COCO's: half a pixel is added here, and `pack_people` takes it away again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from golden.checks import Check, Directory
from golden.rtmo_forward import filled, pixels_for
from posekit.layouts import layout_for
from posekit.losses.rtmo import PUBLISHED, RtmoCriterion, pose_centers
from posekit.losses.targets import pack_people
from posekit.models.checkpoints_rtmo import published_name

SAME = {"overlaps_power": 0.5, "w_cls": 1.0}  # the files' second stage switches the other weights alone
CASES = {  # stage, options of the criterion besides the published ones
    "stage1": (1, SAME),
    "stage2": (2, SAME),
    "stage2_aux_mask": (2, {"overlaps_power": 1.0, "w_cls": 2.0}),
    "stage1_noweights": (1, SAME),
    "empty_image1": (1, SAME),
    "no_gt": (1, SAME),
}
TOLERANCE = 1e-3  # of an entry's largest number, where float32 allows it
RUNS = 3  # that measure how certain a number is
LAST_BIT = 1e-7  # of a float32, relative
PER_POSITIVE = ("loss_mle", "loss_oks")  # terms that the reference gives person by person, weighted


def losses(file: Path, directory: Directory) -> Iterator[Check]:
    """All cases of a file, with running statistics (`eval`) and with the batch's (`train`)."""
    known = directory.open(file)
    meta = json.loads(str(known["meta.json"])) | {"options": options_of(known)}
    model = filled(meta, known["gt0.keypoints"].shape[1])
    pixels = pixels_for(meta, (meta["batch"], 3, meta["height"], meta["width"]))[:, ::-1].copy()  # BGR to RGB
    for mode in ("eval", "train"):
        expected = {name: known[name] for name in known if name.startswith(mode + ".")}
        cases = sorted({name.split(".")[1] for name in expected})
        targets = {case: targets_of(known, case) for case in cases}
        model.train(mode == "train")
        ours = run(model, pixels, targets, meta, mode)
        limits = {name: TOLERANCE * np.abs(value).max() + 1e-5 for name, value in expected.items()}
        notes = dict.fromkeys(expected, "")
        if any(np.abs(ours[name] - value).max() > limits[name] for name, value in expected.items()):
            # A likelihood of 1/1000 of a person's size is sharper than float32 coordinates are certain: measure with
            # images and weights that differ in their last bits, for other kernels round in every layer, and allow
            # three times that, at most a tenth.
            runs = [ours]
            for seed in range(RUNS):
                rng, noisy = np.random.default_rng(seed), copy.deepcopy(model)
                images = (pixels * (1 + LAST_BIT * rng.standard_normal(pixels.shape))).astype(np.float32)
                for parameter in noisy.parameters():
                    noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape), np.float32))
                    parameter.data.mul_(1 + LAST_BIT * noise)
                runs.append(run(noisy, images, targets, meta, mode))
            for name, value in expected.items():
                spread = 3 * np.ptp([r[name] for r in runs], axis=0).max(initial=0.0)
                wide = min(spread, 0.1 * np.abs(value).max())
                if wide > limits[name]:
                    limits[name], notes[name] = wide, "the last bits of images and weights move ours as far"
        for name, value in expected.items():
            yield known.check(name, ours[name], value, atol=limits[name], note=notes[name])
        for name in sorted(ours.keys() - expected.keys()):
            if ".gradnorm." not in name:
                yield known.check(name, ours[name], 0.0, note="the reference leaves it out: nobody is there")


def run(model, pixels: np.ndarray, targets: dict[str, list], meta: dict, mode: str) -> dict[str, np.ndarray]:
    """Every number of each case, by its name in the file; one forward pass for all of them."""
    outputs = model(torch.from_numpy(pixels), proxies=True)
    result = {}
    for case, people in targets.items():
        numbers = step(model, outputs, people, case, meta)
        result |= {f"{mode}.{case}.{name}": np.asarray(value, np.float64) for name, value in numbers.items()}
    return result


def step(model, outputs: dict, targets: list[dict], case: str, meta: dict) -> dict[str, np.ndarray | float]:
    """Terms, total and gradient norms of one case."""
    stage, options = CASES[case]
    sigmas, options = layout_for(model.num_keypoints).sigmas, meta["options"] | options
    criterion = RtmoCriterion(model.classifier, sigmas, stage=stage, auxiliary="aux" in case, **options)
    people = pack_people(targets, model.num_keypoints)
    person, overlap = criterion.assign(outputs, people)
    parts, overlap = criterion.per_positive(outputs, people, person, overlap)
    weight = torch.ones_like(outputs["cls_logits"])
    if "mask" in case and meta["height"] == meta["width"]:
        weight = mask_weights(outputs, meta)
    terms = criterion.terms(outputs["cls_logits"], person, parts, overlap, weight)
    weighted = {name: criterion.weights[name] * value for name, value in terms.items()}
    total = sum(weighted.values())
    if len(overlap):
        weighted |= {name: criterion.weights[name] * parts[name] for name in PER_POSITIVE}
    numbers = {name: value.detach().numpy() for name, value in weighted.items()}
    if len(overlap):
        numbers["overlaps"] = overlap[:, None].detach().numpy()
    numbers |= {"num_samples": max(len(overlap), 1), "total": total.item()}
    model.zero_grad(set_to_none=True)
    total.backward(retain_graph=True)
    norms = {
        published_name(name): 0.0 if parameter.grad is None else parameter.grad.double().norm().item()
        for name, parameter in model.named_parameters()
    }
    norms["total"] = float(np.linalg.norm(list(norms.values())))
    return numbers | {f"gradnorm.{name}": value for name, value in norms.items()}


def options_of(arrays) -> dict:
    """The published options that a file was recorded with: its likelihood's first weight tells, the second being 5."""
    first, second = (np.abs(arrays[f"eval.{stage}.loss_mle"]).sum() for stage in ("stage1", "stage2"))
    known = [PUBLISHED[name] for name in ("coco_s", "coco_m", "crowdpose_s")]
    return min(known, key=lambda options: abs(np.log(options["w_mle"][0] / (5 * first / second))))


def targets_of(arrays, case: str) -> list[dict[str, Tensor]]:
    """Targets as a loader gives them."""
    targets = []
    for b in range(sum(name.endswith(".areas") for name in arrays)):
        here = slice(0, 0) if case == "no_gt" or (case == "empty_image1" and b == 1) else slice(None)
        names = ("bboxes", "keypoints", "keypoints_visible", "areas", "keypoints_visible_weights")
        boxes, keypoints, visible, areas, weights = (torch.from_numpy(arrays[f"gt{b}.{name}"])[here] for name in names)
        target = {"boxes": boxes + 0.5, "keypoints": keypoints + 0.5, "visibility": visible, "areas": areas}
        targets.append(target if case == "stage1_noweights" else target | {"visibility_weights": weights})
    return targets


def mask_weights(outputs: dict[str, Tensor], meta: dict) -> Tensor:
    """(B, N) the reference's weights: 1 - its mask of a rectangle in image 0, read at the pose centres.

    Ours come from rectangles and are 0 or 1; the reference interpolates its mask, and reads it at the image's corner
    for a pose without a visible joint.
    """
    h, w = meta["height"], meta["width"]
    mask = torch.zeros(meta["batch"], 1, h, w)
    mask[0, :, h // 4 : h // 2, w // 3 : 2 * w // 3] = 1
    corner = torch.zeros_like(outputs["priors"])
    centers = pose_centers(outputs["proxy_keypoints"], outputs["vis_logits"], corner)
    grid = (centers / (w - 1) * 2 - 1)[:, None].detach()
    return 1 - functional.grid_sample(mask, grid, align_corners=False)[:, 0, 0]
