"""What happens to one person's crop in training: flip, half of the body, another scale, a turn, a moved box (ViTPose's
released configuration; half body: Wang et al. 2018), all of it one matrix and one warp.

Frame: COCO's, of the picture and of the crop. K keypoints, (h, w) heatmap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from posekit.data import transforms
from posekit.data.augment import colour_matrix
from posekit.data.crops import PADDING, SIZE, crop_people, window_matrices, windows
from posekit.data.heatmaps import heatmap_targets
from posekit.layouts import COCO, Layout
from posekit.poses import HALF_PIXEL

# The released code takes the upper body when a *normal* number is below 0.5, so in 69 % of the draws, not in half.
UPPER_RELEASED = 0.6914624612740131
LOWER_BODY = ("hip", "knee", "ankle", "foot", "toe", "heel", "paw", "tail")


@dataclass(frozen=True)
class Policy:
    """What may happen to a crop. Probabilities in [0, 1].

    `flip`; `half_body`: cut out only the upper or the lower body of people with more than `half_body_joints` labelled
    joints, with `half_body_padding` around them, the upper one with probability `upper`. `scale`: standard deviation
    of the window's scale, cut at one. `rotation`: standard deviation in degrees, cut at two, with probability
    `rotation_p`. `shift`: the box moves by up to half of this share of its sides, with probability `shift_p`.
    `colour`: strength of brightness, contrast and saturation jitter.
    """

    flip: float = 0.0
    half_body: float = 0.0
    half_body_joints: int = 8
    half_body_padding: float = 1.5
    upper: float = UPPER_RELEASED
    scale: float = 0.0
    rotation: float = 0.0
    rotation_p: float = 0.0
    shift: float = 0.0
    shift_p: float = 0.0
    colour: float = 0.0


POLICIES = {
    "none": Policy(),
    "scenes": Policy(flip=0.5, scale=0.25, rotation=15, rotation_p=0.5, shift=0.2, shift_p=0.3, colour=0.15),
    "scenes_half": Policy(
        flip=0.5, half_body=0.3, scale=0.25, rotation=15, rotation_p=0.5, shift=0.2, shift_p=0.3, colour=0.15
    ),
    "vitpose": Policy(flip=0.5, half_body=0.3, scale=0.5, rotation=40, rotation_p=0.6, shift=0.4, shift_p=0.3),
    "vitpose_whole": Policy(flip=0.5, scale=0.5, rotation=40, rotation_p=0.6, shift=0.4, shift_p=0.3),
}


@dataclass
class CropAugment:
    """`CropAugment("vitpose")(image, target, rng) -> (crop, target, to_original)` for a target of one person.

    `policy`: "none", "scenes" (drawn people), "vitpose" (as published), each also the other way about half bodies
    ("scenes_half", "vitpose_whole"), or a `Policy`. `layout`: of the data set, and `others` of the further ones where
    several are mixed (`ConcatDataset`). `crop_size`: (width, height); `stride`: pixels of the crop per heatmap cell.
    `udp`, `style`, `sigma`: see `heatmaps.heatmap_targets` and `crops`. `pixel_centre=0` and `smooth=False` sample
    images as the published code does, for published weights.

    Target returned: as the input, in pixels of the crop, with `heatmaps` and `weights`. A joint outside the crop has
    visibility 0; a part of its map may still reach in and is learnt, as published.

    Raises:
        ValueError: an unknown policy.
    """

    policy: str | Policy = "none"
    layout: Layout = COCO
    crop_size: tuple[int, int] = SIZE
    stride: int = 4
    padding: float = PADDING
    udp: bool = True
    style: str = "udp"
    sigma: float = 2.0
    pixel_centre: float = HALF_PIXEL
    smooth: bool = True
    others: tuple[Layout, ...] = ()
    steps: Policy = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.policy, str) and self.policy not in POLICIES:
            raise ValueError(f"unknown augmentation policy '{self.policy}' of crops; there are {', '.join(POLICIES)}")
        self.steps = POLICIES[self.policy] if isinstance(self.policy, str) else self.policy
        self.heatmap_size = (self.crop_size[0] // self.stride, self.crop_size[1] // self.stride)
        layouts = (self.layout, *self.others)
        self._flips = [layout.flip for layout in layouts]
        self._uppers = [upper_body(layout) for layout in layouts]

    def __call__(
        self, image: np.ndarray, target: dict[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        which = int(target.get("dataset", 0))
        centre, extent, degrees, mirror = self.draw(target, rng, self._flips[which], self._uppers[which])
        matrix = window_matrices(centre[None], extent[None], self.crop_size, degrees, self.udp, mirror)
        crop = crop_people(image, matrix, self.crop_size, self.pixel_centre, self.smooth)[0]
        if self.steps.colour:
            crop = cv2.transform(crop, colour_matrix(self.steps.colour, rng))
        points, visibility = transforms.transform_points(matrix[0], target["keypoints"]), target["visibility"]
        if mirror:
            points, visibility = points[:, self._flips[which]], visibility[:, self._flips[which]]
        heatmaps, weights = heatmap_targets(
            points, visibility > 0, self.crop_size, self.heatmap_size, self.style, self.sigma
        )
        back = transforms.invert(matrix[0]).astype(np.float32)
        return crop, self._target(target, matrix[0], points, visibility, extent, heatmaps, weights), back

    def draw(
        self, target: dict[str, np.ndarray], rng: np.random.Generator, flip: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        """The random window around one person: (centre (2,), extent (2,), degrees, mirrored)."""
        steps, box = self.steps, target["boxes"]
        centres, extents = windows(box, self.crop_size, self.padding)
        centre, extent, degrees = centres[0], extents[0], 0.0
        mirror = bool(steps.flip) and rng.random() < steps.flip and (flip != np.arange(len(flip))).any()
        if steps.shift and rng.random() < steps.shift_p:
            centre = centre + steps.shift * (rng.random(2) - 0.5) * (box[0, 2:] - box[0, :2])
        labelled = (target["visibility"] > 0).ravel()
        if steps.half_body and labelled.sum() > steps.half_body_joints and rng.random() < steps.half_body:
            chosen = rng.random() < steps.upper
            points = target["keypoints"].reshape(-1, 2)
            half = half_body(points, labelled, upper, chosen, self.crop_size, steps.half_body_padding)
            centre, extent = (centre, extent) if half is None else half
        if steps.scale:
            extent = extent * random_scale(rng.standard_normal(), steps.scale)
        if steps.rotation and rng.random() < steps.rotation_p:
            degrees = random_turn(rng.standard_normal(), steps.rotation)
        return centre, extent, degrees, bool(mirror)

    def _target(self, target, matrix, points, visibility, extent, heatmaps, weights) -> dict[str, np.ndarray]:
        inside = ((points >= 0) & (points <= self.crop_size)).all(-1)
        visibility = np.where(inside, visibility, 0).astype(np.uint8)
        k = points.shape[1]
        known = len(points) > 0
        return {
            "keypoints": np.where(visibility[..., None] > 0, points, 0).astype(np.float32),
            "visibility": visibility,
            "boxes": transforms.transform_boxes(matrix, target["boxes"], self.crop_size).astype(np.float32),
            "areas": (target["areas"] * transforms.determinant(matrix)).astype(np.float32),
            "ignore": np.zeros((0, 4), np.float32),
            "size": np.array(self.crop_size),
            "heatmaps": heatmaps[0] if known else np.zeros((k, *self.heatmap_size[::-1]), np.float32),
            "weights": weights[0] if known else np.zeros(k, np.float32),
            "box": target["boxes"][0].astype(np.float32),
            "window": extent.astype(np.float32),
            **{name: target[name] for name in ("box_score", "dataset") if name in target},
        }


def upper_body(layout: Layout) -> np.ndarray:
    """(K,) bool: which keypoints lie above the hips, by their names; COCO's 0 to 10."""
    return np.array([not any(word in name for word in LOWER_BODY) for name in layout.keypoints])


