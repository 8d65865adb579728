"""The reader of COCO keypoint JSON, whoever wrote it: a data folder, ground truth to score against, detections.

`normalise` turns a file's content into rows of the types that COCO documents (cocodataset.org, "Data format"), keeps
the categories that have keypoints, and notes what it changed, left out or filled in. Where pycocotools defines a
number, a normalised file has the same one. A file that is as documented is checked as a whole; the rows of any other
are read one by one. Coordinates: pixels of the image. K keypoints.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np

from posekit.data.coco_categories import Category, check_categories, choose_categories, read_categories
from posekit.data.coco_rows import AnnotationReader
from posekit.data.coco_values import (
    FAR,
    Fault,
    ImageIds,
    Notes,
    as_list,
    described,
    named,
    number,
    printable,
    short,
    whole,
)
from posekit.layouts import Layout

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # as Windows' editors write it
# What typed readers raise where a file is not as documented
MISFIT = (msgspec.DecodeError, struct.error, RecursionError, OverflowError)
IMAGE_FIELDS = ("id", "file_name", "width", "height", "crowdIndex")
_Image = TypedDict("_Image", dict.fromkeys(IMAGE_FIELDS, Any), total=False)


class _Annotation(TypedDict, total=False):
    id: int
    image_id: int | str
    category_id: int
    keypoints: list[int | float]
    area: float
    bbox: list[float]
    iscrowd: int
    num_keypoints: int


class TypedFile(msgspec.Struct):
    """A file whose annotations have COCO's types; only the fields that posekit reads, no outlines."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: Any = None


_decode_typed = msgspec.json.Decoder(TypedFile).decode


@dataclass
class CocoFile:
    """A COCO keypoint file in COCO's own types.

    `images`, `annotations`: rows with the fields that posekit reads; every annotation has `id`, `image_id`,
    `category_id`, `iscrowd` and 3K numbers as `keypoints`. `categories`: those that are kept, all of one layout with
    `k` keypoints; `listed`: all of the file. `faults`: a sentence for each row that had to be left out because it
    cannot be read. Of the annotations: `joints` (n, K, 3) x, y and visibility; `boxes` (n, 4) x, y, width, height and
    `areas` (n,), NaN where there is none.
    """

    images: list[dict]
    annotations: list[dict]
    joints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    categories: list[Category]
    k: int
    listed: list[Category]
    faults: list[str]
    notes: Notes


def load(path: str | Path) -> Any:
    """The content of a JSON file in UTF-8, 16 or 32, with or without a byte order mark; of a keypoint file as COCO
    documents it a `TypedFile`, several times as fast.

    Raises:
        ValueError: it cannot be read or is not JSON; one sentence that names it.
    """
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return _decode_typed(text.removeprefix(BYTE_ORDER_MARK))
    except MISFIT:
        pass
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is not a JSON file that can be read: its lists are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {str(error).splitlines()[0]}") from None


def parts(data: Any, where: str) -> tuple[list, list, Any]:
    """Images, annotations and categories of a COCO file. Raises ValueError: it has no lists of the first two."""
    if isinstance(data, TypedFile):
        return data.images, data.annotations, data.categories
    rows = [as_list(data.get(name)) if isinstance(data, dict) else None for name in ("images", "annotations")]
    if None in rows:
        names = ", ".join(str(name) for name in list(data)[:5]) if isinstance(data, dict) else ""
        found = f"the fields {names or 'none'}" if isinstance(data, dict) else described(data).split("(")[-1][:-1]
        raise ValueError(
            f"{where} is not a COCO annotation file: it must hold 'images' and 'annotations', as a COCO keypoint file "
            f"does, and both are lists; it holds {found}"
        )
    return rows[0], rows[1], data.get("categories")


