"""What happens to one person's crop in training: flip, half of the body, another scale, a turn, a moved box (ViTPose's
released configuration; half body: Wang et al. 2018), all of it one matrix and one warp.

Coordinates: COCO pixels of the image and of the crop. K keypoints, (h, w) heatmap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from posekit.data import transforms
from posekit.data.augment import colour_matrix, find_policy
from posekit.data.crops import SIZE, crop_people, window_matrices, windows
from posekit.data.heatmaps import heatmap_targets
from posekit.layouts import COCO, Layout
from posekit.pixels import HALF_PIXEL

# The released code takes the upper body when a *normal* number is below 0.5, so in 69 % of the draws, not in half.
UPPER = 0.6914624612740131
LOWER_BODY = ("hip", "knee", "ankle", "foot", "toe", "heel", "paw", "tail")


@dataclass(frozen=True)
class Policy:
    """What may happen to a crop. Probabilities in [0, 1].

    `flip`; `half_body`: cut out only the upper or the lower body of people with more than `half_body_joints` labelled
    joints. `scale`: standard deviation of the window's scale, cut at one. `rotation`: standard deviation in degrees,
    cut at two, with probability `rotation_p`. `shift`: the box moves by up to half of this share of its sides, with
    probability `shift_p`. `colour`: strength of brightness, contrast and saturation jitter.
    """

    flip: float = 0.0
    half_body: float = 0.0
    half_body_joints: int = 8
    scale: float = 0.0
    rotation: float = 0.0
    rotation_p: float = 0.0
    shift: float = 0.0
    shift_p: float = 0.0
    colour: float = 0.0


_SCENES = Policy(flip=0.5, scale=0.25, rotation=15, rotation_p=0.5, shift=0.2, shift_p=0.3, colour=0.15)
_VITPOSE = Policy(flip=0.5, half_body=0.3, scale=0.5, rotation=40, rotation_p=0.6, shift=0.4, shift_p=0.3)
POLICIES = {
    "none": Policy(),
    "scenes": _SCENES,
    "scenes_half": replace(_SCENES, half_body=0.3),
    "vitpose": _VITPOSE,
    "vitpose_whole": replace(_VITPOSE, half_body=0.0),
    "simple_baseline": replace(_VITPOSE, shift=0.0, shift_p=0.0),
}


@dataclass
class CropAugment:
    """`CropAugment("vitpose")(image, target, rng) -> (crop, target, to_original)` for a target of one person.

    `policy`: "none", "scenes" (drawn people), "vitpose" (as published), each also the other way about half bodies
    ("scenes_half", "vitpose_whole"), or a `Policy`. `layout`: of the data set, and `others` of the further ones where
    several are mixed (`ConcatDataset`). `crop_size`: (width, height); `stride`: pixels of the crop per heatmap cell.
    `pixel_centre`: see `crops.crop_people`.

    Target returned: as the input, in pixels of the crop, with `heatmaps` (K, h, w) and `weights` (K,) of UDP, all 0 for
    a person without annotation. A joint outside the crop has visibility 0; a part of its map may still reach in and is
    learnt, as published.

    Raises:
        ValueError: an unknown policy.
    """

    policy: str | Policy = "none"
    layout: Layout = COCO
    crop_size: tuple[int, int] = SIZE
    stride: int = 4
    pixel_centre: float = HALF_PIXEL
    others: tuple[Layout, ...] = ()

    def __post_init__(self) -> None:
        self.steps = find_policy(self.policy, POLICIES, "augmentation policy of crops")
        self.heatmap_size = (self.crop_size[0] // self.stride, self.crop_size[1] // self.stride)
        self.sides = [(layout.flip, upper_body(layout)) for layout in (self.layout, *self.others)]

    def __call__(
        self, image: np.ndarray, target: dict[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        flip, upper = self.sides[int(target.get("dataset", 0))]
        centre, extent, degrees, mirror = self.draw(target, rng, flip, upper)
        (matrix,) = window_matrices(centre[None], extent[None], self.crop_size, degrees, udp=True, mirror=mirror)
        (crop,) = crop_people(image, matrix[None], self.crop_size, self.pixel_centre)
        if self.steps.colour:
            crop = cv2.transform(crop, colour_matrix(self.steps.colour, rng))
        points, visibility = transforms.transform_points(matrix, target["keypoints"]), target["visibility"]
        if mirror:
            points, visibility = points[:, flip], visibility[:, flip]
        heatmaps, weights = heatmap_targets(points, visibility > 0, self.crop_size, self.heatmap_size)
        if not len(points):
            heatmaps, weights = (np.zeros((1, *part.shape[1:]), np.float32) for part in (heatmaps, weights))
        inside = ((points >= 0) & (points <= self.crop_size)).all(-1)
        visibility = np.where(inside, visibility, 0).astype(np.uint8)
        boxes = transforms.transform_boxes(matrix, target["boxes"]).clip(0, self.crop_size * 2)
        made = {
            "keypoints": np.where(visibility[..., None] > 0, points, 0).astype(np.float32),
            "visibility": visibility,
            "boxes": boxes.astype(np.float32),
            "areas": (target["areas"] * np.float32(abs(transforms.determinant(matrix)))).astype(np.float32),
            "ignore": np.zeros((0, 4), np.float32),
            "size": np.array(self.crop_size),
            "heatmaps": heatmaps[0],
            "weights": weights[0],
            "box": target["boxes"][0].astype(np.float32),
            "window": extent.astype(np.float32),
        }
        made |= {name: target[name] for name in ("box_score", "dataset") if name in target}
        return crop, made, transforms.invert(matrix).astype(np.float32)

    def draw(
        self, target: dict[str, np.ndarray], rng: np.random.Generator, flip: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, float, bool]:
        """The random window around one person: (centre (2,), extent (2,), degrees, mirrored)."""
        steps, box = self.steps, target["boxes"]
        (centre,), (extent,) = windows(box, self.crop_size)
        mirror = rng.random() < steps.flip if steps.flip else False
        if steps.shift and rng.random() < steps.shift_p:
            centre = centre + steps.shift * (rng.random(2) - 0.5) * (box[0, 2:] - box[0, :2])
        labelled = (target["visibility"] > 0).ravel()
        if steps.half_body and labelled.sum() > steps.half_body_joints and rng.random() < steps.half_body:
            take_upper = rng.random() < UPPER
            half = half_body(target["keypoints"].reshape(-1, 2), labelled, upper, take_upper, self.crop_size)
            centre, extent = half or (centre, extent)
        if steps.scale:
            extent = extent * random_scale(rng.standard_normal(), steps.scale)
        turns = steps.rotation and rng.random() < steps.rotation_p
        degrees = random_turn(rng.standard_normal(), steps.rotation) if turns else 0.0
        return centre, extent, degrees, bool(mirror and (flip != np.arange(len(flip))).any())


def upper_body(layout: Layout) -> np.ndarray:
    """(K,) bool: which keypoints lie above the hips, by their names; COCO's 0 to 10."""
    return np.array([not any(word in name for word in LOWER_BODY) for name in layout.keypoints])


