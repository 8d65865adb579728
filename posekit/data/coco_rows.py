"""Rows of COCO's JSON, annotations and detections, in the types that COCO documents (cocodataset.org, "Data format" and
"Results format"), one by one. Coordinates: pixels of the image. K keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from posekit.data.coco_categories import Category
from posekit.data.coco_values import FAR, Fault, ImageIds, Notes, as_list, described, finite, named, number, whole
from posekit.data.crowdpose import AREA_OF_BOX


class Annotation(msgspec.Struct, gc=False, omit_defaults=True):
    """A person in COCO's types, -1 and NaN where the file gives none; other fields, as outlines, are skipped unread."""

    id: int
    image_id: int | str
    category_id: int
    keypoints: list[float]
    iscrowd: Literal[0, 1]
    num_keypoints: int = -1
    bbox: tuple[float, float, float, float] = (math.nan,) * 4
    area: float = math.nan


@dataclass
class AnnotationReader:
    """Reads the annotations of a file, see `coco_json.normalise`; `of`: the layout that has `k` keypoints, in words."""

    complete: bool
    ids: ImageIds
    k: int
    of: str
    need: str
    notes: Notes

    def read(self, row: dict, category_id: int) -> Annotation | None:
        """The row in COCO's types, but for its id, or None: it holds nothing. Raises Fault."""
        notes, image_id = self.notes, self.ids.find(row.get("image_id"), self.notes)
        if image_id is None:
            if self.complete:
                raise Fault("belongs to an image that the file does not list")
            notes.count("{n} annotation{s} of images that the file does not list {are} left out")
            return None
        crowd, area = row.get("iscrowd"), row.get("area")
        crowd = crowd is not None and whole(crowd, "iscrowd", notes) != 0
        keypoints, labelled = self._keypoints(row.get("keypoints"))
        box = None if row.get("bbox") is None else read_box(row["bbox"], notes)
        box = box and [finite(one, "in its bbox") for one in box]
        area = None if area is None else finite(number(area, "area", notes), "as its area")
        count = labelled if self.complete else row.get("num_keypoints")
        count = None if count is None else whole(count, "num_keypoints", notes)
        if not labelled and (not box or self.complete and min(box[2:]) <= 0):
            notes.count("{n} annotation{s} {have} neither a labelled joint nor a box: left out")
            return None
        if self.complete:
            box, area = self._filled_in(keypoints, box, area)
        elif (box if self.need == "bbox" else area) is None:
            raise Fault(
                f"has no '{self.need}', which OKS needs: open the file as a data set, which fills it in, or write it"
            )
        optional = {"num_keypoints": count, "bbox": box, "area": area}
        given = {name: value for name, value in optional.items() if value is not None}
        return Annotation(row.get("id"), image_id, category_id, keypoints, int(crowd), **given)

    def _filled_in(self, keypoints: list, box: list | None, area: float | None) -> tuple[list, float]:
        """Box and area, also where the file has none of any size."""
        if box is None or min(box[2:]) <= 0:
            what = "no box" if box is None else "a box without width or height"
            self.notes.count(f"{{n}} annotation{{s}} {{have}} {what}: the box around the labelled joints is taken")
            box = box_around(keypoints)
        if area is None or area <= 0:
            what = "no area" if area is None else "an area of 0 or less"
            self.notes.count(
                f"{{n}} annotation{{s}} {{have}} {what}: {AREA_OF_BOX} of the box is taken, as CrowdPose's scorer does"
            )
            area = box[2] * box[3] * AREA_OF_BOX
        return box, area

    def _keypoints(self, value: Any) -> tuple[list[float], int]:
        """(3K numbers, how many joints are labelled); null and [] mean that nobody was labelled. Raises Fault."""
        if value is None or as_list(value) == []:
            self.notes.count("{n} annotation{s} {have} no keypoints: read as people of whom no joint is labelled")
            return [0] * (3 * self.k), 0
        values = flat_keypoints(value, self.k, f"the {self.k} keypoints{self.of}", (3,), self.notes)
        if not _are_plain(values):
            joints = zip(values[0::3], values[1::3], values[2::3], strict=True)
            joints = [self._joint(*joint, f"at its labelled keypoint {i}") for i, joint in enumerate(joints, 1)]
            values = [value for joint in joints for value in joint]
        flags = values[2::3]
        if self.complete and not set(flags) <= {0, 1, 2}:
            raise Fault(
                f"has visibility flags [{named(f'{flag:g}' for flag in sorted(set(flags)))}]; COCO knows 0, 1 and 2"
            )
        return values, sum(flag > 0 for flag in flags)

    def _joint(self, x: Any, y: Any, flag: Any, where: str) -> tuple[float, float, float]:
        """Three numbers; where an unlabelled joint lies does not matter, and anything but a number becomes 0."""

        def as_number(value: Any) -> float:
            return value if type(value) in (int, float) else number(value, "keypoints", self.notes)

        flag = 0 if (x, y, flag) == (None, None, None) else finite(as_number(flag), "as a visibility")
        if flag > 0:
            return finite(as_number(x), where), finite(as_number(y), where), flag
        x, y = (0 if value is None else as_number(value) for value in (x, y))
        return (x if -FAR < x < FAR else 0), (y if -FAR < y < FAR else 0), flag


