"""The one reader of COCO keypoint JSON, whoever wrote it: a data folder, ground truth to score against, detections.

`normalise` turns a file's content into rows of the types that COCO documents (cocodataset.org, "Data format"), keeps
the categories that have keypoints, and tells what it changed, left out or filled in. Where pycocotools defines a
number, a normalised file has the same one. Frame: pixels of the image. K keypoints.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from posekit.data.coco_annotations import ImageIds, Reading, is_key, row_name, short
from posekit.data.coco_categories import Category, choose, named, read_categories, tell_left_out
from posekit.data.coco_values import Fault, Notes, clean, listed, number, told, whole


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
    faults: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)


def parts(data: Any, where: str) -> tuple[list, list]:
    """The lists `images` and `annotations` of a COCO file. Raises ValueError: it has none."""
    rows = [listed(data.get(name)) if isinstance(data, dict) else None for name in ("images", "annotations")]
    if None in rows:
        names = ", ".join(str(name) for name in list(data)[:5]) if isinstance(data, dict) else ""
        found = f"the fields {names or 'none'}" if isinstance(data, dict) else told(data).split("(")[-1].rstrip(")")
        raise ValueError(
            f"{where} is not a COCO annotation file: it must hold 'images' and 'annotations', as a COCO keypoint file "
            f"does, and both are lists; it holds {found}"
        )
    return rows[0], rows[1]


def normalise(
    data: Any, where: str, complete: bool = False, k: int | None = None, of: str = "",
    category: int | str | None = None, need: str = "area", remedy: str = "category",
) -> Truth:  # fmt: skip
    """A COCO keypoint file's content in COCO's types; `where` names the file in sentences.

    complete: for a data set. Image ids are then whole numbers and images have a file name and a size; boxes and areas
    that are missing, zero or negative are filled in; flags are 0, 1 or 2. Without it, for scoring, such values stay as
    pycocotools takes them, and a person without `need` ("area", "bbox") is a fault.
    k, of: the number of keypoints that is expected, and who says so; None: what most rows have. category: id or name
    of the only one to keep.

    Raises:
        ValueError: no annotation file, categories that cannot be told apart, or nothing left; one sentence.
    """
    notes = Notes()
    images, rows = parts(data, where)
    categories = read_categories(data.get("categories"), where, notes, strict=complete)
    kinds = [_category(row, notes) for row in rows]
    used = Counter(
        kind for kind, row in zip(kinds, rows, strict=True) if kind is not None and row.get("keypoints") is not None
    )
    kept = choose(categories, used, category, where, remedy, key=None if complete else len)
    if k is None and complete and kept[0].keypoints:
        k = len(kept[0].keypoints)
    faults: list[str] = []
    images, bad = _images(images, where, complete, notes, faults)
    reading = Reading(where, complete, ImageIds(row["id"] for row in images), k, of, need, notes)
    own = {one.id for one in kept}
    mine, left_out = [], Counter()
    for place, (kind, row) in enumerate(zip(kinds, rows, strict=True), 1):
        if isinstance(row, dict) and row.get("category_id") is None and (complete or len(kept) == 1):
            if row.get("keypoints") or len(categories) < 2:
                which = "the only one" if len(kept) == 1 else "the one that is kept"
                notes.count(f"{{n}} annotation{{s}} {{have}} no category: {which} is taken", row_name(row, place))
                kind = kept[0].id
        if kind in own or not isinstance(row, dict):
            mine.append((place, kind, row))
        else:
            left_out[kind] += 1
    if left_out:
        tell_left_out(left_out, kept, categories, where, notes, everything=not mine and len(rows) > 0)
    if len(kept) > 1 and complete:
        notes.say(f"categories {named(kept)} have the same keypoints and are read as one")
    reading.k = most_keypoints(row for _, _, row in mine) if k is None else k
    people = []
    for place, kind, row in mine:
        if isinstance(row, dict) and is_key(row.get("image_id")) and row.get("image_id") in bad:
            continue
        try:
            made = reading.annotation(row, place)
        except Fault as fault:
            faults.append(f"{where}: {row_name(row, place)} {fault}")
            continue
        if made is not None:
            made["category_id"] = kind
            people.append(made)
    _number_anew(people, notes)
    return Truth(images, people, kept, reading.k, categories, faults, notes)


def _category(row: Any, notes: Notes) -> int | None:
    value = row.get("category_id") if isinstance(row, dict) else None
    try:
        return value if type(value) is int else None if value is None else whole(value, "category_id", notes)
    except Fault:
        return None


def most_keypoints(rows: Iterable) -> int:
    """The number of keypoints that most rows have; 0 if none has any."""
    sizes = Counter()
    for row in rows:
        values = (listed(row.get("keypoints")) if isinstance(row, dict) else None) or []
        size = 3 * len(values) if values and listed(values[0]) is not None else len(values)
        if size and size % 3 == 0:
            sizes[size // 3] += 1
    return sizes.most_common(1)[0][0] if sizes else 0


def _images(rows: list, where: str, complete: bool, notes: Notes, faults: list[str]) -> tuple[list[dict], set]:
    """(the images that can be used, ids of the others). Raises ValueError: two have the same id."""
    images, bad, seen = [], set(), {}
    for place, row in enumerate(rows, 1):
        known = isinstance(row, dict) and row.get("id") is not None
        name = f"image {short(row['id'])}" if known else f"image number {place} of the file"
        try:
            images.append(_image(row, complete, notes, name))
        except Fault as fault:
            faults.append(f"{where}: {name} {fault}")
            if isinstance(row, dict) and is_key(row.get("id")):
                bad.add(row.get("id"))
            continue
        one = images[-1]
        if one["id"] in seen and complete:
            raise ValueError(
                f"{where}: two images have the same id {one['id']}: '{seen[one['id']]}' and '{one['file_name']}'; "
                "ids must be unique"
            )
        if one["id"] in seen:
            notes.count("{n} image{s} {are} listed with an id that another one has: counted once", name)
            images.pop()
        seen[one["id"]] = one.get("file_name")
    return images, bad - seen.keys()


def _image(row: Any, complete: bool, notes: Notes, name: str) -> dict:
    if not isinstance(row, dict):
        raise Fault(f"is {told(row)}, not an object")
    needed = ("id", "file_name", "width", "height") if complete else ("id",)
    if missing := [field for field in needed if row.get(field) is None]:
        raise Fault(f"lacks '{missing[0]}'")
    made = dict(row)
    if complete:
        for field in ("id", "width", "height"):
            made[field] = whole(row[field], field, notes, name)
        if min(made["width"], made["height"]) < 1:
            raise Fault(f"is {made['width']} x {made['height']} pixels large in the file")
        file = row["file_name"]
        if not isinstance(file, str) or not file.strip() or "\0" in file or clean(file) != file:
            raise Fault(f"has the file_name {told(row['file_name'])}, which names no file")
    elif not isinstance(row["id"], str) or isinstance(row["id"], bool):
        made["id"] = whole(row["id"], "id", notes)
    if row.get("crowdIndex") is not None:
        made["crowdIndex"] = number(row["crowdIndex"], "crowdIndex", notes, name)
        if not math.isfinite(made["crowdIndex"]):
            raise Fault("has a crowdIndex that is not finite")
    return made


def _number_anew(rows: list[dict], notes: Notes) -> None:
    """Annotation ids are whole numbers that differ; ids that are not are replaced, all of them, by 1, 2, 3 ..."""
    ids, trial = [row.get("id") for row in rows], Notes()
    try:
        numbers = [whole(one, "id", trial) for one in ids]
        if len(set(numbers)) == len(numbers):
            for line in trial.lines():
                notes.say(f"annotations: {line}")
            for row, one in zip(rows, numbers, strict=True):
                row["id"] = one
            return
        twice = next(one for one, n in Counter(numbers).items() if n > 1)
        why = f"the annotation id {twice} is used more than once"
    except Fault as fault:
        why = f"an annotation {fault}"
    notes.say(f"{why}: the annotations are numbered anew, 1, 2, 3 ...")
    for place, row in enumerate(rows, 1):
        row["id"] = place
