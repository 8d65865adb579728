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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from posekit.data.coco_categories import check_categories
from posekit.data.coco_json import BYTE_ORDER_MARK, MISFIT, load, most_keypoints, pack_keypoints
from posekit.data.coco_rows import as_rows, normalise_rows
from posekit.data.coco_values import ImageIds, named
from posekit.evaluation.ground_truth import GroundTruth

PIECE = 1 << 16  # bytes
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
        return Detections(*(getattr(self, column.name)[index] for column in fields(self)))


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


def _from_rows(detections, k: int | None, where: str, people: GroundTruth) -> _Columns:
    """From a file or list of rows: typed at once if they allow it, else normalised one by one."""
    if isinstance(detections, str | Path):
        try:
            return _from_records(map(decode_rows, _pieces(detections)), k, where, people)
        except MISFIT:  # also where a piece ends within a nested object or a text: no bracket closes it
            detections = load(detections)
    rows = as_rows(detections, where)
    try:
        return _from_records([msgspec.convert(rows, list[Row])], k, where, people)
    except MISFIT:
        k = most_keypoints(rows) if k is None else k
    rows = normalise_rows(rows, where, ImageIds(people.known), people.categories, people.notes, k)
    return _from_records([msgspec.convert(rows, list[Row])], k, where, people)


class _Columns:
    """Detections as they are read, piece by piece, so that no Python object outlives its piece.

    Ids become numbers on the way: those of the people's images and categories are their index, others follow.
    """

    def __init__(self, people: GroundTruth) -> None:
        self.people, self.pieces = people, []
        known = people.image_ids[: people.images], [one.id for one in people.categories]
        self.images, self.kinds = (defaultdict(None, {one: i for i, one in enumerate(ids)}) for ids in known)
        self.images.default_factory, self.kinds.default_factory = self.images.__len__, self.kinds.__len__

    def add(self, image_ids: Sequence, kinds: Sequence, scores, xy: np.ndarray, areas=None) -> None:
        """D detections with keypoints (D, K, 2). areas (D,): of the boxes unless they are there."""
        ids = zip((self.images, self.kinds), (image_ids, kinds), strict=True)
        columns = [np.fromiter(map(index.__getitem__, values), np.int64, len(xy)) for index, values in ids]
        boxes = _boxes(xy)
        if areas is None:
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is reported at the end
                areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        self.pieces.append((*columns, xy, np.array(scores, float), boxes, np.array(areas, float)))

    def detections(self, where: str) -> Detections:
        """Those of the people's images and categories. Raises ValueError, see `read_detections`."""
        people, image_ids, kinds = self.people, list(self.images), list(self.kinds)
        image, kind, xy, scores, boxes, areas = map(np.concatenate, zip(*self.pieces, strict=True))
        ids, people.notes.place = ImageIds(people.known), "a row"
        others = {one: ids.find(one, people.notes) for one in image_ids[people.images :]}
        if unknown := [one for one, own in others.items() if own is None]:
            unknown = named(sorted(unknown, key=lambda one: (len(str(one)), str(one))))
            raise ValueError(f"{where}: image {unknown} not in the ground truth: of another data set or split?")
        finite = np.isfinite(scores) & np.isfinite(boxes).all(1)
        if not finite.all():
            bad = int(np.argmin(finite))
            name = image_ids[image[bad]]
            raise ValueError(f"{where}: row {bad} (image {name}) holds a keypoint or score that is not finite")
        index = np.array([*range(people.images), *(self.images.get(own, -1) for own in others.values())], np.int64)
        image, scored = index[image], kind < len(people.categories)
        if not scored.all():
            check_categories([kinds[i] for i in kind], people.categories, people.listed, where, people.notes)
        found = Detections(np.arange(len(xy)), image + kind * people.images, xy, scores, boxes, areas)
        wanted = scored & (image >= 0) & (image < people.images)
        return found if wanted.all() else found.select(wanted)


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
        if not columns.pieces:
            if not rows[0].bbox and rows[0].segmentation is not None:
                raise ValueError(f"{where}: poses are not measured by 'segmentation': remove it from the rows")
            boxed, k = bool(rows[0].bbox), len(rows[0].keypoints) // 3 if k is None else k
        image_ids, kinds, keypoints, scores, boxes, _ = zip(*map(msgspec.structs.astuple, rows), strict=True)
        xy = np.ascontiguousarray(pack_keypoints(keypoints, k)[..., :2])
        columns.add(image_ids, kinds, scores, xy, [_area(box) for box in boxes] if boxed else None)
    if not columns.pieces:
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
        odd = next((one for one in image_ids if not isinstance(one, int | str) or isinstance(one, bool)), None)
        if odd is not None:
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
    xy = np.ascontiguousarray(keypoints[..., :2])
    kinds = np.asarray(columns.get("category_id", np.full(n, people.categories[0].id))).tolist()
    if len(people.categories) > 1 and "category_id" not in columns or len(kinds) != n:
        raise ValueError(f"{where}: {n} detections need a category_id each, one of {named(people.categories)}")
    found = _Columns(people)
    found.add(image_ids, kinds, scores, xy)
    return found


def _boxes(xy: np.ndarray) -> np.ndarray:
    """(n, 4) box around all K keypoints (n, K, 2); not finite if one of them is not."""
    if not xy.size:
        return np.zeros((len(xy), 4))
    by_joint = xy.transpose(1, 2, 0).copy()  # numpy is ten times as fast at a minimum over the first axis
    return np.concatenate([by_joint.min(0), by_joint.max(0)]).T