def _are_plain(values: list) -> bool:
    """Finite numbers only: the usual case, seen without a look at each."""
    try:
        return set(map(type, values)) <= {int, float} and sum(map(abs, values)) < FAR
    except OverflowError:
        return False


def flat_keypoints(value: Any, k: int, who: str, sizes: tuple[int, ...], notes: Notes, of: str = "") -> list:
    """The 3K values of keypoints, flat or nested in lists of one of `sizes`; `who`, `of`: parts of the sentences.

    Raises:
        Fault: no list, or another number of values.
    """
    values = as_list(value)
    if values is None:
        raise Fault(f"has the keypoints {described(value)}, not a flat list of numbers: x, y, visibility, x, y ...")
    if values and all(as_list(one) is not None for one in values):
        found = sorted({len(as_list(one)) for one in values})
        if len(found) > 1 or found[0] not in sizes:
            raise Fault(f"has nested keypoints of {found} numbers each; each needs x, y and visibility")
        notes.count(f"{{n}} row{{s}}{of} {{have}} nested keypoints, [[x, y, v], ...]: read as the flat list")
        values = [number for one in values for number in (*as_list(one), 1)[:3]]
    if len(values) != 3 * k:
        raise Fault(f"has {len(values)} keypoint numbers; {who} need {3 * k} (x, y, visibility each)")
    return values


def read_box(value: Any, notes: Notes) -> list[float] | None:
    """x, y, width, height; None if there is none. Raises Fault."""
    box = as_list(value)
    if box == []:
        return None
    if box is None or len(box) != 4:
        raise Fault(f"has the bbox {described(value)}; it needs x, y, width and height")
    return None if None in box else [number(one, "bbox", notes) for one in box]


def box_around(keypoints: list) -> list[float]:
    """x, y, width, height around the labelled joints (there is one). A side of no length takes that of the other side
    or, for a single joint, 32 pixels (COCO's limit between small and medium), centred."""
    x, y = ([a for a, v in zip(keypoints[i::3], keypoints[2::3], strict=True) if v > 0] for i in (0, 1))
    low, size = [min(x), min(y)], [max(x) - min(x), max(y) - min(y)]
    side = max(size) or 32.0
    for axis in (0, 1):
        if size[axis] <= 0:
            low[axis], size[axis] = low[axis] - side / 2, side
    return [float(value) for value in (*low, *size)]


def _detection(row: Any, needed: tuple, ids: ImageIds, kept: Sequence, k: int, notes: Notes) -> dict:
    """A copy of a detection, which needs these fields, in COCO's types, see `normalise_rows`. Raises Fault."""
    lacking = [field for field in needed if not isinstance(row, dict) or row.get(field) is None]
    if lacking:
        kind = "" if isinstance(row, dict) else f": it is {described(row)}, not an object"
        raise Fault(f"has no '{lacking[0]}'{kind}")
    given = row["image_id"]
    image = ids.find(given, notes)
    if image is None:  # of an image that nobody knows
        if isinstance(given, bool):
            raise Fault(f"has the image_id {described(given)}, not a number or text")
        image = given if isinstance(given, int | str) else whole(given, "image_id", notes)
    made = row | {"image_id": image}
    if row.get("category_id") is not None:
        made["category_id"] = whole(row["category_id"], "category_id", notes)
    elif len(kept) > 1:
        raise Fault(f"has no 'category_id', and there are several categories: {named(kept)}")
    else:
        notes.count("{n} row{s} of the detections {have} no category: the only one is taken")
        made["category_id"] = kept[0].id
    made["score"] = number(row["score"], "score", notes)
    if "keypoints" in needed:
        values = flat_keypoints(row["keypoints"], k, f"{k} keypoints", (2, 3), notes, " of the detections")
        # What a detection says about visibility is never read.
        made["keypoints"] = [1 if i % 3 == 2 else number(v, "keypoints", notes) for i, v in enumerate(values)]
    if "bbox" in needed:
        made["bbox"] = read_box(row["bbox"], notes)
        if made["bbox"] is None:
            raise Fault(f"has the bbox {described(row['bbox'])}; it needs x, y, width and height")
    return made


def normalise_rows(
    content: Any,
    where: str,
    ids: ImageIds,
    kept: Sequence[Category],
    notes: Notes,
    k: int | None = None,
) -> list[dict]:
    """The rows of a results file in COCO's types, in their order; an image or a category that nobody knows stays.

    ids: the images. kept: the categories of the people (a row without one belongs to the only one). k: the number of
    keypoints that a row must have; without it needs a `bbox`.

    Raises:
        ValueError: no list of rows, or a row that cannot be read; the sentence names its place, counted from 0.
    """
    rows = as_list(content)
    if rows is None:
        fields, kind = "image_id, category_id, score, keypoints or bbox", type(content).__name__
        raise ValueError(f"{where}: detections must be a list of rows ({fields}), not one {kind}")
    boxed = k is None or bool(rows and isinstance(rows[0], dict) and rows[0].get("bbox"))
    needed = ("image_id", "score", *(["keypoints"] if k is not None else []), *(["bbox"] if boxed else []))
    made = []
    for place, row in enumerate(rows):
        notes.place = f"row {place}"
        try:
            made.append(_detection(row, needed, ids, kept, k, notes))
        except Fault as fault:
            raise ValueError(f"{where}: {notes.place} {fault}") from None
    return made
