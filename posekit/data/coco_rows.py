"""Values and rows of COCO's JSON as other programs write them (numbers as text, 3.0 for 3, nested keypoints, null), in
the types that COCO documents (cocodataset.org, "Data format" and "Results format"). What is changed, left out or filled
in is counted in `Notes`; what cannot be read is a `Fault`. Coordinates: pixels of the image. K keypoints.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

from posekit.data.crowdpose import AREA_OF_BOX

WHOLE = re.compile(r"\s*([+-]?\d{1,18})(\.0*)?\s*")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
FAR = 1e18  # no number of pixels; its square is still a number


class Fault(ValueError):
    """What is wrong with one row: the end of a sentence that begins with its place."""


class Notes:
    """Sentences for the reader. Those of one kind are counted, and the first example is named.

    `place`: what is being read, to name in them: text, or an object that makes it when it is needed.
    """

    def __init__(self) -> None:
        self.place: Any = ""
        self._kinds: dict[str, list] = {}

    def count(self, kind: str, value: Any = None) -> None:
        """One more of a kind, a sentence with {n}, and {s}, {have}, {are} for its number; `value`: for the example."""
        if kind not in self._kinds:
            example = str(self.place)
            if value is not None:
                example = described(value) + (f" of {example}" if example else "")
            self._kinds[kind] = [0, example]
        self._kinds[kind][0] += 1

    def say(self, sentence: str) -> None:
        self._kinds.setdefault(sentence, [0, ""])

    def lines(self) -> list[str]:
        lines = []
        for kind, (n, example) in self._kinds.items():
            verbs = {"s": "", "have": "has", "are": "is"} if n == 1 else {"s": "s", "have": "have", "are": "are"}
            lines.append(
                (kind.format(n=f"{n:,}", **verbs) if n else kind) + (f" (first: {example})" if example else "")
            )
        return lines


def whole(value: Any, name: str, notes: Notes) -> int:
    """A whole number, written as one, as 3.0, "3", or (with a note) true.

    Raises:
        Fault: anything else; it tells value and type.
    """
    if type(value) is int or isinstance(value, Integral) and not isinstance(value, bool):
        if -(2**63) <= value < 2**63:
            return int(value)
        digits = len(str(abs(int(value)))) if abs(value) < 10**999 else "over 999"
        raise Fault(f"has a {name} of {digits} digits")
    match = WHOLE.fullmatch(value) if isinstance(value, str) else None
    is_number = isinstance(value, Real) and math.isfinite(value) and value == int(value) and abs(value) < 2**63
    if not match and not is_number:
        raise Fault(f"has the {name} {described(value)}, not a whole number")
    notes.count(
        f"'{name}' is written {{n}} time{{s}} as text, with a decimal point or as true or false: read as a number",
        value,
    )
    return int(match[1] if match else value)


def number(value: Any, name: str, notes: Notes) -> float:
    """A number, or text that is one. NaN and infinity pass: the caller knows whether they matter.

    Raises:
        Fault: anything else; it tells value and type.
    """
    if type(value) is float or isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise Fault(f"holds something other than numbers in '{name}': {described(value)}")
    notes.count(f"numbers in '{name}' are written {{n}} time{{s}} as text: read as numbers", value)
    return float(value)


def finite(value: float, where: str) -> float:
    """The value. Raises Fault: it is not finite, or no number of pixels."""
    if -FAR < value < FAR:
        return value
    if math.isfinite(value):
        raise Fault(f"holds {described(value)} {where}, which is too large for pixels")
    raise Fault(f"holds a number that is not finite (NaN or infinity) {where}")


def as_list(value: Any) -> list | None:
    """A list, tuple or array as a list; None if it is none."""
    if type(value) is list:
        return value
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple)) else None


def described(value: Any) -> str:
    """A value and its type, as the reader of a JSON file knows them; long ones are cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**60:
        return "(a number of many digits)"
    kinds = {str: "text", dict: "an object", list: "a list", tuple: "a list"}
    kind = next((name for known, name in kinds.items() if isinstance(value, known)), "a number")
    try:
        text = json.dumps(printable(value[:99]), ensure_ascii=False) if isinstance(value, str) else repr(value)
    except (RecursionError, ValueError):
        text = "..."
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kind})"


def printable(text: str) -> str:
    """Text that can be printed: JSON can hold halves of characters, which no terminal and no file takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def short(value: Any) -> str:
    """An id as it is; anything else with its type."""
    if type(value) is int and -(10**20) < value < 10**20:
        return str(value)
    return printable(value) if isinstance(value, str) and len(value) < 60 else described(value)


def named(values: Iterable) -> str:
    """Up to five values, for a sentence."""
    texts = [str(value)[:60] for value in values]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


class ImageIds:
    """Which image an id means: 1, 1.0 and "1" are one image, unless the file has several of them."""

    def __init__(self, ids: Iterable) -> None:
        self.known = {one: one for one in ids}

    def find(self, value: Any, notes: Notes):
        """The file's own id, or None. Raises Fault for what is no id."""
        try:
            found = None if isinstance(value, bool) else self.known.get(value)
        except TypeError:
            raise Fault(f"has the image_id {described(value)}, not a number or text") from None
        if found is None and not isinstance(value, bool):
            found = self._by_number.get(_as_number(value))
        if found is not None and (found != value or isinstance(value, float)):
            notes.count(
                "{n} image id{s} {are} of another type than in the list of images: read as the same image", value
            )
        return found

    @cached_property
    def _by_number(self) -> dict[int, Any]:
        """Of the numbers that only one of the ids can mean."""
        numbers = [(_as_number(one), one) for one in self.known]
        times = Counter(n for n, _ in numbers)
        return {n: one for n, one in numbers if n is not None and times[n] == 1}


