"""What the weights of a run score now: terms of the loss and COCO's numbers on its validation data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from posekit.data.transforms import decode
from posekit.evaluation.boxes import box_rows, evaluate_boxes
from posekit.evaluation.coco import evaluate
from posekit.poses import Poses
from posekit.protocols import Criterion, PoseDataset
from posekit.training.build import Parts


@dataclass
class Validation:
    """`numbers`: means of the terms as `val_*` over what the run learns from, COCO's ten numbers of the first data set
    and, of several, `AP_NAME` of each. `rows`: COCO result rows of each data set; none of a model that does not decode
    poses. `troubles`: a sentence for each kind of number that is not finite.
    """

    numbers: dict[str, Any]
    rows: dict[str, list[dict]]
    troubles: list[str]


@torch.inference_mode()
def validate(
    model: nn.Module, parts: Parts, fabric, criterion: Criterion, terms: Iterable[str], check: Callable[[], None]
) -> Validation:
    """One pass over the validation data of `parts`. `check` is called before every batch; what it raises ends it.

    A loss that is not finite is NaN here, as are its `terms` where predictions cannot be assigned to people, and poses
    that are not finite are left out of the score. Training goes on: only its own loss stops it.
    """
    model, several, heads, decodes = model.eval(), len(parts.val) > 1, parts.learned > 1, hasattr(model, "decode")
    sums, stats, found = {}, {}, {}
    images = lost_images = lost_poses = 0
    for index, (name, loader) in enumerate(parts.val.items()):
        rows, data = [], loader.dataset
        learned = index < parts.learned
        kwargs = parts.forward_kwargs | ({"dataset": index if learned else 0} if heads else {})
        for batch in loader.epoch(0):
            check()
            batch = fabric.to_device(batch)
            for target in batch["targets"] if heads and learned else ():
                target["dataset"] = torch.tensor(index)
            outputs, count = model(batch["images"], batch["padding_mask"], **kwargs), len(batch["images"])
            if learned:
                values = _loss_values(criterion, outputs, batch["targets"], terms)
                for term, value in values.items():
                    sums[term] = sums.get(term, 0.0) + value * count
                images += count
                lost_images += 0 if math.isfinite(values["total"]) else count
            for poses, target in zip(decode(model, outputs, batch), batch["targets"], strict=True) if decodes else ():
                fine = poses.finite()
                lost_poses += int((~fine).sum())
                rows += rows_of(poses.select(fine), target["image_id"], data.category_id)
        if decodes:
            found[name], numbers = rows, numbers_of(data, rows, detector=not model.num_keypoints)
            stats |= ({} if index else numbers) | ({"AP_" + name: numbers["AP"]} if several else {})
    troubles = []
    if lost_images:
        lost = f"the validation loss of {lost_images} of {images} images is not finite"
        troubles.append(f"{lost}; the log says nan and training goes on")
    if lost_poses:
        troubles.append(f"{lost_poses} predicted poses are not finite and are left out of the AP")
    return Validation({"val_" + name: value / max(images, 1) for name, value in sums.items()} | stats, found, troubles)


def _loss_values(criterion: Criterion, outputs: dict, targets: list[dict], terms: Iterable[str]) -> dict[str, float]:
    """The weighted sum and the terms of a batch; NaN where predictions cannot be assigned to people."""
    try:
        losses = criterion(outputs, targets)
    except FloatingPointError:
        return dict.fromkeys(["total", *terms], math.nan)
    return {"total": float(losses.total)} | {term: float(value) for term, value in losses.terms.items()}


def rows_of(poses: Poses, image_id: int, category_id: int) -> list[dict]:
    """COCO result rows: keypoints, or of a detector, which finds none, bounding boxes."""
    detector = not poses.keypoints.shape[1]
    return box_rows(poses, image_id, category_id) if detector else poses.to_coco(image_id, category_id)


def numbers_of(data: PoseDataset, rows: list[dict], detector: bool) -> dict[str, Any]:
    """COCO's numbers of keypoints, or of a detector's bounding boxes; those without an annotation left out."""
    if detector:
        return evaluate_boxes(data.ground_truth, rows, data.category_id)
    return evaluate(data.ground_truth, rows, **scoring(data)).known


def scoring(data: PoseDataset) -> dict[str, Any]:
    """What `posekit.evaluation.coco.evaluate` must know of a data set besides its ground truth."""
    return {"sigmas": data.layout.sigmas, "area_scale": data.area_scale, "category_id": data.category_id}
