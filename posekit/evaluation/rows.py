"""Reading COCO's JSON: annotations as a whole, a long list of detections piece by piece.

A result file of COCO's validation set holds five million numbers. Decoded at once they become five million
Python objects spread over 200 MB; decoded in pieces they turn into an array while they are still in the
cache. msgspec, where it is installed, reads numbers four times as fast as the standard library, which stays
the judge of what is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

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
