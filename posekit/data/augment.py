"""Augmentation: one composed warp per image, and the keypoints with it.

POET, section "Implementation details": rotation in (-25, 25) degrees, random crop, horizontal flip and coarse dropout,
each with probability 0.5, and a resize that brings the shortest side into [400, 800] (longest <= 1333). The released
code draws its scales from 480, 512 ... 800 and crops through an intermediate size; both are policies here, by name.

Shapes: image (H, W, 3) uint8 RGB; target = dict of keypoints (n, K, 2) px, visibility (n, K) in {0, 1, 2},
boxes (n, 4) xyxy px, areas (n,) px^2, ignore (m, 4) xyxy px. Coordinates: COCO pixels (see transforms.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from posekit.data import transforms
from posekit.layouts import COCO, Layout

# The paper gives no crop size; the released code's are taken: shortest sides of the image that is cropped, and the
# smallest and largest side of the crop.
CROP_FIRST = (400, 500, 600)
CROP_SIDES = (384, 600)
LUMA = np.array([0.299, 0.587, 0.114])
Named = TypeVar("Named")


@dataclass(frozen=True)
class Policy:
    """What may happen to an image. Probabilities in [0, 1]; sizes in pixels.

    `flip`, `rotation_p`, `crop_p`, `dropout_p`: probabilities. `rotation`: largest angle in degrees. `scales`: shortest
    sides to draw from (empty: keep the size). `longest`: the longer side never passes this. `colour`: strength of
    brightness, contrast and saturation jitter.
    """

    flip: float = 0.0
    rotation: float = 0.0
    rotation_p: float = 0.0
    crop_p: float = 0.0
    dropout_p: float = 0.0
    scales: Sequence[int] = ()
    longest: int | None = None
    colour: float = 0.0


_PAPER = Policy(flip=0.5, rotation=25, rotation_p=0.5, crop_p=0.5, dropout_p=0.5, scales=range(400, 801), longest=1333)
POLICIES = {
    "none": Policy(),
    "scenes": Policy(flip=0.5, colour=0.15),
    "paper": _PAPER,
    # differs from paper: the shortest side is one of eleven values from 480; 400 is met only before a crop.
    "released": replace(_PAPER, scales=range(480, 801, 32)),
}


def find_policy(policy: str | Named, policies: Mapping[str, Named], kind: str) -> Named:
    """The policy of this name, or the policy itself. Raises ValueError for an unknown name."""
    if not isinstance(policy, str):
        return policy
    if policy not in policies:
        raise ValueError(f"unknown {kind} '{policy}'; there are {', '.join(policies)}")
    return policies[policy]


@dataclass
class Augment:
    """`Augment("released")(image, target, rng) -> (image, target, to_original)`.

    `policy`: "none", "scenes", "paper" or "released", or a `Policy`. `layout` says which keypoints swap in a flip; one
    without left/right pairs is not flipped.

    `size`: letterbox into this square, or (height, width); the policy's scales then become relative: the longest scale
    fills the frame. `pad=None`: the image touches the top-left corner, the rest is the batch's padding. `pad`, a grey
    value: the rest is filled with it and belongs to the image, which `align` then puts into the "topleft" corner (its
    sides rounded to whole pixels) or in the "centre" (its shape kept exactly, as in RTMO's released code).

    Without `size`, `shortest` and `longest` override the policy's sizes, as in the released evaluation (800 and 1333)
    or the paper's 512 px baselines (`Augment("released", longest=512)`).

    Returned target: as the input plus `size` (2,) = (width, height) of the image in network-input pixels (of the whole
    frame if it is filled). A joint that leaves the image gets visibility 0, an unlabelled joint the coordinates (0, 0),
    as in COCO's files. After a crop, people without a joint that is seen (v = 2) are removed, as in the released code;
    after a rotation alone they stay. `to_original` (2, 3) float32 maps network-input pixels back to image pixels.

    Raises:
        ValueError: an unknown policy or alignment; a `pad` without `size`; the centre without a `pad`.
    """

    policy: str | Policy = "none"
    layout: Layout = COCO
    size: int | tuple[int, int] | None = None
    shortest: int | None = None
    longest: int | None = None
    align: str = "topleft"
    pad: int | None = None

    def __post_init__(self) -> None:
        steps = find_policy(self.policy, POLICIES, "augmentation policy")
        if self.align not in ("topleft", "centre"):
            raise ValueError(f"an image is aligned 'topleft' or in the 'centre', not '{self.align}'")
        if self.align == "centre" and self.pad is None:
            raise ValueError(
                "align='centre' needs a pad value, for example pad=114: a padding mask lies right and below"
            )
        if self.pad is not None and (self.size is None or not 0 <= self.pad <= 255):
            raise ValueError(
                f"pad={self.pad} fills a letterbox of a given size with a grey value from 0 to 255; give size=..., too"
            )
        self.flip_order = self.layout.flip
        self.steps = replace(
            steps,
            scales=(self.shortest,) if self.shortest else steps.scales,
            longest=self.longest or steps.longest,
            flip=steps.flip if self.layout.can_flip else 0.0,
        )

    def __call__(
        self, image: np.ndarray, target: dict[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        height, width = image.shape[:2]
        matrix, size, cut = self.draw(width, height, rng)
        image = transforms.warp(image, matrix, size, self.pad or 0)
        target = transform_target(target, matrix, (width, height), size, self.flip_order, cut)
        # differs from paper: the released code drops out before cropping and resizing; blocks are relative to
        # the image either way, and after the warp there are fewer pixels to touch.
        if self.steps.dropout_p and rng.random() < self.steps.dropout_p:
            image = coarse_dropout(image, rng)
        if self.steps.colour:
            image = cv2.transform(image, colour_matrix(self.steps.colour, rng))
        if self.pad is not None:
            frame = transforms.frame_of(self.size)
            image, target["size"] = transforms.padded(image, frame, self.pad), np.array(frame)
        return image, target, transforms.invert(matrix).astype(np.float32)

    def draw(self, width: int, height: int, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int], bool]:
        """The random geometry for one image: (matrix, new (width, height), was it cut)."""
        steps, chain, size = self.steps, [], (width, height)
        if steps.flip and rng.random() < steps.flip:
            chain.append(transforms.hflip(width))
        if steps.rotation and rng.random() < steps.rotation_p:
            chain.append(transforms.rotate(rng.uniform(-steps.rotation, steps.rotation), width, height))
        cut = bool(steps.crop_p) and rng.random() < steps.crop_p
        if cut:
            between = transforms.size_with_aspect_ratio(*size, _pick(CROP_FIRST, rng))
            # Width and height are drawn independently, as in DETR's RandomSizeCrop.
            width, height = (int(rng.integers(*np.minimum(CROP_SIDES, side) + (0, 1))) for side in between)
            left, top = rng.integers(between[0] - width + 1), rng.integers(between[1] - height + 1)
            chain += transforms.resize(*size, *between), transforms.crop(left, top)
            size = width, height
        scale = _pick(steps.scales, rng) if steps.scales else None
        if self.size is not None:
            filled = scale / max(steps.scales) if scale else 1.0
            last, final = transforms.letterbox(*size, transforms.frame_of(self.size), self.align, filled)
        else:
            final = transforms.size_with_aspect_ratio(*size, scale or min(size), steps.longest)
            last = transforms.resize(*size, *final)
        return transforms.compose(*chain, last), final, cut


def _pick(values: Sequence[int], rng: np.random.Generator) -> int:
    return values[rng.integers(len(values))]


Steps = Sequence[tuple[np.ndarray, np.ndarray]]  # matrices, and the regions x0, y0, x1, y1 that they move into


def move_people(
    target: Mapping[str, np.ndarray], size: np.ndarray, steps: Steps, flip_order: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """`keypoints`, `visibility` and `boxes` of n people, moved; what leaves a region is cut off, joints get v = 0.

    `size`: (width, height) of the image. `steps`: matrices (2, 3) and regions (4,). All three may be of each person:
    (n, 1, 2), (n, 2, 3), (n, 4). `flip_order` (K,): the keypoint permutation where the steps mirror; None = as it is.
    Joints are first brought into the image (annotators click slightly outside it), as in POET's released code.
    """
    points, inside, mirrored = np.clip(target["keypoints"], 0, size), True, False
    for matrix, region in steps:
        low, high = region[..., None, :2], region[..., None, 2:]
        points = transforms.transform_points(matrix, points)
        # A thousandth of a pixel of tolerance: a point on the border must not vanish by rounding.
        inside &= ((points >= low - 1e-3) & (points <= high + 1e-3)).all(2)
        mirrored ^= transforms.determinant(matrix) < 0
    visibility = np.where(inside, target["visibility"], 0).astype(np.uint8)
    points = np.where(visibility[..., None] > 0, np.clip(points, low, high), 0).astype(np.float32)
    if flip_order is not None:
        points = np.where(mirrored[..., None, None], points[:, flip_order], points)
        visibility = np.where(mirrored[..., None], visibility[:, flip_order], visibility)
    return {"keypoints": points, "visibility": visibility, "boxes": move_boxes(target["boxes"], steps)}


def move_boxes(boxes: np.ndarray, steps: Steps) -> np.ndarray:
    """Boxes (n, 4) moved, float32, see `move_people`; what leaves a region is cut off."""
    for matrix, region in steps:
        corners = transforms.transform_boxes(matrix, boxes).reshape(-1, 2, 2)
        boxes = corners.clip(region[..., None, :2], region[..., None, 2:]).reshape(-1, 4)
    return boxes.astype(np.float32)


def move_regions(regions: np.ndarray, steps: Steps) -> np.ndarray:
    """Regions to ignore, moved as boxes; without those of which nothing is left."""
    moved = move_boxes(regions, steps)
    return moved[(moved[:, 2:] > moved[:, :2]).all(1)]


def transform_target(
    target: Mapping[str, np.ndarray],
    matrix: np.ndarray,
    old_size: tuple[int, int],
    size: tuple[int, int],
    flip_order: np.ndarray | None = None,
    cut: bool = False,
) -> dict[str, np.ndarray]:
    """The target of an image of `old_size` = (width, height) moved by the matrix into a frame of `size`.

    `flip_order`: see `move_people`. `cut`: drop people without a seen joint.
    """
    steps = [(matrix, np.array([0, 0, *size], float))]
    moved = move_people(target, np.array(old_size), steps, flip_order)
    moved["areas"] = (target["areas"] * np.float32(abs(transforms.determinant(matrix)))).astype(np.float32)
    if cut:
        seen = (moved["visibility"] == 2).any(1)
        moved |= {name: moved[name][seen] for name in ("keypoints", "visibility", "boxes", "areas")}
    return moved | {"ignore": move_regions(target["ignore"], steps), "size": np.array(size)}


def coarse_dropout(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of the image (H, W, 3) with black blocks (DeVries and Taylor 2017, as parameterised in POET's code).

    The image is covered by a grid with 1.5 to 3 % as many rows and columns as it has pixels; each cell goes with a
    probability drawn from (.05, .2); in half of the images the channels are drawn independently.
    """
    height, width, channels = image.shape
    share, coarseness = rng.uniform(0.05, 0.2), rng.uniform(0.015, 0.03)
    rows, columns = max(3, int(height * coarseness)), max(3, int(width * coarseness))
    per_channel = rng.random() < 0.5
    dropped = rng.random((rows, columns, channels if per_channel else 1)) < share
    image = image.copy()
    y, x = np.linspace(0, height, rows + 1).astype(int), np.linspace(0, width, columns + 1).astype(int)
    # A few dozen slices cost less than a full-size mask.
    for row, column, channel in np.argwhere(dropped):
        image[y[row] : y[row + 1], x[column] : x[column + 1], channel if per_channel else slice(None)] = 0
    return image


def hsv_jitter(image: np.ndarray, strengths: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 RGB with hue (of 180), saturation and value (of 255) moved by whole numbers.

    Each of the three is moved in half of the images, by up to its strength; hue wraps around, the others stop at
    0 and 255. On uint8 every outcome is in a table of 256 entries, so nothing is computed per pixel. As in YOLOX.
    """
    moves = (rng.uniform(-1, 1, 3) * strengths * rng.integers(0, 2, 3)).astype(int)
    if not moves.any():
        return image.copy()
    levels = np.arange(256)
    table = [(levels + moves[0]) % 180, *(np.clip(levels + move, 0, 255) for move in moves[1:])]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(table, -1).astype(np.uint8)[None]), cv2.COLOR_HSV2RGB)


def colour_matrix(strength: float, rng: np.random.Generator) -> np.ndarray:
    """(3, 4) matrix of a random change of brightness, contrast and saturation, for `cv2.transform` on uint8 RGB.

    Each factor lies in [1 - strength, 1 + strength] (saturation: twice that); grey 128 is the fixed point of contrast.
    """
    bright, contrast, saturate = 1 + strength * rng.uniform(-1, 1, 3) * (1, 1, 2)
    mix = bright * contrast * (saturate * np.eye(3) + (1 - saturate) * LUMA)
    return np.column_stack([mix, np.full(3, 128 * (1 - contrast))]).astype(np.float32)
