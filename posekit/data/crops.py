"""From a person's box to the crop that a top-down model sees (SimpleBaseline: Xiao, Wu, Wei 2018, section 2).

Frame: COCO's pixels on both sides. A matrix (2, 3) maps picture pixels to crop pixels.
"""

from __future__ import annotations

import numpy as np

from posekit.data.affine import warp


def box_matrices(boxes: np.ndarray, size: tuple[int, int] = (192, 256), padding: float = 1.25) -> np.ndarray:
    """Matrices (n, 2, 3) that place each box in the middle of a crop of `size` = (width, height).

    The shorter side of the box (n, 4) x0 y0 x1 y1 grows to the crop's aspect ratio, then both grow by
    `padding`; nothing is distorted.

    Raises:
        ValueError: a box without area.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    extent = boxes[:, 2:] - boxes[:, :2]
    if (extent <= 0).any():
        raise ValueError(
            f"box {boxes[(extent <= 0).any(1)][0].tolist()} has no area; give x0 < x1 and y0 < y1"
        )
    scale = np.min(np.array(size) / (extent * padding), axis=1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, :, 2] = np.array(size) / 2 - scale[:, None] * middle
    return matrices


def crop_people(image: np.ndarray, matrices: np.ndarray, size: tuple[int, int] = (192, 256)) -> np.ndarray:
    """One crop per matrix, uint8 (n, height, width, 3), of a picture (H, W, 3); black outside the picture."""
    crops = np.zeros((len(matrices), size[1], size[0], 3), np.uint8)
    for crop, matrix in zip(crops, matrices, strict=True):
        crop[:] = warp(image, matrix, size)
    return crops
