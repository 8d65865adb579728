"""The timing harness: how long calls take, and how long an image takes as a function of the people in it.

A *method* is a chain of stages: F network on the image, P post-processing, and for top-down D person detector, C crops,
T pose network on the crops; G is a whole exported graph. An image is timed from start to end ("total"), and each stage
by a run of its own on what the stage before it had left, so that the stages' sum is a check on the total. All methods
are interleaved, so that a slow minute of the machine hits all alike. Times are milliseconds per image, batch 1, without
reading and resizing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch

from posekit.files import write_bytes, write_json
from posekit.runs import Run

QUIET = 1.2
WHOLE = "F"  # sees the whole image, whatever is in it: timed once a round, at a number of people drawn by chance
CELL = ["method", "people", "part"]


@dataclass
class Scene:
    """An image uint8 (H, W, 3) with the boxes (n, 4) x0 y0 x1 y1 pixels of its n people."""

    image: np.ndarray
    boxes: np.ndarray


# (scene, what the stage before returned) -> what the next one takes; None: nothing is left to do
Stage = Callable[[Scene, Any], Any]
Method = dict[str, Stage]


@dataclass
class Speed:
    """A speed study: `rows` (medians and quartiles), `raw` (every time), `lines` (time = a + b people per method),
    `settings`."""

    rows: pd.DataFrame
    raw: pd.DataFrame
    lines: pd.DataFrame
    settings: dict

    def save(self, run: Run) -> None:
        """Write raw.csv, rows.csv, lines.csv and metrics.json (the settings) into the run folder and end the run."""
        for name in ("raw", "rows", "lines"):
            text = getattr(self, name).to_csv(index=False, lineterminator="\n")
            write_bytes(run.path(f"{name}.csv"), text.encode())
        write_json(run.path("metrics.json"), {"settings": self.settings})
        run.save(**self.settings)


def run_through(method: Method, scene: Scene) -> dict[str, Any]:
    """Run the stages of a method in turn. Returns: stage -> what it was given, for those that had something to do."""
    given, value = {}, None
    for part, stage in method.items():
        before, value = value, stage(scene, value)
        if value is None:
            break
        given[part] = before
    return given


def timed(call: Callable[[], Any], device: str = "cpu") -> tuple[Any, float, float, float]:
    """(result, wall, CPU, device) of a call, the times in ms.

    CPU time adds up all threads; the device's is that between two CUDA events, NaN on the CPU.
    """
    on_gpu = device != "cpu"
    if on_gpu:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    if on_gpu:
        last.record()
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, 1000 * wall, 1000 * cpu, first.elapsed_time(last) if on_gpu else np.nan


def cpu_times(
    calls: dict[Any, Callable[[], Any]], rounds: int = 7, repeat: int = 1, warmup: int = 1
) -> dict[Any, np.ndarray]:
    """CPU milliseconds of each call (rounds,), each over `repeat` runs; `warmup` rounds before are not counted."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(repeat):
                call()
            if turn >= warmup:
                times[name].append(1000 * (time.process_time() - begin) / repeat)
    return {name: np.array(values) for name, values in times.items()}


def cpu_ms(calls: dict[Any, Callable[[], Any]], *args, **options) -> dict[Any, float]:
    """The medians of `cpu_times`."""
    return {name: float(np.median(values)) for name, values in cpu_times(calls, *args, **options).items()}


