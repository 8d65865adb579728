"""Replay directories of reference values: does this code compute what the published implementations compute?

    python ci/conformance.py DIR [DIR ...]

Prints a row per array: file, check, largest difference, tolerance, verdict. Exit status 1 when a row fails or
something in a directory was not replayed, 2 when a directory is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # whatever the working directory is

from golden.replay import replay  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a folder of reference values")
    parser.add_argument("--failures", action="store_true", help="print only the rows that fail")
    options = parser.parse_args(arguments)
    missing = [folder for folder in options.folders if not folder.is_dir()]
    if missing:
        names = ", ".join(map(str, missing))
        print(f"There is no folder {names}: name a directory of reference values.", file=sys.stderr)
        return 2
    passed = True
    for folder in options.folders:
        report = replay(folder)
        print(report.table(only_failures=options.failures), flush=True)
        passed &= report.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
