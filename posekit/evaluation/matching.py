"""Which detection belongs to whom: COCO's greedy matching, as pycocotools does it.

All area ranges and thresholds are matched at once, and images with the same number of people go through together; the
only loop left runs over the rank of a detection: first the surest of every image, then the second, and so on.
Shapes: A = 3 area ranges, T = 10 thresholds, D detections, G people, P pairs. Coordinates: pixels of the image.
"""

from __future__ import annotations

import numpy as np

from posekit.evaluation.detections import Detections
from posekit.evaluation.ground_truth import GroundTruth
from posekit.evaluation.oks import doubled, oks_pairs

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS


def best_of_images(found: Detections, max_detections: int) -> np.ndarray:
    """Order of the detections: by image, surest first (ties: as given), so many of each image at most."""
    order = np.lexsort((-found.scores, found.image))
    image = found.image[order]
    return order[np.arange(len(order)) - np.searchsorted(image, image) < max_detections]


def similarity_of(people: GroundTruth, found: Detections, sigmas, d_index, g_index) -> np.ndarray:
    """(P,) OKS of the pairs (d_index, g_index)."""
    labelled, bounds = people.visibility > 0, doubled(people.boxes)
    return oks_pairs(found.keypoints, people.keypoints, labelled, people.areas, sigmas, bounds, d_index, g_index)


def _close(people: GroundTruth, found: Detections, sigmas, d_index, g_index) -> np.ndarray:
    """Indices of the pairs that can reach OKS 0.5.

    No joint is nearer than the gap between the box of the detection and that of the person's labelled joints:
    OKS is at most exp(-gap^2 / (2 area k^2)) with the largest k. In a photograph most pairs end here.
    """
    seen = (people.visibility > 0)[..., None]
    bounds = doubled(people.boxes)
    nobody = ~seen.any((1, 2))
    low = np.where(seen, people.keypoints, np.inf).min(1, initial=np.inf)
    high = np.where(seen, people.keypoints, -np.inf).max(1, initial=-np.inf)
    low[nobody], high[nobody] = bounds[nobody, :2], bounds[nobody, 2:]
    gap = np.zeros(len(d_index))
    for axis in (0, 1):
        before = low[g_index, axis] - found.boxes[d_index, axis + 2]
        after = found.boxes[d_index, axis] - high[g_index, axis]
        gap += np.maximum(np.maximum(before, after), 0) ** 2
    reach = 1.4 * (people.areas + np.spacing(1)) * (2 * np.max(sigmas, initial=0)) ** 2  # exp(-0.7) < 0.5
    return np.flatnonzero((gap <= reach[g_index]) | (people.areas[g_index] < 0))


def match_people(people: GroundTruth, found: Detections, sigmas, ignored_people) -> np.ndarray:
    """Greedy matching, surest detection first: (A, T, D) index of the person, or -1.

    A detection takes the free person with the highest OKS >= threshold (ties: the later annotation) among
    those that count; only if there is none, among the ignored ones. A crowd stays free whoever takes it.
    """
    n_people = np.bincount(people.image, minlength=len(people.image_ids))
    person0 = np.cumsum(n_people) - n_people
    company = n_people[found.image]  # people in a detection's image
    pair0 = np.cumsum(company) - company
    d_index = np.repeat(np.arange(len(found)), company)
    g_index = np.arange(len(d_index)) - np.repeat(pair0 - person0[found.image], company)
    close = _close(people, found, sigmas, d_index, g_index)
    similarity = np.zeros(len(d_index))
    similarity[close] = similarity_of(people, found, sigmas, d_index[close], g_index[close])
    reached = np.searchsorted(np.minimum(THRESHOLDS, 1 - 1e-10), similarity, side="right")  # so many thresholds
    rank = np.arange(len(found)) - np.searchsorted(found.image, found.image)
    match = np.full((len(ignored_people), len(THRESHOLDS), len(found)), -1, np.int32)
    possible = np.zeros(len(found), bool)
    possible[d_index[reached > 0]] = True
    for n in np.unique(company[possible]):
        here = np.flatnonzero(possible & (company == n))
        bucket, image = np.unique(found.image[here], return_inverse=True)
        members = person0[bucket][:, None] + np.arange(n)  # (N, n)
        crowd = people.crowd[members]
        head_start = np.where(ignored_people[:, members], 1, n + 1)[:, None]  # those that count come first
        free = np.ones((len(ignored_people), len(THRESHOLDS), len(bucket), n), bool)
        for r in np.unique(rank[here]):
            turn = np.flatnonzero(rank[here] == r)
            i, d = image[turn], here[turn]
            pairs = pair0[d][:, None] + np.arange(n)
            # Places 0..n-1 stand in for OKS: a stable sort gives the later one of equals the higher place.
            place = np.argsort(np.argsort(similarity[pairs], axis=1, kind="stable"), axis=1)
            able = free[:, :, i] & (reached[pairs] > np.arange(len(THRESHOLDS))[:, None, None])
            value = able * (place + head_start[:, :, i])
            best = value.argmax(3)
            a, t, j = np.nonzero(np.take_along_axis(value, best[..., None], 3)[..., 0])
            g = best[a, t, j]
            match[a, t, d[j]] = members[i[j], g]
            free[a, t, i[j], g] = crowd[i[j], g]
    return match
