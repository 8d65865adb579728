"""The reader of COCO keypoint JSON, whoever wrote it: a data folder, ground truth to score against, detections.

`normalise` turns a file's content into columns of the types that COCO documents (cocodataset.org, "Data format"), keeps
the categories that have keypoints, and notes what it changed, left out or filled in. Where pycocotools defines a
number, a normalised file has the same one. A file that is as documented is checked as a whole; the rows of any other
are read one by one. Coordinates: pixels of the image. K keypoints.
"""

from __future__ import annotations

import contextlib
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
from posekit.data.coco_rows import Annotation, AnnotationReader
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


class TypedFile(msgspec.Struct):
    """A file whose annotations have COCO's types; only the fields that posekit reads."""

    images: list[_Image]
    annotations: list[Annotation]
    categories: Any = None


_decode_typed = msgspec.json.Decoder(TypedFile).decode


@dataclass
class CocoFile:
    """A COCO keypoint file in COCO's own types.

    `images`: rows with the fields that posekit reads. `categories`: those that are kept, all of one layout with `k`
    keypoints; `listed`: all of the file. `faults`: a sentence for each row that had to be left out because it cannot
    be read. Of its n annotations, by image: `ids` (n,); `image`, `kind` (n,) index into `images` and `categories`;
    `crowd` (n,) bool; `counted` (n,) `num_keypoints`, -1 where there is none; `joints` (n, K, 3) x, y and visibility;
    `boxes` (n, 4) x, y, width, height and `areas` (n,), NaN where there is none.
    """

    images: list[dict]
    categories: list[Category]
    k: int
    listed: list[Category]
    faults: list[str]
    notes: Notes
    ids: np.ndarray
    image: np.ndarray
    kind: np.ndarray
    crowd: np.ndarray
    counted: np.ndarray
    joints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray


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
    typed = isinstance(data, TypedFile)
    images, rows, listed = parts(data, where)
    listed = read_categories(listed, where, notes, strict=complete)
    entries = rows if typed else _entries(rows, where, notes, faults)
    used = Counter(one.category_id for one in entries if one.category_id is not None and one.keypoints is not None)
    kept = choose_categories(listed, used, category, where, complete)
    images, bad = _images(images, where, complete, notes, faults)
    which = "the only one" if len(kept) == 1 else "the one that is kept"
    for entry in entries if not typed and (complete or len(kept) == 1) else ():
        if entry.row.get("category_id") is None and (entry.keypoints or len(listed) < 2):
            notes.place, entry.category_id = entry, kept[0].id
            notes.count(f"{{n}} annotation{{s}} {{have}} no category: {which} is taken")
    check_categories((one.category_id for one in entries), kept, listed, where, notes, "annotations")
    if len(kept) > 1 and complete:
        notes.say(f"categories {named(kept)} have the same keypoints and are read as one")
    kinds = {one.id: i for i, one in enumerate(kept)}
    entries = [one for one in entries if one.category_id in kinds]
    k = len(layout or (kept[0].keypoints if complete else ())) or most_keypoints(one.keypoints for one in entries)
    places = {row["id"]: i for i, row in enumerate(images)}
    columns = _documented(entries, places, kinds, k, complete, need) if typed and not bad else None
    if columns is None:
        if typed:
            entries = [_Entry(msgspec.to_builtins(row), 0, "annotation", row.category_id) for row in entries]
        of = f" of layout '{layout.name}'" if layout else ""
        reader = AnnotationReader(complete, ImageIds(places), k, of, need, notes)
        annotations = _read_each(entries, reader, bad, where, faults)
        _number_anew(annotations, notes)
        columns = _columns(annotations, places, kinds, k)
    by_image = np.argsort(columns["image"], kind="stable")
    columns = {name: column[by_image] for name, column in columns.items()}
    return CocoFile(images, kept, k, listed, faults, notes, **columns)


class _Entry(msgspec.Struct):
    """An image or annotation of a file and its place, counted from 1. `str` is what a sentence calls it."""

    row: Any
    place: int
    what: str
    category_id: int | None = None

    @property
    def keypoints(self) -> Any:
        return self.row.get("keypoints")

    def __str__(self) -> str:
        if not isinstance(self.row, dict) or self.row.get("id") is None:
            return f"{self.what} number {self.place} of the file"
        image = f" (image {short(self.row.get('image_id', '?'))})" if self.what == "annotation" else ""
        return f"{self.what} {short(self.row['id'])}{image}"


def _entries(rows: list, where: str, notes: Notes, faults: list[str]) -> list[_Entry]:
    """The annotations that are objects, with the category of those that have one; the others are `faults`."""
    entries = []
    for place, row in enumerate(rows, 1):
        notes.place = entry = _Entry(row, place, "annotation")
        if not isinstance(row, dict):
            faults.append(f"{where}: {entry} is {described(row)}, not an object")
            continue
        if row.get("category_id") is not None:
            with contextlib.suppress(Fault):
                entry.category_id = whole(row["category_id"], "category_id", notes)
        entries.append(entry)
    return entries


