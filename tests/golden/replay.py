"""Replay of a directory: its format, the functions for its files, and the report of all comparisons.

A format lists its files as {pattern: functions}, most specific pattern first; a function(file, directory) yields the
checks of that file. A file that is replayed together with another one has that one's pattern instead of functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden import baselines, poet, rtmo, vitpose
from golden.checks import Check, Directory

FORMATS = {"POET": poet.FILES, "RTMO": rtmo.FILES, "ViTPose": vitpose.FILES, "baselines": baselines.FILES}
IGNORED = ("README*", ".*")


@dataclass
class Report:
    """All comparisons of one directory."""

    directory: Directory
    rows: list[Check]

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    def table(self, only_failures: bool = False) -> str:
        """The rows as aligned text, failures marked, then one line of summary."""
        lines = [("file", "check", "difference", "tolerance", "verdict")]
        for row in [row for row in self.rows if not (only_failures and row.passed)]:
            numbers = ["-" if np.isnan(x) else f"{x:.2e}" for x in row.measure()]
            words = ["pass" if row.passed else "FAIL", row.error, "" if row.error == row.note else row.note]
            words = ["not in this directory"] if row.reference is None else filter(None, words)
            lines.append((row.file, row.check, *numbers, "  ".join(words)))
        widths = [max(len(line[column]) for line in lines) for column in range(4)] + [0]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        failed, files = sum(not row.passed for row in self.rows), len({row.file for row in self.rows})
        return "\n".join([*text, f"{self.directory.folder}: {files} files, {len(self.rows)} rows, {failed} failed"])


def data_files(folder: Path) -> list[Path]:
    """Every file below the folder that holds reference values, relative to it, sorted."""
    inside = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in inside if not any(path.match(pattern) for pattern in IGNORED))


def functions_for(known: dict, file: Path) -> tuple | str | None:
    """The functions that replay a file, the pattern of the file that it is replayed with, or None."""
    return next((functions for pattern, functions in known.items() if file.match(pattern)), None)


def checks_of(known: dict, file: Path, directory: Directory) -> Iterator[Check]:
    """The comparisons of one file; none for a file that is replayed together with another one."""
    functions = functions_for(known, file)
    for function in functions if isinstance(functions, tuple) else ():
        yield from function(file, directory)


def replay(folder: str | Path) -> Report:
    """Replay every file of a directory; what cannot be replayed is a failed row."""
    report = Report(Directory(folder), [])
    files = data_files(report.directory.folder)

    def fail(file: Path | str, name: str, reason: str) -> None:
        report.rows.append(Check(str(file), name, None, "", note=reason))

    known = max(FORMATS.values(), key=lambda known: sum(functions_for(known, file) is not None for file in files))
    if not any(functions_for(known, file) for file in files):
        fail(".", "format", f"no file fits a known format ({', '.join(FORMATS)})")
        return report
    for file in files:
        try:
            for check in checks_of(known, file, report.directory):
                report.rows.append(check)
        except Exception as error:  # one broken file must not hide the others
            fail(file, "replay", f"{type(error).__name__}: {error}")
    for file in files:
        partner = functions_for(known, file)
        if any(row.file == str(file) and row.reference is not None for row in report.rows):
            for entry in report.directory.unread(file):
                fail(file, entry, "this entry was not replayed")
        elif isinstance(partner, str):
            fail(file, "replay", f"{file.name} and {partner} belong together; one is missing")
        else:
            fail(file, "replay", "this file was not replayed")
    return report
