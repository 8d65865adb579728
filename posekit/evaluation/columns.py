"""From COCO's JSON to arrays: one column per field, checked once, so that evaluation never touches a dictionary again.

Format: cocodataset.org, "Data format" (keypoint annotations) and "Results format". Frame: pixels of the image.
Shapes: I images, G people, D detections, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from pathlib import Path

import numpy as np

from posekit.evaluation.rows import load_json, row_pieces


@dataclass
class People:
    """Annotated people of one category, sorted by image (file order within an image).

    `image_ids` (I,) the images, ascending; `known`: ids of all images of the file; `image` (G,) index into it; `ids` (G,) annotation ids; `keypoints` (G, K, 2)
    pixels; `visibility` (G, K) COCO's 0, 1, 2; `areas` (G,) pixels^2; `boxes` (G, 4) x, y, w, h (NaN: none given);
    `crowd` (G,) bool; `ignore` (G,) bool: crowds and people with no keypoint counted in `num_keypoints`.
    """

    image_ids: list
    known: set
    image: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Detections:
    """Detections of one category in the order given. `row` (D,) says where each stood in the input.

    `image` (D,) index into the people's `image_ids`; `keypoints` (D, K, 2) pixels; `scores` (D,); `areas` (D,) pixels^2 of
    the box around all K keypoints (or of the row's own `bbox`, as pycocotools does when the first row has one).
    """

    image: np.ndarray
    row: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index) -> Detections:
        return Detections(self.image[index], self.row[index], self.keypoints[index], self.scores[index], self.areas[index])


def read_people(ground_truth: dict | str | Path, category_id: int = 1, image_ids: Iterable | None = None) -> People:
    """The people of a COCO keypoint file (or of its dict), of all images or of `image_ids` only.

    Raises:
        ValueError: a file that is not JSON or not COCO, a row that lacks a field, numbers that are not finite.
    """
    is_path = isinstance(ground_truth, (str, Path))
    where = str(ground_truth) if is_path else "the ground truth"
    data = load_json(ground_truth) if is_path else ground_truth
    if not isinstance(data, dict) or "annotations" not in data or "images" not in data:
        found = ", ".join(map(str, data)) if isinstance(data, dict) else f"a {type(data).__name__}"
        raise ValueError(
            f"{where} needs the fields 'images' and 'annotations' of a COCO keypoint file; it has: {found or 'nothing'}"
        )
    known = set(_column(data["images"], "id", where))
    chosen = known if image_ids is None else set(image_ids)
    if not chosen <= known:
        raise ValueError(f"image_ids: {_some(chosen - known)} not among the {len(known)} images of {where}")
    categories = {category["id"]: category for category in data.get("categories", ())}
    if categories and category_id not in categories:
        raise ValueError(f"{where} has no category {category_id}; it has {_some(categories)}: give category_id")
    index = {image_id: i for i, image_id in enumerate(sorted(chosen))}
    rows = data["annotations"]
    image_of = _column(rows, "image_id", where)
    rows = [
        row
        for row, image_id, category in zip(rows, image_of, _column(rows, "category_id", where), strict=True)
        if category == category_id and image_id in index
    ]
    rows.sort(key=lambda row: index[row["image_id"]])
    names = tuple(categories.get(category_id, {}).get("keypoints", ())) or None
    ids = np.array(_column(rows, "id", where), np.int64)
    if len(np.unique(ids)) < len(ids):
        raise ValueError(f"{where} uses the annotation id {_twice(ids)} more than once: number the annotations 1, 2, 3, ...")
    triples = _triples(_column(rows, "keypoints", where), None, where)
    areas = np.array(_column(rows, "area", where), float)
    if rows and not (np.isfinite(triples).all() and np.isfinite(areas).all()):
        bad = ~(np.isfinite(triples).all((1, 2)) & np.isfinite(areas))
        raise ValueError(f"{where}: annotation {ids[np.argmax(bad)]} holds a keypoint or an area that is not a finite number")
    visibility = triples[..., 2]
    counted = [row.get("num_keypoints", None) for row in rows]
    empty = np.array([n == 0 if n is not None else not v.any() for n, v in zip(counted, visibility > 0, strict=True)], bool)
    crowd = np.array([bool(row.get("iscrowd", 0)) for row in rows], bool)
    boxes = np.array([row.get("bbox") or [np.nan] * 4 for row in rows], float).reshape(-1, 4)
    homeless = np.isnan(boxes).any(1) & ~(visibility > 0).any(1)
    if homeless.any():
        raise ValueError(
            f"{where}: annotation {ids[np.argmax(homeless)]} has neither a labelled keypoint nor a 'bbox', "
            "so no detection can be compared with it: give it a box or remove it"
        )
    return People(
        image_ids=sorted(chosen), known=known, image=np.array([index[row["image_id"]] for row in rows], np.int64), ids=ids,
        keypoints=triples[..., :2], visibility=visibility, areas=areas, boxes=boxes, crowd=crowd,
        ignore=crowd | empty, names=names,
    )


def read_detections(detections, people: People, category_id: int = 1) -> Detections:
    """Detections from COCO result rows: a list of dicts, the path of such a file, or a dict of arrays.

    The dict of arrays has `image_id` (D,), `keypoints` (D, K, 2), (D, K, 3) or (D, 3K) with 3 numbers per joint, `score`
    (D,) and, if wanted, `category_id` (D,). Rows of other categories, and of images of the ground truth that were not
    chosen for `people`, are left out.

    Raises:
        ValueError: no list, a row that lacks a field, another number of keypoints, an unknown image, numbers not finite.
    """
    where = "the detections" if not isinstance(detections, (str, Path)) else str(detections)
    k = people.keypoints.shape[1] if len(people) else None
    if isinstance(detections, dict):
        image_of, categories, triples, scores, areas = _from_arrays(detections, k, where, category_id)
    else:
        pieces = row_pieces(detections) if isinstance(detections, (str, Path)) else [detections]
        image_of, categories, triples, scores, areas = _from_rows(pieces, k, where)
    index = {image_id: i for i, image_id in enumerate(people.image_ids)}
    image = np.fromiter(map(index.get, image_of, repeat(-1)), np.int64, len(image_of))
    if (image < 0).any():
        unknown = {image_of[i] for i in np.flatnonzero(image < 0)} - people.known
        if unknown:
            raise ValueError(
                f"{where}: image {_some(unknown)} not in the ground truth: are these detections of another data set or split?"
            )
    if not np.isfinite(scores).all() or not np.isfinite(triples[..., :2]).all():
        bad = int(np.argmin(np.isfinite(triples[..., :2]).all((1, 2)) & np.isfinite(scores)))
        raise ValueError(f"{where}: row {bad} (image {image_of[bad]}) holds a keypoint or a score that is not a finite number")
    xy = triples[..., :2]
    if areas is None:
        extent = xy.max(1, initial=-np.inf) - xy.min(1, initial=np.inf)
        areas = extent[:, 0] * extent[:, 1]
    row = np.flatnonzero((categories == category_id) & (image >= 0))
    return Detections(image, np.arange(len(image)), xy, scores, areas).select(row)


def _from_rows(pieces: Iterable[list[dict]], k: int | None, where: str):
    """(image ids, categories (D,), triples (D, K, 3), scores (D,), areas (D,) or None) of result rows."""
    image_of, categories, scores, triples, areas = [], [], [], [], []
    boxed = False
    for rows in pieces:
        if not isinstance(rows, (list, tuple)):
            raise ValueError(
                f"{where}: detections must be a list of rows (image_id, category_id, keypoints, score), "
                f"not a {type(rows).__name__}"
            )
        first = len(image_of)
        if rows and not first:
            head = rows[0] if isinstance(rows[0], dict) else {}
            boxed = bool(head.get("bbox"))
            if "segmentation" in head and not boxed:
                raise ValueError(f"{where}: rows with 'segmentation' would be measured by it: remove that field from the rows")
        image_of += _column(rows, "image_id", where, first)
        categories += _column(rows, "category_id", where, first)
        scores += _column(rows, "score", where, first)
        triples.append(_triples(_column(rows, "keypoints", where, first), k, where, first))
        if boxed:
            areas += [box[2] * box[3] for box in _column(rows, "bbox", where, first)]
        if k is None and rows:
            k = triples[-1].shape[1]
    triples = np.concatenate(triples) if image_of else np.zeros((0, k or 0, 3))
    return image_of, np.array(categories), triples, np.array(scores, float), np.array(areas, float) if boxed else None


def _from_arrays(columns: dict, k: int | None, where: str, category_id: int):
    missing = {"image_id", "keypoints", "score"} - set(columns)
    if missing:
        raise ValueError(
            f"{where}: a dict must hold the arrays image_id, keypoints and score (it lacks {_some(missing)}); "
            "COCO result rows are a list"
        )
    image_of = np.asarray(columns["image_id"]).tolist()
    scores = np.asarray(columns["score"], float)
    keypoints = np.asarray(columns["keypoints"], float)
    d = len(image_of)
    if keypoints.ndim == 2:
        keypoints = keypoints.reshape(d, -1, 3)
    if scores.shape != (d,) or keypoints.ndim != 3 or len(keypoints) != d or k not in (None, keypoints.shape[1]):
        raise ValueError(
            f"{where}: {d} image ids need scores ({d},) and keypoints ({d}, {k or 'K'}, 2 or 3), "
            f"not {scores.shape} and {keypoints.shape}"
        )
    categories = np.asarray(columns.get("category_id", np.full(d, category_id)))
    return image_of, categories, keypoints, scores, None


def _column(rows: list[dict], field: str, where: str, first: int = 0) -> list:
    """One field of all rows; a row that lacks it is named in the error."""
    try:
        return list(map(itemgetter(field), rows))
    except (KeyError, TypeError, IndexError):
        for number, row in enumerate(rows, first):
            if not isinstance(row, dict) or field not in row:
                name = f"annotation {row['id']}" if isinstance(row, dict) and "id" in row else f"row {number}"
                raise ValueError(f"{where}: {name} has no '{field}'") from None
        raise


def _triples(keypoints: list, k: int | None, where: str, first: int = 0) -> np.ndarray:
    """(n, K, 3) of flat lists of 3K numbers; K is the first row's unless given."""
    if not keypoints:
        return np.zeros((0, k or 0, 3))
    wanted = 3 * k if k is not None else len(keypoints[0])
    lengths = list(map(len, keypoints))
    if lengths.count(wanted) != len(lengths) or wanted % 3 or not wanted:
        row = next((i for i, n in enumerate(lengths) if n != wanted), 0)
        raise ValueError(
            f"{where}: row {first + row} has {lengths[row]} keypoint numbers where {wanted // 3} keypoints x 3 "
            f"(x, y, visibility) are wanted: all rows must follow the ground truth's keypoint layout"
        )
    try:
        flat = np.fromiter(chain.from_iterable(keypoints), float, wanted * len(keypoints))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: 'keypoints' must hold numbers only, x, y, visibility of each joint in turn") from None
    return flat.reshape(len(keypoints), -1, 3)


def _twice(ids: np.ndarray) -> int:
    values, counts = np.unique(ids, return_counts=True)
    return int(values[np.argmax(counts > 1)])


def _some(values: Iterable) -> str:
    """Up to five of the values, for an error sentence."""
    listed = sorted(values, key=str)
    return ", ".join(map(str, listed[:5])) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
