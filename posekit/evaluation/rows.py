"""Reading COCO's JSON: annotations as a whole, a long list of detections piece by piece, and the fields of rows.

A result file of COCO's validation set holds five million numbers. Decoded at once they become five million
Python objects spread over 200 MB; decoded in pieces they turn into an array while they are still in the
cache. msgspec, where it is installed, reads numbers four times as fast as the standard library, which stays
the judge of what is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import starmap
from operator import attrgetter, itemgetter
from pathlib import Path
from struct import Struct
from struct import error as StructError

import numpy as np

try:
    from posekit.evaluation.schema import DecodeError, decode_ground_truth, decode_rows
except ImportError:
    DecodeError, decode_ground_truth, decode_rows = ValueError, json.loads, json.loads

PIECE = 1 << 16  # bytes
ROW_END = re.compile(rb"\}\s*,\s*(?=\{)")


def load_ground_truth(path: str | Path):
    """The content of a COCO annotation file: records (`schema`) or, if it fits none, whatever it holds.

    Raises:
        ValueError: the file cannot be read or is not JSON; the sentence names it.
    """
    text = _read(path)
    try:
        return decode_ground_truth(text)
    except DecodeError:
        return _decode(text, path)


def row_pieces(path: str | Path) -> Iterator:
    """The rows of a JSON list of detections, in pieces that add up to it: lists of records or of dicts.

    A file that holds something else comes out as one piece: whatever it holds. Raises as `load_ground_truth`.
    """
    done = 0
    for text in _cut(path):
        try:
            piece = decode_rows(text)
        except DecodeError:
            # A cut inside a nested object or a string leaves a piece that no bracket can close, so it always
            # ends up here; then the file is read as a whole. What was handed out before was complete rows,
            # hence right.
            content = _decode(_read(path), path)
            yield content[done:] if isinstance(content, list) else content
            return
        done += len(piece)
        yield piece


def _cut(path: str | Path) -> Iterator[bytes]:
    """The text of a JSON list in pieces that end where a row seems to end, each a list of its own."""
    try:
        with open(path, "rb") as file:
            text = file.read(PIECE).lstrip()
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


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _decode(text: bytes, path: str | Path):
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None


def field_of(row, field: str):
    """A field of a dict or of a record; None if it has no such field."""
    return row.get(field) if isinstance(row, dict) else getattr(row, field, None)


def fields_of(rows: list, fields: tuple[str, ...], where: str, first: int = 0) -> list:
    """These fields of all rows, one sequence per field; a row that lacks one is named in the error."""
    if not rows:
        return [()] * len(fields)
    try:
        getter = (itemgetter if isinstance(rows[0], dict) else attrgetter)(*fields)
        columns = list(zip(*map(getter, rows), strict=True)) if len(fields) > 1 else [list(map(getter, rows))]
        if fields[-1] in ("area", "bbox") and None in columns[-1]:  # a record has the field, but empty
            raise KeyError
        return columns
    except (KeyError, TypeError, AttributeError):
        for number, row in enumerate(rows, first):
            lacking = [field for field in fields if field_of(row, field) is None]
            if lacking:
                name = f"annotation {field_of(row, 'id')}" if {"id", "keypoints"} <= set(fields) else f"row {number}"
                raise ValueError(f"{where}: {name} has no '{lacking[0]}'") from None
        raise


def split_keypoints(keypoints: list, k: int | None, where: str, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """xy (n, K, 2) and third number (n, K) of flat lists of 3K numbers; K is the first row's unless given."""
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
        lengths = [len(person) for person in keypoints]
    except (TypeError, StructError):
        lengths = [len(person) if isinstance(person, (list, tuple)) else -1 for person in keypoints]
        if all(length == wanted for length in lengths) or -1 in lengths:
            raise ValueError(
                f"{where}: 'keypoints' must be a flat list of numbers: x, y, visibility, x, y ..."
            ) from None
    row = next((i for i, length in enumerate(lengths) if length != wanted), 0)
    raise ValueError(
        f"{where}: row {first + row} has {lengths[row]} keypoint numbers; "
        f"{wanted // 3} keypoints need {3 * (wanted // 3)} "
        "(x, y, visibility each): all rows must have the ground truth's keypoints"
    )


def some(values: Iterable) -> str:
    """Up to five of the values, for an error sentence."""
    listed = sorted(map(str, values), key=lambda text: (len(text), text))
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