def normalise(
    data: Any,
    where: str,
    complete: bool = False,
    layout: Layout | None = None,
    category: int | str | None = None,
    need: str = "area",
) -> CocoFile:
    """A COCO keypoint file's content in COCO's types; `where` names the file in sentences.

    complete: for a data set. Image ids are then whole numbers and images have a file name and a size; boxes and areas
    that are missing, zero or negative are filled in; flags are 0, 1 or 2. Without it, for scoring, such values stay as
    pycocotools takes them, and a person without `need` ("area", "bbox") is a fault.
    layout: whose number of keypoints is expected; None: what most rows have. category: id or name of the only one to
    keep.

    Raises:
        ValueError: no annotation file, categories of different keypoints, or nothing left; one sentence.
    """
    notes, faults = Notes(), []
    try:
        data = msgspec.convert(data, TypedFile) if isinstance(data, dict) else data
    except MISFIT:
        pass  # row by row
    images, rows, listed = parts(data, where)
    listed = read_categories(listed, where, notes, strict=complete)
    entries = [
        _Entry(row, place, _category_of(row, notes)) for place, row in enumerate(rows, 1) if isinstance(row, dict)
    ]
    used = Counter(one.category for one in entries if one.category is not None and one.row.get("keypoints") is not None)
    kept = choose_categories(listed, used, category, where, complete)
    images, bad = _images(images, where, complete, notes, faults)
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            faults.append(f"{where}: annotation number {place} of the file is {described(row)}, not an object")
    which = "the only one" if len(kept) == 1 else "the one that is kept"
    for entry in entries if complete or len(kept) == 1 else ():
        if entry.category is None and entry.row.get("category_id") is None:
            if entry.row.get("keypoints") or len(listed) < 2:
                notes.place, entry.category = entry, kept[0].id
                notes.count(f"{{n}} annotation{{s}} {{have}} no category: {which} is taken")
    check_categories((one.category for one in entries), kept, listed, where, notes, "annotations")
    if len(kept) > 1 and complete:
        notes.say(f"categories {named(kept)} have the same keypoints and are read as one")
    own = {one.id for one in kept}
    entries = [one for one in entries if one.category in own]
    k = len(layout or (kept[0].keypoints if complete else ())) or most_keypoints(one.row for one in entries)
    ids = ImageIds(row["id"] for row in images)
    annotations = [one.row for one in entries]
    columns = _documented(annotations, ids, k, complete, need) if isinstance(data, TypedFile) and not bad else None
    if columns is None:
        of = f" of layout '{layout.name}'" if layout else ""
        annotations = _read_each(entries, AnnotationReader(complete, ids, k, of, need, notes), bad, where, faults)
        _number_anew(annotations, notes)
        columns = _columns(annotations, k)
    joints, boxes, areas = columns
    return CocoFile(images, annotations, joints, boxes, areas, kept, k, listed, faults, notes)


@dataclass
class _Entry:
    """An annotation of a file, its place, counted from 1, and its category. `str` is what a sentence calls it."""

    row: dict
    place: int
    category: int | None

    def __str__(self) -> str:
        if self.row.get("id") is None:
            return f"annotation number {self.place} of the file"
        return f"annotation {short(self.row['id'])} (image {short(self.row.get('image_id', '?'))})"


def _category_of(row: dict, notes: Notes) -> int | None:
    try:
        return None if row.get("category_id") is None else whole(row["category_id"], "category_id", notes)
    except Fault:
        return None


