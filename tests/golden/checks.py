"""Checks of our values against recorded ones, and which recorded values a replay has read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np


@dataclass
class Check:
    """|ours - reference| <= atol + rtol |reference| element by element, or equality of Python values (`atol` None).

    `atol` may be an array. `reference` None: the directory does not hold this value; `ours` None: it was not replayed.
    """

    file: str
    check: str
    ours: object
    reference: object
    atol: float | np.ndarray | None = 0.0
    rtol: float = 0.0
    note: str = ""

    def verify(self) -> None:
        """Raises AssertionError where ours differ, have another shape or are NaN."""
        if self.reference is None:
            return
        assert self.ours is not None, self.note
        if self.atol is None:
            assert self.ours == self.reference, f"ours {self.ours!s:.80}, the reference {self.reference!s:.80}"
            return
        ours, reference = self._arrays()
        assert ours.shape == reference.shape, f"shape {ours.shape}, the reference has {reference.shape}"
        if np.ndim(self.atol):  # assert_allclose prints its tolerance as one number
            excess = (ours - reference) / (self.atol + self.rtol * np.abs(reference))
            np.testing.assert_allclose(excess, np.zeros_like(excess), rtol=0, atol=1, equal_nan=False)
        else:
            np.testing.assert_allclose(ours, reference, rtol=self.rtol, atol=self.atol, equal_nan=False)

    @cached_property
    def error(self) -> str:
        """What `verify` raises; "" where the check passes."""
        try:
            self.verify()
        except AssertionError as error:
            return " ".join(str(error).split())[:160]
        return ""

    @property
    def passed(self) -> bool:
        return not self.error

    def measure(self) -> tuple[float, float]:
        """The largest difference, relative where only `rtol` is given, and its tolerance; NaN: nothing to measure.

        With an array of tolerances: the difference that comes closest to its own.
        """
        if self.reference is None or self.ours is None:
            return np.nan, np.nan
        if self.atol is None:
            return 0.0 if self.passed else np.nan, 0.0
        ours, reference = self._arrays()
        if ours.shape != reference.shape or not ours.size:
            return 0.0 if self.passed else np.nan, float(np.max(self.atol, initial=0.0))
        difference, size = np.abs(ours - reference), np.abs(reference)
        if self.rtol and not np.any(self.atol):
            return float((difference / np.maximum(size, np.finfo(float).tiny)).max()), self.rtol
        allowed = np.broadcast_to(self.atol + self.rtol * size, difference.shape)
        worst = np.unravel_index(np.argmax(difference / np.maximum(allowed, 1e-300)), difference.shape)
        return float(difference[worst]), float(allowed[worst])

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.ours).astype(np.float64), np.asarray(self.reference).astype(np.float64)


class Entries(dict):
    """The arrays of an .npz file or the fields of a .json file; remembers which of them were read."""

    def __init__(self, file: str, entries: dict) -> None:
        super().__init__(entries)
        self.file, self.read = file, set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self else default

    def check(self, name: str, ours, reference=None, atol=0.0, rtol: float = 0.0, note: str = "") -> Check:
        """Ours against `reference`, or else against the entry `name`, which may be absent."""
        return Check(self.file, name, ours, self.get(name) if reference is None else reference, atol, rtol, note)

    def equal(self, name: str, ours, reference=None, note: str = "") -> Check:
        """The same for values that must be identical."""
        return self.check(name, ours, reference, None, note=note)

    def at_most(self, name: str, ours: float, limit: float, note: str = "") -> Check:
        """A measured value, at least 0, with an upper limit."""
        return self.check(name, ours, 0.0, limit, note=note)


class Directory:
    """A directory of reference values. Files are named by their path relative to it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.opened = Path(folder), {}

    def __contains__(self, file: Path) -> bool:
        return (self.folder / file).is_file()

    def open(self, file: Path) -> Entries:
        """The entries of an .npz or .json file; a JSON list becomes the single field `rows`."""
        if file not in self.opened:
            if file.suffix == ".npz":
                content = dict(np.load(self.folder / file, allow_pickle=False))
            else:
                content = json.loads((self.folder / file).read_text())
            self.opened[file] = Entries(str(file), content if isinstance(content, dict) else {"rows": content})
        return self.opened[file]

    def together(self, *files: Path) -> list[Entries]:
        """The entries of files that are replayed together. Raises FileNotFoundError where one is missing."""
        if not all(file in self for file in files):
            names = " and ".join(file.name for file in files)
            raise FileNotFoundError(f"{names} belong together; one is missing")
        return [self.open(file) for file in files]

    def unread(self, file: Path) -> list[str]:
        """The entries of a replayed file that no check has read."""
        return sorted(self.opened[file].keys() - self.opened[file].read) if file in self.opened else []
