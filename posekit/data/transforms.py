"""Geometry of images: every step is one 2 x 3 matrix, a chain of steps is one matrix, and an image is warped once.

Coordinates: COCO pixels everywhere. The image's top-left corner is (0, 0), the centre of pixel (row r, col c) is
(c + .5, r + .5); so a flip is x' = w - x and a resize by s is x' = s x. OpenCV puts pixel *centres* on integers:
`opencv_matrix` converts. The resize rule is DETR's (Carion et al. 2020), which POET's released code uses.

`fit` brings an image to the size that a model takes, `make_batch` stacks several and `decode` returns to their pixels:
the path of prediction and evaluation.

Shapes: a matrix is (2, 3) float64, [x', y'] = M[:, :2] @ [x, y] + M[:, 2]; points (..., 2); boxes (n, 4) x0 y0 x1 y1.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from posekit.input_spec import InputSpec
from posekit.pixels import HALF_PIXEL
from posekit.poses import Poses
from posekit.protocols import PoseModel


def hflip(width: float) -> np.ndarray:
    """Mirror left and right: x' = width - x. Keypoints must swap their left/right names too (`Layout.flip`)."""
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


def resize(width: int, height: int, new_width: int, new_height: int) -> np.ndarray:
    """The step from a width x height image to one of another size."""
    return scale(new_width / width, new_height / height)


def move_about(
    start: tuple[float, float], end: tuple[float, float], factor: float, degrees: float, lean: tuple[float, float]
) -> np.ndarray:
    """Scale by `factor`, turn and lean (x' = x + tan(lean[0]) y, y' = y + tan(lean[1]) x, degrees) about the point
    `start`, and put that point to `end`."""
    x, y = np.tan(np.deg2rad(lean))
    shear = np.array([[1.0, x, 0.0], [y, 1.0, 0.0]])
    return compose(crop(*start), scale(factor), rotate(degrees, 0, 0), shear, crop(-end[0], -end[1]))


def letterbox(
    width: float, height: float, frame: tuple[int, int], align: str = "centre", filled: float = 1.0
) -> tuple[np.ndarray, tuple[int, int]]:
    """(matrix, (width, height) of the result) of an image in `frame` = (width, height), its shape kept.

    `align`: "centre", where borders need not be whole pixels and the result is the frame; or "topleft", the sides
    rounded to whole pixels and the rest of the frame left to padding. `filled`: the share of the largest possible scale
    that is used.
    """
    factor = min(frame[0] * filled / width, frame[1] * filled / height)
    if align == "centre":
        return compose(scale(factor), crop((factor * width - frame[0]) / 2, (factor * height - frame[1]) / 2)), frame
    new = max(round(width * factor), 1), max(round(height * factor), 1)
    return resize(width, height, *new), new


def compose(*steps: np.ndarray) -> np.ndarray:
    """One matrix for the steps, the first one applied first; without any, the one that changes nothing."""
    total, *rest = steps or (np.eye(2, 3),)
    for step in rest:
        total = step[:, :2] @ total
        total[:, 2] += step[:, 2]
    return total


def invert(matrix: np.ndarray) -> np.ndarray:
    """The steps back of matrices (..., 2, 3). Raises numpy.linalg.LinAlgError for one that flattens the plane."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., P, 2) moved by matrices (2, 3) or (..., 2, 3), float64."""
    return points @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]


def transform_boxes(matrix: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) moved by matrices (2, 3) or (n, 2, 3): upright around the moved corners, so a turned box grows."""
    corners = transform_points(matrix, boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1)


def determinant(matrix: np.ndarray) -> np.ndarray:
    """How much areas grow by matrices (..., 2, 3), < 0 for a mirror image."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


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


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], border: int | None = 0) -> np.ndarray:
    """Resample `image` (H, W, 3) uint8 once into a frame of `size` = (width, height); `border` (0 to 255) where
    nothing maps to, or the image's edge repeated (None).

    Bilinear, after `average` where the image shrinks more than twofold. Resizing the whole image, mirrored or not,
    takes OpenCV's faster routines, which agree with the warp.
    """
    height, width = image.shape[:2]
    (a, b, tx), (c, d, ty) = matrix.tolist()
    mirrored = a < 0
    misses = abs(a) * width - size[0], d * height - size[1], tx - size[0] * mirrored, ty
    if b == c == 0 and max(map(abs, misses)) < 1e-6:
        if size != (width, height):
            smooth = cv2.INTER_AREA if min(abs(a), d) < 0.5 else cv2.INTER_LINEAR
            image = cv2.resize(image, size, interpolation=smooth)
        return cv2.flip(image, 1) if mirrored else image
    if (factor := shrinkage(image, matrix)) > 1:
        image, step = average(image, factor)
        matrix = compose(step, matrix)
    mode, matrix = cv2.BORDER_REPLICATE if border is None else cv2.BORDER_CONSTANT, opencv_matrix(matrix)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=(border or 0,) * 3)


def shrinkage(image: np.ndarray, matrix: np.ndarray) -> int:
    """By which whole number to average an image first: a bilinear sample sees four pixels and would alias; 1 = not."""
    return max(min(int(1 / max(np.sqrt(abs(determinant(matrix))), 1e-3)), *image.shape[:2]), 1)