def most_keypoints(rows: Iterable) -> int:
    """The number of keypoints that most rows have; 0 if none has any."""
    lists = (as_list(row.get("keypoints")) for row in rows if isinstance(row, dict))
    sizes = Counter(len(one) * (3 if as_list(one[0]) is not None else 1) for one in lists if one)
    return next((size // 3 for size, _ in sizes.most_common() if size % 3 == 0), 0)


def pack_keypoints(keypoints: list[list], k: int) -> np.ndarray:
    """(n, K, 3) x, y and third number of flat lists of 3K numbers. Raises struct.error: another number of numbers."""
    packed = b"".join(starmap(struct.Struct(f"{3 * k}d").pack, keypoints))  # twice as fast as np.fromiter
    return np.frombuffer(packed).reshape(len(keypoints), k, 3)


def _columns(rows: list[dict], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`joints`, `boxes` and `areas` of `CocoFile`. Raises what typed readers raise, for rows of other types."""
    boxes = np.array([row.get("bbox", (math.nan,) * 4) for row in rows], float).reshape(len(rows), 4)
    joints = pack_keypoints([row["keypoints"] for row in rows], k)
    return joints, boxes, np.array([row.get("area", math.nan) for row in rows], float)


def _documented(rows: list[dict], ids: ImageIds, k: int, complete: bool, need: str) -> tuple | None:
    """The columns of rows of COCO's types if they also hold what it documents, so that to read them one by one would
    change nothing; else None."""
    try:
        joints, boxes, areas = columns = _columns(rows, k)
        images, crowds, _ = ({row[name] for row in rows} for name in ("image_id", "iscrowd", "category_id"))
        numbers = np.array([(row["id"], row.get("num_keypoints", -1)) for row in rows], np.int64).reshape(-1, 2)
    except (KeyError, ValueError, *MISFIT):
        return None
    needed = columns if complete or need == "area" else columns[:2]
    sound = [*((np.abs(values) < FAR).all() for values in needed), len(np.unique(numbers[:, 0])) == len(rows)]
    if complete:
        sound += [(boxes[:, 2:] > 0).all(), (areas > 0).all(), np.isin(joints[..., 2], (0, 1, 2)).all()]
        sound += [(numbers[:, 1] == (joints[..., 2] > 0).sum(1)).all()]
    return columns if all(sound) and crowds <= {0, 1} and images <= ids.known.keys() else None


def _read_each(entries: list[_Entry], reader: AnnotationReader, bad: set, where: str, faults: list[str]) -> list[dict]:
    """The annotations that can be read, but for those of `bad` images; the others are `faults`."""
    annotations = []
    for entry in entries:
        image_id = entry.row.get("image_id")
        if bad and isinstance(image_id, int | float | str) and image_id in bad:
            continue
        reader.notes.place = entry
        try:
            made = reader.read(entry.row)
        except Fault as fault:
            faults.append(f"{where}: {entry} {fault}")
            continue
        if made is not None:
            annotations.append(made | {"category_id": entry.category})
    return annotations


def _images(rows: list, where: str, complete: bool, notes: Notes, faults: list[str]) -> tuple[list[dict], set]:
    """(the images that can be used, ids of the others). Raises ValueError: two have the same id."""
    images, bad = {}, set()
    for place, row in enumerate(rows, 1):
        known = isinstance(row, dict) and row.get("id") is not None
        notes.place = f"image {short(row['id'])}" if known else f"image number {place} of the file"
        try:
            made = _image(row, complete, notes)
        except Fault as fault:
            faults.append(f"{where}: {notes.place} {fault}")
            if known and isinstance(row["id"], int | float | str):
                bad.add(row["id"])
            continue
        first = images.setdefault(made["id"], made)
        if first is not made and complete:
            raise ValueError(
                f"{where}: two images have the same id {made['id']}: '{first['file_name']}' and '{made['file_name']}'; "
                "ids must be unique"
            )
        if first is not made:
            notes.count("{n} image{s} {are} listed with an id that another one has: counted once")
    return list(images.values()), bad - images.keys()


def _image(row: Any, complete: bool, notes: Notes) -> dict:
    if not isinstance(row, dict):
        raise Fault(f"is {described(row)}, not an object")
    made = {field: row[field] for field in IMAGE_FIELDS if row.get(field) is not None}
    if lacking := [field for field in (IMAGE_FIELDS[:4] if complete else ("id",)) if field not in made]:
        raise Fault(f"lacks '{lacking[0]}'")
    for field in ("id", "width", "height") if complete else ("id",):
        if complete or not isinstance(row[field], str):
            made[field] = whole(row[field], field, notes)
    if complete:
        if min(made["width"], made["height"]) < 1:
            raise Fault(f"is {made['width']} x {made['height']} pixels large in the file")
        file = row["file_name"]
        if not isinstance(file, str) or not file.strip() or "\0" in file or printable(file) != file:
            raise Fault(f"has the file_name {described(file)}, which names no file")
    if "crowdIndex" in made:
        made["crowdIndex"] = number(made["crowdIndex"], "crowdIndex", notes)
        if not math.isfinite(made["crowdIndex"]):
            raise Fault("has a crowdIndex that is not finite")
    return made


def _number_anew(rows: list[dict], notes: Notes) -> None:
    """Annotation ids are whole numbers that differ; ids that are not are replaced, all of them, by 1, 2, 3 ..."""
    trial = Notes()
    try:
        ids = [whole(row.get("id"), "id", trial) for row in rows]
    except Fault as fault:
        why = f"an annotation {fault}"
    else:
        for line in trial.lines() if len(set(ids)) == len(ids) else ():
            notes.say(f"annotations: {line}")
        why = next((f"the annotation id {one} is used more than once" for one, n in Counter(ids).items() if n > 1), "")
    if why:
        notes.say(f"{why}: the annotations are numbered anew, 1, 2, 3 ...")
        ids = range(1, len(rows) + 1)
    for row, one in zip(rows, ids, strict=True):
        row["id"] = one
