"""Weights from files that somebody else wrote: no code of the file runs, no archive unpacks to more than it should, and
what does not fit is one sentence.

PyTorch's files are zip archives that store their tensors as they are. One that states far more bytes than it has was
compressed to fill the memory of who opens it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

MOST = 4  # unpacked bytes per byte of the file: weights hardly shrink, half-empty ones may
SMALL = 2**20  # bytes that any archive may unpack to


class ForeignObjects(ValueError):
    """The file is damaged or holds objects other than tensors, numbers, text and containers."""


def read_torch(path: str | Path, allowed: Sequence = ()) -> Any:
    """The content of a file of `torch.save`, on the CPU; `allowed`: further classes, as `safe_globals` takes them.

    Raises:
        ValueError: not a whole file, or one that unpacks to too much; `ForeignObjects`. One sentence each, the reason
            alone: the caller names the file.
    """
    import torch

    check_archive(path)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ForeignObjects(_line(error)) from error
    except Exception as error:  # whatever a damaged file makes the unpickler stumble over: EOFError, KeyError, ...
        raise ValueError(_line(error)) from error


def check_archive(path: str | Path) -> None:
    """Raise ValueError if a zip archive is damaged or its entries state far more bytes than the file has.

    Only the archive's directory is read. Entries that share their bytes count each.
    """
    path = Path(path)
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # the same test as PyTorch's
            return
    try:
        with zipfile.ZipFile(path) as archive:
            stated = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # BadZipFile, struct.error, UnicodeDecodeError, ...
        raise ValueError(_line(error)) from error
    size = path.stat().st_size
    if stated > max(MOST * size, SMALL):
        raise ValueError(f"its {size:,} bytes would unpack to {stated:,}, which no weights do")


def fitting(load: Callable) -> Callable:
    """Decorates `load(model, source, ...)`: entries of another shape or kind than their names promise are a ValueError.

    The names of a file decide how it is translated, and the translation takes their shapes for granted.
    """

    @wraps(load)
    def guarded(model, source, *options, **named):
        try:
            return load(model, source, *options, **named)
        except (IndexError, KeyError, TypeError, RuntimeError) as error:
            label = "this state dict" if isinstance(source, Mapping) else f"the checkpoint {Path(source).name}"
            raise ValueError(
                f"{label} is of no model that is known here: an entry has another shape or kind than its name says "
                f"({_line(error)})"
            ) from error

    return guarded


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
