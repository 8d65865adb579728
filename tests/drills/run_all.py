"""Every notebook of the book as "Run All" in JupyterLab runs it: `python tests/drills/run_all.py [NAME ...]`

No parameter is given, and the working directory is notebooks/. The reports go first, as somebody opens them who has
trained nothing yet, then the workers, at their defaults. The executed notebooks land in build/run_all. Exit status 1
when one failed. With names, only these notebooks run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

from execute import NotebookError, ParameterError, execute  # noqa: E402


def order(folder: Path, names: list[str]) -> list[Path]:
    """Reports, then workers (10 to 19); of `names` alone if there are any.

    Raises:
        ParameterError: a name that no notebook has.
    """
    found = sorted(folder.glob("*.ipynb"), key=lambda path: (path.name.startswith("1"), path.name))
    known = [path.stem for path in found]
    for name in names:
        if name not in known:
            raise ParameterError(f"{folder} has no notebook {name!r}; it has {', '.join(known) or 'none'}")
    return [path for path in found if not names or path.stem in names]


def run_all(notebooks: list[Path], output: Path, time_limit: float | None = None) -> list[tuple[str, float, str]]:
    """(notebook, seconds, "done" or what went wrong) of each, one after the other. `time_limit`: minutes for each."""
    rows, before = [], Path.cwd()
    notebooks, output = [path.resolve() for path in notebooks], output.resolve()
    for path in notebooks:
        start, status = time.monotonic(), "done"
        os.chdir(path.parent)
        try:
            execute(path.name, output / path.name, time_limit=time_limit)
        except NotebookError as error:
            status = str(error)
            print(f"{path.stem} | {status}", file=sys.stderr)
        finally:
            os.chdir(before)
        rows.append((path.stem, time.monotonic() - start, status))
    return rows


def table(rows: list[tuple[str, float, str]]) -> str:
    """The rows under one another, one line each."""
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'notebook':{width}}  seconds  status"]
    return "\n".join(lines + [f"{name:{width}}  {s:7.0f}  {' '.join(status.split())}" for name, s, status in rows])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks, such as 20_poet; by default all of them")
    parser.add_argument("--notebooks", type=Path, default=Path("notebooks"), help="the folder of the notebooks")
    parser.add_argument("--output", type=Path, default=Path("build/run_all"), help="where the executed ones go")
    parser.add_argument("--time-limit", type=float, metavar="MINUTES", help="of each notebook; by default none")
    options = parser.parse_args(arguments)
    try:
        rows = run_all(order(options.notebooks, options.names), options.output, options.time_limit)
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    failed = sum(status != "done" for *_, status in rows)
    print(f"{table(rows)}\n{len(rows)} notebooks, {failed} failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