def measure(
    methods: dict[str, Method],
    scenes: dict,
    repeats: int = 30,
    warmup: int = 10,
    seed: int = 0,
    budget_s: float | None = None,
    threads: int = 1,
    device: str = "cpu",
    often: Mapping[str, int] = MappingProxyType({}),
) -> pd.DataFrame:
    """Time every method on scenes of every number of people.

    Args:
        scenes: people -> images; round r takes image r modulo their number.
        repeats: rounds; a round runs each method once per number of people, in a new random order, and then its stages
            one by one (of a method of one stage there is the total alone).
        often: methods that run several times in a round, for narrower intervals -> how many times.
        warmup: untimed runs of each method before the first round, on the scene with most people.
        budget_s: no new round starts after this many seconds of wall time (one round always runs).
        threads: of torch, restored afterwards.

    Returns: one row per run, of a whole image ("total") or of one of its parts: method, people, scene, round, position,
        part, wall_ms, cpu_ms, device_ms, kept (False: other work disturbed the run).
    """
    if not methods or not scenes or repeats < 1:
        raise ValueError("measure needs at least one method, one number of people and one repeat")
    rng, before, begin = np.random.default_rng(seed), torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(threads)
    rows, cells = [], [(name, people) for name in methods for people in scenes for _ in range(often.get(name, 1))]
    try:
        with torch.inference_mode():
            for method in methods.values():
                for _ in range(warmup):
                    run_through(method, scenes[max(scenes)][0])
            for turn in range(repeats):
                if turn and budget_s is not None and time.perf_counter() - begin > budget_s:
                    break
                drawn = {name: rng.choice(list(scenes)) for name in methods}
                for position, i in enumerate(rng.permutation(len(cells))):
                    name, people = cells[i]
                    method, which = methods[name], turn % len(scenes[people])
                    scene = scenes[people][which]
                    given, *times = timed(partial(run_through, method, scene), device)
                    run = (name, people, which, turn, position)
                    rows.append((*run, "total", *times))
                    for part in given if len(method) > 1 else ():
                        if part != WHOLE or people == drawn[name]:
                            _, *times = timed(partial(method[part], scene, given[part]), device)
                            rows.append((*run, part, *times))
    finally:
        torch.set_num_threads(before)
    names = ["method", "people", "scene", "round", "position", "part", "wall_ms", "cpu_ms", "device_ms"]
    raw = pd.DataFrame(rows, columns=names)
    return raw.assign(kept=_undisturbed(raw, threads, device))


def _undisturbed(raw: pd.DataFrame, threads: int, device: str) -> pd.Series:
    """True for the runs that other work did not slow down: wall / (CPU time / threads) is at most `QUIET`.

    With one thread the ratio of a quiet run is 1. With more, parts that cannot share the work raise it, so it is taken
    relative to the lowest of its method, number of people and part. Off the CPU all runs are True.
    """
    if device != "cpu":
        return pd.Series(True, raw.index)
    # A run shorter than the clock's tick says nothing about its surroundings.
    ratio = (raw.wall_ms * threads / raw.cpu_ms.clip(lower=1e-3)).where(raw.wall_ms > 1.0, 1.0)
    if threads > 1:
        ratio = ratio / ratio.groupby([raw[name] for name in CELL]).transform("min")
    return ratio <= QUIET


def choose_clock(raw: pd.DataFrame, threads: int = 1) -> str:
    """ "wall", or "cpu" where one thread ran and half of the runs or more were disturbed: CPU time then is what the
    wall clock of a quiet machine would show."""
    share = raw[raw.part == "total"].kept.mean()
    return "cpu" if threads == 1 and share < 0.5 else "wall"


def summary(raw: pd.DataFrame, clock: str = "wall") -> pd.DataFrame:
    """Median and quartiles per method, people and part: the data of Figure 1.

    Disturbed runs are left out of wall times, unless a cell has no other. Returns: method, people, part, median_ms,
    q25, q75 (by `clock`), runs, dropped, cpu_ms (the median CPU time), clock.
    """
    # The runs of F count at every number of people.
    whole, counts = raw.part == WHOLE, raw[["method", "people"]].drop_duplicates()
    raw = pd.concat([counts.merge(raw[whole].drop(columns="people"), on="method"), raw[~whole]])
    used = _counted(raw, clock).groupby(CELL, sort=False)
    cells, shares = used[f"{clock}_ms"], {"median_ms": 0.5, "q25": 0.25, "q75": 0.75}
    table = cells.agg(**{name: lambda ms, share=share: np.quantile(ms, share) for name, share in shares.items()})
    table["runs"] = cells.size()
    table["dropped"] = raw.groupby(CELL, sort=False).size() - table.runs
    table["cpu_ms"] = used.cpu_ms.median()
    table = table.reset_index().assign(clock=clock)
    return table.sort_values(["method", "people"], kind="stable", ignore_index=True)


def in_order(table: pd.DataFrame, methods: Iterable[str]) -> pd.DataFrame:
    """The rows of the methods in this order."""
    return pd.concat([table[table.method == name] for name in methods], ignore_index=True)


