"""Average precision and recall of poses, COCO's ten numbers (POET, "Evaluation Metrics"), equal to pycocotools.

Every image is matched for all area ranges and thresholds at once; images with the same number of people go through together,
so the only loop left runs over the rank of a detection (first the surest of every image, then the second, ...).
Shapes: A = 3 area ranges, T = 10 thresholds, R = 101 recall levels, D detections kept (at most 20 per image), G people.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.evaluation.columns import Detections, People, read_detections, read_people
from posekit.evaluation.oks import doubled, oks_pairs
from posekit.layouts import layout_for

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
AREAS = ("all", "medium", "large")
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


@dataclass
class Matches:
    """Detections matched to people at one threshold, N pairs, surest first.

    `row` (N,): place in the detections given; `detection` and `person` (N,): index into `Result.detections` and
    `Result.people`; `annotation` (N,): id of the person; `image_id` list; `oks` and `score` (N,).
    """

    row: np.ndarray
    detection: np.ndarray
    person: np.ndarray
    annotation: np.ndarray
    image_id: list
    oks: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


@dataclass
class Result:
    """What `evaluate` found. `str(result)` is a table.

    `stats`: the ten numbers by name, in [0, 1], -1 where there is nobody to find. `precision` (T, R, A) and `recall`
    (T, A) as in pycocotools' `eval`, -1 likewise. `people`, `detections`: the columns that were compared (detections: the
    best 20 per image, by image and falling score). `match` (A, T, D): index of the person that a detection got, -1 none;
    `match_oks` (A, T, D): its OKS (NaN none). `ignored_detections` (A, T, D), `ignored_people` (A, G): what does not count.
    """

    stats: dict[str, float]
    precision: np.ndarray
    recall: np.ndarray
    people: People
    detections: Detections
    match: np.ndarray
    match_oks: np.ndarray
    ignored_detections: np.ndarray
    ignored_people: np.ndarray
    sigmas: np.ndarray
    sigmas_from: str
    area_scale: float

    def matches(self, threshold: float = 0.5, area: str = "all") -> Matches:
        """The pairs with OKS >= threshold (one of 0.5, 0.55 ... 0.95) that count: no crowds, nobody unlabelled."""
        a, t = AREAS.index(area), int(np.argmin(np.abs(THRESHOLDS - threshold)))
        person = self.match[a, t]
        found = np.flatnonzero((person >= 0) & ~self.ignored_people[a][person] if len(self.people) else person >= 0)
        found = found[np.argsort(-self.detections.scores[found], kind="stable")]
        person = person[found]
        image_ids = self.people.image_ids
        return Matches(
            self.detections.row[found], found, person, self.people.ids[person],
            [image_ids[i] for i in self.detections.image[found]], self.match_oks[a, t][found],
            self.detections.scores[found],
        )

    def missed(self, threshold: float = 0.5, area: str = "all") -> np.ndarray:
        """Index into `people` of those that count and that no detection matched at this threshold."""
        found = self.matches(threshold, area).person
        return np.setdiff1d(np.flatnonzero(~self.ignored_people[AREAS.index(area)]), found)

    def __str__(self) -> str:
        count = int((~self.ignored_people[0]).sum())
        lines = [
            f"{len(self.people.image_ids)} images, {count} people that count, {len(self.detections)} detections; "
            f"sigmas: {self.sigmas_from}"
            + (f"; area limits x {self.area_scale:g}" if self.area_scale != 1 else "")
        ]
        lines += ["  ".join(f"{name:>5}" for name in STATS)]
        lines += ["  ".join(f"{self.stats[name]:5.3f}" if self.stats[name] >= 0 else "    -" for name in STATS)]
        return "\n".join(lines)


def evaluate(
    ground_truth: dict | str | Path,
    detections,
    sigmas=None,
    area_scale: float = 1.0,
    max_detections: int = 20,
    category_id: int = 1,
    image_ids: Iterable | None = None,
) -> Result:
    """Score detections as COCO's keypoint task does; the numbers are those of pycocotools.

    Args:
        ground_truth: COCO keypoint annotations, a dict or a path. detections: result rows (list of dicts with image_id,
            category_id, keypoints, score), their path, or a dict of arrays (see `columns.read_detections`).
        sigmas (K,): per-joint fall-off of OKS; None: those of the known layout with K joints.
        area_scale: multiplies the limits 32^2 and 96^2 between small, medium and large.
        max_detections: best detections kept per image. category_id: rows of others are left out. image_ids: only these.

    A person with `num_keypoints` 0 or `iscrowd` 1 is neither missed nor found: whoever matches it is not counted. An
    `ignore` field has no effect, as in pycocotools.

    Raises:
        ValueError: input that cannot be scored; the sentence says what to change.
    """
    people = read_people(ground_truth, category_id, image_ids)
    found = read_detections(detections, people, category_id)
    sigmas, source = _sigmas(sigmas, people, found)
    found = found.select(_best(found, max_detections))
    limits = np.array([[0, 1e10], [32**2 * area_scale, 96**2 * area_scale], [96**2 * area_scale, 1e10]])
    ignored_people = people.ignore | _beyond(people.areas, limits)
    match, match_oks = _match(people, found, sigmas, ignored_people)
    unmatched, ignored = match < 0, np.zeros(match.shape, bool)
    if len(people):
        unmatched |= people.ids[match] == 0
        ignored = np.where(match >= 0, ignored_people[np.arange(len(AREAS))[:, None, None], match], False)
    if (people.ids == 0).any() and not people.ignore[people.ids == 0].all():
        warnings.warn(
            "the ground truth has an annotation with id 0: pycocotools counts whoever finds that person as a false alarm, "
            "and so do these numbers; number the annotations from 1",
            stacklevel=2,
        )
    ignored |= unmatched & _beyond(found.areas, limits)[:, None]
    result = Result({}, None, None, people, found, match, match_oks, ignored, ignored_people, sigmas, source, area_scale)
    result.precision, result.recall = _accumulate(result)
    result.stats = _summary(result.precision, result.recall)
    return result


def evaluate_by_people(ground_truth, detections, **options) -> dict[int, dict[str, float]]:
    """The ten numbers as a function of the number of people in the image (not counting crowd regions).

    Takes what `evaluate` takes. Keys: 1, 2, ... as far as such images exist, ascending; each value also holds `images` and
    `people`, the number of images and of people that count in them. Images without anybody have no AP and are left out.
    """
    result = evaluate(ground_truth, detections, **options)
    people, table = result.people, {}
    per_image = np.bincount(people.image[~people.crowd], minlength=len(people.image_ids))
    for n in np.unique(per_image[per_image > 0]):
        images = per_image == n
        table[int(n)] = _summary(*_accumulate(result, images)) | {
            "images": int(images.sum()),
            "people": int((~result.ignored_people[0] & images[people.image]).sum()),
        }
    return table


def per_joint_oks(result: Result, threshold: float = 0.5) -> np.ndarray:
    """(K,) mean similarity of each joint over the people found at `threshold`; NaN for a joint that is never labelled."""
    from posekit.evaluation.oks import oks_per_joint

    pairs, people = result.matches(threshold), result.people
    joints = oks_per_joint(
        result.detections.keypoints[pairs.detection], people.keypoints[pairs.person], people.visibility[pairs.person],
        people.areas[pairs.person], result.sigmas,
    )
    labelled = ~np.isnan(joints)
    return np.where(labelled.any(0), np.nansum(joints, 0) / np.maximum(labelled.sum(0), 1), np.nan)


def _sigmas(sigmas, people: People, found: Detections) -> tuple[np.ndarray, str]:
    k = people.keypoints.shape[1] if len(people) else found.keypoints.shape[1]
    if sigmas is not None:
        sigmas = np.asarray(sigmas, float)
        if sigmas.ndim != 1 or (k and len(sigmas) != k):
            raise ValueError(f"sigmas of shape {sigmas.shape} do not fit {k} keypoints: give one per keypoint")
        if not (np.isfinite(sigmas).all() and (sigmas > 0).all()):
            raise ValueError(f"sigmas must be positive, not {sigmas.min():g}")
        return sigmas, "given"
    if not k:
        return np.zeros(0), "none needed"
    layout = layout_for(people.names) if people.names and len(people.names) == k else None
    if layout is None or not layout.limbs:  # names that no layout has: pycocotools goes by their number
        try:
            layout = layout_for(k)
        except ValueError as error:
            if layout is None:
                raise ValueError(f"{error}; or give sigmas") from None
            return layout.sigmas, f"{layout.sigmas[0]:g} for every joint (the layout is unknown: give sigmas)"
        if people.names and layout.keypoints != people.names:
            return layout.sigmas, f"{layout.name}'s (the joints have other names: give sigmas if they are not the same)"
    return layout.sigmas, layout.name


def _beyond(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(A, N) bool: the area lies outside the range. Both limits belong to the range."""
    return (areas < limits[:, :1]) | (areas > limits[:, 1:])


