"""From detections to arrays: COCO result rows, their file, or arrays in hand.

Format: cocodataset.org, "Results format". Frame: pixels of the image.
Shapes: D detections, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from posekit.data.coco_annotations import ImageIds
from posekit.data.coco_categories import named
from posekit.data.coco_json import most_keypoints
from posekit.data.coco_results import as_rows, check_categories, normalise_rows
from posekit.data.coco_values import load
from posekit.evaluation.columns import People
from posekit.evaluation.rows import (
    ID,
    NUMBER,
    WHOLE,
    Misfit,
    check_types,
    field_of,
    fields_of,
    row_pieces,
    some,
    split_keypoints,
)


@dataclass
class Detections:
    """Detections of the categories that are scored.

    `row` (D,) says where each stood in the input; `image` (D,) index into the people's `image_ids`;
    `keypoints` (D, K, 2) pixels; `scores` (D,); `boxes` (D, 4) x0, y0, x1, y1 around all K keypoints; `areas`
    (D,) pixels^2 of these boxes (or of the rows' own `bbox` if the first row has one: pycocotools' rule).
    """

    row: np.ndarray
    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index) -> Detections:
        columns = (self.row, self.image, self.keypoints, self.scores, self.boxes, self.areas)
        return Detections(*(column[index] for column in columns))


def read_detections(detections, people: People) -> Detections:
    """Detections from COCO result rows: a list of dicts, the path of such a file, or a dict of arrays.

    The dict of arrays has `image_id` (D,), `keypoints` (D, K, 2), (D, K, 3) or flat (D, 3K), `score` (D,)
    and, if wanted, `category_id` (D,). Rows of other categories than the people's are left out and noted in
    `people.notes`; those of images of the ground truth that were not chosen for `people` are left out.

    Raises:
        ValueError: no list, a row that lacks a field, another number of keypoints, an unknown image, numbers
        that are not finite, or no row of the people's categories.
    """
    is_path = isinstance(detections, (str, Path))
    where = str(detections) if is_path else "the detections"
    k = people.keypoints.shape[1] if len(people) else None
    index = {image_id: i for i, image_id in enumerate(people.image_ids[: people.images])}
    try:
        if isinstance(detections, dict):
            image_ids, kinds, found = _from_arrays(detections, k, where, people)
        else:
            image_ids, kinds, found = _from_rows(row_pieces(detections) if is_path else [detections], k, where)
    except Misfit:
        rows = as_rows(load(detections) if is_path else detections, where)
        expected = most_keypoints(rows) if k is None else k
        rows = normalise_rows(rows, where, ImageIds(people.known), people.categories, people.notes, expected)
        image_ids, kinds, found = _from_rows([rows], k, where)
    image = np.fromiter(map(index.get, image_ids, repeat(-1)), np.int64, len(found))
    if unknown := {image_ids[i] for i in np.flatnonzero(image < 0).tolist()} - people.known:
        ids = ImageIds(people.known)
        meant = {one: ids.find(one, people.notes, "a row") for one in unknown}
        if unknown := {one for one in unknown if meant[one] is None}:
            raise ValueError(f"{where}: image {some(unknown)} not in the ground truth: of another data set or split?")
        image_ids = [one if one in people.known else meant[one] for one in image_ids]
        image = np.fromiter(map(index.get, image_ids, repeat(-1)), np.int64, len(found))
    finite = np.isfinite(found.scores) & np.isfinite(found.boxes).all(1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(f"{where}: row {bad} (image {image_ids[bad]}) holds a keypoint or score that is not finite")
    place = np.full(len(found), -1)
    for category, one in enumerate(people.categories):
        place[np.array(kinds) == one.id] = category
    if (place < 0).any():
        check_categories(kinds, people.categories, people.listed, where, people.notes)
    found.image = image + place * people.images
    wanted = (place >= 0) & (image >= 0)
    return found if wanted.all() else found.select(wanted)


def _from_rows(pieces: Iterable[list], k: int | None, where: str) -> tuple[list, list, Detections]:
    """(image ids, categories, detections without their images) of result rows. Raises Misfit."""
    image_ids, kinds, scores, sizes = [], [], [], []
    keypoints, around = [np.zeros((0, k or 0, 2))], [np.zeros((0, 4))]
    boxed = False
    for rows in pieces:
        rows = as_rows(rows, where)
        if not rows:
            continue
        first = len(image_ids)
        columns = fields_of(rows, ("image_id", "category_id", "score", "keypoints"))
        if isinstance(rows[0], dict):
            for column, types in zip(columns, (ID, WHOLE, NUMBER), strict=False):
                check_types(column, *types)
        if not first:
            boxed = bool(field_of(rows[0], "bbox"))
            if not boxed and field_of(rows[0], "segmentation") is not None:
                raise ValueError(f"{where}: poses are not measured by 'segmentation': remove it from the rows")
        image_ids += columns[0]
        kinds += columns[1]
        scores += columns[2]
        xy, _ = split_keypoints(columns[3], k)
        k = xy.shape[1] if k is None else k
        keypoints.append(xy)
        around.append(_boxes(xy))
        if boxed:
            sizes += _sizes(fields_of(rows, ("bbox",))[0])
    xy = np.concatenate(keypoints if keypoints[0].shape[1] == (k or 0) else keypoints[1:])
    try:
        scores = np.array(scores, float)
    except OverflowError:
        raise Misfit("a score of too many digits") from None
    return image_ids, kinds, _detections(xy, scores, np.concatenate(around), np.array(sizes) if boxed else None)


def _sizes(boxes: list) -> list[float]:
    """Pixels^2 of boxes x, y, w, h."""
    try:
        check_types((side for box in boxes for side in box[2:]), *NUMBER)
        return [float(box[2]) * float(box[3]) for box in boxes]
    except (TypeError, IndexError, OverflowError):
        raise Misfit("a bbox is no list of four numbers") from None


def _from_arrays(columns: dict, k: int | None, where: str, people: People) -> tuple[list, list, Detections]:
    missing = {"image_id", "keypoints", "score"} - set(columns)
    if missing:
        raise ValueError(
            f"{where}: detections must be a list of rows, or a dict of arrays image_id, keypoints and score; "
            f"this dict lacks {some(missing)}"
        )
    try:
        image_ids = np.asarray(columns["image_id"]).tolist()
        scores, keypoints = np.asarray(columns["score"], float), np.asarray(columns["keypoints"], float)
        n = len(image_ids)
        check_types(image_ids, *ID)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: image_id, keypoints and score must be arrays of numbers: {error}") from None
    if keypoints.ndim == 2 and keypoints.shape[1] % 3 == 0:
        keypoints = keypoints.reshape(n, keypoints.shape[1] // 3, 3)
    shape = keypoints.shape
    if scores.shape != (n,) or len(shape) != 3 or shape[0] != n or k not in (None, shape[1]) or shape[2] not in (2, 3):
        raise ValueError(
            f"{where}: {n} image ids need scores ({n},) and keypoints ({n}, {k or 'K'}, 2 or 3), "
            f"not {scores.shape} and {shape}"
        )
    xy = np.ascontiguousarray(keypoints[..., :2])
    kinds = np.asarray(columns.get("category_id", np.full(n, people.categories[0].id))).tolist()
    if len(people.categories) > 1 and "category_id" not in columns or len(kinds) != n:
        raise ValueError(f"{where}: {n} detections need a category_id each, one of {named(people.categories)}")
    return image_ids, kinds, _detections(xy, scores, _boxes(xy))


def _detections(xy, scores, boxes, areas=None) -> Detections:
    """The images are the caller's. Areas (n,): of the boxes unless given."""
    n = len(scores)
    if areas is None:
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is reported by the caller
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return Detections(np.arange(n), np.zeros(n, np.int64), xy, scores, boxes, areas)


def _boxes(xy: np.ndarray) -> np.ndarray:
    """(n, 4) box around all K keypoints (n, K, 2); not finite if one of them is not."""
    if not xy.size:
        return np.zeros((len(xy), 4))
    by_joint = xy.transpose(1, 2, 0).copy()  # numpy is ten times as fast at a minimum over the first axis
    return np.concatenate([by_joint.min(0), by_joint.max(0)]).T
