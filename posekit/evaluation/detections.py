"""From detections to arrays: COCO result rows, their file, or arrays in hand.

Format: cocodataset.org, "Results format". A result file of COCO's validation set holds five million numbers. Decoded at
once they become five million Python objects spread over 200 MB; decoded in pieces they turn into an array while they
are still in the cache, and msgspec reads numbers four times as fast as the standard library. Rows that do not have
COCO's types go through `posekit.data.coco_json` one by one, which is the one that says what is wrong.

Coordinates: pixels of the image. Shapes: D detections, K keypoints.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from posekit.data.coco_categories import check_categories
from posekit.data.coco_json import BYTE_ORDER_MARK, MISFIT, load, most_keypoints, pack
from posekit.data.coco_rows import normalise_rows
from posekit.data.coco_values import ImageIds, as_list, named
from posekit.evaluation.ground_truth import GroundTruth
from posekit.evaluation.oks import extent

PIECE = 1 << 15  # bytes
ROW_END = re.compile(rb"\}\s*(,)\s*\{")


class Row(msgspec.Struct, gc=False):
    """One detection in COCO's types; other fields of the JSON are skipped unread."""

    image_id: int | str
    category_id: int
    keypoints: list[float]
    score: float
    bbox: list[float] | None = None
    segmentation: Any = None


decode_rows = msgspec.json.Decoder(list[Row]).decode


@dataclass
class Detections:
    """Detections of the categories that are scored.

    `row` (D,) says where each stood in the input; `image` (D,) index into the ground truth's `image_ids`;
    `scores` (D,); `boxes` (D, 4) x0, y0, x1, y1 pixels around all K keypoints; `areas` (D,) pixels^2 of these boxes (or
    of the rows' own `bbox` if the first row has one: pycocotools' rule). `poses` (N, K, 2): pixels, the keypoints of
    the whole input, which are most of it and are not copied when detections are selected.
    """

    row: np.ndarray
    image: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    poses: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def keypoints(self) -> np.ndarray:
        """(D, K, 2) pixels."""
        return self.poses[self.row]

    def select(self, index) -> Detections:
        names = ("row", "image", "scores", "boxes", "areas")
        return replace(self, **{name: getattr(self, name)[index] for name in names})


def read_detections(detections, people: GroundTruth) -> Detections:
    """Detections from COCO result rows: a list of dicts, the path of such a file, or a dict of arrays.

    The dict of arrays has `image_id` (D,), `keypoints` (D, K, 2), (D, K, 3) or flat (D, 3K), `score` (D,)
    and, if wanted, `category_id` (D,). Rows of other categories than the people's are left out and noted in
    `people.notes`; those of images of the ground truth that were not chosen for `people` are left out.

    Raises:
        ValueError: no list, a row that lacks a field, another number of keypoints, an unknown image, numbers
        that are not finite, or no row of the people's categories.
    """
    where = str(detections) if isinstance(detections, str | Path) else "the detections"
    k = people.keypoints.shape[1] if len(people) else None
    read = _from_arrays if isinstance(detections, dict) else _from_rows
    return read(detections, k, where, people).detections(where)


class _Columns:
    """Detections of any image and category, read piece by piece.

    Ids become numbers: those of the people's images and categories are their index, others follow. No number or list
    outlives its piece: one that did would keep the memory around it from serving the next piece.
    """

    def __init__(self, people: GroundTruth) -> None:
        self.people = people
        self.image, self.kind, self.scores, self.xy, self.areas = [], [], [], [], []
        known = people.image_ids[: people.images], [one.id for one in people.categories]
        self.images, self.kinds = (defaultdict(None, {one: i for i, one in enumerate(ids)}) for ids in known)
        self.images.default_factory, self.kinds.default_factory = self.images.__len__, self.kinds.__len__

    def add(self, image_ids: Iterable, kinds: Iterable, scores, xy: np.ndarray, areas=None) -> None:
        """D detections with scores (D,) and keypoints (D, K, 2); areas (D,) of their own boxes, if they have any."""
        self.image += map(self.images.__getitem__, image_ids)
        self.kind += map(self.kinds.__getitem__, kinds)
        self.scores.append(np.array(scores, float))
        self.xy.append(np.ascontiguousarray(xy))
        self.areas += [] if areas is None else [np.array(areas, float)]

    def detections(self, where: str) -> Detections:
        """Those of the people's images and categories. Raises ValueError, see `read_detections`."""
        people, image_ids, kinds = self.people, list(self.images), list(self.kinds)
        image, kind = np.array(self.image, np.int64), np.array(self.kind, np.int64)
        scores, xy = np.concatenate(self.scores), np.concatenate(self.xy)
        ids, people.notes.place = ImageIds(people.known), "a row"
        others = {one: ids.find(one, people.notes) for one in image_ids[people.images :]}
        if unknown := [one for one, own in others.items() if own is None]:
            unknown = named(sorted(unknown, key=lambda one: (len(str(one)), str(one))))
            raise ValueError(f"{where}: image {unknown} not in the ground truth: of another data set or split?")
        boxes = extent(xy) if xy.size else np.zeros((len(xy), 4))
        finite = np.isfinite(scores) & np.isfinite(boxes).all(1)
        if not finite.all():
            bad = int(np.argmin(finite))
            name = image_ids[image[bad]]
            raise ValueError(f"{where}: row {bad} (image {name}) holds a keypoint or score that is not finite")
        index = np.array([*range(people.images), *(self.images.get(own, -1) for own in others.values())], np.int64)
        image, scored = index[image], kind < len(people.categories)
        if not scored.all():
            check_categories([kinds[i] for i in kind], people.categories, people.listed, where, people.notes)
        with np.errstate(over="ignore"):  # a box 1e200 pixels wide
            own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        areas = np.concatenate(self.areas) if self.areas else own
        found = Detections(np.arange(len(xy)), image + kind * people.images, scores, boxes, areas, xy)
        wanted = scored & (image >= 0) & (image < people.images)
        return found if wanted.all() else found.select(wanted)


