"""COCO's scores of a person detector's boxes, by pycocotools: detectors are not what this project is about."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from posekit.poses import Poses

STATS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR", "ARS", "ARM", "ARL")


def box_rows(poses: Poses, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
    """COCO result rows of the boxes of one image's people."""
    corners = poses.boxes.astype(float).round(3)
    return [
        {
            "image_id": int(image_id),
            "category_id": category_id,
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": float(score),
        }
        for box, score in zip(corners, poses.scores, strict=True)
    ]


def evaluate_boxes(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], category_id: int = 1
) -> dict[str, float]:
    """COCO's twelve numbers of boxes, those of sizes that no annotation has left out; all 0 without detections.

    ground_truth: COCO's JSON as Python objects; detections: rows as `box_rows` makes them.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not detections:
        return dict.fromkeys(STATS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = {
            **ground_truth,
            "annotations": [{"iscrowd": 0, **row} for row in ground_truth["annotations"] if row.get("bbox")],
        }
        truth.createIndex()
        scorer = COCOeval(truth, truth.loadRes([dict(row) for row in detections]), "bbox")
        scorer.params.catIds = [category_id]
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return {name: float(value) for name, value in zip(STATS, scorer.stats, strict=True) if value >= 0}
