"""Single values of COCO's JSON as other programs write them: numbers as text, 3.0 for 3, true for 1; and the list of
notes of what was changed, left out or filled in.

Format: cocodataset.org, "Data format": ids, sizes and flags are whole numbers.
"""

from __future__ import annotations

import json
import math
import re
from numbers import Integral, Real
from pathlib import Path
from typing import Any

WHOLE = re.compile(r"\s*([+-]?\d{1,18})(\.0*)?\s*")
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


class Fault(ValueError):
    """What is wrong with one row: the end of a sentence that begins with its place."""


class Notes:
    """Sentences for the reader. Those of one kind are counted, and the first example is named."""

    def __init__(self) -> None:
        self._kinds: dict[str, list] = {}

    def count(self, kind: str, example: str = "", times: int = 1) -> None:
        """One more of a kind, a sentence with {n}, and {s}, {have}, {are} for its number."""
        self._kinds.setdefault(kind, [0, example])[0] += times

    def say(self, sentence: str) -> None:
        self._kinds.setdefault(sentence, [0, ""])

    def lines(self) -> list[str]:
        lines = []
        for kind, (n, example) in self._kinds.items():
            one = n == 1
            words = {
                "n": f"{n:,}",
                "s": "" if one else "s",
                "have": "has" if one else "have",
                "are": "is" if one else "are",
            }
            lines.append((kind.format(**words) if n else kind) + (f" (first: {example})" if example else ""))
        return lines


def whole(value: Any, name: str, notes: Notes, place: str = "") -> int:
    """A whole number, written as one, as 3.0, "3", or (with a note) true.

    Raises:
        Fault: anything else; it tells value and type.
    """
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if -(2**63) <= number < 2**63:
            return number
        raise Fault(f"has a {name} of {len(str(abs(number))) if abs(number) < 10**999 else 'over 999'} digits")
    if isinstance(value, bool):
        number = int(value)
    elif isinstance(value, Real) and math.isfinite(value) and value == int(value) and abs(value) < 2**63:
        number = int(value)
    elif isinstance(value, str) and (found := WHOLE.fullmatch(value)):
        number = int(found[1])
    else:
        raise Fault(f"has the {name} {told(value)}, not a whole number")
    notes.count(
        f"'{name}' is written {{n}} time{{s}} as text, with a decimal point or as true or false: read as a number",
        f"{told(value)}{' of ' + place if place else ''}",
    )
    return number


def number(value: Any, name: str, notes: Notes, place: str = "") -> float:
    """A number, or text that is one. NaN and infinity pass: the caller knows whether they matter.

    Raises:
        Fault: anything else; it tells value and type.
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if isinstance(value, str) and NUMBER.fullmatch(value):
        notes.count(
            f"numbers in '{name}' are written {{n}} time{{s}} as text: read as numbers",
            f"{told(value)}{' of ' + place if place else ''}",
        )
        return float(value)
    raise Fault(f"holds something other than numbers in '{name}': {told(value)}")


def listed(value: Any) -> list | None:
    """A list, tuple or array as a list; None if it is none."""
    if type(value) is list:
        return value
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple)) else None


def told(value: Any) -> str:
    """A value and its type, as the reader of a JSON file knows them; long ones are cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**60:
        return "(a number of many digits)"
    kinds = {str: "text", dict: "an object", list: "a list", tuple: "a list"}
    kind = next((name for known, name in kinds.items() if isinstance(value, known)), "a number")
    try:
        text = json.dumps(clean(value[:99]), ensure_ascii=False) if isinstance(value, str) else repr(value)
    except (RecursionError, ValueError):
        text = "..."
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kind})"


def clean(text: str) -> str:
    """Text that can be printed: JSON can hold halves of characters, which no terminal and no file takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def load(path: str | Path) -> Any:
    """The content of a JSON file in UTF-8, 16 or 32, with or without a byte order mark.

    Raises:
        ValueError: it cannot be read or is not JSON; one sentence that names it.
    """
    return decode(read_bytes(path), path)


def read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def decode(text: bytes, path: str | Path) -> Any:
    """As `load`, of bytes in hand."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is not a JSON file that can be read: its lists are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {str(error).splitlines()[0]}") from None
