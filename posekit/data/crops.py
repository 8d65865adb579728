"""From people's boxes to the crops that a top-down model sees (Xiao, Wu, Wei 2018, section 2; UDP: Huang et al. 2020).

One formula makes every matrix: a point goes to R S (p - centre) + middle, where R turns and S stretches the window
around the box to the crop. UDP measures the crop from the first pixel's middle to the last one's (W - 1), so that a
flip or a heatmap of another resolution is aligned with it; without UDP it is W.

Frame: COCO's pixels on both sides. A matrix (2, 3) maps picture pixels to crop pixels. The published code hands COCO's
numbers to OpenCV as they are, which calls the middle of pixel (r, c) (c, r): `pixel_centre=0` repeats that, for
published weights. The numbers of boxes, joints and matrices are the same either way. n boxes, (W, H) crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from posekit.data import transforms
from posekit.poses import HALF_PIXEL

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
    faults = box_faults(boxes)
    if faults:
        raise ValueError(next(iter(faults.values())) + "; give x0 < x1 and y0 < y1")
    extents = boxes[:, 2:] - boxes[:, :2]
    ratio = size[0] / size[1]
    extents = np.stack([extents[:, 0].clip(extents[:, 1] * ratio), extents[:, 1].clip(extents[:, 0] / ratio)], 1)
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
    angle = np.deg2rad(np.broadcast_to(np.asarray(degrees, np.float64), len(centres)))
    middle = np.array(size) / 2
    stretch = (np.array(size) - bool(udp)) / extents
    if not udp:  # both are equal but for rounding: nothing is distorted
        stretch = np.repeat(stretch.min(1, keepdims=True), 2, axis=1)
    if np.any(mirror):
        left = np.where(np.broadcast_to(mirror, len(centres)), -1.0, 1.0)
        stretch = stretch * np.stack([left, np.ones_like(left)], 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    matrices = np.zeros((len(centres), 2, 3))
    matrices[:, :, :2] = stretch[:, :, None] * turn
    matrices[:, :, 2] = middle - np.einsum("nij,nj->ni", matrices[:, :, :2], centres)
    return matrices


def box_matrices(
    boxes: np.ndarray, size: tuple[int, int] = SIZE, padding: float = PADDING, udp: bool = False
) -> np.ndarray:
    """Matrices (n, 2, 3) that place each box (n, 4) x0 y0 x1 y1 in the middle of a crop of `size` = (width, height).

    Nothing is distorted (but for a pixel with `udp`). Raises ValueError as `windows` does.
    """
    return window_matrices(*windows(boxes, size, padding), size, udp=udp)


def box_faults(boxes: np.ndarray, picture: tuple[int, int] | None = None) -> dict[int, str]:
    """What is wrong with which of the boxes (n, 4), a sentence each: not finite, without area, outside the picture.

    picture: (width, height), if boxes that lie wholly outside count as faults.
    """
    good = np.isfinite(boxes).all(1)
    with np.errstate(invalid="ignore"):
        area = (boxes[:, 2:] > boxes[:, :2]).all(1)
        inside = np.ones(len(boxes), bool)
        if picture is not None:
            inside = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < np.array(picture)).all(1)
    faults = {}
    for i in np.flatnonzero(~(good & area & inside)):
        box = [round(float(value), 3) for value in boxes[i]]
        if not good[i]:
            why = "holds a number that is not finite"
        elif not area[i]:
            why = "has no area"
        else:
            why = f"lies outside the picture of {picture[0]} x {picture[1]} pixels"
        faults[int(i)] = f"box {i}, {box}, {why}"
    return faults


def crop_people(
    image: np.ndarray,
    matrices: np.ndarray,
    size: tuple[int, int] = SIZE,
    pixel_centre: float = HALF_PIXEL,
    smooth: bool = True,
) -> np.ndarray:
    """One crop per matrix, uint8 (n, height, width, 3), of a picture (H, W, 3); black outside the picture.

    smooth: where a crop shrinks the picture more than twofold, the picture is first averaged by a whole number (once
    for all crops that need that number); a bilinear sample looks at four pixels only and would alias. The published
    code does not: False. pixel_centre: see the module's docstring.
    """
    matrices = np.asarray(matrices, np.float64).reshape(-1, 2, 3)
    crops = np.empty((len(matrices), size[1], size[0], 3), np.uint8)
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    shrink = np.ones(len(matrices), int)
    if smooth:
        growth = np.sqrt(np.abs(np.linalg.det(linear)))
        shrink = (1 / growth.clip(1e-3)).astype(int).clip(1, max(min(image.shape[:2]), 1))
    for factor in np.unique(shrink):
        chosen = np.flatnonzero(shrink == factor)
        source, stretch = image, np.ones(2)
        if factor > 1:
            width, height = (round(side / factor) for side in image.shape[1::-1])
            source = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            stretch = np.array(image.shape[1::-1]) / (width, height)
        # The averaged image in COCO pixels of the image: a pixel is `stretch` wide, and borders lie on borders.
        moved = linear[chosen] @ np.full(2, pixel_centre - HALF_PIXEL) + shift[chosen]
        steps = transforms.opencv_matrix(np.concatenate([linear[chosen] * stretch, moved[:, :, None]], axis=2))
        for i, step in zip(chosen, steps, strict=True):
            cv2.warpAffine(source, step, size, dst=crops[i], flags=cv2.INTER_LINEAR)
    return crops


@dataclass
class Crops:
    """The people of one picture, cut out: `pixels` uint8 (n, H, W, 3), `boxes` (n, 4) picture pixels, `to_original`
    (n, 2, 3) crop pixels -> picture pixels, and `kept` (n,): which of the given boxes these are."""

    pixels: np.ndarray
    boxes: np.ndarray
    to_original: np.ndarray
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def cut_out(
    image: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int] = SIZE,
    padding: float = PADDING,
    udp: bool = True,
    on_bad: str = "raise",
    pixel_centre: float = HALF_PIXEL,
    smooth: bool = True,
) -> Crops:
    """All boxes (n, 4) x0 y0 x1 y1 of one picture in one call. No boxes give no crops, of the right shapes.

    on_bad: what to do with a box that is empty, not finite or wholly outside the picture: "raise", or "drop" it and
    go on with the others (`Crops.kept` says which).

    Raises:
        ValueError: a bad box, one sentence that names it.
    """
    if on_bad not in ("raise", "drop"):
        raise ValueError(f"on_bad is {on_bad!r}; choose 'raise' or 'drop'")
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    faults = box_faults(boxes, image.shape[1::-1])
    if faults and on_bad == "raise":
        raise ValueError(next(iter(faults.values())) + "; correct it, or leave such boxes out with on_bad='drop'")
    kept = np.array([i for i in range(len(boxes)) if i not in faults], int) if faults else np.arange(len(boxes))
    boxes = boxes[kept]
    matrices = box_matrices(boxes, size, padding, udp)
    pixels = crop_people(image, matrices, size, pixel_centre, smooth)
    return Crops(pixels, boxes, transforms.invert(matrices).astype(np.float32), kept)
