"""What kind of error a joint has: after Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation" (ICCV 2017), section 3.1.

ks is a joint's term of OKS, exp(-d^2 / (2 s^2 k^2)), with the area s^2 of the person and the fall-off k of the joint
that the distance d is measured to. A predicted joint is

- good: ks >= 0.85 for its own place, within what annotators differ by,
- jitter: ks >= 0.5 for its own place,
- inversion: ks >= 0.5 for the mirrored joint of the same person (left for right),
- swap: ks >= 0.5 for that joint, or the mirrored one, of another person,
- miss: none of these.

Only detections with OKS >= 0.1 on the person that they are paired with have joints to judge; the others are false
positives, and people without one are missed.
Shapes: N pairs, K keypoints. Coordinates: pixels of the image.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posekit.evaluation.pairing import Pairs, pair_people
from posekit.layouts import Layout
from posekit.poses import Poses

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, NEAR = 0.85, 0.5  # of ks
LEAST = 0.1  # OKS of a detection with its person


@dataclass
class Errors:
    """`pairs`: detections with their people. `kind` (N, K): index into `KINDS`, -1 where no joint is labelled.
    `mended` (N, K, 2): where each joint would be without its error: jitter and misses at the annotated place,
    inversions and swaps as far from it as they are from the place that they were found at. `missed`: people without a
    detection."""

    pairs: Pairs
    kind: np.ndarray
    mended: np.ndarray
    missed: int

    def shares(self) -> np.ndarray:
        """(K, 5) share of each kind among the judged joints, NaN where none was."""
        counts = np.stack([(self.kind == i).sum(0) for i in range(len(KINDS))], 1)
        judged = counts.sum(1, keepdims=True)
        return np.where(judged > 0, counts / np.maximum(judged, 1), np.nan)

    def mend(self, poses: Sequence[Poses], kinds: Collection[str]) -> list[Poses]:
        """The same poses with the errors of these kinds mended."""
        wanted = np.isin(self.kind, [KINDS.index(kind) for kind in kinds])
        keypoints = [one.keypoints.copy() for one in poses]
        for n in np.flatnonzero(wanted.any(1)):
            joints = wanted[n]
            keypoints[self.pairs.image[n]][self.pairs.prediction[n], joints] = self.mended[n, joints]
        return [replace(one, keypoints=moved) for one, moved in zip(poses, keypoints, strict=True)]


def find_errors(poses: Sequence[Poses], targets: Sequence[dict], layout: Layout) -> Errors:
    """The errors of the joints of each image's poses; targets: as of `pair_people`."""
    pairs = pair_people(poses, targets, layout.sigmas, LEAST)
    n, k = len(pairs), len(layout)
    kind, mended = np.full((n, k), -1), pairs.keypoints.astype(float)
    variances, mirror = (2 * layout.sigmas) ** 2, layout.flip

    def similarity(points, places, visibility, areas, joints) -> np.ndarray:
        """ks (..., K) of points to places (..., K, 2), 0 where the place is not labelled; areas (...,)."""
        squared = ((points - places) ** 2).sum(-1)
        ks = np.exp(-squared / (2 * (areas[..., None] + np.spacing(1)) * variances[joints]))
        return np.where(visibility > 0, ks, 0)

    same = np.arange(k)
    for number in np.unique(pairs.image):
        rows, target = np.flatnonzero(pairs.image == number), targets[number]
        points, person = pairs.keypoints[rows].astype(float), pairs.person[rows]
        truth, visible = np.asarray(target["keypoints"], float), np.asarray(target["visibility"])
        areas = np.asarray(target["areas"], float)
        # ks of every found joint to everybody's same and mirrored joint, (R, G, K) each
        straight = similarity(points[:, None], truth, visible, areas, same)
        mirrored = similarity(points[:, None], truth[:, mirror], visible[:, mirror], areas, mirror)
        mirrored[..., mirror == same] = 0
        mine = np.arange(len(rows)), person
        own, inverted = straight[mine], mirrored[mine]
        others = np.concatenate([straight, mirrored], axis=1)
        others[np.arange(len(rows)), person] = others[np.arange(len(rows)), person + len(truth)] = 0
        swapped, at = others.max(1), others.argmax(1)
        judged = np.select([own >= GOOD, own >= NEAR, inverted >= NEAR, swapped >= NEAR], [0, 1, 2, 3], default=4)
        kind[rows] = np.where(visible[person] > 0, judged, -1)
        found_at = np.concatenate([truth, truth[:, mirror]])[at, same]
        offset = np.where((judged == 3)[..., None], points - found_at, 0)
        offset = np.where((judged == 2)[..., None], points - truth[person][:, mirror], offset)
        mended[rows] = np.where((kind[rows] > 0)[..., None], truth[person] + offset, points)
    return Errors(pairs, kind, mended, pairs.unpaired)