def most_keypoints(lists: Iterable) -> int:
    """The number of keypoints that most lists hold; 0 if none holds any."""
    lists = [one for one in map(as_list, lists) if one]
    sizes = Counter(len(one) * (1 if type(one[0]) is float or as_list(one[0]) is None else 3) for one in lists)
    return next((size // 3 for size, _ in sizes.most_common() if size % 3 == 0), 0)


def pack(lists: list, *shape: int) -> np.ndarray:
    """(n, *shape) from n flat lists of numbers. Raises struct.error: a list of another number of numbers."""
    packed = b"".join(starmap(struct.Struct(f"{math.prod(shape)}d").pack, lists))  # twice as fast as np.fromiter
    return np.frombuffer(packed).reshape(len(lists), *shape)


def _columns(rows: list[Annotation], places: dict, kinds: dict[int, int], k: int) -> dict[str, np.ndarray]:
    """The columns of `CocoFile`; places: image id -> index, kinds: category id -> index.

    Raises:
        KeyError: an image that is not listed. struct.error, OverflowError: what no column holds.
    """
    return {
        "ids": np.array([row.id for row in rows], np.int64),
        "image": np.array([places[row.image_id] for row in rows], np.int64),
        "kind": np.array([kinds[row.category_id] for row in rows], np.int64),
        "crowd": np.array([row.iscrowd for row in rows], bool),
        "counted": np.array([row.num_keypoints for row in rows], np.int64),
        "joints": pack([row.keypoints for row in rows], k, 3),
        "boxes": pack([row.bbox for row in rows], 4),
        "areas": np.array([row.area for row in rows], float),
    }


def _documented(rows: list[Annotation], places: dict, kinds: dict, k: int, complete: bool, need: str) -> dict | None:
    """The columns of rows of COCO's types if they also hold what it documents, so that to read them one by one would
    change nothing; else None."""
    try:
        columns = _columns(rows, places, kinds, k)
    except (KeyError, *MISFIT):
        return None
    ids, counted, joints, boxes, areas = (columns[name] for name in ("ids", "counted", "joints", "boxes", "areas"))
    needed = (joints, boxes, areas) if complete or need == "area" else (joints, boxes)
    sound = [*((np.abs(values) < FAR).all() for values in needed), len(np.unique(ids)) == len(ids)]
    if complete:
        flags = joints[..., 2]
        sound += [(boxes[:, 2:] > 0).all(), (areas > 0).all(), ((flags == 0) | (flags == 1) | (flags == 2)).all()]
        sound += [(counted == (flags > 0).sum(1)).all()]
    return columns if all(sound) else None


def _read_each(
    entries: list[_Entry], reader: AnnotationReader, bad: set, where: str, faults: list[str]
) -> list[Annotation]:
    """The annotations that can be read, but for those of `bad` images; the others are `faults`."""
    annotations = []
    for entry in entries:
        image_id = entry.row.get("image_id")
        if bad and isinstance(image_id, int | float | str) and image_id in bad:
            continue
        reader.notes.place = entry
        try:
            made = reader.read(entry.row, entry.category_id)
        except Fault as fault:
            faults.append(f"{where}: {entry} {fault}")
            continue
        if made is not None:
            annotations.append(made)
    return annotations


def _images(rows: list, where: str, complete: bool, notes: Notes, faults: list[str]) -> tuple[list[dict], set]:
    """(the images that can be used, ids of the others). Raises ValueError: two have the same id."""
    images, bad = {}, set()
    for place, row in enumerate(rows, 1):
        notes.place = entry = _Entry(row, place, "image")
        try:
            made = _image(row, complete, notes)
        except Fault as fault:
            faults.append(f"{where}: {entry} {fault}")
            if isinstance(row, dict) and isinstance(row.get("id"), int | float | str):
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
    """The fields of an image that posekit reads, in COCO's types. Raises Fault."""
    if not isinstance(row, dict):
        raise Fault(f"is {described(row)}, not an object")
    fields = IMAGE_FIELDS if complete else ("id", "crowdIndex")
    made = {field: row[field] for field in fields if row.get(field) is not None}
    if lacking := [field for field in fields[:-1] if field not in made]:
        raise Fault(f"lacks '{lacking[0]}'")
    if complete or not isinstance(row["id"], str):
        made["id"] = whole(row["id"], "id", notes)
    if complete:
        made |= {field: whole(row[field], field, notes) for field in ("width", "height")}
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


def _number_anew(rows: list[Annotation], notes: Notes) -> None:
    """Annotation ids are whole numbers that differ; ids that are not are replaced, all of them, by 1, 2, 3 ..."""
    trial = Notes()
    try:
        ids = [whole(row.id, "id", trial) for row in rows]
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
        row.id = one
