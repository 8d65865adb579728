"""Which detection belongs to whom: COCO's greedy matching, as pycocotools does it.

All images go through together, and each area range at each threshold is one bit of a number, so that all are matched
at once. The only loop left runs over the rank of a detection and its choices: first the best of the surest detection of
every image, then the second best, and so on.
Shapes: A = 3 area ranges, T = 10 thresholds, D detections, G people, P pairs. Coordinates: pixels of the image.
"""

from __future__ import annotations

import numpy as np

from posekit.evaluation.detections import Detections
from posekit.evaluation.ground_truth import GroundTruth
from posekit.evaluation.oks import doubled, extent, oks_pairs

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS


def best_of_images(found: Detections, max_detections: int) -> np.ndarray:
    """Order of the detections: by image, surest first (ties: as given), so many of each image at most."""
    order = np.argsort(-found.scores, kind="stable")
    image = found.image[order].astype(np.min_scalar_type(found.image.max(initial=0)))  # numpy sorts 16 bits in one pass
    order = order[np.argsort(image, kind="stable")]
    return order[places(found.image[order]) < max_detections]


def places(groups: np.ndarray) -> np.ndarray:
    """Place, from 0, of each element within its group; elements of a group stand side by side."""
    first = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))


def similarity_of(people: GroundTruth, found: Detections, sigmas, d_index, g_index) -> np.ndarray:
    """(P,) OKS of the pairs (d_index, g_index)."""
    labelled, bounds = people.visibility > 0, doubled(people.boxes)
    rows = found.row[d_index]
    return oks_pairs(found.poses, people.keypoints, labelled, people.areas, sigmas, bounds, rows, g_index)


def _candidates(people: GroundTruth, found: Detections, sigmas) -> tuple[np.ndarray, np.ndarray]:
    """(detections (P,), people (P,)): the pairs of each image that can reach OKS 0.5, by detection.

    No joint is nearer than the gap between the box of the detection and that of the person's labelled joints:
    OKS is at most exp(-gap^2 / (2 area k^2)) with the largest k. In a photograph most pairs end here.
    """
    n_people = np.bincount(people.image, minlength=len(people.image_ids))
    company = n_people[found.image]  # people in a detection's image
    first = (np.cumsum(n_people) - n_people)[found.image] - (np.cumsum(company) - company)
    d = np.repeat(np.arange(len(found)), company)
    g = np.arange(len(d)) + np.repeat(first, company)
    labelled = people.visibility > 0
    around = np.where(labelled.any(1)[:, None], extent(people.keypoints, labelled), doubled(people.boxes))
    gap = np.zeros(len(d))
    for axis in (0, 1):
        before = around[:, axis].take(g) - found.boxes[:, axis + 2].take(d)
        after = found.boxes[:, axis].take(d) - around[:, axis + 2].take(g)
        gap += np.maximum(np.maximum(before, after), 0) ** 2
    reach = 1.4 * (people.areas + np.spacing(1)) * (2 * np.max(sigmas, initial=0)) ** 2  # exp(-0.7) < 0.5
    close = np.flatnonzero(gap <= np.where(people.areas < 0, np.inf, reach).take(g))
    return d[close], g[close]


def match_people(people: GroundTruth, found: Detections, sigmas, ignored_people, far) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching, surest detection first: (A, T, D) index of the person, or -1, and (A, T, D) bool: not counted.

    A detection takes the free person with the highest OKS >= threshold (ties: the later annotation) among
    those that count; only if there is none, among the ignored ones. A crowd stays free whoever takes it. A detection
    counts as its person does (`ignored_people` (A, G)), without one by its own area (`far` (A, D): out of range).
    """
    d, g = _candidates(people, found, sigmas)
    similarity = similarity_of(people, found, sigmas, d, g)
    reached = np.searchsorted(np.minimum(THRESHOLDS, 1 - 1e-10), similarity, side="right")  # so many thresholds
    # Bit a T + t of a number: area range a, threshold t. A pair is a choice of its detection where the person counts
    # and, after all of these, one where the person is ignored.
    ranges = 1 << len(THRESHOLDS) * np.arange(len(ignored_people))
    counts, passed = ~ignored_people.T @ ranges, (1 << reached) - 1
    bits = np.concatenate([passed * counts[g], passed * (ranges.sum() - counts[g])])
    d, g, similarity = (np.tile(column, 2) for column in (d, g, similarity))
    choices = np.flatnonzero(bits)
    order = np.lexsort((-g[choices], -similarity[choices], choices >= len(bits) // 2, d[choices]))
    bits, d, g = (column[choices[order]] for column in (bits, d, g))
    first = np.flatnonzero(np.diff(d, prepend=-1))
    rank = np.repeat(places(found.image[d[first]]), np.diff(first, append=len(d)))
    turns = np.lexsort((places(d), rank))
    edges = np.flatnonzero(np.diff(rank[turns]) | np.diff(places(d)[turns])) + 1
    free, left = np.full(len(people), -1), np.full(len(found), -1)
    for turn in np.split(turns, edges):  # every image at most once
        detection, person = d[turn], g[turn]
        bits[turn] &= free[person] & left[detection]
        left[detection] ^= bits[turn]
        free[person] ^= np.where(people.crowd[person], 0, bits[turn])
    match = np.full((len(ignored_people), len(THRESHOLDS), len(found)), -1, np.int32)
    ignored = np.repeat(far[:, None], len(THRESHOLDS), axis=1)
    for bit, (a, t) in enumerate(np.ndindex(match.shape[:2])):
        taken = np.flatnonzero((bits & 1 << bit) != 0)
        match[a, t, d[taken]] = g[taken]
        ignored[a, t, d[taken]] = ignored_people[a, g[taken]]
    return match, ignored
