"""A profile (ci/profiles/NAME.yaml) as a list of jobs: which notebook, which parameters, after which runs.

    time_limit: 20                       # minutes that one notebook may take
    workers:                             # they fill run folders: data/runs/PROFILE/NAME
      poet_tiny:
        notebook: 10_train
        parameters: {model: poet_tiny, minutes: 6}
    reports:                             # they read run folders and draw: figures/PROFILE/STEM.{svg,png,csv}
      21_poet_results:
        book: poet                       # left out by BOOK=rtmo; without it, a report belongs to every book
        needs: [poet_tiny]
        figures: [poet_fig03_losses]
        parameters: {}

A worker gets `run_dir` and a report gets `profile` without being told; all other parameters pass through as
they stand and are checked against the notebook. Further keys: `run` (a worker that writes into the folder of
another), `time_limit`, and `alone` (has all cores for itself; true for workers, false for reports).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import reprlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

PROFILES = Path(__file__).parent / "profiles"
KEYS = {
    "workers": {"notebook", "run", "needs", "parameters", "time_limit", "alone"},
    "reports": {"book", "needs", "figures", "parameters", "time_limit", "alone"},
}


NAME = re.compile(r"\w[\w.-]*")  # of jobs, notebooks and figures: they end up in paths and in Snakemake's patterns


class ProfileError(ValueError):
    """A profile that does not hang together; one sentence."""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


def _is_minutes(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


WORD = "a name of letters, digits, '_', '-' and '.'"
VALUES = {  # what a key of a worker, a report or the profile may hold
    "notebook": (_is_name, WORD),
    "run": (_is_name, WORD),
    "book": (_is_name, WORD),
    "needs": (_are_names, "a list of names"),
    "figures": (_are_names, "a list of names"),
    "time_limit": (_is_minutes, "a number of minutes above 0"),
    "alone": (lambda value: isinstance(value, bool), "true or false"),
}


@dataclass
class Job:
    """One notebook to execute. Paths are relative to the repository root."""

    name: str
    worker: bool
    notebook: str
    output: str  # the executed notebook
    makes: list[str]  # the files by which Snakemake knows that the job is done
    needs: list[str] = field(default_factory=list)  # names of workers
    parameters: dict[str, object] = field(default_factory=dict)
    time_limit: float = 60.0  # minutes
    alone: bool = False
    book: str | None = None

    def command(self) -> str:
        """Arguments of ci/execute.py, ready for a shell."""
        words = [self.notebook, self.output, "--time-limit", f"{self.time_limit:g}"]
        figures = [path for path in self.makes if path != self.output]
        words += ["--stream"] if self.worker else ["--makes", *figures] if figures else []
        for name, value in self.parameters.items():
            words += ["-p", name, value if isinstance(value, str) else json.dumps(value)]
        return shlex.join(words)

    def source(self) -> str:
        """A checksum of a report's cells without their outputs; "" of a worker, which no edit is to train again."""
        if self.worker:
            return ""
        content = Path(self.notebook).read_bytes()
        try:
            cells = [[cell["cell_type"], "".join(cell["source"])] for cell in json.loads(content)["cells"]]
            content = json.dumps(cells).encode()
        except (ValueError, LookupError, TypeError):
            pass  # no notebook: its execution says so
        return hashlib.sha256(content).hexdigest()


def profile_path(profile: str) -> Path:
    """A profile's name, or the path of a YAML file of one's own."""
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.yaml")))
        raise ProfileError(f"there is no profile {profile!r}; there are {known}, or the path of a YAML file")
    return path


