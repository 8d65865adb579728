"""Mosaic and MixUp: several images of the data set in one, each of them warped once, straight to its place.

RTMO (Lu et al. 2024, arXiv 2312.07526), "Implementation Details": the pipeline of YOLOX (Ge et al. 2021, arXiv
2107.08430): mosaic, a random affine map, MixUp, random colour; numbers of the released recipes.

A mosaic is a canvas twice as wide and high as the result, on which four images meet in a random point; a view of it
becomes the result. The canvas exists in the matrices only: a `Pane` knows the way of its image to the canvas and from
there into the view, and only what the view shows is resampled. Images that it does not show are not even read.

Shapes as in augment.py: image (H, W, 3) uint8 RGB, target = dict of keypoints (n, K, 2) px, visibility (n, K), boxes
(n, 4) xyxy px, areas (n,) px^2, ignore (m, 4) xyxy px. Coordinates: COCO pixels. Sizes of frames are (width, height),
regions x0, y0, x1, y1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from posekit.data import transforms
from posekit.data.augment import find_policy, hsv_jitter, move_people, move_regions
from posekit.data.images import DataError
from posekit.layouts import COCO, Layout
from posekit.protocols import PoseDataset

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")
ATTEMPTS = 10  # other partners that are tried when one cannot be read

Image = tuple[np.ndarray, dict[str, np.ndarray]]  # with its target
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mix:
    """What may happen to an image. Probabilities in [0, 1].

    `mosaic`: probability of four images instead of one. `meeting`: range of the point where they meet, in sides of the
    result. `centre`: what the view is without `shift`. "released": the canvas's top-left quarter, so the first image is
    nearly always large and the last one rarely seen; "yolox": its middle.
    # differs from paper: the pipeline "from YOLOX" was released without YOLOX's shift to the middle.
    `scale`, `rotation` (degrees), `shear` (degrees), `shift` (of the side): of the random affine map, drawn
    uniformly. `mixup`: probability of a second image at half strength, `mixup_scale`: range of its size, 1 = fits.
    `hsv`: largest moves of hue (of 180), saturation and value (of 255). `flip`: probability of a mirrored result.
    """

    mosaic: float = 0.0
    meeting: tuple[float, float] = (0.5, 1.5)
    centre: str = "released"
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    mixup: float = 0.0
    mixup_scale: tuple[float, float] = (0.8, 1.6)
    hsv: tuple[int, int, int] = (5, 30, 30)
    flip: float = 0.5


_COCO = Mix(mosaic=1.0, scale=(0.75, 1.0), rotation=10, shear=2, shift=0.1, mixup=1.0)
MIXES = {
    "rtmo": _COCO,
    "rtmo_t": replace(_COCO, mixup=0.0),
    "rtmo_crowdpose": replace(_COCO, scale=(0.5, 1.5), rotation=30, shift=0.2, mixup_scale=(0.6, 1.6)),
    "rtmo_late": Mix(),  # the last epochs: a letterbox, colour, flip
    # Associative embedding in mmpose: `scale` is of the shorter side there, the shift 40 of 512 pixels.
    "ae": Mix(scale=(0.75, 1.5), rotation=30, shift=0.08, hsv=(0, 0, 0)),
    # Ours, for drawn people: about as large as they will be when tested, turned little, and half of them alone.
    "rtmo_scenes": Mix(
        mosaic=0.5, centre="yolox", scale=(0.75, 1.1), rotation=10, shear=1, shift=0.05, hsv=(5, 20, 20)
    ),
}


@dataclass
class Pane:
    """An image (H, W, 3) with its `target`, and its way into the view.

    `place` (2, 3): image to canvas. `view` (2, 3): canvas to result. `shown`: the region of the canvas that this image
    covers; None: all of the image. `window`: the one where people count as visible; None: the same.
    """

    image: np.ndarray
    target: dict[str, np.ndarray]
    place: np.ndarray
    view: np.ndarray
    window: Region | None = None
    shown: Region | None = None

    def __post_init__(self) -> None:
        whole = np.array([[0, 0, *self.image.shape[1::-1]]])
        self.shown = self.shown or tuple(transforms.transform_boxes(self.place, whole)[0])
        self.window = self.window or self.shown

    @property
    def way(self) -> np.ndarray:
        """(2, 3): image to result."""
        return transforms.compose(self.place, self.view)


@dataclass
class Mosaic:
    """`Mosaic("rtmo", size=640).mix(dataset, index, rng) -> (image, target, to_original, broken)`.

    `policy`: a name of `MIXES`, or a `Mix`. `size`: side of the square result, or (height, width). `pad`: the grey
    value where no image lies. `layout` says which keypoints swap in a flip; one without left/right pairs is not
    flipped.

    Returned target: people of all images, those of image `index` first; `size` (2,) = (width, height) of the result. A
    joint outside its image or the view has visibility 0 and the coordinates (0, 0). People without a labelled joint,
    and those whose box keeps no more than one pixel in width or height, are left out. `areas` grow with the map's
    determinant. `to_original` (2, 3) float32 maps pixels of the result to those of image `index`. `broken`: (index,
    sentence) of each partner that could not be read and was replaced by another one.

    Raises:
        ValueError: an unknown policy or centre, or a pad that is not a grey value.
        DataError: from `mix`, if image `index` cannot be read, or a partner, and `dataset.on_error` is not "skip".
    """

    policy: str | Mix = "rtmo"
    layout: Layout = COCO
    size: int | tuple[int, int] = 640
    pad: int = 114

    def __post_init__(self) -> None:
        self.steps, self.frame = find_policy(self.policy, MIXES, "mosaic policy"), transforms.frame_of(self.size)
        if not 0 <= self.pad <= 255:
            raise ValueError(f"pad is a grey value from 0 to 255, not {self.pad}")
        if self.steps.centre not in ("released", "yolox"):
            raise ValueError(f"the centre of a mosaic is 'released' or 'yolox', not '{self.steps.centre}'")
        self.flip_order = self.layout.flip
        if not self.layout.can_flip:
            self.steps = replace(self.steps, flip=0.0)

    def mix(
        self, dataset: PoseDataset, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, list[tuple[int, str]]]:
        """Image `index` of the data set and its random partners, all drawn from `rng`; see the class."""
        (width, height), steps, broken = self.frame, self.steps, []
        mirror = [transforms.hflip(width)] if rng.random() < steps.flip else []
        four, two = rng.random() < steps.mosaic, rng.random() < steps.mixup
        partners = rng.integers(len(dataset), size=4)
        view = transforms.compose(self._view(rng, four), *mirror)
        own = dataset.image(index), dataset.target(index)

        def partner(number: int) -> Image:
            return _read(dataset, int(partners[number]), rng, broken) or own

        if four:
            meeting = [int(rng.uniform(*steps.meeting) * side) for side in self.frame]
            panes = self._mosaic(own, partner, meeting, view)
        else:
            h, w = own[0].shape[:2]
            place, _ = transforms.letterbox(w, h, self.frame)
            panes = [Pane(*own, place, view)]
        image = np.full((height, width, 3), self.pad, np.uint8)
        for pane in panes:
            paint(image, pane)
        if two and len((second := partner(3))[1]["keypoints"]):  # somebody must be there: as released
            panes.append(self._overlay(*second, mirror, rng))
            layer = np.full_like(image, self.pad)
            paint(layer, panes[-1])
            image = cv2.addWeighted(image, 0.5, layer, 0.5, 0)
        if any(steps.hsv):
            image = hsv_jitter(image, steps.hsv, rng)
        to_original = transforms.invert(panes[0].way).astype(np.float32)
        return image, merge(panes, self.frame, self.flip_order), to_original, broken

    def _view(self, rng: np.random.Generator, four: bool) -> np.ndarray:
        """The random map from the canvas into the result, without the flip."""
        steps, (width, height) = self.steps, self.frame
        middle = (width, height) if four and steps.centre == "yolox" else (width / 2, height / 2)
        factor, degrees = rng.uniform(*steps.scale), rng.uniform(-1, 1) * steps.rotation
        shift, lean = rng.uniform(-1, 1, 2) * steps.shift, rng.uniform(-1, 1, 2) * steps.shear
        end = (width * (0.5 + shift[0]), height * (0.5 + shift[1]))
        return transforms.move_about(middle, end, factor, degrees, tuple(lean))

    def _mosaic(self, own: Image, partner: Callable[[int], Image], meeting, view: np.ndarray) -> list[Pane]:
        """The panes that the view shows; the first is the image's own, shown or not."""
        canvas, panes = (2 * self.frame[0], 2 * self.frame[1]), []
        for number, corner in enumerate(CORNERS):
            if number and visible(outline(quarter(corner, meeting, canvas), view), self.frame) is None:
                continue
            image, target = partner(number - 1) if number else own
            h, w = image.shape[:2]
            factor = min(self.frame[0] / w, self.frame[1] / h)
            patch = max(int(w * factor), 1), max(int(h * factor), 1)
            shown, cut = paste(corner, meeting, patch, canvas)
            place = transforms.compose(transforms.scale(factor), transforms.crop(cut[0] - shown[0], cut[1] - shown[1]))
            panes.append(Pane(image, target, place, view, (0, 0, *canvas), shown))
        return panes

    def _overlay(self, image: np.ndarray, target: dict, mirror: list[np.ndarray], rng: np.random.Generator) -> Pane:
        """The pane of a MixUp partner: at the top-left of its canvas, which is enlarged, mirrored and cropped."""
        height, width = image.shape[:2]
        jitter = rng.uniform(*self.steps.mixup_scale)
        factor = min(self.frame[0] / width, self.frame[1] / height) * jitter
        canvas = int(self.frame[0] * jitter), int(self.frame[1] * jitter)
        place = transforms.scale(factor)
        if self.steps.flip and rng.random() < 0.5:
            place = transforms.compose(place, transforms.hflip(canvas[0]))
        left, top = (int(rng.integers(max(a - b, 0) + 1)) for a, b in zip(canvas, self.frame, strict=True))
        view = transforms.compose(transforms.crop(left, top), *mirror)
        return Pane(image, target, place, view, (0, 0, *canvas))


