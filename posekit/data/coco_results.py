"""Rows of COCO's results format, whoever wrote them: poses or boxes that were found.

Format: cocodataset.org, "Results format": a list of rows with `image_id`, `category_id`, `score` and `keypoints` (3K
numbers) or `bbox` (x, y, width, height in pixels of the image).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posekit.data.coco_annotations import ImageIds
from posekit.data.coco_categories import Category, counted, named
from posekit.data.coco_values import Fault, Notes, listed, number, told, whole

FIELDS = "image_id, category_id, keypoints, score"


def as_rows(content: Any, where: str, fields: str = FIELDS) -> list:
    """The list of rows. Raises ValueError: something else."""
    rows = listed(content)
    if rows is None:
        kind = type(content).__name__
        raise ValueError(f"{where}: detections must be a list of rows ({fields}), not one {kind}")
    return rows


def normalise_rows(
    rows: list, where: str, ids: ImageIds, kept: Sequence[Category], notes: Notes, k: int = 0, boxes: bool = False,
    word: str = "row",
) -> list[dict]:  # fmt: skip
    """The rows in COCO's types, in their order; an image or a category that nobody knows stays as it is.

    ids: the images; kept: the categories of the people (a row without one belongs to the only one). k: the number of
    keypoints that a row must have; 0 with `boxes`, where a row needs a `bbox` instead. word: what a row is called.

    Raises:
        ValueError: a row that cannot be read; the sentence names its place, counted from 0.
    """
    made = []
    boxed = boxes or bool(rows and isinstance(rows[0], dict) and rows[0].get("bbox"))
    needed = ("image_id", "score", *([] if boxes else ["keypoints"]), *(["bbox"] if boxed else []))
    for place, row in enumerate(rows):
        name = f"{word} {place}"
        try:
            made.append(_row(row, needed, ids, kept, notes, k, name))
        except Fault as fault:
            raise ValueError(f"{where}: {name} {fault}") from None
    return made


def _row(row: Any, needed, ids: ImageIds, kept: Sequence[Category], notes: Notes, k: int, name: str) -> dict:
    lacking = [field for field in needed if not isinstance(row, dict) or row.get(field) is None]
    if lacking:
        raise Fault(f"has no '{lacking[0]}'" + ("" if isinstance(row, dict) else f": it is {told(row)}, not an object"))
    made = dict(row)
    image = ids.find(row["image_id"], notes, name)
    made["image_id"] = row["image_id"] if image is None else image
    if row.get("category_id") is None:
        if len(kept) != 1:
            raise Fault(f"has no 'category_id', and there are several categories: {named(kept)}")
        notes.count("{n} row{s} of the detections {have} no category: the only one is taken", name)
        made["category_id"] = kept[0].id
    else:
        made["category_id"] = whole(row["category_id"], "category_id", notes, name)
    made["score"] = number(row["score"], "score", notes, name)
    if "keypoints" in needed:
        made["keypoints"] = _pose(row["keypoints"], k, notes, name)
    if "bbox" in needed:
        box = listed(row["bbox"])
        if box is None or len(box) != 4:
            raise Fault(f"has the bbox {told(row['bbox'])}; it needs x, y, width and height")
        made["bbox"] = [number(one, "bbox", notes, name) for one in box]
    return made


def _pose(value: Any, k: int, notes: Notes, name: str) -> list[float]:
    """3K numbers. What a detection says about visibility is never read: the third number of a joint is kept as 1."""
    values = listed(value)
    if values and all(listed(one) is not None and len(listed(one)) in (2, 3) for one in values):
        sizes = {len(listed(one)) for one in values}
        if len(sizes) == 1:
            notes.count(
                "{n} row{s} of the detections {have} nested keypoints, [[x, y, v], ...]: read as the flat list", name
            )
            values = [n for one in values for n in (*listed(one), 1)[:3]]
    if values is None or any(listed(one) is not None for one in values):
        raise Fault("has 'keypoints' that are no flat list of numbers: x, y, visibility, x, y ...")
    if len(values) != 3 * k:
        raise Fault(
            f"has {len(values)} keypoint numbers; {k} keypoints need {3 * k} (x, y, visibility each): "
            "all rows must have the ground truth's keypoints"
        )
    return [1 if i % 3 == 2 else one if type(one) is float else number(one, "keypoints", notes, name)
            for i, one in enumerate(values)]  # fmt: skip


def check_categories(
    kinds: Sequence, kept: Sequence[Category], known: Sequence[Category], where: str, notes: Notes
) -> None:
    """Tell which rows are of other categories.

    Raises:
        ValueError: all of them are.
    """
    from collections import Counter

    own, numbers = {one.id for one in kept}, Counter(kinds)
    others = Counter({kind: n for kind, n in numbers.items() if kind not in own})
    if others and len(others) == len(numbers):
        raise ValueError(
            f"{where}: no row has category {named(kept)}, which was looked for; they are "
            f"{counted(others, list(known))}: write the annotations' category_id into the rows"
        )
    if others:
        notes.say(f"left out: detections, {counted(others, list(known))} (looked for: {named(kept)})")
