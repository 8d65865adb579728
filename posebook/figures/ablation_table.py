"""An ablation as a page: what the paper printed, and below it, in a block of its own, what this book measured.

Numbers on drawn people never stand in a column of COCO's (RTMO, Table 3; any table whose rows are named by a few keys).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd

from posebook.figures import style
from posebook.figures.tables import NOT_RUN, spread, text

NO_VERDICT = "–"
TAIL = ("scaled down", "seeds", "command")
LETTERS = 165  # of the small type that fit across the page


def ablation_table(
    paper: pd.DataFrame, ours: pd.DataFrame | list[dict], keys: Sequence[str], measures: Sequence[str] = ("AP", "AR")
) -> pd.DataFrame:
    """The table as text, per cent with one digit.

    Args:
        paper: rows of `tables.read_paper`: keys, measures in per cent, data.
        ours: one row per run: keys, measures in [0, 1], "data set", "scaled down", seed, command. Runs that differ in
            the seed alone become one row, mean ± standard deviation. A line of the paper without a run of ours is
            "not run".

    Returns: columns by ("paper" or "ours"), data, keys, measures, scaled down, seeds, command.
    """
    keys, measures, ours = list(keys), list(measures), pd.DataFrame(ours)
    rows = []
    for _, line in paper.iterrows():
        numbers = {name: text(line[name], ".1f") for name in measures}
        rows.append({"by": "paper", "data": line["data"], **line[keys], **numbers})
    data = ours["data set"].iloc[0] if len(ours) else "drawn people"
    for values in paper[keys].drop_duplicates().itertuples(index=False, name=None):
        who = dict(zip(keys, values, strict=True))
        mine = ours[(ours[keys] == pd.Series(who)).all(axis=1)] if len(ours) else ours
        if not len(mine):
            rows.append({"by": "ours", "data": data, **who, **dict.fromkeys(measures, NOT_RUN)})
        for _, runs in mine.groupby(["data set", "command"], sort=False) if len(mine) else ():
            numbers = {name: spread(100 * runs[name]) for name in measures}
            told = {"scaled down": "; ".join(dict.fromkeys(runs["scaled down"])), "command": runs.command.iloc[0]}
            told["seeds"] = ", ".join(str(seed) for seed in sorted(runs.seed))
            rows.append({"by": "ours", "data": runs["data set"].iloc[0], **who, **numbers, **told})
    return pd.DataFrame(rows, columns=["by", "data", *keys, *measures, *TAIL]).fillna("")


def verdict(ours: pd.DataFrame, keys: Sequence[str], proposed: tuple, measure: str = "AP") -> tuple[str, pd.DataFrame]:
    """What the runs allow to say: a sentence, and per row its difference from the proposed one in points.

    Args:
        ours: one row per run: keys, measure in [0, 1], seed. proposed: the keys' values of the model as proposed.

    A difference counts when it exceeds the ranges of both over their seeds; one seed gives no verdict.
    """
    groups = {key: 100 * runs[measure] for key, runs in ours.groupby(list(keys), sort=False)}
    if proposed not in groups:
        return f"{' with '.join(proposed)} was not run: nothing to compare with.", pd.DataFrame()
    base, rows = groups.pop(proposed), []
    for key, values in groups.items():
        off, word = apart(values, base)
        rows.append({**dict(zip(keys, key, strict=True)), "difference": f"{off:+.1f}", "verdict": word, "off": off})
    table = pd.DataFrame(rows)
    seeds = min(map(len, [base, *groups.values()])) if groups else len(base)
    if seeds < 2:
        return "One short seed per row: **no verdict**, whatever the order of the numbers.", table
    below = [row for row in rows if row["verdict"].startswith("apart") and row["off"] < 0]
    above = [row for row in rows if row["verdict"].startswith("apart") and row["off"] > 0]
    words = f"{seeds} seeds or more: {len(below)} of {len(rows)} alternatives are below {' with '.join(proposed)} on"
    return f"{words} every seed, {len(above)} above, {len(rows) - len(below) - len(above)} within the spread.", table


def apart(values: pd.Series, base: pd.Series) -> tuple[float, str]:
    """Difference of the means, and whether the ranges over the seeds are apart; one seed gives no verdict ("–")."""
    off = float(values.mean() - base.mean())
    if min(len(values), len(base)) < 2:
        return off, NO_VERDICT
    return off, "apart on every seed" if min(values) > max(base) or max(values) < min(base) else "within the spread"


@style.styled
def ablation_page(table: pd.DataFrame, keys: Sequence[str], measures: Sequence[str] = ("AP", "AR")):
    """The table of `ablation_table` as a figure: the paper's blocks side by side, ours below with how it was made."""
    paper = list(table[table.by == "paper"].groupby("data", sort=False))
    ours = list(table[table.by == "ours"].groupby("data", sort=False))
    small = sum(len(_told(row)) for _, rows in ours for _, row in rows.iterrows())
    lines = max(len(rows) for _, rows in paper) + 3 + sum(3 + len(rows) for _, rows in ours) + 0.75 * small
    fig = style.figure(style.DOUBLE, 0.165 * lines)
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(lines, 0))
    ax.set_axis_off()
    wide = 100 / max(len(paper), 1)
    for i, (data, rows) in enumerate(paper):
        y = _block(ax, rows, keys, measures, i * wide, wide - 3, 0.6, f"{data} (as printed in the paper)")
    for data, rows in ours:
        y = _block(ax, rows, keys, measures, 0, wide - 3, y + 0.8, f"{data} (this book)", told=True)
    return fig


def _block(ax, rows, keys, measures, left, width, y, title, told=False) -> float:
    places = {name: left + width * (0.02 + 0.36 * i) for i, name in enumerate(keys)}
    ends = {name: left + width * (1 - 0.16 * (len(measures) - 1 - i)) for i, name in enumerate(measures)}
    ax.text(left + 0.5, y, title, fontsize=6.6, va="center", style="italic").set_in_layout(False)
    y += 1
    for name, x in {**places, **ends}.items():
        ax.text(x, y, name, fontsize=6.2, ha="left" if name in places else "right", va="center", color=style.GREY)
    ax.plot((left, left + width), (y + 0.55, y + 0.55), color="#444444", lw=0.6)
    y += 1.1
    for _, row in rows.iterrows():
        for name, x in places.items():
            ax.text(x, y, row[name], fontsize=6.4, va="center", weight="bold" if told else "normal")
        shown = list(measures)[:1] if row[measures[0]] == NOT_RUN else measures
        for name in shown:
            ax.text(ends[name], y, row[name], fontsize=6.4, ha="right", va="center")
        y += 1
        for line in _told(row) if told else ():
            words = ax.text(left + 2, y - 0.12, line, fontsize=5.2, va="center", color=style.GREY)
            words.set_in_layout(False)  # as wide as the page, whatever stands in it
            y += 0.75
    return y


def _told(row) -> list[str]:
    """How a row of ours was made, in lines that fit."""
    if not row["command"]:
        return []
    return [f"{row['scaled down']} · seed {row['seeds']}", *textwrap.wrap(row["command"], LETTERS)]