def _read(dataset: PoseDataset, index: int, rng: np.random.Generator, broken: list[tuple[int, str]]) -> Image | None:
    """A partner; another one if it cannot be read and the data set says so."""
    for _ in range(ATTEMPTS):
        try:
            return dataset.image(index), dataset.target(index)
        except DataError as error:
            if getattr(dataset, "on_error", "raise") != "skip":
                raise
            broken.append((index, str(error)))
        index = int(rng.integers(len(dataset)))
    return None


def quarter(corner: str, meeting: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int, int, int]:
    """The region of the canvas at this side of the meeting point."""
    x = (0, meeting[0]) if corner.endswith("left") else (meeting[0], canvas[0])
    y = (0, meeting[1]) if corner.startswith("top") else (meeting[1], canvas[1])
    return x[0], y[0], x[1], y[1]


def paste(
    corner: str, meeting: tuple[int, int], patch: tuple[int, int], canvas: tuple[int, int]
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Where a patch (width, height) lies when its inner corner is at the meeting point: its region of the canvas, and
    the one of the patch itself, which is cut at the canvas's border."""
    x0, y0, x1, y1 = quarter(corner, meeting, canvas)
    width, height = min(x1 - x0, patch[0]), min(y1 - y0, patch[1])
    x, u = (x1 - width, patch[0] - width) if corner.endswith("left") else (x0, 0)
    y, v = (y1 - height, patch[1] - height) if corner.startswith("top") else (y0, 0)
    return (x, y, x + width, y + height), (u, v, u + width, v + height)


def outline(region: Region, view: np.ndarray) -> np.ndarray:
    """(4, 2) corners of a region of the canvas, in the view."""
    x0, y0, x1, y1 = region
    return transforms.transform_points(view, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float))


