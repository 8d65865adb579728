"""Average precision and recall of poses: COCO's ten numbers (POET, "Evaluation Metrics"), as pycocotools', and
CrowdPose's AP of easy, medium and hard images (RTMO, Table 2), as xtcocotools'.

Shapes: A = 3 area ranges, T = 10 thresholds, R = 101 recall levels, D detections kept (at most 20 per image),
G people, K keypoints. Coordinates: pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.data.coco_values import named
from posekit.data.crowdpose import BANDS, BORDERS, band_of
from posekit.evaluation.detections import Detections, read_detections
from posekit.evaluation.ground_truth import GroundTruth, read_ground_truth
from posekit.evaluation.matching import best_of_images, match_people, similarity_of
from posekit.evaluation.precision import AREAS, accumulate, beyond, summary, threshold_place
from posekit.layouts import sigmas_for

CROWD_STATS = tuple(f"AP{band}" for band in BANDS)


@dataclass
class Result:
    """What `evaluate` found. `str(result)` is a table.

    `stats`: the ten numbers (CrowdPose: and the AP of its three bands) by name, in [0, 1], -1 where there is nobody to
    find. `precision` (T, R, A),
    `recall` (T, A): as in pycocotools' `eval`, -1 likewise. `people`, `detections`: the columns that were
    compared; detections are the best 20 of every image, by image and falling score. `match` (A, T, D): index
    of the person that a detection got, -1 for none. `ignored_detections` (A, T, D), `ignored_people` (A, G):
    what does not count. `notes`: what was changed or left out when the files were read, and values that can hardly be
    meant; a sentence each.
    """

    people: GroundTruth
    detections: Detections
    match: np.ndarray
    ignored_detections: np.ndarray
    ignored_people: np.ndarray
    sigmas: np.ndarray
    sigmas_from: str
    area_scale: float
    notes: list[str]

    def __post_init__(self) -> None:
        self.precision, self.recall = self.tables()
        self.stats = summary(self.precision, self.recall)

    def tables(self, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Precision (T, R, A) and recall (T, A) of all images or of those of a mask (I,)."""
        ignored = self.ignored_detections, self.ignored_people
        return accumulate(self.people, self.detections, self.match, *ignored, images)

    @property
    def known(self) -> dict[str, float | None]:
        """`stats` with None where there is nobody to find, as run folders and tables hold them."""
        return {name: value if value >= 0 else None for name, value in self.stats.items()}

    def matches(self, threshold: float = 0.5, area: str = "all"):
        """The pairs with OKS >= threshold (0.5, 0.55 ... 0.95) that count (no crowds, nobody unlabelled), surest first.

        A pandas table: `row`, place of the detection in the input; `detection`, `person`, index into `detections` and
        `people`; `annotation`, id of the person; `image_id`; `oks`; `score`.
        """
        import pandas as pd

        a, t = AREAS.index(area), threshold_place(threshold)
        found = np.flatnonzero(self.match[a, t] >= 0)
        found = found[~self.ignored_people[a, self.match[a, t, found]]]
        found = found[np.argsort(-self.detections.scores[found], kind="stable")]
        person, image_ids = self.match[a, t, found], self.people.image_ids
        table = {
            "row": self.detections.row[found],
            "detection": found,
            "person": person,
            "annotation": self.people.ids[person],
            "image_id": [image_ids[i] for i in self.detections.image[found]],
            "oks": similarity_of(self.people, self.detections, self.sigmas, found, person),
            "score": self.detections.scores[found],
        }
        return pd.DataFrame(table)

    def __str__(self) -> str:
        several = self.people.categories if len(self.people.categories) > 1 else []
        limits = f"; mean of the categories {named(several)}" if several else ""
        limits += "; areas: 0.53 of the box" if self.people.crowd_index is not None else ""
        limits += f"; area limits x {self.area_scale:g}" if self.area_scale != 1 else ""
        return "\n".join(
            [
                f"{self.people.images} images, {np.sum(~self.ignored_people[0])} people that count, "
                f"{len(self.detections)} detections; sigmas: {self.sigmas_from}{limits}",
                "  ".join(f"{name:>5}" for name in self.stats),
                "  ".join(f"{f'{v:.3f}' if v >= 0 else '-':>{max(5, len(name))}}" for name, v in self.stats.items()),
            ]
        )


