"""From matches to precision and recall: COCO's ten numbers, as pycocotools computes them.

Shapes: A = 3 area ranges, T = 10 thresholds, R = 101 recall levels, D detections, G people, I images (times
categories, where several are scored).
"""

from __future__ import annotations

import numpy as np

from posekit.evaluation.matching import THRESHOLDS

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
AREAS = ("all", "medium", "large")
RECALLS = np.linspace(0, 1, 101)


def beyond(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(A, N) bool: the area lies outside the range. Both limits belong to the range."""
    return (areas < limits[:, :1]) | (areas > limits[:, 1:])


def accumulate(people, found, match, ignored, ignored_people, images=None) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, A), recall (T, A) over all images or those of a mask (I,); -1 where nobody counts.

    Of several categories the mean over those where somebody counts, as in pycocotools.
    """
    category = np.arange(len(people.image_ids)) // max(people.images, 1)
    category[slice(0) if images is None else ~images] = -1
    hit = (match >= 0) & ~ignored
    if (people.ids == 0).any():
        hit &= people.ids[match] != 0  # pycocotools' reading of id 0, see `coco.score`
    order = np.argsort(-found.scores, kind="stable")
    tables = []
    for c in range(len(people.categories)):
        mine = order[category[found.image[order]] == c]
        count = (~ignored_people & (category[people.image] == c)).sum(1)
        tables.append(_one_category(hit.take(mine, -1), ignored.take(mine, -1), count))
    precision, recall = (np.ma.masked_equal(table, -1).mean(0).filled(-1) for table in zip(*tables, strict=True))
    return precision, recall


def _one_category(hit, ignored, people) -> tuple[np.ndarray, np.ndarray]:
    """From detections (A, T, D), surest first: whether each found somebody, or is not counted; people (A,) to find."""
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), len(AREAS)))
    recall = -np.ones((len(THRESHOLDS), len(AREAS)))
    for a, count in enumerate(people):
        for t in range(len(THRESHOLDS) if count else 0):
            place = np.cumsum(~ignored[a, t])[hit[a, t]]  # of the 1st, 2nd ... hit among the detections that count
            hits = np.arange(1, len(place) + 1)
            # Precision is highest at a hit, so the best from here on is a maximum over the hits that follow.
            best = np.maximum.accumulate((hits / (place + np.spacing(1)))[::-1])[::-1]
            level = np.searchsorted(hits / count, RECALLS)
            reached = level < len(hits)
            precision[t, :, a] = 0
            precision[t, reached, a] = best[level[reached]]
            recall[t, a] = len(hits) / count
    return precision, recall


def summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    def mean(values):
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    (p, pm, pl), (r, rm, rl) = ([table[..., a] for a in range(len(AREAS))] for table in (precision, recall))
    half, strict = threshold_place(0.5), threshold_place(0.75)
    values = (p, p[half], p[strict], pm, pl, r, r[half], r[strict], rm, rl)
    return {name: mean(value) for name, value in zip(STATS, values, strict=True)}


def threshold_place(value: float) -> int:
    """Place of an OKS threshold among THRESHOLDS."""
    place = int(np.argmin(np.abs(THRESHOLDS - value)))
    if abs(THRESHOLDS[place] - value) > 1e-9:
        raise ValueError(f"{value} is not one of COCO's OKS thresholds 0.5, 0.55 ... 0.95")
    return place
