"""Plane geometry of augmentation: every step is one 2 x 3 matrix, a chain of steps is one matrix, and a
picture is warped once.

Frame: COCO's pixels everywhere. The image's top-left corner is (0, 0), the centre of pixel (row r, col c) is
(c + .5, r + .5); so a flip is x' = w - x and a resize by s is x' = s x. OpenCV puts pixel *centres* on
integers: only `warp` knows about that. The resize rule is DETR's (Carion et al. 2020), which POET's released
code uses.

Shapes: a matrix is (2, 3) float64, [x', y'] = M[:, :2] @ [x, y] + M[:, 2]; points (..., 2); boxes (n, 4) x0
y0 x1 y1.
"""

from __future__ import annotations

import cv2
import numpy as np


def identity() -> np.ndarray:
    """The step that changes nothing."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def hflip(width: float) -> np.ndarray:
    """Mirror left and right: x' = width - x. Keypoints must swap their left/right names too
    (`Layout.flip`)."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0]])


def rotate(degrees: float, width: float, height: float) -> np.ndarray:
    """Turn about the centre of the canvas; positive angles turn clockwise on the screen (y points down)."""
    angle = np.deg2rad(degrees)
    cos, sin, cx, cy = np.cos(angle), np.sin(angle), width / 2, height / 2
    return np.array([[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy]])


def crop(left: float, top: float) -> np.ndarray:
    """Move the origin to the crop's top-left corner."""
    return np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])


def scale(x: float, y: float | None = None) -> np.ndarray:
    """Resize by the factors x and y (y = x if not given)."""
    return np.array([[x, 0.0, 0.0], [0.0, x if y is None else y, 0.0]])


def shear(x_degrees: float, y_degrees: float) -> np.ndarray:
    """Lean by two angles: x' = x + tan(x_degrees) y, y' = y + tan(y_degrees) x."""
    x, y = np.tan(np.deg2rad([x_degrees, y_degrees]))
    return np.array([[1.0, x, 0.0], [y, 1.0, 0.0]])


def move_about(
    start: tuple[float, float], end: tuple[float, float], factor: float, degrees: float, lean: tuple[float, float]
) -> np.ndarray:
    """Scale by `factor`, turn and shear about the point `start`, and put that point to `end`."""
    steps = scale(factor), rotate(degrees, 0, 0), shear(*lean)
    return compose(crop(*start), *steps, crop(-end[0], -end[1]))


def letterbox(width: float, height: float, size: tuple[int, int], filled: float = 1.0) -> np.ndarray:
    """A width x height picture, its shape kept, as large as fits into `size` = (width, height), in the middle.

    `filled`: the share of that largest scale which is used. The borders need not be whole pixels.
    """
    factor = min(size[0] * filled / width, size[1] * filled / height)
    left, top = (size[0] - factor * width) / 2, (size[1] - factor * height) / 2
    return compose(scale(factor), crop(-left, -top))


def compose(*steps: np.ndarray) -> np.ndarray:
    """One matrix for the steps, the first one applied first."""
    if not steps:
        return identity()
    total, *rest = steps
    for step in rest:
        linear, shift = step[:, :2], step[:, 2:]
        total = np.concatenate([linear @ total[:, :2], linear @ total[:, 2:] + shift], axis=1)
    return total


def invert(matrix: np.ndarray) -> np.ndarray:
    """The step back. Raises numpy.linalg.LinAlgError for a matrix that flattens the plane."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) moved by the matrix, float64."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def transform_boxes(matrix: np.ndarray, boxes: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """Boxes (n, 4): the upright box around the four moved corners, cut to the frame `size` = (width, height)
    if given.

    A turned box grows: the result encloses the object, but not tightly.
    """
    corners = transform_points(matrix, boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2))
    moved = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    return moved if size is None else np.clip(moved, 0, np.array(size * 2))


def determinant(matrix: np.ndarray) -> float:
    """How much areas grow, > 0 also for a flip."""
    return abs(float(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))


def size_with_aspect_ratio(width: int, height: int, shortest: int, longest: int | None = None) -> tuple[int, int]:
    """(width, height) whose shorter side is `shortest`, less where the longer side would pass `longest`.

    The rounding is that of DETR's `get_size_with_aspect_ratio`: the shorter side is rounded to the nearest,
    the longer one truncated, so the two scale factors can differ in the third digit.
    """
    low, high = min(width, height), max(width, height)
    if longest is not None and high / low * shortest > longest:
        shortest = int(round(longest * low / high))
    shortest = max(shortest, 1)
    if low == shortest:
        return width, height
    if width < height:
        return shortest, int(shortest * height / width)
    return int(shortest * width / height), shortest


def resize(width: int, height: int, new_width: int, new_height: int) -> np.ndarray:
    """The step from a width x height frame to another one."""
    return scale(new_width / width, new_height / height)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int | None = 0) -> np.ndarray:
    """Resample `image` (H, W, 3) uint8 once into a frame of `size` = (width, height); `border` (0 to 255) where
    nothing maps to, or the picture's edge repeated (None).

    Bilinear. A pure flip, or a resize with or without a flip, takes OpenCV's faster routines, which agree
    with the warp. Where the picture shrinks more than twofold it is first averaged by a whole number, because
    a bilinear sample looks at four pixels only and would alias.
    """
    (a, b, tx), (c, d, ty) = matrix
    height, width = image.shape[:2]
    if b == 0 and c == 0 and d > 0:
        whole = abs(abs(a) * width - size[0]) < 1e-6 and abs(d * height - size[1]) < 1e-6 and abs(ty) < 1e-6
        if whole and (abs(tx) < 1e-6 if a > 0 else abs(tx - size[0]) < 1e-6):
            if size != (width, height):
                shrinks = min(abs(a), d) < 0.5
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
            return cv2.flip(image, 1) if a < 0 else image
    shrink = int(1 / max(np.sqrt(determinant(matrix)), 1e-6))
    if shrink > 1 and min(width, height) >= shrink:
        small = (round(width / shrink), round(height / shrink))
        matrix = compose(scale(width / small[0], height / small[1]), matrix)
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    # Corner frame -> OpenCV's centre frame: shift by half a pixel before and after.
    linear, shift = matrix[:, :2], matrix[:, 2]
    centred = np.column_stack([linear, linear @ (0.5, 0.5) + shift - 0.5])
    mode = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(image, centred, size, flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=(border or 0,) * 3)