def evaluate(
    ground_truth: dict | str | Path,
    detections,
    sigmas=None,
    area_scale: float = 1.0,
    max_detections: int = 20,
    category_id: int | None = None,
    image_ids: Iterable | None = None,
    convention: str | None = None,
    borders: tuple[float, float] = BORDERS,
) -> Result:
    """Score detections as COCO's keypoint task does; the numbers are those of pycocotools.

    Args:
        ground_truth: COCO keypoint annotations, a dict or a path.
        detections: result rows (list of dicts with image_id, category_id, keypoints, score), their path, or
            a dict of arrays (see `detections.read_detections`).
        sigmas (K,): per-joint fall-off of OKS; None: `posekit.layouts.sigmas_for` chooses.
        area_scale: multiplies the limits 32^2 and 96^2 between small, medium and large.
        max_detections: so many of the surest detections of an image are kept.
        category_id: rows of other categories are left out, and noted; None: every category with the layout's keypoints
            is scored by itself, and the numbers are means over them, as in pycocotools. image_ids: only these images.
        convention: "coco", "crowdpose", or None: CrowdPose's if the images of the file have a `crowdIndex`.
        borders: where the bands easy, medium and hard meet (CrowdPose's convention only).

    CrowdPose's convention differs from COCO's in four ways, all as its own scorer and xtcocotools have them: the area
    of a person is 0.53 of the box, in OKS as in the limits between small, medium and large, and an `area` in the file
    is not read; `stats` goes on with the AP of the images of each band, whose detections compete among themselves;
    whether somebody is labelled is read off the keypoints, not off `num_keypoints`; and a Crowd Index that
    the file does not give is computed. xtcocotools also drops detections whose joint confidences are all 0
    and rounds the three to four digits: not done here.

    A person with `num_keypoints` 0 or `iscrowd` 1 is neither missed nor found: a detection matched to it is
    not counted. An `ignore` field has no effect, as in pycocotools.

    Raises:
        ValueError: input that cannot be scored; the sentence says what to change.
    """
    if max_detections < 1 or area_scale <= 0:
        raise ValueError(f"max_detections ({max_detections}) must be at least 1, area_scale ({area_scale}) above 0")
    people = read_ground_truth(ground_truth, category_id, image_ids, convention)
    return score(people, read_detections(detections, people), sigmas, area_scale, max_detections, borders)


def score(
    people: GroundTruth,
    found: Detections,
    sigmas=None,
    area_scale: float = 1.0,
    max_detections: int = 20,
    borders: tuple[float, float] = BORDERS,
) -> Result:
    """As `evaluate`, from arrays; `people.crowd_index` says whether CrowdPose's convention holds."""
    sigmas, source = _sigmas(sigmas, people, found)
    found = found.select(best_of_images(found, max_detections))
    limits = np.array([[0, 1e10], [32**2 * area_scale, 96**2 * area_scale], [96**2 * area_scale, 1e10]])
    ignored_people = people.ignore | beyond(people.areas, limits)
    far = beyond(found.areas, limits)
    match, ignored = match_people(people, found, sigmas, ignored_people, far)
    if (people.ids == 0).any():
        # pycocotools marks a detection as matched by writing down the annotation's id, so 0 reads as unmatched.
        ignored |= np.append(people.ids == 0, False)[match] & far[:, None]
    notes = people.notes.lines()
    result = Result(people, found, match, ignored, ignored_people, sigmas, source, area_scale, notes)
    if people.crowd_index is not None:
        band = band_of(people.crowd_index, borders)
        bands = (summary(*result.tables(band == place))["AP"] for place in range(len(BANDS)))
        result.stats |= dict(zip(CROWD_STATS, bands, strict=True))
    return result


def evaluate_by_people(ground_truth, detections, **options) -> dict[int, dict[str, float]]:
    """The ten numbers as a function of the number of people in the image (crowd regions do not count).

    Takes what `evaluate` takes. Keys: the numbers of people that occur, 1 and up; each value also holds
    `images` and `people`, how many images and people that count stand behind it. Images without anybody have
    no AP: left out.
    """
    result = evaluate(ground_truth, detections, **options)
    people, table = result.people, {}
    several = len(people.categories)
    per_image = np.bincount(people.image[~people.crowd], minlength=len(people.image_ids))
    per_image = np.tile(per_image.reshape(several, -1).sum(0), several)
    for n in np.unique(per_image[per_image > 0]):
        images = per_image == n
        counted = int((~result.ignored_people[0] & images[people.image]).sum())
        table[int(n)] = summary(*result.tables(images)) | {"images": int(images.sum()) // several, "people": counted}
    return table


def per_joint_oks(result: Result, threshold: float = 0.5) -> np.ndarray:
    """(K,) mean similarity of each joint over the people found at `threshold`; NaN if never labelled."""
    pairs, people = result.matches(threshold), result.people
    person = pairs.person.to_numpy()
    offset = result.detections.keypoints[pairs.detection.to_numpy()] - people.keypoints[person]
    error = (offset**2).sum(2) / (2 * result.sigmas) ** 2 / (people.areas[person, None] + np.spacing(1)) / 2
    labelled = people.visibility[person] > 0
    total = np.where(labelled, np.exp(-error), 0).sum(0)
    return np.where(labelled.any(0), total / np.maximum(labelled.sum(0), 1), np.nan)


def _sigmas(sigmas, people: GroundTruth, found: Detections) -> tuple[np.ndarray, str]:
    k = people.keypoints.shape[1] if len(people) else found.poses.shape[1]
    if sigmas is not None:
        sigmas = np.asarray(sigmas, float)
        if sigmas.ndim != 1 or (k and len(sigmas) != k):
            raise ValueError(f"sigmas of shape {sigmas.shape} do not fit {k} keypoints: give one per keypoint")
        if not (np.isfinite(sigmas).all() and (sigmas > 0).all()):
            raise ValueError(f"sigmas must be positive, not {sigmas.min():g}")
        return sigmas, "given"
    if not k:
        return np.zeros(0), "none needed"
    names, own = people.categories[0].keypoints, people.categories[0].sigmas
    if len(own) == k:
        return np.array(own), "the file's own"
    return sigmas_for(names if len(names) == k else None, k, crowdpose=people.crowd_index is not None)
