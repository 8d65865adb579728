"""Files that are whole or not there, and paths as people write and as records keep them.

A file is written beside its final name, flushed to the disk and then renamed: a reader, a kill or a full disk
never meets half of one. Paths in records are relative to the repository root.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

NUMBERS = count()  # of this process's partial files: two threads may write the same file


def root() -> Path:
    """The repository: the nearest folder, from the working directory upward, with posekit's pyproject.toml.

    A notebook may run in `notebooks/`. Outside a checkout: where the package was installed from, if that is
    one, else the working directory.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[1]):
        project = folder / "pyproject.toml"
        if project.is_file() and 'name = "posekit"' in project.read_text(encoding="utf-8"):
            return folder
    return Path.cwd()


def resolve(path: str | Path) -> Path:
    """A path as people write it in a notebook: relative ones start at the repository root."""
    return root() / Path(str(path)).expanduser()  # papermill makes a number of a folder called 2024


def text_of(value: Any) -> str:
    """A notebook's parameter that must be text: papermill's -p makes a number of what looks like one, and says nothing.

    A number is read as text again, which a line says: of a folder called 007 it kept 7.
    """
    if not isinstance(value, str):
        print(f"papermill made {value!r} of a text; it is read as '{value}' (with -r instead of -p text stays text)")
    return str(value)


def relative(path: str | Path) -> str:
    """The path as it is recorded: relative to the repository root, with forward slashes."""
    try:
        return Path(os.path.relpath(resolve(path), root())).as_posix()
    except ValueError:  # another drive on Windows
        return Path(path).name


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` only once everything is on the disk.

    Raises OSError with one sentence (file, reason, free space); the previous file stays as it was.
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(error, OSError | RuntimeError) and isinstance(cause, OSError):  # torch may wrap it
            raise _write_error(path, cause) from error
        raise


def partial_name(path: Path) -> Path:
    """Where a file or folder is made before it gets its name: `.NAME.PROCESS-NUMBER.partial` beside it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{next(NUMBERS)}.partial")


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes partial files and folders, of `name` or all, whose process was killed while writing them."""
    for left in folder.glob(f".{escape(name) or '*'}.*partial"):
        process = re.search(r"\.(\d+)-\d+\.partial$", left.name)  # without a number: an older version's
        if process is None or not _runs(int(process[1])):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _runs(process: int) -> bool:
    """Is there a process of this number? Always yes on Windows, where asking would end it."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _write_error(path: Path, cause: OSError) -> OSError:
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), Path.cwd())
    free = shutil.disk_usage(folder).free / 2**20
    kept = "the previous file is unchanged" if path.exists() else "nothing was written"
    reason = cause.strerror or str(cause)
    error = OSError(f"cannot write {relative(path)}: {reason} ({free:,.0f} MB free on that disk); {kept}")
    error.errno = cause.errno
    return error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` atomically (see `replacing`)."""
    with replacing(path) as file:
        file.write(data)


def append_bytes(path: str | Path, data: bytes) -> None:
    """Adds `data` at the end of a file. A kill may leave the beginning of it; an error leaves the file as it was.

    Raises OSError with one sentence, as `replacing`.
    """
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                file.truncate(end)
            raise _write_error(Path(path), error) from error


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Writes JSON atomically. NumPy and torch values become plain ones, NaN becomes null, paths relative."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Reads JSON; a file that is not JSON raises ValueError naming the file and the line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{relative(path)} is not JSON: {error}") from error


def plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)  # Python's order of text differs from run to run
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # NumPy and torch, scalars and arrays
        return plain(value.tolist())
    if isinstance(value, Path):
        return relative(value)
    return str(value)


def save_tensors(path: str | Path, tensors: Mapping[str, Any], note: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, atomically; `note`: text to keep beside them (the model's name).

    Equal tensors and notes make equal bytes: safetensors writes the note in an order that differs from run to run, so
    it is put in order here.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(note or {}))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    write_bytes(path, len(text).to_bytes(8, "little") + text + data[8 + length :])


def save_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """`torch.save`, atomically: after a crash or with a full disk the previous checkpoint is still there."""
    import torch

    with replacing(path) as file:
        torch.save(dict(state), file)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU. Tensors, numbers, text and containers only: no code runs."""
    from posekit.torch_files import read_torch

    try:
        return read_torch(path)
    except ValueError as error:
        raise ValueError(f"{relative(path)} is not a whole checkpoint; delete it to start anew") from error
