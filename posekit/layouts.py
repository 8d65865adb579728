"""Keypoint layouts: names, OKS sigmas, left/right pairs, limbs and colours, defined once.

COCO: Lin et al. 2014 and the COCO keypoint task (17 joints). CrowdPose: Li et al. 2019 (14 joints).
The sigmas are the `k_i / 2` of the COCO evaluation code: OKS uses `exp(-d^2 / (2 s^2 (2 sigma)^2))` (POET, Eq. 5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# One colour per side, colour-blind safe (Okabe-Ito): what a reader must tell apart in a pose is left, right and middle.
LEFT, RIGHT, MIDDLE = "#0072B2", "#E69F00", "#009E73"


@dataclass(frozen=True)
class Layout:
    """A named set of K keypoints.

    `sigmas` (K,): OKS fall-off, in units of the square root of the object's area. `limbs`: index pairs to draw.
    `pairs`: index pairs that a mirror exchanges; None: they are read off the names.
    """

    name: str
    keypoints: tuple[str, ...]
    sigmas: np.ndarray
    limbs: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"layout {self.name}: {len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints")
        self.sigmas.setflags(write=False)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip(self) -> np.ndarray:
        """(K,) index of the mirrored keypoint: `keypoints[flip]` after a horizontal flip.

        A pair is recognised by its names: left_x, Right-x, x_left, leftX, L_x, xR ... A name without a partner stays.
        """
        if self.pairs is not None:
            order = np.arange(len(self))
            for a, b in self.pairs:
                order[[a, b]] = b, a
            return order
        places = {name.lower(): i for i, name in enumerate(self.keypoints)}
        order = [next((places[m] for m in _mirrored(name) if m in places), i) for i, name in enumerate(self.keypoints)]
        return np.array([j if order[j] == i else i for i, j in enumerate(order)], int)

    @property
    def can_flip(self) -> bool:
        """Whether a mirrored image can be annotated: the names tell the sides, or there is nothing to swap."""
        return len(self) == 1 or self.pairs is not None or bool((self.flip != np.arange(len(self))).any())

    @property
    def colours(self) -> tuple[str, ...]:
        """One colour per keypoint: left, right, middle."""
        paired = self.flip != np.arange(len(self))
        sides = {"left": LEFT, "right": RIGHT, "l": LEFT, "r": RIGHT}
        colours = []
        for name, pair in zip(self.keypoints, paired, strict=True):
            named = [word for word in _words(name) if word in sides and (pair or len(word) > 1)]
            first = sides.get(name[0].lower()) if pair else None  # lwrist, rwrist
            colours.append(sides[named[0]] if named else first or MIDDLE)
        return tuple(colours)

    @property
    def limb_colours(self) -> tuple[str, ...]:
        """One colour per limb: its side's, or the middle's where it joins left and right."""
        ends = ({self.colours[i] for i in limb} - {MIDDLE} for limb in self.limbs)
        return tuple(sides.pop() if len(sides) == 1 else MIDDLE for sides in ends)


_SWAP = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _words(name: str) -> list[str]:
    """The words of a name and what is between them, in small letters: "leftEye" -> left, eye; "L-Eye" -> l, -, eye."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z]+", name)]


def _mirrored(name: str) -> list[str]:
    """What the other side of this keypoint may be called, in small letters; the surest first."""
    small = name.lower()
    whole = "".join(_SWAP.get(word, word) for word in _words(name))
    inside = re.sub("left|right", lambda word: _SWAP[word[0]], small)  # lefteye
    first = _SWAP.get(small[:1], "") + small[1:]  # lwrist
    return [other for other in (whole, inside, first) if other != small]


def _limbs(pairs: str) -> tuple[tuple[int, int], ...]:
    """ "15-13 13-11" -> (15, 13), (13, 11)"""
    return tuple((int(a), int(b)) for a, b in (pair.split("-") for pair in pairs.split()))


COCO = Layout(
    "coco",
    keypoints=tuple(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle".split()
    ),
    sigmas=np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000,
    limbs=_limbs("15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6"),
)
CROWDPOSE = Layout(
    "crowdpose",
    keypoints=(*COCO.keypoints[5:], "top_head", "neck"),
    sigmas=np.array([*COCO.sigmas[5:], 0.079, 0.079]),
    limbs=_limbs("10-8 8-6 11-9 9-7 6-7 0-6 1-7 0-1 0-2 1-3 2-4 3-5 13-12 0-13 1-13"),
)
SYNONYMS = {"head": "top_head"}  # CrowdPose's own files differ in this one name
EQUAL = 0.079  # the shoulder's, for joints that no layout knows
LAYOUTS = {layout.name: layout for layout in (COCO, CROWDPOSE)}


def layout_for(keypoints: int | Sequence[str]) -> Layout:
    """The layout with these keypoint names, or with this number of keypoints.

    Unknown names give a layout of their own without limbs, with the sigmas of `sigmas_for`. A left/right pair is
    recognised by its name (see `Layout.flip`).

    Raises:
        ValueError: a bare number that no known layout has.
    """
    names = keypoints if isinstance(keypoints, int) else tuple(keypoints)
    for layout in LAYOUTS.values():
        if names in (len(layout), layout.keypoints):
            return layout
    if isinstance(names, int):
        known = ", ".join(f"{name} ({len(layout)})" for name, layout in LAYOUTS.items())
        raise ValueError(f"no keypoint layout has {names} keypoints; known: {known}; or give the names")
    sigmas, _ = sigmas_for(names, len(names))
    return Layout(f"custom{len(names)}", names, sigmas.copy(), limbs=())


def layout_of(keypoints: int) -> Layout:
    """The known layout with so many keypoints, or one of that number without names."""
    known = next((layout for layout in LAYOUTS.values() if len(layout) == keypoints), None)
    return known or layout_for([f"keypoint_{i}" for i in range(keypoints)])


def to_record(layout: Layout) -> dict[str, Any]:
    """The layout as JSON can hold it: files of weights and exported graphs carry it."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(layout).items()}


def from_record(record: dict[str, Any]) -> Layout:
    """The inverse of `to_record`."""
    limbs, pairs = (tuple(map(tuple, record[name] or ())) for name in ("limbs", "pairs"))
    names, sigmas = tuple(record["keypoints"]), np.array(record["sigmas"], float)
    return Layout(record["name"], names, sigmas, limbs, None if record["pairs"] is None else pairs)


def sigmas_for(names: Sequence[str] | None, k: int, crowdpose: bool = False) -> tuple[np.ndarray, str]:
    """(sigmas (K,), where they come from): the one rule for training and for scoring.

    names: the keypoints' names, if they are known. crowdpose: scored as CrowdPose's files are, where 14 joints have
    its sigmas whatever their names. As in pycocotools 17 joints have COCO's. An unknown layout has the shoulder's 0.079
    for every joint: no published number can be compared with its AP.
    """
    names = tuple(SYNONYMS.get(name, name) for name in names or ())
    for layout in LAYOUTS.values():
        if len(layout) == k and names in ((), layout.keypoints):
            return layout.sigmas, layout.name
    if k == len(CROWDPOSE) and crowdpose:
        return CROWDPOSE.sigmas, CROWDPOSE.name
    if k == len(COCO):
        return COCO.sigmas, "coco, as in pycocotools (the joints have other names: give sigmas if they differ)"
    return np.full(k, EQUAL), f"{EQUAL:g} for every joint (the layout is unknown: give sigmas)"
