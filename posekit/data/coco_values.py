"""Values of COCO's JSON as other programs write them: numbers as text, 3.0 for 3, null, ids of another type.

Format: cocodataset.org, "Data format" and "Results format". What is changed, left out or filled in is counted in
`Notes`; what cannot be read is a `Fault`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from numbers import Integral, Real
from typing import Any

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
    """A whole number of 64 bits, written as one or (with a note) as 3.0, "3" or true. Raises Fault: anything else."""
    if type(value) is int and -FAR < value < FAR:
        return value
    match = WHOLE.fullmatch(value) if isinstance(value, str) else None
    if not match and not (isinstance(value, Real) and abs(value) < 2**63 and value == int(value)):
        raise Fault(f"has the {name} {described(value)}, not a whole number of at most 18 digits")
    if not isinstance(value, Integral) or isinstance(value, bool):
        odd = "as text, with a decimal point or as true or false"
        notes.count(f"'{name}' is written {{n}} time{{s}} {odd}: read as a number", value)
    return int(match[1] if match else value)


def number(value: Any, name: str, notes: Notes) -> float:
    """A number, or text that is one; NaN and infinity pass. Raises Fault: anything else."""
    if isinstance(value, Real) and not isinstance(value, bool):
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
