"""From people's boxes to the crops that a top-down model sees (Xiao, Wu, Wei 2018, section 2; UDP: Huang et al. 2020).

One formula makes every matrix: a point goes to R S (p - centre) + middle, where R turns and S stretches the window
around the box to the crop. UDP measures the crop from the first pixel's centre to the last one's (W - 1), so that a
flip or a heatmap of another resolution is aligned with it; without UDP it is W.

Coordinates: COCO pixels on both sides. A matrix (2, 3) maps pixels of the image to those of the crop. n boxes, (W, H)
crop.
"""

from __future__ import annotations

import cv2
import numpy as np

from posekit.data import transforms
from posekit.pixels import HALF_PIXEL

SIZE = (192, 256)
PADDING = 1.25


def windows(boxes: np.ndarray, size: tuple[int, int] = SIZE, padding: float = PADDING) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 2) and extents (n, 2) = (width, height) of what is cut out around boxes (n, 4) x0 y0 x1 y1.

    The shorter side of a box grows to the crop's aspect ratio, then both by `padding`. The published code's `scale`
    is extent / 200.

    Raises:
        ValueError: a box without area, or with a number that is not finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    for fault in box_faults(boxes).values():
        raise ValueError(f"{fault}; give x0 < x1 and y0 < y1")
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    ratio = size[0] / size[1]
    extents = np.stack([width.clip(height * ratio), height.clip(width / ratio)], 1)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, extents * padding


def window_matrices(
    centres: np.ndarray,
    extents: np.ndarray,
    size: tuple[int, int] = SIZE,
    degrees: np.ndarray | float = 0.0,
    udp: bool = False,
    mirror: np.ndarray | bool = False,
) -> np.ndarray:
    """Matrices (n, 2, 3) that put windows, turned by `degrees` (clockwise on the screen) or mirrored, into the crop."""
    angle, mirror = np.deg2rad(np.broadcast_to(degrees, len(centres))), np.broadcast_to(mirror, len(centres))
    stretch = (np.array(size) - bool(udp)) / extents
    if not udp:  # both are equal but for rounding: nothing is distorted
        stretch = np.repeat(stretch.min(1, keepdims=True), 2, axis=1)
    stretch = stretch * np.stack([np.where(mirror, -1.0, 1.0), np.ones(len(centres))], 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    linear = stretch[:, :, None] * turn
    shift = np.array(size) / 2 - np.einsum("nij,nj->ni", linear, centres)
    return np.concatenate([linear, shift[:, :, None]], axis=2)


def box_matrices(
    boxes: np.ndarray, size: tuple[int, int] = SIZE, padding: float = PADDING, udp: bool = False
) -> np.ndarray:
    """Matrices (n, 2, 3) that place each box (n, 4) x0 y0 x1 y1 in the middle of a crop of `size` = (width, height).

    Nothing is distorted (but for a pixel with `udp`). Raises ValueError as `windows` does.
    """
    return window_matrices(*windows(boxes, size, padding), size, udp=udp)


def box_faults(boxes: np.ndarray, sizes: np.ndarray | None = None) -> dict[int, str]:
    """What is wrong with which of the boxes (n, 4), a sentence each: not finite, without area, outside the image.

    sizes: (n, 2) = (width, height) of their images, if boxes that lie wholly outside count as faults.
    """
    finite, area = np.isfinite(boxes).all(1), (boxes[:, 2:] > boxes[:, :2]).all(1)
    outside = False if sizes is None else ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= sizes)).any(1)
    whys = ("holds a number that is not finite", "has no area", "lies outside the image")
    why = np.select([~finite, ~area, outside & finite], whys, default="")
    return {int(i): f"box {i}, {boxes[i].round(3).tolist()}, {why[i]}" for i in np.flatnonzero(why)}


def crop_people(
    image: np.ndarray,
    matrices: np.ndarray,
    size: tuple[int, int] = SIZE,
    pixel_centre: float = HALF_PIXEL,
    smooth: bool = True,
) -> np.ndarray:
    """One crop per matrix, uint8 (n, height, width, 3), of an image (H, W, 3); black outside the image.

    pixel_centre: the published code hands COCO's numbers to OpenCV as they are, which calls the centre of pixel (r, c)
    (c, r): 0 repeats that, for published weights. The numbers of boxes, joints and matrices are the same either way.
    smooth: False, as published, does not average an image that shrinks (see `transforms.warp`).
    """
    crops = np.empty((len(matrices), size[1], size[0], 3), np.uint8)
    published = transforms.crop(HALF_PIXEL - pixel_centre, HALF_PIXEL - pixel_centre)
    averaged: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # once for all crops that shrink it as much
    for crop, matrix in zip(crops, matrices, strict=True):
        factor = transforms.shrinkage(image, matrix) if smooth else 1
        if factor not in averaged:
            averaged[factor] = transforms.average(image, factor)
        source, step = averaged[factor]
        whole = transforms.opencv_matrix(transforms.compose(step, published, matrix))
        cv2.warpAffine(source, whole, size, dst=crop, flags=cv2.INTER_LINEAR)
    return crops