def average(image: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """The image smaller by a whole number, and the step from it to the image."""
    if factor == 1:
        return image, compose()
    height, width = image.shape[:2]
    small = round(width / factor), round(height / factor)
    return cv2.resize(image, small, interpolation=cv2.INTER_AREA), resize(*small, width, height)


def opencv_matrix(matrix: np.ndarray) -> np.ndarray:
    """Matrices (..., 2, 3) in COCO pixels as OpenCV samples with them: pixel centres on integers on both sides."""
    linear, shift = matrix[..., :2], matrix[..., 2]
    shift = linear @ np.full(2, HALF_PIXEL) + shift - HALF_PIXEL
    return np.concatenate([linear, shift[..., None]], axis=-1)


def frame_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a `size` given as the side of a square or as (height, width)."""
    return (size, size) if isinstance(size, (int, np.integer)) else (int(size[1]), int(size[0]))


def fit(
    image: np.ndarray, spec: InputSpec, size: int | tuple[int, int] = 0, longest: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """(pixels, matrix from the image to them, (width, height) without padding) of an image as a model takes it.

    `size`: instead of the model's own, a side or (height, width). `longest`: the same for the longer side of models
    that fit the shorter one.
    """
    height, width = image.shape[:2]
    if spec.fit == "letterbox":
        frame = frame_of(size or spec.size)
        matrix, new = letterbox(width, height, frame, spec.align)
    else:
        longest = longest or spec.longest
        new = frame = size_with_aspect_ratio(width, height, min(size or spec.size, longest), longest)
        matrix = resize(width, height, *new)
    pixels = warp(image, matrix, new, spec.pad or 0)
    return (pixels, matrix, new) if spec.pad is None else (padded(pixels, frame, spec.pad), matrix, frame)


def padded(pixels: np.ndarray, frame: tuple[int, int], grey: int) -> np.ndarray:
    """Pixels (h, w, 3) in the top-left corner of a grey frame (width, height)."""
    if pixels.shape[1::-1] == frame:
        return pixels
    canvas = np.full((frame[1], frame[0], 3), grey, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


def make_batch(
    images: Sequence[np.ndarray],
    spec: InputSpec,
    size: int | tuple[int, int] = 0,
    longest: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, Tensor | None]:
    """A batch of images (H, W, 3) uint8 RGB without annotations, see `fit`.

    Returns `images` (B, 3, H, W) float32, `padding_mask` (B, H, W) bool or None, `sizes` (B, 2) = (width, height)
    without padding and `to_original` (B, 2, 3) float32, network input -> image.
    """
    fitted = [fit(image, spec, size, longest) for image in images]
    frame = frame_of(size or spec.size) if spec.fit == "letterbox" else (0, 0)
    batch = normalise(stack([pixels for pixels, _, _ in fitted], frame), spec.mean, spec.std, device)
    sizes = torch.tensor([new for _, _, new in fitted])
    back = invert(np.stack([matrix for _, matrix, _ in fitted])).astype(np.float32)
    return {
        "images": batch,
        "padding_mask": mask_padding(batch, sizes),
        "sizes": sizes,
        "to_original": torch.from_numpy(back),
    }


def stack(images: Sequence[np.ndarray], frame: tuple[int, int]) -> np.ndarray:
    """(B, H, W, 3) uint8: images in the top-left corners of the frame (width, height), or of a larger one that holds
    them."""
    width, height = np.max([frame, *(image.shape[1::-1] for image in images)], axis=0)
    pixels = np.zeros((len(images), height, width, 3), np.uint8)
    for row, image in zip(pixels, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return pixels


def normalise(
    pixels: Tensor | np.ndarray, mean: Sequence[float], std: Sequence[float], device: str | torch.device = "cpu"
) -> Tensor:
    """uint8 (B, H, W, 3) RGB -> float32 (B, 3, H, W), (x / 255 - mean) / std; bytes travel to the device."""
    pixels = torch.as_tensor(pixels).to(device, non_blocking=True).permute(0, 3, 1, 2)
    images = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    offset, spread = (torch.tensor(value, device=images.device).view(3, 1, 1) * 255 for value in (mean, std))
    return images.sub_(offset).mul_(1 / spread)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The inverse of `normalise`: uint8 (B, H, W, 3), rounded; padding becomes the mean colour."""
    offset, spread = (torch.tensor(value, device=images.device).view(3, 1, 1) * 255 for value in (mean, std))
    return (images * spread + offset).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def mask_padding(images: Tensor, sizes: Tensor) -> Tensor | None:
    """(B, H, W) bool, True outside `sizes` (B, 2) = (width, height), where images become 0; None if nothing is
    padded."""
    if (sizes == torch.tensor(images.shape[:1:-1])).all():
        return None
    mask = torch.ones_like(images[:, 0], dtype=torch.bool)
    for image, row, (w, h) in zip(images, mask, sizes.tolist(), strict=True):
        row[:h, :w] = False
        image[:, h:] = 0
        image[:, :h, w:] = 0
    return mask


def decode(model: PoseModel, outputs: dict, batch: dict, layer: int = -1) -> list[Poses]:
    """The poses of a batch in pixels of the original images.

    `outputs`: the model's; `batch`: `sizes` (B, 2) and `to_original` (B, 2, 3), as `make_batch` and `Loader` give them.
    Weights that count pixel centres as integers are converted to COCO's convention here; the matrices of crops hold
    that already.
    """
    shift = 0.0 if model.input.fit == "crop" else model.input.pixel_centre - HALF_PIXEL
    poses = model.decode(outputs, batch["sizes"], layer=layer)
    back = np.asarray(batch["to_original"].cpu()) + np.float32([0, 0, shift])
    return [one.transform(matrix) for one, matrix in zip(poses, back, strict=True)]
