"""One annotation of a COCO file in COCO's types: which image it belongs to, its joints, its box.

Format: cocodataset.org, "Data format". Frame: pixels of the image. K keypoints.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from posekit.data.coco_values import WHOLE, Fault, Notes, clean, listed, number, told, whole

FAR = 1e18  # no number of pixels; its square is still a number
AREA_OF_BOX = 0.53  # of a person without an outline, as CrowdPose's scorer takes it


class ImageIds:
    """Which image an id means: 1, 1.0 and "1" are one image, unless the file has several of them."""

    def __init__(self, ids: Iterable) -> None:
        self.known = {one: one for one in ids}
        self._by_number: dict | None = None

    def find(self, value: Any, notes: Notes, place: str):
        """The file's own id, or None. Raises Fault for what is no id."""
        try:
            if value in self.known and not isinstance(value, bool):
                if type(value) is not type(self.known[value]) and isinstance(value, float):
                    self._note(notes, value, place)
                return self.known[value]
        except TypeError:
            raise Fault(f"has the image_id {told(value)}, not a number or text") from None
        if self._by_number is None:
            numbers = [(_number_of(one), one) for one in self.known]
            times = Counter(n for n, _ in numbers)
            self._by_number = {n: one for n, one in numbers if n is not None and times[n] == 1}
        found = self._by_number.get(_number_of(value))
        if found is not None:
            self._note(notes, value, place)
        return found

    def _note(self, notes: Notes, value: Any, place: str) -> None:
        notes.count(
            "{n} image id{s} {are} of another type than in the list of images: read as the same image",
            f"{told(value)} of {place}",
        )


def _number_of(value: Any) -> int | None:
    if isinstance(value, str):
        found = WHOLE.fullmatch(value)
        return int(found[1]) if found else None
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if is_whole and value == int(value) else None


@dataclass
class Reading:
    """What every annotation of a file is read with; see `coco_json.normalise`."""

    where: str
    complete: bool
    ids: ImageIds
    k: int | None
    of: str
    need: str
    notes: Notes

    def annotation(self, row: Any, place: int) -> dict | None:
        """A copy of the row in COCO's types, or None: it holds nothing. Raises Fault."""
        if not isinstance(row, dict):
            raise Fault(f"is {told(row)}, not an object")
        name, notes = row_name(row, place), self.notes
        made = {key: value for key, value in row.items() if key != "segmentation"}
        image = self.ids.find(row.get("image_id"), notes, name)
        if image is None:
            if self.complete:
                raise Fault("belongs to an image that the file does not list")
            notes.count("{n} annotation{s} of images that the file does not list {are} left out", name)
            return None
        made["image_id"] = image
        crowd = row.get("iscrowd")
        made["iscrowd"] = crowd if crowd in (0, 1) and type(crowd) is int else int(
            crowd is not None and whole(crowd, "iscrowd", notes, name) != 0)  # fmt: skip
        made["keypoints"], labelled = keypoints_of(row.get("keypoints"), self.k, self.of, notes, name, self.complete)
        box = self._box(row.get("bbox"), name)
        area = None if row.get("area") is None else _finite(number(row["area"], "area", notes, name), "as its area")
        count = row.get("num_keypoints")
        made["num_keypoints"] = None if count is None or self.complete else whole(count, "num_keypoints", notes, name)
        sized = box is not None and box[2] > 0 and box[3] > 0
        if not labelled and (not sized if self.complete else box is None):
            notes.count("{n} annotation{s} {have} neither a labelled joint nor a box: left out", name)
            return None
        if self.complete:
            made["num_keypoints"] = labelled
            if not sized:
                what = "no box" if box is None else "a box without width or height"
                notes.count(f"{{n}} annotation{{s}} {{have}} {what}: the box around the labelled joints is taken", name)
                box = box_around(made["keypoints"])
            if area is None or area <= 0:
                what = "no area" if area is None else "an area of 0 or less"
                notes.count(
                    f"{{n}} annotation{{s}} {{have}} {what}: {AREA_OF_BOX} of the box is taken, as "
                    "CrowdPose's scorer does",
                    name,
                )
                area = box[2] * box[3] * AREA_OF_BOX
        elif (box if self.need == "bbox" else area) is None:
            raise Fault(
                f"has no '{self.need}', which OKS needs: open the file as a data set, which fills it in, or write it"
            )
        for field, value in (("bbox", box), ("area", area)):
            made.pop(field, None)
            if value is not None:
                made[field] = value
        return made

    def _box(self, value: Any, name: str) -> list[float] | None:
        """x, y, width, height; None if there is none. Raises Fault."""
        if value is None or (box := listed(value)) == []:
            return None
        if box is None or len(box) != 4:
            count = f"{len(box)} numbers" if box is not None else told(value)
            raise Fault(f"has a bbox of {count}; it needs x, y, width and height")
        if None in box:
            return None
        return [_finite(number(one, "bbox", self.notes, name), "in its bbox") for one in box]


