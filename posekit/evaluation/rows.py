"""Reading COCO's JSON fast: annotations as a whole, a long list of detections piece by piece, and the fields of rows.

A result file of COCO's validation set holds five million numbers. Decoded at once they become five million
Python objects spread over 200 MB; decoded in pieces they turn into an array while they are still in the
cache. msgspec, where it is installed, reads numbers four times as fast as the standard library, which stays
the judge of what is JSON. Rows that do not have COCO's types are a `Misfit`: `posekit.data.coco_json` then reads them
one by one, and it is the one who says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import starmap
from numbers import Integral, Real
from operator import attrgetter, itemgetter
from pathlib import Path
from struct import Struct
from struct import error as StructError

import numpy as np

from posekit.data.coco_values import decode, read_bytes

try:
    from posekit.evaluation.schema import DecodeError, decode_ground_truth, decode_rows
except ImportError:
    import json

    DecodeError, decode_ground_truth, decode_rows = ValueError, json.loads, json.loads  # type: ignore[misc]

MARK = b"\xef\xbb\xbf"  # Windows' byte order mark
PIECE = 1 << 16  # bytes
ROW_END = re.compile(rb"\}\s*,\s*(?=\{)")


class Misfit(ValueError):
    """Rows that do not have COCO's types."""


def load_ground_truth(path: str | Path):
    """The content of a COCO annotation file: records (`schema`) or, if it fits none, whatever it holds.

    Raises:
        ValueError: the file cannot be read or is not JSON; the sentence names it.
    """
    text = read_bytes(path)
    try:
        return decode_ground_truth(text.removeprefix(MARK))
    except (DecodeError, RecursionError):
        return decode(text, path)


def row_pieces(path: str | Path) -> Iterator:
    """The rows of a JSON list of detections, in pieces that add up to it: lists of records or of dicts.

    A file that holds something else comes out as one piece: whatever it holds. Raises as `load_ground_truth`.
    """
    done = 0
    for text in _cut(path):
        try:
            piece = decode_rows(text)
        except (DecodeError, RecursionError):
            # A cut inside a nested object or a string leaves a piece that no bracket can close, so it always
            # ends up here; then the file is read as a whole. What was handed out before was complete rows,
            # hence right.
            content = decode(read_bytes(path), path)
            yield content[done:] if isinstance(content, list) else content
            return
        done += len(piece)
        yield piece


def _cut(path: str | Path) -> Iterator[bytes]:
    """The text of a JSON list in pieces that end where a row seems to end, each a list of its own."""
    try:
        with open(path, "rb") as file:
            text = file.read(PIECE).removeprefix(MARK).lstrip()
            if not text.startswith(b"["):
                yield b""
                return
            while chunk := file.read(PIECE):
                start, text = max(len(text) - PIECE, 1), text + chunk
                if cut := ROW_END.search(text, start + PIECE // 2):
                    yield text[: cut.start() + 1] + b"]"
                    text = b"[" + text[cut.end() :]
            yield text
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def field_of(row, field: str):
    """A field of a dict or of a record; None if it has no such field."""
    return row.get(field) if isinstance(row, dict) else getattr(row, field, None)


def fields_of(rows: list, fields: tuple[str, ...]) -> list:
    """These fields of all rows, one sequence per field. Raises Misfit: a row lacks one."""
    if not rows:
        return [()] * len(fields)
    try:
        getter = (itemgetter if isinstance(rows[0], dict) else attrgetter)(*fields)
        return list(zip(*map(getter, rows), strict=True)) if len(fields) > 1 else [list(map(getter, rows))]
    except (KeyError, TypeError, AttributeError):
        raise Misfit(f"a row lacks one of {', '.join(fields)}") from None


def check_types(column: Iterable, *kinds: type) -> None:
    """Raise Misfit unless all values are of these kinds; true and false are no numbers."""
    odd = [kind for kind in set(map(type, column)) if kind is bool or not issubclass(kind, kinds)]
    if odd:
        raise Misfit(f"a value is of the type {odd[0].__name__}")


WHOLE, ID, NUMBER = (Integral,), (Integral, str), (Real,)


def split_keypoints(keypoints: list, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """xy (n, K, 2) and third number (n, K) of flat lists of 3K numbers; K is the first row's unless given.

    Raises:
        Misfit: anything else.
    """
    n = len(keypoints)
    if not n:
        return np.zeros((0, k or 0, 2)), np.zeros((0, k or 0))
    try:
        wanted = 3 * k if k is not None else len(keypoints[0])
        if wanted and wanted % 3 == 0:
            # One struct per person: twice as fast as np.fromiter, and it refuses any other length.
            packed = b"".join(starmap(Struct(f"{wanted}d").pack, keypoints))
            triples = np.frombuffer(packed).reshape(n, -1, 3)
            return np.ascontiguousarray(triples[..., :2]), triples[..., 2]
    except (TypeError, StructError, OverflowError):
        pass
    raise Misfit("keypoints are no flat lists of 3K numbers")


def some(values: Iterable) -> str:
    """Up to five of the values, for an error sentence."""
    listed = sorted((str(value)[:60] for value in values), key=lambda text: (len(text), text))
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