def _from_rows(detections, k: int | None, where: str, people: GroundTruth) -> _Columns:
    """From a file or list of rows: typed at once if they allow it, else normalised one by one."""
    if isinstance(detections, str | Path):
        try:
            return _from_records(map(decode_rows, _pieces(detections)), k, where, people)
        except MISFIT:  # also where a piece ends within a nested object or a text: no bracket closes it
            detections = load(detections)
    try:
        return _from_records([msgspec.convert(detections, list[Row])], k, where, people)
    except MISFIT:
        rows = as_list(detections) or []
        k = most_keypoints(row.get("keypoints") for row in rows if isinstance(row, dict)) if k is None else k
    rows = normalise_rows(detections, where, ImageIds(people.known), people.categories, people.notes, k)
    return _from_records([msgspec.convert(rows, list[Row])], k, where, people)


def _pieces(path: str | Path) -> Iterator[memoryview | bytes]:
    """The text of a JSON list in pieces that end where a row seems to end, each a list of its own; none is a copy."""
    try:
        with open(path, "rb") as file:
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # what is written into it stays in memory
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # nothing in it, or a null byte in the path: `load` says so
        yield b""
        return
    view, start = memoryview(text), len(BYTE_ORDER_MARK) if text[:3] == BYTE_ORDER_MARK else 0
    while comma := ROW_END.search(text, start + PIECE):
        end = comma.start(1)
        text[end] = ord("]")
        yield view[start : end + 1]
        start, text[end] = end, ord("[")
    yield view[start:]


def _from_records(pieces: Iterable[list[Row]], k: int | None, where: str, people: GroundTruth) -> _Columns:
    columns, boxed = _Columns(people), False
    for rows in filter(None, pieces):
        if not columns.xy:
            if not rows[0].bbox and rows[0].segmentation is not None:
                raise ValueError(f"{where}: poses are not measured by 'segmentation': remove it from the rows")
            boxed, k = bool(rows[0].bbox), len(rows[0].keypoints) // 3 if k is None else k
        joints = pack([row.keypoints for row in rows], k, 3)
        ids, kinds = [row.image_id for row in rows], [row.category_id for row in rows]
        areas = [_area(row.bbox) for row in rows] if boxed else None
        columns.add(ids, kinds, [row.score for row in rows], joints[..., :2], areas)
        del rows, ids  # their memory, still in the cache, serves the next piece
    if not columns.xy:
        columns.add([], [], [], np.zeros((0, k or 0, 2)))
    return columns


def _area(box: list[float] | None) -> float:
    """Pixels^2 of a box x, y, w, h."""
    if box is None or len(box) != 4:
        raise struct.error("a bbox is no list of four numbers")
    return box[2] * box[3]


def _from_arrays(columns: dict, k: int | None, where: str, people: GroundTruth) -> _Columns:
    missing = {"image_id", "keypoints", "score"} - set(columns)
    if missing:
        raise ValueError(
            f"{where}: detections must be a list of rows, or a dict of arrays image_id, keypoints and score; "
            f"this dict lacks {named(sorted(missing, key=len))}"
        )
    try:
        image_ids = np.asarray(columns["image_id"]).tolist()
        scores, keypoints = np.asarray(columns["score"], float), np.asarray(columns["keypoints"], float)
        n = len(image_ids)
        if not set(map(type, image_ids)) <= {int, str}:
            odd = next(one for one in image_ids if type(one) not in (int, str))
            raise ValueError(f"an image_id is {odd!r}")
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
    kinds = np.asarray(columns.get("category_id", np.full(n, people.categories[0].id))).tolist()
    if len(people.categories) > 1 and "category_id" not in columns or len(kinds) != n:
        raise ValueError(f"{where}: {n} detections need a category_id each, one of {named(people.categories)}")
    found = _Columns(people)
    found.add(image_ids, kinds, scores, keypoints[..., :2])
    return found
