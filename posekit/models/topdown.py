"""The top-down path: boxes in an image -> crops -> a model's poses -> the poses of the image (Xiao, Wu, Wei 2018).

The predictor, the evaluation of a run and the benchmarks all take it. N boxes, K keypoints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from posekit.data.crops import crop_people, window_matrices, windows
from posekit.data.transforms import invert, normalise
from posekit.evaluation.nms import THRESHOLD, merge_crops
from posekit.models.spec import finite
from posekit.poses import Poses, join

BATCH = 64  # crops


@torch.inference_mode()
def poses_of_boxes(
    model: nn.Module,
    people: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    sigmas: np.ndarray,
    threshold: float | None = THRESHOLD,
    device: str | torch.device = "cpu",
) -> Iterator[Poses]:
    """The poses of every image, in order, best first, in pixels of the image.

    people: per image (pixels (H, W, 3) uint8, boxes (N, 4) x0 y0 x1 y1 with an area, their scores (N,)); crops of
    consecutive images share a batch. threshold: of OKS-NMS; None keeps all poses, which is right for annotated boxes.
    """
    spec, size = model.input, model.crop_size
    crops: deque[np.ndarray] = deque()
    poses: deque[Poses] = deque()
    waiting: deque[tuple] = deque()  # images whose crops have not all been through the network

    def run(count: int) -> None:
        pixels = np.stack([crops.popleft() for _ in range(count)])
        outputs = model(normalise(pixels, spec.mean, spec.std, device))
        poses.extend(model.decode(outputs, torch.tensor(size).expand(count, 2)))

    def merged() -> Iterator[Poses]:
        while waiting and len(waiting[0][0]) <= len(poses):
            boxes, scores, extents, matrices = waiting.popleft()
            found = [poses.popleft() for _ in boxes]
            good = np.array([len(one) > 0 for one in finite(found)], bool)
            if not good.any():
                yield Poses.nobody(model.num_keypoints)
                continue
            found = join([one for one, kept in zip(found, good, strict=True) if kept])
            back, areas = invert(matrices[good]).astype(np.float32), extents[good].astype(np.float32).prod(1)
            yield merge_crops(found, back, boxes[good], scores[good], areas, sigmas, threshold)

    for image, boxes, scores in people:
        centres, extents = windows(boxes, size)
        matrices = window_matrices(centres, extents, size, udp=True)
        crops.extend(crop_people(image, matrices, size, spec.pixel_centre))
        waiting.append((boxes, scores, extents, matrices))
        while len(crops) >= BATCH:
            run(BATCH)
        yield from merged()
    if crops:
        run(len(crops))
    yield from merged()