def half_body(
    points: np.ndarray, labelled: np.ndarray, upper: np.ndarray, take_upper: bool, size: tuple[int, int] = SIZE
) -> tuple[np.ndarray, np.ndarray] | None:
    """The window (centre (2,), extent (2,)) around the labelled joints of one half of the body, None where it has none.

    The released rule: the upper half if wanted and three of its joints are labelled, else the lower one if three of
    its are, else the upper one; two joints are needed, and some distance between them. A half of their extent is added.
    """
    above, below = points[labelled & upper], points[labelled & ~upper]
    chosen = above if (take_upper and len(above) > 2) or len(below) <= 2 else below
    if len(chosen) < 2 or not np.ptp(chosen, axis=0).any():
        return None
    width, height = np.ptp(chosen, axis=0).astype(np.float64)
    ratio = size[0] / size[1]
    return chosen.mean(0), np.array([max(width, height * ratio), max(height, width / ratio)]) * 1.5


def random_scale(normal: float, scale: float) -> float:
    """A normal number -> the factor of the window, in [1 - scale, 1 + scale]."""
    return float(np.clip(1 + scale * normal, 1 - scale, 1 + scale))


def random_turn(normal: float, rotation: float) -> float:
    """A normal number -> degrees in [-2 rotation, 2 rotation]."""
    return float(np.clip(rotation * normal, -2 * rotation, 2 * rotation))
