"""The verdict on a difference between runs: what their seeds allow to say, and whether it agrees with the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from posekit.files import resolve

NO_VERDICT, WITHIN, TOO_LITTLE = "–", "within the spread", "too little to say"
AGREES, DISAGREES, NOT_RUN = "agrees", "disagrees", "not run"
ONE_SEED = "One seed: numbers, no verdict."
FLAT, FEWEST_RUNS = 0.05, 3  # what ten people may add to their own time; runs per number of people


@dataclass(frozen=True)
class Verdict:
    """What runs over several seeds allow to say about `difference`, the mean of ours minus the mean of the baseline.

    `word`: the ranges over the seeds are "below on every seed" or "above on every seed", or overlap ("within the
    spread"); one seed is "–". `claim`: "agrees" or "disagrees" with the sign of the paper's difference, or "too little
    to say".
    """

    difference: float
    word: str
    claim: str
    seeds: int

    @property
    def sentence(self) -> str:
        return ONE_SEED if self.seeds < 2 else f"{self.seeds} seeds or more: {self.word}."


def verdict(ours: Sequence[float], baseline: Sequence[float], claimed: float = np.nan) -> Verdict:
    """Compare the runs of two variants, one number per seed; `claimed`: the paper's difference, NaN where it has none.

    Raises ValueError: one of them has no run.
    """
    ours, baseline = np.asarray(ours, float), np.asarray(baseline, float)
    seeds = min(len(ours), len(baseline))
    if not seeds:
        raise ValueError(
            "a verdict needs a run of either variant, and one has none: compare variants that were trained"
        )
    difference = float(ours.mean() - baseline.mean())
    apart = ours.min() > baseline.max() or ours.max() < baseline.min()
    side = "below" if difference < 0 else "above"
    word = NO_VERDICT if seeds < 2 else f"{side} on every seed" if apart else WITHIN
    decided = seeds >= 2 and apart and not np.isnan(claimed)
    claim = TOO_LITTLE if not decided else AGREES if np.sign(claimed) == np.sign(difference) else DISAGREES
    return Verdict(difference, word, claim, seeds)


def judged(claim: str, holds: bool | None, measured: str, why: str = "") -> dict[str, str]:
    """A row of a table of claims; `claim`: of data/paper/claims.csv. holds: None where the runs are too few to say.
    why: what may explain a disagreement; it is printed only there.

    Raises KeyError: a claim that is not in the file.
    """
    word = TOO_LITTLE if holds is None else AGREES if holds else DISAGREES
    why = why if holds is False else ""
    return {"claim": claim, "the paper says": statements()[claim], "here": word, "measured": measured, "why not": why}


def not_run(claim: str, what: str) -> dict[str, str]:
    """A row of a claim that nothing was run for."""
    return judged(claim, None, what) | {"here": NOT_RUN}


@cache
def statements() -> dict[str, str]:
    """The papers' sentences that a run can test, by the name of the claim."""
    table = pd.read_csv(resolve("data/paper/claims.csv"))
    return dict(zip(table.claim, table.statement, strict=True))


def slope(line: pd.Series) -> str:
    """How time goes with people: "flat", "rises", "falls" or "too little to say", by the interval of a line's slope.

    Flat: ten people add, or take away, at most 5 % of the time at ten people. line: a_ms, b_ms, b_low, b_high and,
    where known, runs, the fewest at a number of people; from fewer than three nothing is said.
    """
    low, high = 10 * line.b_low, 10 * line.b_high
    if np.isnan([low, high]).any() or line.get("runs", FEWEST_RUNS) < FEWEST_RUNS:
        return TOO_LITTLE
    if max(-low, high) <= FLAT * (line.a_ms + 10 * line.b_ms):
        return "flat"
    return "rises" if low > 0 else "falls" if high < 0 else TOO_LITTLE


def against_proposed(ours: pd.DataFrame, keys: Sequence[str], proposed: tuple) -> tuple[str, pd.DataFrame]:
    """A sentence on the alternatives to the model as proposed, and a row per alternative with its `verdict`, in points.

    Args: ours: one row per run: keys, AP in [0, 1], seed. proposed: the keys' values of the model as proposed.
    """
    groups = {key: 100 * ap for key, ap in ours.groupby(list(keys), sort=False).AP}
    name = " with ".join(proposed)
    if proposed not in groups:
        return f"{name} was not run: nothing to compare with.", pd.DataFrame()
    base = groups.pop(proposed)
    found = {key: verdict(values, base) for key, values in groups.items()}
    rows = pd.DataFrame([dict(zip(keys, key, strict=True)) for key in found])
    rows = rows.assign(
        difference=[f"{one.difference:+.1f}" for one in found.values()], verdict=[one.word for one in found.values()]
    )
    seeds = min((one.seeds for one in found.values()), default=len(base))
    if seeds < 2:
        return ONE_SEED, rows
    below, above = (int(rows.verdict.str.startswith(side).sum()) for side in ("below", "above"))
    counts = f"{below} of {len(rows)} alternatives are below {name} on every seed, {above} above"
    return f"{seeds} seeds or more: {counts}, {len(rows) - below - above} within the spread.", rows
