"""The reader of COCO keypoint JSON, whoever wrote it: a data folder, ground truth to score against, detections.

`normalise` turns a file's content into rows of the types that COCO documents (cocodataset.org, "Data format"), keeps
the categories that have keypoints, and tells what it changed, left out or filled in. Where pycocotools defines a
number, a normalised file has the same one. Coordinates: pixels of the image. K keypoints.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from posekit.data.coco_categories import Category, check_categories, choose_categories, read_categories
from posekit.data.coco_rows import (
    AnnotationReader,
    Fault,
    ImageIds,
    Notes,
    as_list,
    described,
    detection,
    named,
    number,
    printable,
    short,
    whole,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # as Windows' editors write it
_Image = TypedDict("_Image", dict.fromkeys(("id", "crowdIndex"), Any), total=False)
_FIELDS = ("id", "image_id", "category_id", "keypoints", "area", "bbox", "iscrowd", "num_keypoints")
_Annotation = TypedDict("_Annotation", dict.fromkeys(_FIELDS, Any), total=False)


class _File(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: NotRequired[Any]


_decode_to_score = msgspec.json.Decoder(_File).decode


@dataclass
class Truth:
    """A COCO keypoint file in COCO's own types.

    `images`, `annotations`: rows of the file, copied where they were changed; every annotation has `id`, `image_id`,
    `category_id`, `iscrowd` and 3K numbers as `keypoints`. `categories`: those that are kept, all of one layout with
    `k` keypoints; `listed`: all of the file. `faults`: a sentence for each row that had to be left out because it
    cannot be read.
    """

    images: list[dict]
    annotations: list[dict]
    categories: list[Category]
    k: int
    listed: list[Category]
    faults: list[str]
    notes: Notes


def load(path: str | Path) -> Any:
    """The content of a JSON file in UTF-8, 16 or 32, with or without a byte order mark.

    Raises:
        ValueError: it cannot be read or is not JSON; one sentence that names it.
    """
    return _decode(_read_bytes(path), path)


def load_to_score(path: str | Path) -> Any:
    """As `load`, several times as fast: of a file of the usual form only the fields that scoring reads, no outlines."""
    text = _read_bytes(path)
    try:
        return _decode_to_score(text.removeprefix(BYTE_ORDER_MARK))
    except (msgspec.DecodeError, RecursionError):
        return _decode(text, path)


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _decode(text: bytes, path: str | Path) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is not a JSON file that can be read: its lists are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {str(error).splitlines()[0]}") from None


def parts(data: Any, where: str) -> tuple[list, list]:
    """The lists `images` and `annotations` of a COCO file. Raises ValueError: it has none."""
    rows = [as_list(data.get(name)) if isinstance(data, dict) else None for name in ("images", "annotations")]
    if None in rows:
        names = ", ".join(str(name) for name in list(data)[:5]) if isinstance(data, dict) else ""
        found = f"the fields {names or 'none'}" if isinstance(data, dict) else described(data).split("(")[-1][:-1]
        raise ValueError(
            f"{where} is not a COCO annotation file: it must hold 'images' and 'annotations', as a COCO keypoint file "
            f"does, and both are lists; it holds {found}"
        )
    return rows[0], rows[1]


def normalise(
    data: Any,
    where: str,
    complete: bool = False,
    k: int | None = None,
    of: str = "",
    category: int | str | None = None,
    need: str = "area",
    remedy: str = "category",
) -> Truth:
    """A COCO keypoint file's content in COCO's types; `where` names the file in sentences.

    complete: for a data set. Image ids are then whole numbers and images have a file name and a size; boxes and areas
    that are missing, zero or negative are filled in; flags are 0, 1 or 2. Without it, for scoring, such values stay as
    pycocotools takes them, and a person without `need` ("area", "bbox") is a fault.
    k, of: the number of keypoints that is expected, and who says so; None: what most rows have. category: id or name
    of the only one to keep; `remedy` says how to give it.

    Raises:
        ValueError: no annotation file, categories that cannot be told apart, or nothing left; one sentence.
    """
    notes, faults = Notes(), []
    images, rows = parts(data, where)
    listed = read_categories(data.get("categories"), where, notes, strict=complete)
    entries = [
        _Entry(row, place, _category_of(row, notes)) for place, row in enumerate(rows, 1) if isinstance(row, dict)
    ]
    used = Counter(one.category for one in entries if one.category is not None and one.row.get("keypoints") is not None)
    kept = choose_categories(listed, used, category, where, remedy, key=tuple if complete else len)
    images, bad = _images(images, where, complete, notes, faults)
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            faults.append(f"{where}: annotation number {place} of the file is {described(row)}, not an object")
    which = "the only one" if len(kept) == 1 else "the one that is kept"
    for entry in entries if complete or len(kept) == 1 else ():
        if entry.row.get("category_id") is None and (entry.row.get("keypoints") or len(listed) < 2):
            notes.place, entry.category = entry, kept[0].id
            notes.count(f"{{n}} annotation{{s}} {{have}} no category: {which} is taken")
    check_categories((one.category for one in entries), kept, listed, where, notes, "annotations")
    if len(kept) > 1 and complete:
        notes.say(f"categories {named(kept)} have the same keypoints and are read as one")
    own = {one.id for one in kept}
    entries = [one for one in entries if one.category in own]
    if k is None:
        k = len(kept[0].keypoints if complete else ()) or most_keypoints(one.row for one in entries)
    reader = AnnotationReader(complete, ImageIds(row["id"] for row in images), k, of, need, notes)
    annotations = []
    for entry in entries:
        image_id = entry.row.get("image_id")
        if bad and isinstance(image_id, int | float | str) and image_id in bad:
            continue
        notes.place = entry
        try:
            made = reader.read(entry.row)
        except Fault as fault:
            faults.append(f"{where}: {entry} {fault}")
            continue
        if made is not None:
            made["category_id"] = entry.category
            annotations.append(made)
    _number_anew(annotations, notes)
    return Truth(images, annotations, kept, k, listed, faults, notes)


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
    sizes = Counter()
    for row in rows:
        values = (as_list(row.get("keypoints")) if isinstance(row, dict) else None) or []
        size = 3 * len(values) if values and as_list(values[0]) is not None else len(values)
        if size and size % 3 == 0:
            sizes[size // 3] += 1
    return sizes.most_common(1)[0][0] if sizes else 0


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
    for field in ("id", "file_name", "width", "height") if complete else ("id",):
        if row.get(field) is None:
            raise Fault(f"lacks '{field}'")
    made = dict(row)
    if complete:
        for field in ("id", "width", "height"):
            made[field] = whole(row[field], field, notes)
        if min(made["width"], made["height"]) < 1:
            raise Fault(f"is {made['width']} x {made['height']} pixels large in the file")
        file = row["file_name"]
        if not isinstance(file, str) or not file.strip() or "\0" in file or printable(file) != file:
            raise Fault(f"has the file_name {described(file)}, which names no file")
    elif not isinstance(row["id"], str):
        made["id"] = whole(row["id"], "id", notes)
    if row.get("crowdIndex") is not None:
        made["crowdIndex"] = number(row["crowdIndex"], "crowdIndex", notes)
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


def as_rows(content: Any, where: str, fields: str = "image_id, category_id, keypoints, score") -> list:
    """The list of rows of a results file. Raises ValueError: something else."""
    rows = as_list(content)
    if rows is None:
        kind = type(content).__name__
        raise ValueError(f"{where}: detections must be a list of rows ({fields}), not one {kind}")
    return rows


def normalise_rows(
    rows: list,
    where: str,
    ids: ImageIds,
    kept: Sequence[Category],
    notes: Notes,
    k: int = 0,
    boxes: bool = False,
    word: str = "row",
) -> list[dict]:
    """The rows of a results file in COCO's types, in their order; an image or a category that nobody knows stays.

    ids: the images. kept: the categories of the people (a row without one belongs to the only one). k: the number of
    keypoints that a row must have; with `boxes` it needs a `bbox` instead. word: what a row is called.

    Raises:
        ValueError: a row that cannot be read; the sentence names its place, counted from 0.
    """
    boxed = boxes or bool(rows and isinstance(rows[0], dict) and rows[0].get("bbox"))
    needed = ("image_id", "score", *([] if boxes else ["keypoints"]), *(["bbox"] if boxed else []))
    made = []
    for place, row in enumerate(rows):
        notes.place = f"{word} {place}"
        try:
            made.append(detection(row, needed, ids, kept, k, notes))
        except Fault as fault:
            raise ValueError(f"{where}: {notes.place} {fault}") from None
    return made
