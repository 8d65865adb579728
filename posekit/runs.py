"""Run folders, seeds and provenance: every file that the book shows can say which run made it.

A run folder holds `run.json` (parameters, provenance, status), `log.csv` (one row per epoch) and what the run
made (`model.safetensors`, `resume.ckpt`, `predictions.json`, `metrics.json`), all written through `files.py`.
Recorded paths are relative to the repository root; recorded times are UTC.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from posekit import locks
from posekit.files import (  # the rest of the house finds them here
    load_checkpoint,
    plain,
    read_json,
    relative,
    replacing,
    resolve,
    root,
    save_checkpoint,
    save_tensors,
    write_bytes,
    write_json,
)
from posekit.records import footer, load_run, steps_of

__all__ = [
    "Run",
    "append_row",
    "commit",
    "footer",
    "load_checkpoint",
    "load_run",
    "provenance",
    "read_json",
    "read_log",
    "relative",
    "replacing",
    "resolve",
    "root",
    "save_checkpoint",
    "save_tensors",
    "seed_everything",
    "steps_of",
    "truncate_log",
    "write_bytes",
    "write_json",
]

VERSIONED = ("torch", "torchvision", "numpy", "opencv-python-headless", "posekit")


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Rows of `log.csv`, numbers as numbers, an empty cell as None; no file, no rows."""
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def append_row(path: str | Path, row: Mapping[str, Any]) -> None:
    """Adds one row; a column that earlier rows lack is added to the header."""
    _write_log(path, [*read_log(path), row])


def truncate_log(path: str | Path, epoch: int) -> None:
    """Drops the rows after `epoch`: what a resumed run will write again."""
    rows = read_log(path)
    kept = [row for row in rows if row["epoch"] <= epoch]
    if len(kept) < len(rows):
        _write_log(path, kept)


