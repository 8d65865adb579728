"""Too many boxes for one person: suppression of poses by their similarity (OKS-NMS: Papandreou et al. 2017, section
3.3), hard or soft, and crops gathered to the poses of a picture (Xiao, Wu, Wei 2018, section 3).

OKS of two found poses counts all joints, with the mean of their areas as the scale. Published top-down evaluation:
score = box score x mean of the joint scores above 0.2, then OKS-NMS at 0.9; the area is that of the window cut out.
Legend: N poses of one picture, K keypoints. Frame: pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posekit.poses import Poses

THRESHOLD = 0.9
MOST = 20  # poses that soft suppression keeps


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


def soft_oks_nms(
    poses: Poses,
    sigmas: np.ndarray,
    threshold: float = THRESHOLD,
    areas: np.ndarray | None = None,
    most: int = MOST,
    decay: str = "gaussian",
) -> tuple[np.ndarray, np.ndarray]:
    """(indices, scores): similar poses are not dropped but lose score, and the best `most` are kept, best first.

    decay: "gaussian" = times exp(-OKS^2 / threshold), "linear" = times 1 - OKS where OKS reaches the threshold.
    """
    if decay not in ("gaussian", "linear"):
        raise ValueError(f"decay is {decay!r}; choose 'gaussian' or 'linear'")
    order, table = _prepared(poses, sigmas, areas)
    factor = np.exp(-(table**2) / threshold) if decay == "gaussian" else np.where(table >= threshold, 1 - table, 1.0)
    scores, left, kept = poses.scores.astype(np.float64), order.copy(), []
    while len(left) and len(kept) < most:
        best = left[np.argmax(scores[left])]
        kept.append(best)
        left = left[left != best]
        scores[left] *= factor[best, left]
    index = np.array(kept, int)
    return index, scores[index].astype(np.float32)


def suppress(
    poses: Poses,
    sigmas: np.ndarray,
    threshold: float = THRESHOLD,
    areas: np.ndarray | None = None,
    soft: bool = False,
) -> Poses:
    """The poses that are left, best first; with `soft` under their lowered scores."""
    if not soft:
        return poses.select(oks_nms(poses, sigmas, threshold, areas))
    kept, scores = soft_oks_nms(poses, sigmas, threshold, areas)
    poses = poses.select(kept)
    return Poses(poses.keypoints, poses.visibility, scores, poses.boxes, poses.centers)


def join(parts: Sequence[Poses]) -> Poses:
    """All poses as one record. Raises ValueError where there is none (K would be unknown)."""
    if not parts:
        raise ValueError("there are no poses to join: an empty picture is Poses of shape (0, K, 2)")
    names = ("keypoints", "visibility", "scores", "boxes", "centers")
    return Poses(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def gather(
    crops: Sequence[Poses],
    targets: Sequence[dict],
    sigmas: np.ndarray,
    threshold: float | None = THRESHOLD,
    soft: bool = False,
    ids: Sequence[int] = (),
) -> dict[int, Poses]:
    """Poses of crops -> poses of pictures: {image id: Poses, best first}, in pixels of the picture.

    Args:
        crops: a model's `decode`, one entry per crop, in pixels of the crop. targets: of the same crops, as the loader
            gives them: `image_id`, `to_original`, and `box_score` by which the scores are multiplied, `window` (w, h)
            in picture pixels, whose area is the scale of the suppression, and `box` (4,) in picture pixels.
        threshold: of OKS-NMS; None keeps all, which is right for annotated boxes. soft: see `soft_oks_nms`.
        ids: pictures that must appear, with no people where there was no crop.
    """
    pictures: dict[int, list[tuple[Poses, float]]] = {int(i): [] for i in ids}
    for poses, target in zip(crops, targets, strict=True):
        moved = poses.transform(np.asarray(target["to_original"], np.float64))
        boxes = np.asarray(target["box"], np.float32).reshape(1, 4) if "box" in target else moved.boxes
        scores = (poses.scores * float(target.get("box_score", 1.0))).astype(np.float32)
        moved = Poses(moved.keypoints, moved.visibility, scores, boxes, moved.centers)
        area = float(np.prod(np.asarray(target["window"]))) if "window" in target else _areas(boxes)[0]
        pictures.setdefault(int(target["image_id"]), []).append((moved, area))
    result = {}
    for image_id, people in pictures.items():
        if not people:
            result[image_id] = _nobody(len(sigmas))
            continue
        poses, areas = join([one for one, _ in people]), np.array([area for _, area in people])
        if threshold is None:
            result[image_id] = poses.select(np.argsort(-poses.scores, kind="stable"))
        else:
            result[image_id] = suppress(poses, sigmas, threshold, areas, soft)
    return result


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


def _nobody(keypoints: int) -> Poses:
    return Poses(np.zeros((0, keypoints, 2), np.float32), np.zeros((0, keypoints), np.float32), np.zeros(0, np.float32))