def keypoints_of(
    value: Any, k: int, of: str, notes: Notes, name: str, flags: bool = False
) -> tuple[list[float], int]:  # fmt: skip
    """(3K numbers, how many joints are labelled) of a row's `keypoints`; null and [] mean that nobody was labelled.

    flags: only 0, 1 and 2 are visibilities. Raises Fault.
    """
    values = listed(value)
    if values is None and value is not None:
        raise Fault(f"has the keypoints {told(value)}, not a flat list of numbers: x, y, visibility, x, y ...")
    if not values:
        notes.count("{n} annotation{s} {have} no keypoints: read as people of whom no joint is labelled", name)
        return [0] * (3 * k), 0
    if all(listed(one) is not None for one in values):
        if any(len(listed(one)) != 3 for one in values):
            sizes = sorted({len(listed(one)) for one in values})
            raise Fault(f"has nested keypoints of {sizes} numbers each; each needs x, y and visibility")
        notes.count("{n} row{s} {have} nested keypoints, [[x, y, v], ...]: read as the flat list", name)
        values = [number for one in values for number in listed(one)]
    if len(values) != 3 * k:
        raise Fault(f"has {len(values)} keypoint numbers; the {k} keypoints{of} need {3 * k} (x, y, visibility each)")
    if _plain(values):
        seen = values[2::3]
        made = values
    else:
        seen = [_flag(one, values[3 * i : 3 * i + 2], notes, name) for i, one in enumerate(values[2::3])]
        made = []
        for i, v in enumerate(seen):
            for one in values[3 * i : 3 * i + 2]:
                made.append(_coordinate(one, v > 0, i, notes, name))
            made.append(v)
    if flags and not set(seen) <= {0, 1, 2}:
        raise Fault(f"has visibility flags {sorted(set(seen))[:5]}; COCO knows 0, 1 and 2")
    return made, sum(v > 0 for v in seen)


def _plain(values: list) -> bool:
    """Finite numbers only: the usual case, told without looking at each."""
    try:
        return set(map(type, values)) <= {int, float} and sum(map(abs, values)) < FAR
    except OverflowError:
        return False


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise Fault(f"holds a number that is not finite (NaN or infinity) {what}")
    if not -FAR < value < FAR:
        raise Fault(f"holds {told(value)} {what}, which is too large for pixels")
    return value


def _flag(value: Any, point: list, notes: Notes, name: str) -> float:
    """A visibility; null beside null means that the joint was not labelled."""
    if value is None and point == [None, None]:
        return 0
    return _finite(value if type(value) is int else number(value, "keypoints", notes, name), "as a visibility")


def _coordinate(value: Any, labelled: bool, joint: int, notes: Notes, name: str) -> float:
    """A coordinate; where the joint is not labelled it does not matter, and anything but a number becomes 0."""
    if value is None and not labelled:
        return 0
    value = value if type(value) in (int, float) else number(value, "keypoints", notes, name)
    if labelled:
        return _finite(value, f"at its labelled keypoint {joint + 1}")
    return value if -FAR < value < FAR else 0


def box_around(keypoints: list) -> list[float]:
    """x, y, width, height around the labelled joints (there is one). A side of no length takes that of the other side
    or, for a single joint, 32 pixels (COCO's limit between small and medium), centred."""
    x, y = ([a for a, v in zip(keypoints[i::3], keypoints[2::3], strict=True) if v > 0] for i in (0, 1))
    low, size = [min(x), min(y)], [max(x) - min(x), max(y) - min(y)]
    for axis in (0, 1):
        if size[axis] <= 0:
            side = max(size) or 32.0
            low[axis], size[axis] = low[axis] - side / 2, side
            if axis == 0 and size[1] <= 0:
                low[1], size[1] = low[1] - side / 2, side
    return [float(value) for value in (*low, *size)]


def row_name(row: Any, place: int) -> str:
    """What a sentence calls an annotation."""
    if not isinstance(row, dict) or row.get("id") is None:
        return f"annotation number {place} of the file"
    return f"annotation {short(row['id'])} (image {short(row.get('image_id', '?'))})"


def short(value: Any) -> str:
    """An id as it is; anything else with its type."""
    usual = isinstance(value, int) and abs(value) < 10**20 or isinstance(value, str) and len(value) < 60
    return clean(str(value)) if usual else told(value)


def is_key(value: Any) -> bool:
    return isinstance(value, int | float | str)
