"""The report of a replay: one row per compared array, and the bookkeeping that shows what was left out.

Files are opened through `Report.arrays` and `Report.fields`, which remember what was read: an array or a
field that no check touched becomes a failed row, and so does a file without any row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Row:
    """One comparison: largest difference and its tolerance (both NaN when there is nothing to measure)."""

    file: str
    check: str
    difference: float
    tolerance: float
    passed: bool
    note: str = ""


class Tracked(dict):
    """A dict that remembers which of its entries were read."""

    def __init__(self, entries: dict) -> None:
        super().__init__(entries)
        self.read: set = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self else default


class Report:
    """Rows of one golden directory. Files are named by their path relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.rows: list[Row] = []
        self.opened: dict[Path, Tracked] = {}

    def has(self, file) -> bool:
        """Whether the directory holds this file."""
        return (self.folder / file).is_file()

    def arrays(self, file) -> Tracked:
        """The arrays of an .npz file."""
        if self.opened.get(Path(file)) is None:
            with np.load(self.folder / file, allow_pickle=False) as archive:
                self.opened[Path(file)] = Tracked({name: archive[name] for name in archive.files})
        return self.opened[Path(file)]

    def fields(self, file) -> Tracked:
        """The fields of a .json file; a list becomes the single field `rows`."""
        if self.opened.get(Path(file)) is None:
            content = json.loads((self.folder / file).read_text())
            self.opened[Path(file)] = Tracked(content if isinstance(content, dict) else {"rows": content})
        return self.opened[Path(file)]

    def replayed(self, file) -> bool:
        """Whether any check was made on this file."""
        return any(row.file == str(file) for row in self.rows)

    def compare(self, file, check: str, ours, reference, atol=0.0, rtol: float = 0.0, note: str = "") -> bool:
        """A row for |ours - reference| <= atol + rtol |reference|, element by element.

        The difference shown is absolute, or relative when only `rtol` is given. `atol` may be an array: the
        row shows the difference that comes closest to its own tolerance. Other shapes or NaN fail.
        """
        ours, reference = np.asarray(ours), np.asarray(reference)
        if ours.shape != reference.shape:
            return self.fail(file, check, f"shape {ours.shape}, the reference has {reference.shape}")
        if ours.dtype.kind in "USO" or reference.dtype.kind in "USO":
            return self.equal(file, check, ours.tolist(), reference.tolist(), note)
        ours, reference = ours.astype(np.float64), reference.astype(np.float64)
        difference = np.abs(ours - reference)
        allowed = np.broadcast_to(atol + rtol * np.abs(reference), difference.shape)
        passed = bool((difference <= allowed).all())  # NaN is not <=
        if not difference.size:
            return self._add(file, check, 0.0, float(np.max(atol)) if np.size(atol) else 0.0, passed, note)
        if rtol and not np.any(atol):
            difference = difference / np.maximum(np.abs(reference), np.finfo(np.float64).tiny)
            return self._add(file, check, float(difference.max()), rtol, passed, note)
        worst = np.unravel_index(np.argmax(difference / np.maximum(allowed, 1e-300)), difference.shape)
        return self._add(file, check, float(difference[worst]), float(allowed[worst]), passed, note)

    def equal(self, file, check: str, ours, reference, note: str = "") -> bool:
        """A row for values that must be identical."""
        passed = ours == reference
        return self._add(
            file,
            check,
            0.0 if passed else float("nan"),
            0.0,
            bool(passed),
            note if passed else f"ours {_short(ours)}, the reference {_short(reference)}. {note}".strip(),
        )

    def at_most(self, file, check: str, value: float, limit: float, note: str = "") -> bool:
        """A row for a measured value with an upper limit (NaN fails)."""
        return self._add(file, check, float(value), float(limit), bool(value <= limit), note)

    def fail(self, file, check: str, reason: str) -> bool:
        return self._add(file, check, float("nan"), float("nan"), False, reason)

    def close(self, files: list[Path]) -> None:
        """Add a failed row for every file, array and field that no check has read."""
        for file in files:
            if not self.replayed(file):
                self.fail(file, "replay", "this file was not replayed")
                continue
            entries = self.opened.get(file)
            if entries is not None:
                for entry in sorted(entries.keys() - entries.read):
                    self.fail(file, str(entry), "this entry was not replayed")

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    def table(self, only_failures: bool = False) -> str:
        """The rows as aligned text, failures marked, then one line of summary."""
        head = ("file", "check", "difference", "tolerance", "verdict")
        body = [
            (
                row.file,
                row.check,
                _number(row.difference),
                _number(row.tolerance),
                ("pass" if row.passed else "FAIL") + (f"  {row.note}" if row.note else ""),
            )
            for row in self.rows
            if not (only_failures and row.passed)
        ]
        width = [max(len(line[column]) for line in [head, *body]) for column in range(4)]
        lines = [
            "  ".join([*(cell.ljust(size) for cell, size in zip(line, width, strict=False)), line[4]])
            for line in [head, *body]
        ]
        failed = sum(not row.passed for row in self.rows)
        files = len({row.file for row in self.rows})
        return "\n".join([*lines, f"{self.folder}: {files} files, {len(self.rows)} rows, {failed} failed"])

    def _add(self, file, check, difference, tolerance, passed, note) -> bool:
        self.rows.append(Row(str(file), check, difference, tolerance, passed, note))
        return passed


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2e}"


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
