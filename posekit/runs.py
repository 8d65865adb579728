"""Run folders: every file that the book shows can say which run made it.

A run folder holds `run.json` (parameters, provenance, status), `log.csv` (one row per epoch) and what the run
made (`model.safetensors`, `resume.ckpt`, `predictions.json`, `metrics.json`), all written through `files.py`.
Recorded paths are relative to the repository root.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any

from posekit import locks
from posekit.files import append_bytes, plain, read_json, relative, resolve, root, write_bytes, write_json
from posekit.provenance import provenance

PROVENANCE = {  # of a record that an older version, or another tool, wrote without some of its parts
    "commit": "unknown",
    "dirty": False,
    "device": "unknown device",
    "threads": 1,
    "started": "",
    "seconds": 0.0,
    "seed": None,
    "data": None,
}
PARTS: dict[Any, str] = {  # type: the entries of a record that have it
    dict: "results parameters provenance evaluation evaluation.parameters summary",
    str: "folder status parameters.model parameters.evaluated provenance.commit provenance.device provenance.started "
    "provenance.data.name",
    int: "sessions results.step provenance.threads",
    (int, float): "provenance.seconds",
    (int, NoneType): "provenance.seed",
    (dict, NoneType): "provenance.data evaluation.data",
}
FORMER: dict[str, dict[str, Any]] = {  # where it is now: the field of an older version's recipe, and its default
    "model_options": {"num_queries": 0, "pretrained": False},
    "loss_options": dict.fromkeys(("pose_cost", "class_term", "visible"), "released")
    | {"deltas_and_center": False, "w_class": 1.0, "w_abs": 4.0, "w_vis": 0.2, "w_ctr": 0.5, "w_deltas": 0.5},
}


# --- reading ---------------------------------------------------------------------------------------------------------


def load_run(path: str | Path) -> dict[str, Any]:
    """The record of a run folder (or of a `run.json`), whose parts have their types; missing ones are filled in.

    Raises:
        FileNotFoundError: no run there. ValueError: not JSON, no record of a run, or a part of another type; the
            sentence names the file and the part.
    """
    path = resolve(path)
    path = path if path.suffix == ".json" else path / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{relative(path)} is missing: no run was made there yet")
    record = read_json(path)
    if not isinstance(record, dict) or "parameters" not in record:
        what = "it has no 'parameters'" if isinstance(record, dict) else f"it holds a {type(record).__name__}"
        raise ValueError(f"{relative(path)} is not the record of a run ({what}): choose another folder")
    for kind, names in PARTS.items():
        for name in names.split():
            part, missing = record, False
            for word in name.split("."):
                missing = missing or not isinstance(part, dict) or word not in part
                part = None if missing else part[word]
            if not missing and (not isinstance(part, kind) or isinstance(part, bool)):
                raise ValueError(
                    f"{relative(path)} is not the record of a run: {name} is {str(part)[:60]!r}; restore the file, or "
                    "choose another folder"
                )
    record["parameters"] = upgraded(record["parameters"])
    head = {"folder": relative(path.parent), "status": "unknown", "reason": None, "sessions": 1, "results": {}}
    return head | record | {"provenance": PROVENANCE | record.get("provenance", {})}


def upgraded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as recipes hold them now: an older version kept POET's options as fields of every recipe."""
    former = {name for options in FORMER.values() for name in options}
    kept = {name: value for name, value in parameters.items() if name not in former}
    for field, options in FORMER.items() if str(kept.get("model", "")).startswith("poet") else ():
        changed = {name: parameters[name] for name in options if parameters.get(name, options[name]) != options[name]}
        if changed:
            kept[field] = {**kept.get(field, {}), **changed}
    return kept


def steps_of(record: Mapping[str, Any]) -> int | None:
    """Optimiser steps behind a run, or behind the weights that an evaluation scored; None where nothing was trained
    here: measurements, published weights."""
    record = trained(record)
    if not record or "published" in record:
        return None
    steps = record.get("results", {}).get("step", record["parameters"].get("steps"))
    return None if steps is None else int(steps)


