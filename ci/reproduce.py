"""Make what a profile still lacks, then say what each notebook cost: `python ci/reproduce.py --profile quick`

Exit status 0 when everything is there, 1 when a notebook failed (the others are still made), 2 when the call
or the profile is wrong. Only one of these runs in a repository at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import jobs
import pandas as pd

from posekit import locks

HERE = Path(__file__).resolve().parent


def snakemake(options: argparse.Namespace) -> int:
    """Runs the graph; Ctrl-C reaches the notebooks, which put their things away before this returns."""
    # Snakemake reads these values as YAML: in quotes, they stay text
    config = [f"{name}={json.dumps(getattr(options, name))}" for name in ("profile", "book", "notebooks")]
    call = [sys.executable, "-m", "snakemake", *options.only, "--snakefile", HERE / "Snakefile"]
    call += ["--cores", str(options.cores), "--config", *config]
    call += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params", "input", "--keep-going"]
    call += ["--quiet", "all", *options.snakemake]
    process = subprocess.Popen(call)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def spent(job: jobs.Job) -> dict | None:
    """What the job's last execution cost, or None when it has not run."""
    cost = Path(job.output).with_suffix(".cost.json")
    return json.loads(cost.read_text(encoding="utf-8")) if cost.exists() else None


def summary(wanted: list[jobs.Job]) -> str:
    """A table of the notebooks (status, minutes, CPU minutes) and the figures that there are."""
    rows = {}
    for job in wanted:
        cost = spent(job) or {"status": "not run"}
        minutes = [cost[key] / 60 if cost.get(key) is not None else None for key in ("wall_seconds", "cpu_seconds")]
        rows[Path(job.output).stem] = (cost["status"], *minutes, cost.get("finished", "")[:16].replace("T", " "))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["status", "minutes", "CPU min", "finished (UTC)"])
    table.loc["all"] = ["", table["minutes"].sum(), table["CPU min"].sum(), ""]
    lines = [table.to_string(float_format="{:.1f}".format, na_rep="")]
    figures = [Path(path) for job in wanted for path in job.makes if path.endswith(".png")]
    there = [path for path in figures if path.exists()]
    if figures:
        lines += ["", f"{len(there)} of {len(figures)} figures, as svg, png and csv:"]
    return "\n".join([*lines, *(f"  {path.with_suffix('').as_posix()}" for path in there)])


def problems(wanted: list[jobs.Job], since: str, options: argparse.Namespace) -> list[str]:
    """What the notebooks that failed `since` then have said, each with the command that repeats it alone, or how to
    see what Snakemake says."""
    failed = [(job, cost["error"]) for job in wanted if (cost := spent(job)) and cost["finished"] >= since]
    told = [line for job, error in failed if error for line in (error, f"  to repeat it alone: {again(job, options)}")]
    return told or [f"Snakemake stopped; to see why: {again(None, options)} -- --quiet host"]


def again(job: jobs.Job | None, options: argparse.Namespace) -> str:
    """What makes one job again, or all of them; ready for a shell in the working directory."""
    python, script = Path(sys.executable), HERE / "reproduce.py"
    words = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in (python, script)]
    words += ["--profile", options.profile, "--book", options.book]
    words += ["--notebooks", options.notebooks] if options.notebooks != "notebooks" else []
    words += ["--only", *([job.name] if job else options.only)] if job or options.only else []
    return shlex.join(map(os.fspath, words))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", help="a name in ci/profiles, or the path of a YAML")
    parser.add_argument("--book", default="all", help="only this paper's reports, and the runs they need")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these jobs, and what they need")
    parser.add_argument("--cores", type=int, default=jobs.cores())
    parser.add_argument("--notebooks", default="notebooks", help="the folder of the notebooks")
    parser.add_argument("snakemake", nargs="*", help="options for Snakemake itself, after --")
    options = parser.parse_args()
    try:
        wanted = jobs.read(options.profile, options.book, options.notebooks)
        if unknown := set(options.only) - {job.name for job in wanted}:
            raise jobs.ProfileError(f"--only names {', '.join(sorted(unknown))}, which {options.profile} does not have")
        with locks.take(Path("build/.reproduce.lock"), "this repository's build"):  # Snakemake's own outlives a crash
            started = datetime.now(UTC).isoformat(timespec="seconds")
            status = snakemake(options)
    except (jobs.ProfileError, locks.InUseError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n" + summary(wanted))
    if status:
        print("\n" + "\n".join(problems(wanted, started, options)), file=sys.stderr)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
