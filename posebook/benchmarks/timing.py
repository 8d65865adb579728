"""The timing harness: how long calls take, and how long a picture takes as a function of the people in it.

All calls are interleaved round by round, so that a slow minute of the machine hits all alike. A *method* runs one image
and says after each part that the part is over: F forward, P post-processing, and for top-down D person detector, C
crops, T pose network on the crops. Times are milliseconds per image, batch 1, without reading and resizing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

QUIET = 1.2


@dataclass
class Scene:
    """A picture uint8 (H, W, 3) with the boxes (n, 4) x0 y0 x1 y1 pixels of its n people."""

    image: np.ndarray
    boxes: np.ndarray


class Clock:
    """Takes wall and CPU time at the end of each part of one run. CPU time adds up all threads."""

    def __init__(self, device: str = "cpu") -> None:
        self.device, self.laps = device, []
        self.start = self.last = self._now()

    def lap(self, part: str) -> None:
        """The time since the last lap belonged to `part`."""
        now = self._now()
        self.laps.append((part, now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now

    def total(self) -> tuple[float, float]:
        """(wall, CPU) seconds since the start."""
        now = self._now()
        return now[0] - self.start[0], now[1] - self.start[1]

    def _now(self) -> tuple[float, float]:
        if self.device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter(), time.process_time()


Method = Callable[[Scene, Clock], None]


@dataclass
class Speed:
    """A speed study: `rows` (medians and quartiles), `raw` (every time), `lines` (time = a + b people per method),
    `settings`; `crossing`: people at which two methods take equally long (value, low, high)."""

    rows: pd.DataFrame
    raw: pd.DataFrame
    lines: pd.DataFrame
    settings: dict
    crossing: tuple[float, float, float] | None = None


def cpu_ms(calls: dict[Any, Callable[[], Any]], rounds: int = 7, repeat: int = 1, warmup: int = 1) -> dict[Any, float]:
    """Median CPU milliseconds of each call, over rounds of `repeat` runs; `warmup` rounds before are not counted."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(repeat):
                call()
            if turn >= warmup:
                times[name].append(1000 * (time.process_time() - begin) / repeat)
    return {name: float(np.median(values)) for name, values in times.items()}


def measure(
    methods: dict[str, Method], scenes: dict, repeats=30, warmup=10, seed=0, budget_s=None, threads=1, device="cpu"
) -> pd.DataFrame:
    """Time every method on scenes of every number of people.

    Args:
        scenes: people -> images; round r takes image r modulo their number.
        repeats: rounds; a round runs each method once per number of people, in a new random order.
        warmup: untimed runs of each method before the first round, on the scene with most people.
        budget_s: no new round starts after this many seconds of wall time (one round always runs).
        threads: of torch, restored afterwards.

    Returns: one row per run and part, and per run with part "total" (the same run, from start to end):
        method, people, scene, round, position, part, wall_ms, cpu_ms, kept (False: other work disturbed the run).
    """
    if not methods or not scenes or repeats < 1:
        raise ValueError("measure needs at least one method, one number of people and one repeat")
    rng, before, begin = np.random.default_rng(seed), torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(threads)
    rows = []
    try:
        with torch.inference_mode():
            for method in methods.values():
                for _ in range(warmup):
                    method(scenes[max(scenes)][0], Clock(device))
            for turn in range(repeats):
                if turn and budget_s is not None and time.perf_counter() - begin > budget_s:
                    break
                cells = [(name, people) for name in methods for people in scenes]
                for position, i in enumerate(rng.permutation(len(cells))):
                    name, people = cells[i]
                    which = turn % len(scenes[people])
                    clock = Clock(device)
                    methods[name](scenes[people][which], clock)
                    laps = [*clock.laps, ("total", *clock.total())]
                    run = (name, people, which, turn, position)
                    rows += [(*run, part, 1000 * wall, 1000 * cpu) for part, wall, cpu in laps]
    finally:
        torch.set_num_threads(before)
    names = ["method", "people", "scene", "round", "position", "part", "wall_ms", "cpu_ms"]
    raw = pd.DataFrame(rows, columns=names)
    return raw.assign(kept=_undisturbed(raw, threads, device))


def _undisturbed(raw: pd.DataFrame, threads: int, device: str) -> pd.Series:
    """True for the rows of runs that other work did not slow down: wall / (CPU time / threads) is at most `QUIET`.

    With one thread the ratio of a quiet run is 1. With more, parts that cannot share the work raise it, so it is taken
    relative to the lowest of the method at that number of people. Off the CPU all rows are True.
    """
    if device != "cpu":
        return pd.Series(True, raw.index)
    run = ["method", "people", "round"]
    total = raw[raw.part == "total"].set_index(run)
    # A run shorter than the clock's tick says nothing about its surroundings.
    ratio = (total.wall_ms * threads / total.cpu_ms.clip(lower=1e-3)).where(total.wall_ms > 1.0, 1.0)
    if threads > 1:
        ratio = ratio / ratio.groupby(run[:2]).transform("min")
    return raw[run].join((ratio <= QUIET).rename("kept"), on=run).kept