def trained(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record of the run whose weights an evaluation scored, {} where it is gone; of a run, its own."""
    if not (evaluated := record["parameters"].get("evaluated")):
        return record
    with suppress(FileNotFoundError):
        return load_run(evaluated)
    return {}


def footer(*runs: Mapping[str, Any] | str | Path, profile: str | None = None) -> str:
    """One line for the foot of a figure: data · profile · runs (steps) · commit (* = changed files) · device · day.

    `runs`: records (`Run.record` or what `provenance()` returned) or paths of run folders. What several runs
    share is said once. `profile`: of a run whose folder does not tell it; data/runs/quick/NAME does.
    """
    lines = [_facts(run if isinstance(run, Mapping) else load_run(run), profile) for run in runs]
    facts = [", ".join(filter(None, dict.fromkeys(fact))) for fact in zip(*lines, strict=True)]
    return " · ".join(filter(None, facts))


def _facts(record: Mapping[str, Any], profile: str | None) -> tuple[str, ...]:
    made = {**PROVENANCE, **record.get("provenance", record)}
    data = (made["data"] or {}).get("name", "")
    folder = Path(record.get("folder", "")).parts
    if folder[:2] == ("data", "runs") and len(folder) > 3:
        profile = folder[2]
    parameters = record["parameters"]
    name = parameters.get("model") or (folder[-1] if folder else "")
    folder_of_weights = parameters.get("evaluated", record.get("folder", ""))
    shipped = "shipped" if Path(folder_of_weights).parts[:2] == ("data", "weights") else ""
    published = "published weights" if "published" in trained(record) else ""
    steps = steps_of(record)
    length = ", ".join(filter(None, (shipped, published, f"{steps:,} steps" if steps else "")))
    name = f"{name} seed {made['seed']}".strip() if made["seed"] is not None else name
    count = parameters.get("threads") or made["threads"]  # a measurement sets its own number
    threads = f"{count} thread{'' if count == 1 else 's'} CPU"
    return (
        "drawn people" if data == "people" else data,
        f"profile {profile}" if profile else "",
        f"{name} ({length})" if length else name,
        f"commit {made['commit']}{'*' if made['dirty'] else ''}",
        threads if made["device"] == "cpu" else made["device"],
        made["started"][:10],
    )


# --- the log ---------------------------------------------------------------------------------------------------------


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Rows of `log.csv`, numbers as numbers, an empty cell as None; no file, no rows.

    A last line without its end is left out: a row is one only when all of it was written.
    """
    if not Path(path).exists():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        whole = (line for line in file if line.endswith("\n"))
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(whole, restval="")]


def append_row(path: str | Path, row: Mapping[str, Any]) -> None:
    """Adds a row at the end. Only for a column that the header lacks, or after half a row, the log is written anew."""
    text = Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).exists() else ""
    columns = next(csv.reader(text.splitlines()[:1]), [])
    if text.endswith("\n") and row.keys() <= set(columns):
        append_bytes(path, _lines([row], columns))
    else:
        _write_log(path, [*read_log(path), row])


def truncate_log(path: str | Path, epoch: int) -> None:
    """Drops the rows after `epoch`: what a resumed run will write again."""
    rows = read_log(path)
    kept = [row for row in rows if row["epoch"] <= epoch]
    if len(kept) < len(rows):
        _write_log(path, kept)


def _write_log(path: str | Path, rows: list[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_bytes(path, _lines([dict(zip(columns, columns, strict=True)), *rows], columns))


def _lines(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """As the log has it: what is missing is empty, a number that is not finite is "nan"."""
    number = plain(value)
    return number if number is not None else "" if value is None else "nan"


def _number(cell: str) -> Any:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(cell)
    return cell or None


# --- writing ---------------------------------------------------------------------------------------------------------


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
        defaults: Mapping[str, Any] | None = None,
        writes: bool = True,
        makes: tuple[str, ...] = (),
        **facts: Any,
    ) -> Run:
        """Starts a run, or continues the one in the folder when its parameters, seed and data are the same.

        A run that is done, with all files that it `makes`, keeps its record (`before` says "done"). Another run is
        never overwritten: its folder is moved aside, named by its start. `defaults`: of parameters that the record of
        an older version lacks. `writes`: of several processes that train together, one writes. `facts`: seed, data,
        device and dtype, see `provenance`. The folder is locked until the context ends; a run that is done is only
        read.

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
            changed = _differing(old, record, defaults or {}) if old else []
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
                return cls.open(folder, parameters, defaults=defaults, writes=writes, makes=makes, **facts)
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


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    def identity(record: Mapping[str, Any]) -> dict[str, Any]:
        return {**record["parameters"], **{key: record["provenance"][key] for key in ("seed", "data")}}

    before, now = {**plain(defaults), **identity(old)}, identity(new)
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


def _move_aside(folder: Path, record: Mapping[str, Any], changed: list[str]) -> Path:
    stamp = record["provenance"]["started"].removesuffix("+00:00").replace(":", "")
    names = (f"{folder.name}.{stamp}{suffix}" for suffix in ("", *(f".{n}" for n in range(2, 100))))
    aside = next(folder.with_name(name) for name in names if not folder.with_name(name).exists())
    folder.rename(aside)
    print(f"{relative(folder)} held a run with another {', '.join(changed)}: it is now {relative(aside)}")
    return aside