def _best(found: Detections, max_detections: int) -> np.ndarray:
    """Order of the detections: by image, surest first (ties: as given), at most `max_detections` of each image."""
    order = np.lexsort((-found.scores, found.image))
    image = found.image[order]
    return order[np.arange(len(order)) - np.searchsorted(image, image) < max_detections]


def _match(people: People, found: Detections, sigmas, ignored_people) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching, surest detection first: (A, T, D) index of the person or -1, and the OKS of the pair or NaN.

    A detection takes the free person with the highest OKS >= threshold (ties: the later annotation) among those that
    count; only if there is none, among the ignored ones. A crowd stays free whoever takes it.
    """
    images = len(people.image_ids)
    n_people = np.bincount(people.image, minlength=images)
    n_found = np.bincount(found.image, minlength=images)
    person0, found0 = (np.cumsum(n) - n for n in (n_people, n_found))
    rivals = n_people[found.image]  # people in a detection's image
    pair0 = np.cumsum(rivals) - rivals
    d_index = np.repeat(np.arange(len(found)), rivals)
    g_index = np.arange(len(d_index)) - np.repeat(pair0 - person0[found.image], rivals)
    similarity = oks_pairs(
        found.keypoints, people.keypoints, people.visibility > 0, people.areas, sigmas, doubled(people.boxes),
        d_index, g_index,
    )
    bars = np.minimum(THRESHOLDS, 1 - 1e-10)
    passed = np.searchsorted(bars, similarity, side="right")  # how many thresholds a pair reaches
    shape = (len(AREAS), len(THRESHOLDS), len(found))
    match, match_oks = np.full(shape, -1, np.int32), np.full(shape, np.nan)
    hopeful = np.zeros(len(found), bool)
    hopeful[d_index[passed > 0]] = True
    rank = np.arange(len(found)) - found0[found.image]
    for n in np.unique(rivals[hopeful]):
        here = np.flatnonzero(hopeful & (rivals == n))
        bucket = np.unique(found.image[here])
        members = person0[bucket][:, None] + np.arange(n)
        ignored, crowd = ignored_people[:, members], people.crowd[members]  # (A, N, n), (N, n)
        bonus = np.where(ignored, 1, n + 1)[:, None]  # those that count come before the ignored ones
        free = np.ones((len(AREAS), len(THRESHOLDS), len(bucket), n), bool)
        for r in np.unique(rank[here]):
            turn = here[rank[here] == r]
            i = np.searchsorted(bucket, found.image[turn])
            pairs = pair0[turn][:, None] + np.arange(n)
            # Places 0..n-1 by OKS stand in for OKS: a stable sort gives the later of equals the higher place.
            place = np.argsort(np.argsort(similarity[pairs], axis=1, kind="stable"), axis=1)
            able = free[:, :, i] & (passed[pairs] > np.arange(len(THRESHOLDS))[:, None, None])
            value = np.where(able, place + bonus[:, :, i], 0)
            best = value.argmax(3)
            a, t, j = np.nonzero(np.take_along_axis(value, best[..., None], 3)[..., 0])
            g = best[a, t, j]
            match[a, t, turn[j]] = members[i[j], g]
            match_oks[a, t, turn[j]] = similarity[pairs[j, g]]
            free[a, t, i[j], g] = crowd[i[j], g]
    return match, match_oks


def _accumulate(result: Result, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, A) and recall (T, A) over all images or those of a mask (I,); -1 where nobody counts."""
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), len(AREAS)))
    recall = -np.ones((len(THRESHOLDS), len(AREAS)))
    order = np.argsort(-result.detections.scores, kind="stable")
    wanted = ~result.ignored_people
    if images is not None:
        order = order[images[result.detections.image[order]]]
        wanted = wanted & images[result.people.image]
    matched = result.match >= 0
    if len(result.people):
        matched &= result.people.ids[result.match] != 0
    for a, count in enumerate(wanted.sum(1)):
        for t in range(len(THRESHOLDS) if count else 0):
            kept = order[~result.ignored_detections[a, t, order]]
            place = np.flatnonzero(matched[a, t, kept]) + 1  # rank of the 1st, 2nd, ... hit among all that count
            hits = np.arange(1, len(place) + 1)
            best_from_here = np.maximum.accumulate((hits / (place + np.spacing(1)))[::-1])[::-1]
            level = np.searchsorted(hits / count, RECALLS)
            reached = level < len(hits)
            precision[t, :, a] = 0
            precision[t, reached, a] = best_from_here[level[reached]]
            recall[t, a] = len(hits) / count
    return precision, recall


def _summary(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    def mean(values):
        return float(values[values > -1].mean()) if (values > -1).any() else -1.0

    tables = [table[..., a] for table in (precision, recall) for a in range(3)]
    p, pm, pl, r, rm, rl = tables
    values = [p, p[0], p[5], pm, pl, r, r[0], r[5], rm, rl]
    return {name: mean(value) for name, value in zip(STATS, values, strict=True)}