def _as_number(value: Any) -> int | None:
    try:
        return whole(value, "id", Notes())
    except Fault:
        return None


@dataclass
class AnnotationReader:
    """Reads the annotations of a file, see `coco_json.normalise`: `of` says who expects `k` keypoints."""

    complete: bool
    ids: ImageIds
    k: int
    of: str
    need: str
    notes: Notes

    def read(self, row: dict) -> dict | None:
        """A copy of the row in COCO's types, or None: it holds nothing. Raises Fault."""
        notes = self.notes
        made = {key: value for key, value in row.items() if key not in ("segmentation", "bbox", "area")}
        made["image_id"] = self.ids.find(row.get("image_id"), notes)
        if made["image_id"] is None:
            if self.complete:
                raise Fault("belongs to an image that the file does not list")
            notes.count("{n} annotation{s} of images that the file does not list {are} left out")
            return None
        crowd, area = row.get("iscrowd"), row.get("area")
        made["iscrowd"] = int(crowd is not None and whole(crowd, "iscrowd", notes) != 0)
        made["keypoints"], labelled = self._keypoints(row.get("keypoints"))
        box = self._box(row.get("bbox"))
        area = None if area is None else finite(number(area, "area", notes), "as its area")
        count = labelled if self.complete else row.get("num_keypoints")
        made["num_keypoints"] = None if count is None else whole(count, "num_keypoints", notes)
        sized = box is not None and min(box[2:]) > 0
        if not labelled and not (sized if self.complete else box):
            notes.count("{n} annotation{s} {have} neither a labelled joint nor a box: left out")
            return None
        if self.complete:
            box, area = self._filled_in(made["keypoints"], box, area)
        elif (box if self.need == "bbox" else area) is None:
            raise Fault(
                f"has no '{self.need}', which OKS needs: open the file as a data set, which fills it in, or write it"
            )
        return made | {field: value for field, value in (("bbox", box), ("area", area)) if value is not None}

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

    def _box(self, value: Any) -> list[float] | None:
        """x, y, width, height; None if there is none. Raises Fault."""
        if value is None or (box := as_list(value)) == []:
            return None
        if box is None or len(box) != 4:
            count = f"{len(box)} numbers" if box is not None else described(value)
            raise Fault(f"has a bbox of {count}; it needs x, y, width and height")
        if None in box:
            return None
        return [finite(number(one, "bbox", self.notes), "in its bbox") for one in box]

    def _keypoints(self, value: Any) -> tuple[list[float], int]:
        """(3K numbers, how many joints are labelled); null and [] mean that nobody was labelled. Raises Fault."""
        if value is None or as_list(value) == []:
            self.notes.count("{n} annotation{s} {have} no keypoints: read as people of whom no joint is labelled")
            return [0] * (3 * self.k), 0
        values = flat_keypoints(value, self.k, f"the {self.k} keypoints{self.of}", (3,), self.notes)
        if _are_plain(values):
            flags = values[2::3]
        else:
            joints = zip(values[0::3], values[1::3], values[2::3], strict=True)
            joints = [self._joint(*one, f"at its labelled keypoint {i}") for i, one in enumerate(joints, 1)]
            flags, values = [joint[2] for joint in joints], [value for joint in joints for value in joint]
        if self.complete and not set(flags) <= {0, 1, 2}:
            raise Fault(f"has visibility flags {sorted(set(flags))[:5]}; COCO knows 0, 1 and 2")
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
    """Finite numbers only: the usual case, told without looking at each."""
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


def detection(row: Any, needed: tuple, ids: ImageIds, kept: Sequence, k: int, notes: Notes) -> dict:
    """A copy of a detection, which needs these fields, in COCO's types; an unknown image stays as it is. Raises Fault.

    kept: the categories that detections can have; a row that names none has the only one.
    """
    lacking = [field for field in needed if not isinstance(row, dict) or row.get(field) is None]
    if lacking:
        kind = "" if isinstance(row, dict) else f": it is {described(row)}, not an object"
        raise Fault(f"has no '{lacking[0]}'{kind}")
    image = ids.find(row["image_id"], notes)
    made = row | {"image_id": row["image_id"] if image is None else image}
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
        box = as_list(row["bbox"])
        if box is None or len(box) != 4:
            raise Fault(f"has the bbox {described(row['bbox'])}; it needs x, y, width and height")
        made["bbox"] = [number(one, "bbox", notes) for one in box]
    return made