def _write_log(path: str | Path, rows: list[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    write_bytes(path, text.getvalue().encode())


def _cell(value: Any) -> Any:
    """As the log has it: what is missing is empty, a number that is not finite is "nan"."""
    number = plain(value)
    return number if number is not None else "" if value is None else "nan"


def _number(cell: str | None) -> Any:
    if not cell:
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators (every device)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def commit() -> tuple[str, bool]:
    """(short commit, are tracked files changed?); ("unknown", False) outside a git checkout."""
    here = root()

    def git(*arguments: str) -> str:
        call = ["git", "--no-optional-locks", "-C", str(here), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here.resolve():  # someone else's checkout
            return "unknown", False
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=7", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def provenance(
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    data: Any = None,
    device: Any = "cpu",
    dtype: str = "float32",
) -> dict[str, Any]:
    """What made a result: commit, versions, device, threads, seed, data, parameters, when and how long.

    `data`: a data set (its name, fingerprint and length are kept), a dict of such facts, or None.
    """
    name, dirty = commit()
    if data is not None and not isinstance(data, Mapping):
        data = {"name": data.name, "fingerprint": data.fingerprint, "images": len(data)}
    return {
        "commit": name,
        "dirty": dirty,
        "versions": {"python": platform.python_version(), **_versions()},
        "device": _device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": _threads(),
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "seed": seed,
        "data": None if data is None else _recorded(data),
        "parameters": _recorded(parameters or {}),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in VERSIONED:
        with suppress(metadata.PackageNotFoundError):
            found[package.removesuffix("-python-headless")] = metadata.version(package)
    return found


def _device_name(device: Any) -> str:
    if not str(device).startswith("cuda"):
        return str(device)
    import torch

    return torch.cuda.get_device_name(device)


def _threads() -> int:
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values; absolute paths become relative ones, so that no record names a person's folders."""
    absolute = (str, Path)
    return {
        key: relative(value) if isinstance(value, absolute) and Path(value).is_absolute() else plain(value)
        for key, value in values.items()
    }


class Run:
    """A run folder while it is being filled; `record` is what stands in its `run.json`.

    The status is running, done, interrupted (Ctrl-C) or failed; one that still says running has been killed.
    Use it as a context: `with Run.open("data/runs/quick/poet_tiny", parameters, seed=0, data=train) as run:`.
    """

    def __init__(self, folder: Path, record: dict, before: str | None, writes: bool = True, lock: Any = None) -> None:
        self.folder, self.writes, self.lock = folder, writes, lock or locks.Lock(folder)
        self.record = record
        self.before = before  # the status that the folder's run had when it was opened; None: it is new
        self._earlier = record["provenance"]["seconds"]
        self._clock = time.monotonic()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        parameters: Mapping[str, Any],
        *,
        ignore: tuple[str, ...] = (),
        writes: bool = True,
        makes: tuple[str, ...] = (),
        **facts: Any,
    ) -> Run:
        """Starts a run, or continues the one in the folder when its parameters, seed and data are the same.

        A run that is done, with all files that it `makes`, keeps its record (`before` says "done"). Another run is
        never overwritten: its folder is moved aside, named by its start. `ignore`: parameters that may differ between
        sessions. `writes`: of several processes that train together, one writes. `facts`: seed, data, device and dtype,
        see `provenance`. The folder is locked until the context ends; a run that is done is only read.

        Raises InUseError: another process is writing there.
        """
        folder = resolve(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{relative(folder)} is a file, and a run needs a folder: choose another run_dir")
        made = provenance(parameters, **facts)
        record: dict[str, Any] = {"folder": relative(folder), "status": "running", "reason": None, "sessions": 1}
        record |= {"results": {}, "parameters": made.pop("parameters"), "provenance": made}

        def standing() -> tuple[dict[str, Any] | None, list[str], bool]:
            """(The folder's record, in what it is another run, is it this run and done?)"""
            old = load_run(folder) if (folder / "run.json").exists() else None
            changed = _differing(old, record, ignore) if old else []
            whole = old and old["status"] == "done" and all((folder / name).exists() for name in makes)
            return old, changed, bool(whole) and not changed

        old, changed, done = standing()
        if done:
            return cls(folder, old, "done", writes)
        lock = locks.writing(folder) if writes else locks.Lock(folder)
        try:
            old, changed, done = standing()  # what the process left that had the folder just before
            if done:
                return cls(folder, old, "done", writes, lock)
            if changed and writes:
                lock.path = _move_aside(folder, old, changed) / lock.path.name
                lock.release()
                return cls.open(folder, parameters, ignore=ignore, writes=writes, makes=makes, **facts)
            if old:
                record |= {"sessions": old["sessions"] + 1, "results": old["results"]}
                made |= {key: old["provenance"][key] for key in ("started", "seconds")}
            run = cls(folder, record, old and old["status"], writes, lock)
            run.save()
            return run
        except BaseException:
            lock.release()
            raise

    def path(self, name: str) -> Path:
        """A file of this run."""
        return self.folder / name

    def save(self, **results: Any) -> None:
        """Adds `results` (numbers worth quoting: AP, epochs) to the record and writes `run.json`."""
        self.record["results"].update(plain(results))
        self.record["provenance"]["seconds"] = round(self._earlier + time.monotonic() - self._clock, 3)
        if self.writes:
            write_json(self.path("run.json"), self.record)

    def end(self) -> None:
        """Says that the run is done."""
        if self.record["status"] != "done":
            self.record |= {"status": "done", "reason": None}
            self.save()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if error is None:
                self.end()
            elif self.record["status"] != "done":
                status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                reason = f"{kind.__name__}: {error}".replace(f"{root()}{os.sep}", "").strip(": ")
                self.record |= {"status": status, "reason": reason}
                with suppress(OSError):  # a full disk: the first error is the one to tell
                    self.save()
        finally:
            self.lock.release()


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], ignore: tuple[str, ...]) -> list[str]:
    def identity(record: Mapping[str, Any]) -> dict[str, Any]:
        return {**record["parameters"], **{key: record["provenance"][key] for key in ("seed", "data")}}

    before, now = identity(old), identity(new)
    return [key for key in {**before, **now} if key not in ignore and before.get(key) != now.get(key)]


def _move_aside(folder: Path, record: Mapping[str, Any], changed: list[str]) -> Path:
    stamp = record["provenance"]["started"].removesuffix("+00:00").replace(":", "")
    names = (f"{folder.name}.{stamp}{suffix}" for suffix in ("", *(f".{n}" for n in range(2, 100))))
    aside = next(folder.with_name(name) for name in names if not folder.with_name(name).exists())
    folder.rename(aside)
    print(f"{relative(folder)} held a run with another {', '.join(changed)}: it is now {relative(aside)}")
    return aside
