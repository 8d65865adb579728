"""The top-down path: boxes in an image -> crops -> a model's poses -> the poses of the image, without duplicates.

The predictor, the evaluation of a run and the benchmarks all take it (Xiao, Wu, Wei 2018). Duplicates are suppressed by
OKS-NMS (Papandreou et al. 2017, section 3.3): the OKS of two predicted poses counts all joints, with the mean of their
areas as the scale. Published top-down evaluation: score = box score x mean of the joint scores above 0.2, then OKS-NMS
at 0.9; the area is that of what was cut out. N boxes or poses of one image, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, tee

import numpy as np
import torch

from posekit.data.crops import crop_people, window_matrices, windows
from posekit.data.transforms import invert, normalise
from posekit.pixels import HALF_PIXEL
from posekit.poses import Poses, drop_not_finite, join
from posekit.protocols import PoseModel

BATCH = 64  # crops
THRESHOLD = 0.9


@torch.inference_mode()
def poses_of_boxes(
    model: PoseModel,
    people: Iterable[tuple[np.ndarray | None, np.ndarray, np.ndarray]],
    sigmas: np.ndarray,
    threshold: float | None = THRESHOLD,
    device: str | torch.device = "cpu",
    flip: Sequence[int] | None = None,
) -> Iterator[Poses]:
    """The poses of every image, in order, best first, in pixels of the image.

    people: per image (pixels (H, W, 3) uint8, boxes (N, 4) x0 y0 x1 y1 with an area, their scores (N,)); crops of
    consecutive images share a batch, and without boxes the pixels may be None. threshold: of OKS-NMS; None keeps all
    poses, which is right for annotated boxes. flip: `Layout.flip`, for the flip test.
    """
    from posekit.models.vitpose import flip_test

    spec, size = model.input, model.crop_size

    def cut_out(image, boxes: np.ndarray, scores: np.ndarray) -> tuple:
        centres, extents = windows(boxes, size)
        matrices = window_matrices(centres, extents, size, udp=spec.udp)
        if not spec.udp:
            matrices[:, :, 2] += HALF_PIXEL
        return crop_people(image, matrices, size, spec.pixel_centre), matrices, extents, boxes, scores

    def found_in(crops: list[np.ndarray]) -> list[Poses]:
        images = normalise(np.stack(crops), spec.mean, spec.std, device)
        outputs = model(images) if flip is None else flip_test(model, images, flip)
        return model.decode(outputs, torch.tensor(size).expand(len(crops), 2))

    ahead, images = tee(cut_out(*one) for one in people)  # a batch is read ahead of the image whose poses are due
    crops = chain.from_iterable(pixels for pixels, *_ in ahead)
    found = chain.from_iterable(map(found_in, iter(lambda: list(islice(crops, BATCH)), [])))
    for _, matrices, extents, boxes, scores in images:
        poses = list(islice(found, len(boxes)))
        good = np.array([len(one) > 0 for one in drop_not_finite(poses)], bool)
        if not good.any():
            yield Poses.nobody(model.num_keypoints)
            continue
        whole = join([one for one, kept in zip(poses, good, strict=True) if kept])
        back, areas = invert(matrices[good]).astype(np.float32), extents[good].astype(np.float32).prod(1)
        yield merge_crops(whole, back, boxes[good], scores[good], areas, sigmas, threshold)


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


def oks_nms(
    poses: Poses, sigmas: np.ndarray, threshold: float = THRESHOLD, areas: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the poses to keep, best first: each drops the less sure ones that are more similar than `threshold`.

    areas: (N,) pixels^2; the poses' boxes by default.

    Raises:
        ValueError: another number of sigmas than keypoints, or a pose that is not finite.
    """
    if len(sigmas) != poses.keypoints.shape[1]:
        raise ValueError(f"{len(sigmas)} sigmas do not fit poses of {poses.keypoints.shape[1]} keypoints")
    if not np.isfinite(poses.keypoints).all() or not np.isfinite(poses.scores).all():
        raise ValueError("a pose or its score is not finite: leave such poses out before the suppression")
    areas = np.prod(poses.boxes[:, 2:] - poses.boxes[:, :2], axis=1) if areas is None else areas
    left, kept = np.argsort(-poses.scores, kind="stable"), []
    alike = similarity(poses.keypoints, areas, sigmas)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[alike[best, left] <= threshold]
    return np.array(kept, int)


def similarity(keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(N, N) OKS of every pose (N, K, 2) with every other; areas (N,) pixels^2."""
    keypoints, areas = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    distances = np.square(keypoints[:, None] - keypoints[None]).sum(-1)
    spread = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    return np.exp(-distances / variances / spread[..., None] / 2).mean(-1)
