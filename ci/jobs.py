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
        tables: [poet_table1]            # figures/PROFILE/STEM.{csv,md,tex}
        parameters: {}

A worker gets `run_dir` and a report gets `profile` without being told; all other parameters pass through as
they stand and are checked against the notebook. Further keys: `run` (a worker that writes into the folder of
another), `time_limit`, and `alone` (has all cores for itself; true for workers, false for reports).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

PROFILES = Path(__file__).parent / "profiles"
NAME = r"^\w[\w.-]*\Z"  # of jobs, notebooks and figures: they end up in paths and in Snakemake's patterns
WORD = "a name of letters, digits, '_', '-' and '.'"

Name = Annotated[str, msgspec.Meta(pattern=NAME)]
Minutes = Annotated[float, msgspec.Meta(gt=0, le=1e7)]


class ProfileError(ValueError):
    """A profile that does not hang together; one sentence."""


class Entry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a worker and a report may say."""

    needs: list[Name] = []
    parameters: dict[str, Any] = {}
    time_limit: Minutes | None = None
    alone: bool | None = None


class Worker(Entry, kw_only=True):
    notebook: Name
    run: Name | None = None


class Report(Entry, kw_only=True):
    book: Name | None = None
    figures: list[Name] = []
    tables: list[Name] = []


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    time_limit: Minutes = 60.0
    workers: dict[str, Any] = {}
    reports: dict[str, Any] = {}


@dataclass
class Job:
    """One notebook to execute. Paths are relative to the repository root."""

    name: str
    worker: bool
    notebook: str
    output: str  # the executed notebook
    makes: list[str]  # the files by which Snakemake knows that the job is done
    needs: list[str]  # names of workers
    parameters: dict[str, object]
    time_limit: float  # minutes
    alone: bool
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
    """The jobs of a profile for one book: its reports, those of every book, and the workers they need.

    Raises:
        ProfileError: no such profile or book, or a profile that does not hang together.
    """
    path = profile_path(profile)
    if not re.match(NAME, path.stem):
        raise ProfileError(f"the profile {path.name!r} gives folders their name: rename it to {WORD}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # beside YAMLError, PyYAML lets through what int(), date() and text encodings raise
        raise ProfileError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    content = _convert(path.name, content, Profile)
    workers, reports = (
        {
            name: _job(
                path.stem, name, _convert(f"{path.name}, {what} {name}", entry, kind), content.time_limit, notebooks
            )
            for name, entry in entries.items()
        }
        for what, kind, entries in (("worker", Worker, content.workers), ("report", Report, content.reports))
    )
    for name in [*workers, *reports]:
        if not re.match(NAME, name) or name == "all" or (name in workers and name in reports):
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


def _convert(where: str, value: object, kind: type[msgspec.Struct]) -> Any:
    """`value` as that structure; keys without a value are left out.

    Raises:
        ProfileError: no table, an unknown key, a value of another type; the sentence says where.
    """
    if isinstance(value, dict):
        value = {key: it for key, it in value.items() if it is not None}
    try:
        entry = msgspec.convert({} if value is None else value, kind)
    except (msgspec.ValidationError, TypeError, RecursionError) as error:
        keys = ", ".join(sorted(kind.__struct_fields__))
        raise ProfileError(f"{where}: {error}, in {reprlib.repr(value)}; its keys are {keys}") from None
    for name, it in getattr(entry, "parameters", {}).items():
        try:
            json.dumps(it, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            fault = f"{where}: the parameter {name} is {reprlib.repr(it)}, which JSON does not know"
            raise ProfileError(f"{fault}; write it in quotes") from None
    return entry


def _no_circle(path: Path, workers: dict[str, Job]) -> None:
    """Raises ProfileError when a worker needs itself, directly or through others."""
    done: set[str] = set()
    while ready := [name for name, job in workers.items() if name not in done and done.issuperset(job.needs)]:
        done.update(ready)
    if stuck := [name for name in workers if name not in done]:
        raise ProfileError(f"{path.name}: {', '.join(stuck)} need one another in a circle, so none can be first")


def _job(profile: str, name: str, entry: Worker | Report, limit: float, notebooks: str) -> Job:
    worker = isinstance(entry, Worker)
    notebook = entry.notebook if worker else name
    output = f"build/{profile}/{notebook}.{name}.ipynb" if worker else f"build/{profile}/{name}.ipynb"
    if worker:
        folder = f"data/runs/{profile}/{entry.run or name}"
        # a mark of its own: Snakemake deletes what a job makes before it runs, and a run must find its files
        makes, parameters = [f"{folder}/{name}.done"], {"run_dir": folder}
    else:
        made = [f"{stem}.{end}" for stem in entry.figures for end in ("svg", "png", "csv")]
        made += [f"{stem}.{end}" for stem in entry.tables for end in ("csv", "md", "tex")]
        makes, parameters = [output, *(f"figures/{profile}/{name}" for name in made)], {"profile": profile}
    return Job(
        name=name,
        worker=worker,
        notebook=f"{notebooks}/{notebook}.ipynb",
        output=output,
        makes=makes,
        needs=entry.needs,
        parameters=parameters | entry.parameters,
        time_limit=entry.time_limit or limit,
        alone=worker if entry.alone is None else entry.alone,
        book=None if worker else entry.book,
    )


def _closure(workers: dict[str, Job], reports: dict[str, Job]) -> set[str]:
    wanted, open_ = set(), [need for report in reports.values() for need in report.needs]
    while open_:
        name = open_.pop()
        wanted.add(name)
        open_ += [need for need in workers[name].needs if need not in wanted]
    return wanted


def cores() -> int:
    """Cores to use: what this process may use, at most eight (small models gain nothing from more)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 8)
