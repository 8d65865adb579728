"""Put a profile's executed reports into notebooks/, to be committed: `python ci/publish.py reference [NAME]`

The reader of the repository then sees text, code and results. The sources stay as they are: papermill's
injected cell and its bookkeeping are left out, and execution counts run from 1. What the page was run with is kept
in the metadata of the cell of parameters, and shown below it (ran_with.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import jobs
import nbformat
import ran_with

from posekit.files import read_json, write_bytes


def published(source: nbformat.NotebookNode, executed: nbformat.NotebookNode, cost: dict) -> nbformat.NotebookNode:
    """`source` with the outputs of `executed`, and what it was run with; `cost`: what execute.py wrote beside it.

    Raises:
        ValueError: their code is not the same, or the execution failed. Text may have been changed since.
    """
    if cost["status"] != "done":
        raise ValueError(f"its last execution failed: {cost['error']}")
    code, ran = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (source, executed))
    ran = [cell for cell in ran if "injected-parameters" not in cell.metadata.get("tags", [])]
    if [cell.source for cell in ran] != [cell.source for cell in code]:
        raise ValueError("its code was changed after it ran; run `make reproduce` again")
    count = 0
    for cell, done in zip(code, ran, strict=True):
        count += bool(cell.source.strip())
        cell.outputs, cell.execution_count = done.outputs, count if cell.source.strip() else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    first, ran_as = ran_with.parameters_cell(source), ran_with.record(source, executed, cost)
    first.metadata[ran_with.KEY] = ran_as
    first.outputs = [nbformat.v4.new_output("stream", name="stdout", text=ran_with.text(ran_as))]
    return source


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("names", nargs="*", help="reports; by default all of the profile that have run")
    options = parser.parse_args()
    try:
        reports = [job for job in jobs.read(options.profile) if not job.worker]
    except jobs.ProfileError as error:
        print(error, file=sys.stderr)
        return 2
    status = 0
    for job in reports:
        if options.names and job.name not in options.names or not Path(job.output).exists():
            continue
        try:
            source, executed = (nbformat.read(path, as_version=4) for path in (job.notebook, job.output))
            page = published(source, executed, read_json(Path(job.output).with_suffix(".cost.json")))
            write_bytes(job.notebook, (nbformat.writes(page) + "\n").encode())
            print(f"{job.notebook} {Path(job.notebook).stat().st_size / 1000:.0f} kB")
        except ValueError as error:
            print(f"{job.notebook} is left as it is: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
