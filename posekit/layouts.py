"""Keypoint layouts: names, OKS sigmas, left/right pairs, limbs and colours, defined once.

COCO: Lin et al. 2014 and the COCO keypoint task (17 joints). CrowdPose: Li et al. 2019 (14 joints).
The sigmas are the `k_i / 2` of the COCO evaluation code: OKS uses `exp(-d^2 / (2 s^2 (2 sigma)^2))` (POET, Eq. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# One colour per side, colour-blind safe (Okabe-Ito): what a reader must tell apart in a pose is left, right and middle.
LEFT, RIGHT, MIDDLE = "#0072B2", "#E69F00", "#009E73"


@dataclass(frozen=True)
class Layout:
    """A named set of K keypoints.

    `sigmas` (K,): OKS fall-off, in units of the square root of the object's area. `flip` (K,): permutation that
    swaps left and right. `limbs`: index pairs to draw. `parts` and `colours`: one entry per keypoint.
    """

    name: str
    keypoints: tuple[str, ...]
    sigmas: np.ndarray
    limbs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"layout {self.name}: {len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints")
        self.sigmas.setflags(write=False)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip(self) -> np.ndarray:
        """(K,) index of the mirrored keypoint: `keypoints[flip]` after a horizontal flip."""
        swap = {"left": "right", "right": "left"}
        mirrored = ["_".join(swap.get(word, word) for word in name.split("_")) for name in self.keypoints]
        # A name without a partner stays where it is.
        order = [self.keypoints.index(name) if name in self.keypoints else i for i, name in enumerate(mirrored)]
        return np.array(order)

    @property
    def colours(self) -> tuple[str, ...]:
        """One colour per keypoint: left, right, middle."""
        sides = {"left": LEFT, "right": RIGHT}
        return tuple(sides.get(name.split("_")[0], MIDDLE) for name in self.keypoints)


COCO = Layout(
    name="coco",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    sigmas=np.array(
        [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
         0.089, 0.089]
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
)

CROWDPOSE = Layout(
    name="crowdpose",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "top_head", "neck",
    ),
    sigmas=np.array(
        [0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079]
    ),
    limbs=(
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (13, 12),
        (0, 13), (1, 13),
    ),
)

LAYOUTS = {layout.name: layout for layout in (COCO, CROWDPOSE)}


def layout_for(keypoints: int | Sequence[str]) -> Layout:
    """The layout with these keypoint names, or with this number of keypoints.

    Unknown names give a layout of their own with equal sigmas 0.079 (the shoulder's) and no limbs: say so when you
    report its AP. A left/right pair is recognised by its name (`left_x`, `right_x`).

    Raises:
        ValueError: a bare number that no known layout has.
    """
    if isinstance(keypoints, int):
        for layout in LAYOUTS.values():
            if len(layout) == keypoints:
                return layout
        known = ", ".join(f"{name} ({len(layout)})" for name, layout in LAYOUTS.items())
        raise ValueError(f"no keypoint layout has {keypoints} keypoints; known: {known}; or give the names")
    names = tuple(keypoints)
    for layout in LAYOUTS.values():
        if layout.keypoints == names:
            return layout
    return Layout(name=f"custom{len(names)}", keypoints=names, sigmas=np.full(len(names), 0.079), limbs=())