def visible(corners: np.ndarray, frame: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The region of whole pixels of the frame around the corners (4, 2), or None if none of them is in it."""
    x, y = corners.T.tolist()
    x0, y0 = max(math.floor(min(x)), 0), max(math.floor(min(y)), 0)
    x1, y1 = min(math.ceil(max(x)), frame[0]), min(math.ceil(max(y)), frame[1])
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def paint(image: np.ndarray, pane: Pane) -> None:
    """Draw what the frame `image` (H, W, 3) shows of a pane into it: one warp of the visible rectangle."""
    corners = outline(pane.shown, pane.view)
    box = visible(corners, image.shape[1::-1])
    if box is None:
        return
    x0, y0, x1, y1 = box
    matrix = transforms.compose(pane.way, transforms.crop(x0, y0))
    patch = transforms.warp(pane.image, matrix, (x1 - x0, y1 - y0), border=None)
    mask = np.zeros(patch.shape[:2], np.uint8)
    corners = np.rint((corners - (x0 + 0.5, y0 + 0.5)) * 16).astype(np.int32)  # OpenCV's pixel centres, 1/16 px
    cv2.fillConvexPoly(mask, corners, 255, shift=4)
    cv2.copyTo(patch, mask, image[y0:y1, x0:x1])


def merge(panes: list[Pane], frame: tuple[int, int], flip_order: np.ndarray) -> dict[str, np.ndarray]:
    """The people of all panes in one target of the frame (width, height); see `Mosaic` for who is left out."""
    names = ("keypoints", "visibility", "boxes", "areas", "ignore")
    target = {name: np.concatenate([pane.target[name] for pane in panes]) for name in names}
    people, crowds = (np.repeat(range(len(panes)), [len(p.target[name]) for p in panes]) for name in names[3:])
    place, view = np.stack([pane.place for pane in panes]), np.stack([pane.view for pane in panes])
    window, whole = np.array([pane.window for pane in panes], float), np.array([0, 0, *frame], float)
    sizes = np.array([[pane.image.shape[1::-1]] for pane in panes])
    moved = move_people(target, sizes[people], [(place[people], window[people]), (view[people], whole)], flip_order)
    growth = abs(transforms.determinant(place) * transforms.determinant(view))
    moved["areas"] = (target["areas"] * growth[people]).astype(np.float32)
    sides = moved["boxes"][:, 2:] - moved["boxes"][:, :2]
    keep = (moved["visibility"] > 0).any(1) & (sides > 1).all(1)
    ignore = move_regions(target["ignore"], [(place[crowds], window[crowds]), (view[crowds], whole)])
    return {name: values[keep] for name, values in moved.items()} | {"ignore": ignore, "size": np.array(frame)}