def half_body(
    points: np.ndarray,
    labelled: np.ndarray,
    upper: np.ndarray,
    take_upper: bool,
    size: tuple[int, int] = SIZE,
    padding: float = 1.5,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The window (centre (2,), extent (2,)) around the labelled joints of one half of the body, None where it has none.

    The released rule: the upper half if wanted and three of its joints are labelled, else the lower one if three of
    its are, else the upper one; two joints are needed, and some distance between them.
    """
    above, below = points[labelled & upper], points[labelled & ~upper]
    chosen = above if (take_upper and len(above) > 2) or len(below) <= 2 else below
    if len(chosen) < 2 or not np.ptp(chosen, axis=0).any():
        return None
    width, height = np.ptp(chosen, axis=0).astype(np.float64)
    ratio = size[0] / size[1]
    extent = np.array([max(width, height * ratio), max(height, width / ratio)])
    return chosen.mean(0), extent * padding


def random_scale(normal: float, scale: float) -> float:
    """A normal number -> the factor of the window, in [1 - scale, 1 + scale]."""
    return float(np.clip(1 + scale * normal, 1 - scale, 1 + scale))


def random_turn(normal: float, rotation: float) -> float:
    """A normal number -> degrees in [-2 rotation, 2 rotation]."""
    return float(np.clip(rotation * normal, -2 * rotation, 2 * rotation))
