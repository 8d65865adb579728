"""What a drawn body is made of and wears: the parts, which joint each of them shows, skin, hair and clothes.

Shapes: N people, C = 23 parts per person (`PARTS`), K joints of a layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.data.drawn.skeleton import POINT
from posekit.data.drawn.styles import Style
from posekit.layouts import Layout

_LIMBS = (  # end points and radii in standing heights
    ("thigh", "hip", "knee", 0.050, 0.036),
    ("shin", "knee", "ankle", 0.036, 0.023),
    ("foot", "ankle", "toe", 0.024, 0.019),
    ("upper_arm", "shoulder", "elbow", 0.035, 0.028),
    ("forearm", "elbow", "wrist", 0.027, 0.019),
    ("hand", "wrist", "hand", 0.020, 0.017),
)
CAPSULES = tuple(
    (f"{side}_{name}", POINT[f"{side}_{a}"], POINT[f"{side}_{b}"], ra, rb)
    for part in (_LIMBS[:3], _LIMBS[3:])
    for side in ("left", "right")
    for name, a, b, ra, rb in part
) + (("neck", POINT["neck"], POINT["head"], 0.030, 0.028),)
TAIL = (  # of those who have one, as `CAPSULES`
    ("tail_root", POINT["pelvis"], POINT["tail_1"], 0.026, 0.021),
    ("tail_middle", POINT["tail_1"], POINT["tail_2"], 0.021, 0.017),
    ("tail_tip", POINT["tail_2"], POINT["tail_3"], 0.017, 0.010),
)
PARTS = tuple(c[0] for c in CAPSULES) + ("torso", "pelvis", "skirt", "head", "face", "hair")
PARTS += tuple(c[0] for c in TAIL) + ("muzzle",)
PART = {name: i for i, name in enumerate(PARTS)}

# A joint is visible where the image shows one of these parts of the same person.
_PARTS_OF_JOINT = {
    "nose": ("head", "muzzle"),
    "eye": ("head", "muzzle"),
    "ear": ("head",),
    "top_head": ("head", "hair"),
    "neck": ("neck", "torso", "head", "hair"),
    "shoulder": ("upper_arm", "torso"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh", "torso", "pelvis", "skirt"),
    "knee": ("thigh", "shin", "skirt"),
    "ankle": ("shin", "foot"),
}


def joint_part_table(layout: Layout) -> np.ndarray:
    """(K, C + 1) bool: does part c (numbered from 1, 0 = nothing) show keypoint k?"""
    table = np.zeros((len(layout), len(PARTS) + 1), bool)
    for k, keypoint in enumerate(layout.keypoints):
        side, _, name = keypoint.partition("_") if keypoint.startswith(("left_", "right_")) else ("", "", keypoint)
        for part in _PARTS_OF_JOINT[name]:
            sided = f"{side}_{part}"
            table[k, 1 + PART[sided if sided in PART else part]] = True
    return table


@dataclass
class Appearance:
    """How N people look: colours (N, C, 3) uint8 RGB of the parts, `skin` (N, 3), and habits (N,) bool.

    `furry`: all of them have fur, a muzzle and a tail.
    """

    colours: np.ndarray
    skin: np.ndarray
    bald: np.ndarray
    hat: np.ndarray
    long_hair: np.ndarray
    skirt: np.ndarray
    furry: bool = False


def sample_appearance(style: Style, rng: np.random.Generator, n: int) -> Appearance:
    """Draw skin, hair and clothes of N people."""
    u = rng.random((n, 12))
    skin = _shade(style.skins, u[:, 0], u[:, 1])
    hair = _shade(style.hairs, u[:, 2], u[:, 3])
    cloth = rng.random((n, 3, 3))  # shirt, trousers, shoes
    grey = cloth.mean(-1, keepdims=True)
    cloth = 25 + 205 * (grey + (cloth - grey) * np.array([1.0, 0.6, 0.4])[:, None])
    cloth[:, 2] *= 0.7
    bald, hat = u[:, 4] < 0.08 * style.clothed, (u[:, 4] > 0.87) & style.clothed
    long_hair = (u[:, 5] < 0.22) & ~bald & ~hat & style.clothed
    skirt = u[:, 6] < 0.10 * style.clothed
    colours = np.empty((n, len(PARTS), 3))
    colours[:] = skin[:, None]
    if style.clothed:
        bare_leg = skirt | (u[:, 7] < 0.25)
        for s in ("left", "right"):
            colours[:, PART[f"{s}_thigh"]] = np.where(skirt[:, None], skin, cloth[:, 1])
            colours[:, PART[f"{s}_shin"]] = np.where(bare_leg[:, None], skin, cloth[:, 1])
            colours[:, PART[f"{s}_foot"]] = cloth[:, 2]
            colours[:, PART[f"{s}_upper_arm"]] = np.where(u[:, 8:9] < 0.88, cloth[:, 0], skin)
            colours[:, PART[f"{s}_forearm"]] = np.where(u[:, 8:9] < 0.45, cloth[:, 0], skin)
        colours[:, PART["torso"]] = cloth[:, 0]
        colours[:, PART["pelvis"]] = colours[:, PART["skirt"]] = np.where(u[:, 9:10] < 0.12, cloth[:, 0], cloth[:, 1])
    else:
        colours[:] = hair[:, None]
        paws = [PART[f"{side}_{name}"] for side in ("left", "right") for name in ("hand", "foot")]
        colours[:, paws] = 0.75 * skin[:, None]
        colours[:, PART["face"]] = colours[:, PART["muzzle"]] = skin
        pale = (0.15 + 0.25 * u[:, 7])[:, None]  # the belly is lighter than the back
        colours[:, PART["torso"]] = hair + pale * (235 - hair) * (u[:, 8:9] < 0.5)
    colours[:, PART["head"]] = np.where(bald[:, None], skin, np.where(hat[:, None], 255 - cloth[:, 0], hair))
    colours[:, PART["hair"]] = hair
    return Appearance(np.clip(colours, 0, 255).astype(np.uint8), skin, bald, hat, long_hair, skirt, not style.clothed)


def _shade(palette, pick: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """(N, 3): a colour between two neighbours of the palette, a little lighter or darker."""
    palette = np.array(palette, float)
    at = pick * (len(palette) - 1)
    low = at.astype(int)
    part = (at - low)[:, None]
    colour = palette[low] * (1 - part) + palette[np.minimum(low + 1, len(palette) - 1)] * part
    return np.clip(colour * (0.9 + 0.2 * tone[:, None]), 0, 255)