def read(profile: str, book: str = "all", notebooks: str = "notebooks") -> list[Job]:
    """The jobs of a profile for one book: its reports, those of every book, and the workers they need."""
    path = profile_path(profile)
    if not _is_name(path.stem):
        raise ProfileError(f"the profile {path.name!r} gives folders their name: rename it to {WORD}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # beside YAMLError, PyYAML lets through what int(), date() and text encodings raise
        raise ProfileError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    content = _entry(path, content, {"time_limit", "workers", "reports"}, "")
    limit = content.get("time_limit", Job.time_limit)
    workers, reports = (
        {name: make(path, name, it, limit, notebooks) for name, it in _table(path, content.get(kind), kind).items()}
        for kind, make in (("workers", _worker), ("reports", _report))
    )
    for name in [*workers, *reports]:
        if not _is_name(name) or name == "all" or (name in workers and name in reports):
            raise ProfileError(f"{path.name}: a job is called {name!r}; each needs {WORD} of its own, other than 'all'")
    books = {report.book for report in reports.values()} - {None}
    if book not in {"all", *books}:
        raise ProfileError(f"{path.name} has no book {book!r}; there are all, {', '.join(sorted(books))}")
    if book != "all":
        reports = {name: report for name, report in reports.items() if report.book in (None, book)}
    for job in [*workers.values(), *reports.values()]:
        if not Path(job.notebook).is_file():
            raise ProfileError(f"{path.name}: {job.name} wants {job.notebook}, which does not exist")
        for need in job.needs:
            if need not in workers:
                raise ProfileError(f"{path.name}: {job.name} needs {need!r}, which is not among its workers")
    _no_circle(path, workers)
    made = [made for job in [*workers.values(), *reports.values()] for made in job.makes]
    if twice := sorted({it for it in made if made.count(it) > 1}):
        raise ProfileError(f"{path.name}: {twice[0]} is made twice; a figure belongs to one report")
    wanted = set(workers) if book == "all" else _closure(workers, reports)
    return [job for name, job in workers.items() if name in wanted] + list(reports.values())


def _table(path: Path, value: object, where: str) -> dict:
    """A table as it stands, {} for nothing; keys are text."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ProfileError(f"{path.name}: {where} is {reprlib.repr(value)}; it must be a table of names and values")
    for key in value:
        if not isinstance(key, str):
            raise ProfileError(f"{path.name}: {where} has the name {key!r}, which is no text; write it in quotes")
    return value


def _entry(path: Path, value: object, keys: set[str], where: str) -> dict:
    """The keys of the profile, a worker or a report, each known and of its kind; those without a value are left out."""
    entry = {key: it for key, it in _table(path, value, where.strip(", ") or "the profile").items() if it is not None}
    for key, it in entry.items():
        if key not in keys:
            raise ProfileError(f"{path.name}{where} has no key {key!r}; it has {', '.join(sorted(keys))}")
        fits, what = VALUES.get(key, (None, ""))
        if fits and not fits(it):
            raise ProfileError(f"{path.name}{where} has {key}: {reprlib.repr(it)}; it must be {what}")
    if "parameters" in entry:
        _parameters(path, entry["parameters"], where)
    return entry


def _parameters(path: Path, value: object, where: str) -> None:
    for name, it in _table(path, value, f"parameters{where.rstrip(',')}").items():
        try:
            json.dumps(it, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            told = f"{path.name}{where} has the parameter {name}: {reprlib.repr(it)}, which JSON does not know"
            raise ProfileError(f"{told}; write it in quotes") from None


def _no_circle(path: Path, workers: dict[str, Job]) -> None:
    """Raises ProfileError when a worker needs itself, directly or through others."""
    done: set[str] = set()
    while ready := [name for name, job in workers.items() if name not in done and done.issuperset(job.needs)]:
        done.update(ready)
    if stuck := [name for name in workers if name not in done]:
        raise ProfileError(f"{path.name}: {', '.join(stuck)} need one another in a circle, so none can be first")


def _worker(path: Path, name: str, value: object, limit: float, notebooks: str) -> Job:
    entry = _entry(path, value, KEYS["workers"], f", worker {name},")
    if "notebook" not in entry:
        raise ProfileError(f"{path.name}: worker {name} does not say its notebook")
    folder = f"data/runs/{path.stem}/{entry.get('run', name)}"
    return Job(
        name=name,
        worker=True,
        notebook=f"{notebooks}/{entry['notebook']}.ipynb",
        output=f"build/{path.stem}/{entry['notebook']}.{name}.ipynb",
        # a mark of its own: Snakemake deletes what a job makes before it runs, and a run must find its files
        makes=[f"{folder}/{name}.done"],
        needs=entry.get("needs", []),
        parameters={"run_dir": folder, **entry.get("parameters", {})},
        time_limit=entry.get("time_limit", limit),
        alone=entry.get("alone", True),
    )


def _report(path: Path, name: str, value: object, limit: float, notebooks: str) -> Job:
    entry = _entry(path, value, KEYS["reports"], f", report {name},")
    output = f"build/{path.stem}/{name}.ipynb"
    drawn = [f"figures/{path.stem}/{stem}" for stem in entry.get("figures", [])]
    return Job(
        name=name,
        worker=False,
        notebook=f"{notebooks}/{name}.ipynb",
        output=output,
        makes=[output, *(f"{figure}.{end}" for figure in drawn for end in ("svg", "png", "csv"))],
        needs=entry.get("needs", []),
        parameters={"profile": path.stem, **entry.get("parameters", {})},
        time_limit=entry.get("time_limit", limit),
        alone=entry.get("alone", False),
        book=entry.get("book"),
    )


def _closure(workers: dict[str, Job], reports: dict[str, Job]) -> set[str]:
    wanted, open_ = set(), [need for report in reports.values() for need in report.needs]
    while open_:
        name = open_.pop()
        if name not in wanted:
            wanted.add(name)
            open_ += workers[name].needs
    return wanted


def cores() -> int:
    """Cores to use: what this process may use, at most eight (small models gain nothing from more)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