def choose_clock(raw: pd.DataFrame, threads: int = 1) -> str:
    """ "wall", or "cpu" where one thread ran and half of the runs or more were disturbed: CPU time then is what the
    wall clock of a quiet machine would show."""
    share = raw[raw.part == "total"].kept.mean()
    return "cpu" if threads == 1 and share < 0.5 else "wall"


def summary(raw: pd.DataFrame, clock: str = "wall") -> pd.DataFrame:
    """Median and quartiles per method, people and part: the data of Figure 1.

    Disturbed runs are left out of wall times, unless a cell has no other. Returns: method, people, part,
    median_ms, q25, q75, runs, dropped, clock.
    """
    cell = ["method", "people", "part"]
    cells = _counted(raw, clock).groupby(cell, sort=False)[f"{clock}_ms"]
    shares = {"median_ms": 0.5, "q25": 0.25, "q75": 0.75}
    table = cells.agg(**{name: lambda ms, share=share: np.quantile(ms, share) for name, share in shares.items()})
    table["runs"] = cells.size()
    table["dropped"] = raw.groupby(cell, sort=False).size() - table.runs
    table = table.reset_index().assign(clock=clock)
    return table.sort_values(["method", "people"], kind="stable", ignore_index=True)


def _counted(raw: pd.DataFrame, clock: str) -> pd.DataFrame:
    """The undisturbed runs, and all where there is no other or the clock counts CPU time."""
    alone = ~raw.groupby(["method", "people"]).kept.transform("any")
    return raw[raw.kept | alone] if clock == "wall" else raw


def _lines(raw: pd.DataFrame, clock: str, seed: int, draws: int) -> dict[str, np.ndarray]:
    """Method -> (draws + 1, 2) a and b in ms of t(n) = a + b n: the data's own, then of resampled runs."""
    rng, lines = np.random.default_rng(seed), {}
    for method, used in _counted(raw[raw.part == "total"], clock).groupby("method", sort=False):
        n, t = used.people.to_numpy(float), used[f"{clock}_ms"].to_numpy(float)
        if len(np.unique(n)) < 2:
            raise ValueError(f"a line for {method!r} needs at least two numbers of people, not {np.unique(n).tolist()}")
        # Through the medians, so that one slow run cannot turn it; resampled within each number of people.
        groups = [t[n == value] for value in np.unique(n)]
        medians = [[np.median(group) for group in groups]]
        medians += [[np.median(rng.choice(group, len(group))) for group in groups] for _ in range(draws)]
        lines[method] = np.polynomial.polynomial.polyfit(np.unique(n), np.array(medians).T, 1).T
    return lines


def fit_lines(raw: pd.DataFrame, clock: str = "wall", seed: int = 0, draws: int = 400) -> pd.DataFrame:
    """Line t(n) = a + b n through the medians of each method, with 95 % intervals from resampled runs.

    Returns: method, a_ms, a_low, a_high, b_ms, b_low, b_high, flat. `flat`: ten people add less than 5 % of a
    (POET's claim). The interval tells how far the runs scatter, not how far the machine is from another one.
    """
    rows = []
    for method, line in _lines(raw, clock, seed, draws).items():
        ends = np.vstack([line[0], np.quantile(line[1:], (0.025, 0.975), axis=0)])  # a and b: value, low, high
        rows.append((method, *ends.T.ravel()))
    names = ["method", "a_ms", "a_low", "a_high", "b_ms", "b_low", "b_high"]
    return pd.DataFrame(rows, columns=names).assign(flat=lambda line: line.b_ms.abs() * 10 < 0.05 * line.a_ms)


def crossing(
    raw: pd.DataFrame, one: str, other: str, clock: str = "wall", seed: int = 0, draws: int = 400
) -> tuple[float, float, float]:
    """People at which two methods take equally long, and the 95 % interval; NaN for parallel lines."""
    lines = _lines(raw, clock, seed, draws)
    if missing := [name for name in (one, other) if name not in lines]:
        raise ValueError(f"no times of {missing[0]!r}; there are: {', '.join(lines)}")
    (a, b), (c, d) = lines[one].T, lines[other].T
    gap = d - b
    parallel = np.abs(gap) * 1e6 < np.abs(a) + np.abs(c)  # they would meet beyond a million people
    meet = np.where(parallel, np.nan, (a - c) / np.where(parallel, 1.0, gap))
    low, high = np.nanquantile(meet[1:], (0.025, 0.975)) if np.isfinite(meet[1:]).any() else (np.nan, np.nan)
    return float(meet[0]), float(low), float(high)


def medians_only(rows: pd.DataFrame, one: str, other: str) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """(lines, crossing of two methods) of a summary whose single runs are not known: no intervals, NaN in their place.

    rows: columns method, people, part, median_ms, as `summary` returns them. Else as `fit_lines` and `crossing`.
    """
    raw = rows.rename(columns={"median_ms": "wall_ms"}).assign(kept=True)
    ends = ["a_low", "a_high", "b_low", "b_high"]
    meet = crossing(raw, one, other, draws=1)[0]
    return fit_lines(raw, draws=1).assign(**dict.fromkeys(ends, np.nan)), (meet, np.nan, np.nan)
