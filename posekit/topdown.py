"""The top-down path: boxes in an image -> crops -> a model's poses -> the poses of the image, without duplicates.

The predictor, the evaluation of a run and the benchmarks all take it (Xiao, Wu, Wei 2018). Duplicates are suppressed by
OKS-NMS (Papandreou et al. 2017, section 3.3): the OKS of two predicted poses counts all joints, with the mean of their
areas as the scale. Published top-down evaluation: score = box score x mean of the joint scores above 0.2, then OKS-NMS
at 0.9; the area is that of what was cut out. N boxes or poses of one image, K keypoints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from posekit.data.crops import crop_people, window_matrices, windows
from posekit.data.transforms import invert, normalise
from posekit.poses import Poses, drop_not_finite, join
from posekit.protocols import PoseModel

BATCH = 64  # crops
THRESHOLD = 0.9


@torch.inference_mode()
def poses_of_boxes(
    model: PoseModel,
    people: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    sigmas: np.ndarray,
    threshold: float | None = THRESHOLD,
    device: str | torch.device = "cpu",
    flip: Sequence[int] | None = None,
) -> Iterator[Poses]:
    """The poses of every image, in order, best first, in pixels of the image.

    people: per image (pixels (H, W, 3) uint8, boxes (N, 4) x0 y0 x1 y1 with an area, their scores (N,)); crops of
    consecutive images share a batch. threshold: of OKS-NMS; None keeps all poses, which is right for annotated boxes.
    flip: `Layout.flip`, for the flip test.
    """
    from posekit.models.vitpose import flip_test

    spec, size = model.input, model.crop_size
    crops: deque[np.ndarray] = deque()
    poses: deque[Poses] = deque()
    waiting: deque[tuple] = deque()  # images whose crops have not all been through the network

    def run(count: int) -> None:
        pixels = np.stack([crops.popleft() for _ in range(count)])
        images = normalise(pixels, spec.mean, spec.std, device)
        outputs = model(images) if flip is None else flip_test(model, images, flip)
        poses.extend(model.decode(outputs, torch.tensor(size).expand(count, 2)))

    def merged() -> Iterator[Poses]:
        while waiting and len(waiting[0][0]) <= len(poses):
            boxes, scores, extents, matrices = waiting.popleft()
            found = [poses.popleft() for _ in boxes]
            good = np.array([len(one) > 0 for one in drop_not_finite(found)], bool)
            if not good.any():
                yield Poses.nobody(model.num_keypoints)
                continue
            found = join([one for one, kept in zip(found, good, strict=True) if kept])
            back, areas = invert(matrices[good]).astype(np.float32), extents[good].astype(np.float32).prod(1)
            yield merge_crops(found, back, boxes[good], scores[good], areas, sigmas, threshold)

    for image, boxes, scores in people:
        centres, extents = windows(boxes, size)
        matrices = window_matrices(centres, extents, size, udp=True)
        if len(boxes):
            crops.extend(crop_people(image, matrices, size, spec.pixel_centre))
        waiting.append((boxes, scores, extents, matrices))
        while len(crops) >= BATCH:
            run(BATCH)
        yield from merged()
    if crops:
        run(len(crops))
    yield from merged()


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
