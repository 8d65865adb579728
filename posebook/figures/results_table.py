"""Many methods on several data sets as a page: the paper's blocks, then ours, never one block of both (RTMO, Tables 1,
2 and 4; ViTPose's comparison with the state of the art).

`AP, area M` is COCO's AP of people of medium area; `AP, crowd medium` is CrowdPose's of pictures in the middle band of
the Crowd Index.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from posebook.figures import style
from posebook.figures.tables import NOT_RUN, once, spread, text

COCO_MEASURES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APM": "AP, area M", "APL": "AP, area L", "AR": "AR"}
CROWD_MEASURES = {"AP": "AP", "APeasy": "AP, crowd easy", "APmedium": "AP, crowd medium", "APhard": "AP, crowd hard"}
TAIL = ("data set", "scaled down", "seeds", "command")


def results_table(
    paper: pd.DataFrame,
    ours: list[dict],
    measures: dict[str, str],
    facts: dict[str, tuple[str, str]] = (),
    not_run: list[dict] = (),
) -> pd.DataFrame:
    """The paper's rows, then ours, as text in per cent; blocks are told apart by the columns `by` and `data set`.

    Args:
        paper: method, data, `measures` in per cent, `facts`; extra_data "yes" adds the paper's dagger.
        ours: a row per run: method, "data set", "scaled down", seed, command, `measures` in [0, 1], `facts`. Runs that
            differ in the seed alone become one row, mean ± standard deviation. Of rows of one data set with the same
            `trained` (`reports.RunFiles.identity`) the first stays: they are the same run.
        measures: name -> heading. facts: name -> (heading, format) of what describes a method.
        not_run: rows of ours that nobody has run: method, "data set", command, `facts`.
    """
    facts, rows = dict(facts), []

    def head(line: dict) -> dict:
        return {"method": line["method"]} | {told: text(line.get(n), form) for n, (told, form) in facts.items()}

    for line in paper.to_dict("records"):
        dagger = {"method": line["method"] + (" †" if line.get("extra_data") == "yes" else "")}
        numbers = {told: text(line[name], ".1f") for name, told in measures.items()}
        rows.append({"by": "paper", **head(line), **dagger, **numbers, "data set": line["data"]})
    for line in not_run:
        told = {name: line[name] for name in TAIL if name in line}
        rows.append({"by": "ours", **head(line), **dict.fromkeys(measures.values(), NOT_RUN), **told})
    if ours:
        keys = ["method", "data set", "command"]
        frame = once(pd.DataFrame(ours)).drop_duplicates([*keys, "seed"])
        for _, group in frame.groupby(keys, sort=False):
            numbers = {told: spread(100 * group[name]) for name, told in measures.items()}
            told = {name: "; ".join(dict.fromkeys(group[name])) for name in TAIL if name in group}
            seeds = {"seeds": ", ".join(str(seed) for seed in sorted(group.seed))}
            rows.append({"by": "ours", **head(group.iloc[0].to_dict()), **numbers, **told, **seeds})
    columns = ["by", "method", *(told for told, _ in facts.values()), *measures.values(), *TAIL]
    return pd.DataFrame(rows, columns=columns).fillna("")


@style.styled
def table_page(table: pd.DataFrame, published: str = "as printed in the paper"):
    """A table of `results_table` as a figure: a block per (by, data set); below a row of ours, how it was made.

    published: what is said of the blocks that are not ours.
    """
    numbers = [name for name in table.columns if name not in ("by", "method", *TAIL)]
    blocks = list(table.groupby(["by", "data set"], sort=False))
    notes = {i: _note(row) for i, row in table.iterrows()}
    lines = 3.4 * len(blocks) + len(table) + sum(0.85 * len(words) + 0.2 * bool(words) for words in notes.values())
    fig = style.figure(style.DOUBLE, 0.155 * lines)
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(lines, 0))
    ax.set_axis_off()
    places = dict(zip(numbers, np.linspace(30 + 68 / len(numbers), 99, len(numbers)), strict=True))
    y = 0.6
    for (by, data), rows in blocks:
        whose = published if by == "paper" else "this book"
        ax.text(0.5, y, f"{data} ({whose})", fontsize=6.6, va="center", style="italic")
        y += 1.4
        for name, x in places.items():
            heading = name.replace(", ", "\n")
            ax.text(x, y, heading, fontsize=5.8, ha="right", va="center", color=style.GREY, linespacing=1)
        ax.axhline(y + 0.8, color="#444444", lw=0.6)
        y += 1.4
        for i, row in rows.iterrows():
            ax.text(0.5, y, row["method"], fontsize=6.4, va="center", weight="bold" if by == "ours" else "normal")
            for name, x in places.items():
                ax.text(x, y, row[name], fontsize=6.4, ha="right", va="center")
            y += 1
            for words in notes[i]:
                ax.text(2, y - 0.12, words, fontsize=5.0, va="center", color=style.GREY)
                y += 0.85
            y += 0.2 * bool(notes[i])
        y += 0.6
    return fig


def _note(row: pd.Series) -> list[str]:
    """How a row was made, in lines that fit the page: budget and seeds, then the command."""
    trained = " · ".join(filter(None, (row["scaled down"], row["seeds"] and f"seed {row['seeds']}")))
    return [line for words in (trained, row["command"]) for line in textwrap.wrap(words, 150)]