def parts_sum(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum of the stages' medians over the median of the whole image, people x method; NaN where no stage was timed.

    rows: as `summary` returns them.
    """
    total = rows.part == "total"
    sums, whole = (
        table.pivot_table("median_ms", "people", "method", "sum", sort=False) for table in (rows[~total], rows[total])
    )
    return (sums / whole).reindex(whole.index)


def _counted(raw: pd.DataFrame, clock: str) -> pd.DataFrame:
    """The undisturbed runs, and all where there is no other or the clock counts CPU time."""
    alone = ~raw.groupby(CELL).kept.transform("any")
    return raw[raw.kept | alone] if clock == "wall" else raw


def _lines(raw: pd.DataFrame, clock: str, seed: int, draws: int) -> dict[str, tuple[np.ndarray, int]]:
    """Method -> a and b in ms of t(n) = a + b n, (draws + 1, 2): the data's own, then of resampled runs; and the fewest
    runs at a number of people. From single runs nothing can be drawn: NaN."""
    rng, lines = np.random.default_rng(seed), {}
    for method, used in _counted(raw[raw.part == "total"], clock).groupby("method", sort=False):
        n, t = used.people.to_numpy(float), used[f"{clock}_ms"].to_numpy(float)
        if len(np.unique(n)) < 2:
            raise ValueError(f"a line for {method!r} needs at least two numbers of people, not {np.unique(n).tolist()}")
        # Through the medians, so that one slow run cannot turn it; resampled within each number of people.
        groups = [t[n == value] for value in np.unique(n)]
        medians = [[np.median(group) for group in groups]]
        medians += [[np.median(rng.choice(group, len(group))) for group in groups] for _ in range(draws)]
        line = np.polynomial.polynomial.polyfit(np.unique(n), np.array(medians).T, 1).T
        runs = min(map(len, groups))
        if runs < 2:
            line[1:] = np.nan
        lines[method] = line, runs
    return lines


def fit_lines(raw: pd.DataFrame, clock: str = "wall", seed: int = 0, draws: int = 400) -> pd.DataFrame:
    """Line t(n) = a + b n through the medians of each method, with 95 % intervals from resampled runs.

    Returns: method, a_ms, a_low, a_high, b_ms, b_low, b_high, runs (the fewest at a number of people), flat. `flat`:
    ten people add less than 5 % of a (POET's claim). The interval tells how far the runs scatter, not how far the
    machine is from another one; it is NaN where a number of people has a single run.
    """
    rows = []
    for method, (line, runs) in _lines(raw, clock, seed, draws).items():
        ends = np.vstack([line[0], np.quantile(line[1:], (0.025, 0.975), axis=0)])  # a and b: value, low, high
        rows.append((method, *ends.T.ravel(), runs))
    names = ["method", "a_ms", "a_low", "a_high", "b_ms", "b_low", "b_high", "runs"]
    return pd.DataFrame(rows, columns=names).assign(flat=lambda line: line.b_ms.abs() * 10 < 0.05 * line.a_ms)


def formula(line: pd.Series) -> str:
    """A line of `fit_lines` in words."""
    return f"{line.a_ms:.0f} ms {line.b_ms:+.1f}{between(line.b_low, line.b_high, '+.1f')} ms per person"


def between(low: float, high: float, form: str) -> str:
    """An interval in brackets, nothing where there is none."""
    return f" ({low:{form}} to {high:{form}})" if np.isfinite(low) else ""


def crossing(
    raw: pd.DataFrame, one: str, other: str, clock: str = "wall", seed: int = 0, draws: int = 400
) -> tuple[float, float, float]:
    """People at which two methods take equally long, and the 95 % interval; NaN for parallel lines."""
    lines = _lines(raw[raw.method.isin([one, other])], clock, seed, draws)
    if missing := [name for name in (one, other) if name not in lines]:
        raise ValueError(f"no times of {missing[0]!r}; there are: {', '.join(raw.method.unique())}")
    (a, b), (c, d) = (lines[name][0].T for name in (one, other))
    gap = d - b
    parallel = np.abs(gap) * 1e6 < np.abs(a) + np.abs(c)  # they would meet beyond a million people
    meet = np.where(parallel, np.nan, (a - c) / np.where(parallel, 1.0, gap))
    low, high = np.nanquantile(meet[1:], (0.025, 0.975)) if np.isfinite(meet[1:]).any() else (np.nan, np.nan)
    return float(meet[0]), float(low), float(high)


def from_medians(rows: pd.DataFrame) -> pd.DataFrame:
    """What `fit_lines` and `crossing` take, of a summary whose single runs are not known: its medians by wall clock."""
    return rows[CELL].assign(wall_ms=rows.median_ms, kept=True)
