"""Duplicate poses of one person: suppression by their similarity (OKS-NMS: Papandreou et al. 2017, section 3.3), and
the poses of crops merged to those of an image (Xiao, Wu, Wei 2018, section 3).

OKS of two predicted poses counts all joints, with the mean of their areas as the scale. Published top-down evaluation:
score = box score x mean of the joint scores above 0.2, then OKS-NMS at 0.9; the area is that of what was cut out.
N poses of one image, K keypoints. Coordinates: pixels of the image.
"""

from __future__ import annotations

import numpy as np

from posekit.poses import Poses

THRESHOLD = 0.9


def similarity(keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(N, N) OKS of every pose (N, K, 2) with every other; areas (N,) pixels^2."""
    keypoints, areas = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    # |a - b|^2 with one table per joint, so that all pairs are one pass
    distances = np.square(keypoints[:, None] - keypoints[None]).sum(-1)
    spread = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    return np.exp(-distances / variances / spread[..., None] / 2).mean(-1)


def oks_nms(
    poses: Poses, sigmas: np.ndarray, threshold: float = THRESHOLD, areas: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the poses to keep, best first: each drops the less sure ones that are more similar than `threshold`.

    areas: (N,) pixels^2; the poses' boxes by default. Raises ValueError: sigmas or poses that do not fit.
    """
    order, table = _prepared(poses, sigmas, areas)
    alive, kept = np.ones(len(order), bool), []
    table = table[np.ix_(order, order)]
    for i in range(len(order)):
        if alive[i]:
            kept.append(i)
            alive &= table[i] <= threshold
    return order[kept]


def merge_crops(
    poses: Poses,
    to_original: np.ndarray,
    boxes: np.ndarray,
    box_scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    threshold: float | None = THRESHOLD,
) -> Poses:
    """Poses of the crops of one image -> the poses of the image, best first, in pixels of the image.

    Args:
        poses: one per crop, in pixels of the crop. to_original: (N, 2, 3), crop -> image. boxes: (N, 4) pixels of the
            image, which become the poses'. box_scores: (N,), by which the scores are multiplied. areas: (N,) pixels^2
            of what was cut out, the scale of the suppression.
        threshold: of OKS-NMS; None keeps all, which is right for annotated boxes.
    """
    back = np.asarray(to_original, np.float64)
    keypoints = (poses.keypoints @ back[:, :, :2].transpose(0, 2, 1) + back[:, None, :, 2]).astype(np.float32)
    scores = poses.scores * np.asarray(box_scores, np.float32)
    moved = Poses(keypoints, poses.visibility, scores, np.asarray(boxes, np.float32))
    if threshold is None:
        return moved.select(np.argsort(-scores, kind="stable"))
    return moved.select(oks_nms(moved, sigmas, threshold, areas))


def _prepared(poses: Poses, sigmas: np.ndarray, areas: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices by falling score, and the table of similarities."""
    if len(sigmas) != poses.keypoints.shape[1]:
        raise ValueError(f"{len(sigmas)} sigmas do not fit poses of {poses.keypoints.shape[1]} keypoints")
    if not np.isfinite(poses.keypoints).all() or not np.isfinite(poses.scores).all():
        raise ValueError("a pose or its score is not finite: leave such poses out before the suppression")
    areas = _areas(poses.boxes) if areas is None else areas
    return np.argsort(-poses.scores, kind="stable"), similarity(poses.keypoints, areas, sigmas)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
