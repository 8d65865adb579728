"""COCO's ten numbers as a table, the paper's rows above, ours below, never in the same block (POET, Table 1).

`score_table` makes the text of `STEM.csv`, `.md` and `.tex` (see `tables.write`), `score_page` its picture:
one block per data set, because a number on drawn people must not be read as one on COCO.
"""

from __future__ import annotations

import pandas as pd

from posebook.figures import style
from posebook.figures.tables import NOT_RUN, once, spread, text

MEASURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
HEAD, TAIL = ("by", "method", "stride", "params"), ("data set", "scaled down", "seeds", "command")


def score_table(paper: pd.DataFrame, ours: pd.DataFrame | list[dict], not_run: list[dict] = ()) -> pd.DataFrame:
    """The table as text, per cent with one digit.

    Args:
        paper: rows of `tables.read_paper`: method, stride, params_m, the ten measures in per cent, data.
        ours: one row per run: method, stride, params_m, the measures in [0, 1], "data set", "scaled down",
            seed, command. Runs that differ in the seed alone become one row, mean ± standard deviation. Of rows of
            one data set with the same `trained` (`reports.RunFiles.identity`) the first stays: they are the same run.
        not_run: rows of ours that nobody has run yet: method, "data set", command.

    Returns: columns by ("paper" or "ours"), method, stride, params, the measures, data set, scaled down,
        seeds, command.
    """
    rows = []
    for _, line in paper.iterrows():
        numbers = {name: text(line[name], ".1f") for name in MEASURES}
        rows.append({"by": "paper", **_network(line), **numbers, "data set": line["data"]})
    for line in not_run:
        rows.append({"by": "ours", **_network(line), **dict.fromkeys(MEASURES, NOT_RUN), **_told(line)})
    groups = once(pd.DataFrame(ours))
    if len(groups):
        for _, runs in groups.groupby(["method", "data set", "command"], sort=False, dropna=False):
            numbers = {name: spread(100 * runs[name]) for name in MEASURES}
            facts = {name: "; ".join(dict.fromkeys(runs[name])) for name in TAIL if name != "seeds"}
            seeds = ", ".join(str(seed) for seed in sorted(runs.seed))
            rows.append({"by": "ours", **_network(runs.iloc[0]), **numbers, **facts, "seeds": seeds})
    return pd.DataFrame(rows, columns=[*HEAD, *MEASURES, *TAIL]).fillna("")


@style.styled
def score_page(table: pd.DataFrame):
    """The table as a figure: a block per (by, data set); under a row of ours, in grey, how it was made."""
    blocks = list(table.groupby(["by", "data set"], sort=False))
    lines = sum(2.6 + len(rows) * (1 if by == "paper" else 2.7) for (by, _), rows in blocks) + 0.2
    fig = style.figure(style.DOUBLE, 0.165 * lines)
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(lines, 0))
    ax.set_axis_off()
    places = {"method": 0.5, "stride": 33, "params": 40.5}
    places |= {name: 47.5 + 5.7 * i for i, name in enumerate(MEASURES)}
    y = 0.6
    for (by, data), rows in blocks:
        whose = "as printed in the paper" if by == "paper" else "this book"
        ax.text(places["method"], y, f"{data} ({whose})", fontsize=6.6, va="center", style="italic")
        y += 1
        for name in ("stride", "params", *MEASURES):
            ax.text(places[name], y, name, fontsize=6.2, ha="right", va="center", color=style.GREY)
        ax.axhline(y + 0.55, color="#444444", lw=0.6)
        y += 1.1
        for _, row in rows.iterrows():
            unfinished = row["AP"] == NOT_RUN
            for name in ("method", "stride", "params", *(("AP",) if unfinished else MEASURES)):
                side = "left" if name == "method" else "right"
                weight = "bold" if name == "method" and by == "ours" else "normal"
                ax.text(places[name], y, row[name], fontsize=6.4, ha=side, va="center", weight=weight)
            y += 1
            if by == "ours":
                trained = (row["scaled down"], row["seeds"] and f"seed {row['seeds']}")
                for words in (" · ".join(part for part in trained if part), row["command"]):
                    if words:
                        ax.text(2, y - 0.12, words, fontsize=5.2, va="center", color=style.GREY)
                        y += 0.85
        y += 0.5
    return fig


def _told(line: dict) -> dict[str, str]:
    return {name: line[name] for name in TAIL if name in line}


def _network(row) -> dict[str, str]:
    return {
        "method": row["method"],
        "stride": text(row.get("stride"), ".0f"),
        "params": text(row.get("params_m"), ".1f", " M"),
    }
