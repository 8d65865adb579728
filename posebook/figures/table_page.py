"""A table of `posebook.tables` as a figure: the paper's block and ours, and in grey how each row of ours was made."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from posebook.figures import diagram, style
from posebook.tables import MADE, MARKS, OURS, PAPER

LINE, SMALL = 0.16, 0.85  # height of a row in inches; of a line of small print in rows
LETTERS = 150  # of the small print that fit across the page


@dataclass
class Block:
    """Rows under common headings. `titles`: (left, right, words) on a page 100 wide; `columns`: name -> (heading, right
    edge), the first column starts at the left edge; `notes`: index of a row -> lines below it.
    """

    titles: list[tuple[float, float, str]]
    columns: dict[str, tuple[str, float]]
    rows: pd.DataFrame
    notes: dict
    bold: bool = True

    def lines(self) -> float:
        """Height in rows."""
        return 3.4 + len(self.rows) + sum(SMALL * len(words) + 0.2 * bool(words) for words in self.notes.values())


@style.styled
def table_page(table: pd.DataFrame, published: str = "as printed in the paper", heading: str = "variant"):
    """A table of `tables.comparison`, `ablation` or `study_table`; numbers on other data stand in a block of their own.

    Args: published: what is said of blocks that are not ours. heading: of the variants of a study.
    """
    study = OURS + "AP" in table
    blocks = [_study_block(table, heading)] if study else _stacked_blocks(table, published)
    marks = _used_marks(table) if study else ""
    height = sum(block.lines() for block in blocks) + 0.9 * bool(marks)
    fig = style.figure(style.DOUBLE, LINE * height)
    ax = diagram.canvas(fig.subplots(), 100, height)
    ax.invert_yaxis()
    y = 0.6
    for block in blocks:
        y = _draw(ax, block, y) + 0.6
    if marks:
        ax.text(0.3, y, marks, fontsize=5.4, va="center", color=style.GREY)
    return fig


def _draw(ax, block: Block, y: float) -> float:
    """Draw a block from line `y` on; returns the line after it."""
    for left, right, words in block.titles:
        room = 72 * style.DOUBLE * (right - left) / 100
        size = min(6.6, room / (0.56 * len(words)))  # long words get smaller letters
        ax.text(left, y, words, fontsize=size, va="center", style="italic").set_in_layout(False)
        if len(block.titles) > 1:
            ax.plot((left, right), (y + 0.6, y + 0.6), color="#444444", lw=0.5)
    first, *others = block.columns
    for name, (heading, right) in block.columns.items():
        place = (0.5, "left") if name == first else (right, "right")
        words = heading.replace(", ", "\n")
        ax.text(place[0], y + 1.4, words, fontsize=5.8, ha=place[1], va="center", color=style.GREY, linespacing=1)
    ax.axhline(y + 2.2, color="#444444", lw=0.6)
    y += 2.8
    for i, row in block.rows.iterrows():
        ax.text(0.5, y, row[first], fontsize=6.4, va="center", weight="bold" if block.bold else "normal")
        for name in others:
            ax.text(block.columns[name][1], y, row[name], fontsize=6.3, ha="right", va="center")
        y += 1
        for words in block.notes.get(i, ()):
            ax.text(2, y - 0.12, words, fontsize=5, va="center", color=style.GREY).set_in_layout(False)
            y += SMALL
        y += 0.2 * bool(block.notes.get(i))
    return y


def _stacked_blocks(table: pd.DataFrame, published: str) -> list[Block]:
    """A block per (by, data set) of `tables.comparison`."""
    data = "data set" if "data set" in table else "data"
    first, *others = (name for name in table if name not in ("by", "data", *MADE))
    rights = np.linspace(30 + 68 / len(others), 99, len(others))
    columns = {first: (first if first != "method" else "", 30)} | {
        name: (name, right) for name, right in zip(others, rights, strict=True)
    }
    blocks = []
    for (by, words), rows in table.groupby(["by", data], sort=False):
        title = (0.5, 100, f"{words} ({published if by == 'paper' else 'this book'})")
        notes = {i: _note([row["scaled down"]], row.seeds, row.command) for i, row in rows.iterrows()}
        blocks.append(Block([title], columns, rows, notes, bold=by == "ours"))
    return blocks


def _study_block(table: pd.DataFrame, heading: str) -> Block:
    """The only block of a `tables.study_table`: the paper's columns, then ours."""
    hidden = {PAPER + name for name in ("source", "data")} | {OURS + name for name in ("steps", *MADE)}
    names = [name for name in table if name not in hidden]
    short = {name: name.removeprefix(PAPER).removeprefix(OURS) for name in names}
    widths = {name: {"variant": 16, "verdict": 13.5, "AP": 7.5}.get(short[name], 6.5) for name in names}
    published = [name for name in names if name.startswith(PAPER)]
    few = max(19 / sum(widths[name] for name in published), 1)  # room for the title above
    widths |= {name: few * widths[name] for name in published}
    rights = dict(zip(names, 100 * np.cumsum([*widths.values()]) / sum(widths.values()), strict=True))
    datasets = [name for name in dict.fromkeys(table[OURS + "data set"]) if name]
    data = ", ".join(dict.fromkeys(name for name in table[PAPER + "data"] if name)) or "COCO"
    titles = {PAPER: f"as published, {data}", OURS: f"this book, {', '.join(datasets) or 'drawn people, crops'}"}
    spans = []
    for whose, words in titles.items():
        own = [name for name in names if name.startswith(whose)]
        spans.append((rights[own[0]] - 100 * widths[own[0]] / sum(widths.values()) + 1.2, rights[own[-1]], words))
    notes = {}
    for i, row in table[table[OURS + "command"] != ""].iterrows():
        made = [row[OURS + "scaled down"] or f"{row[OURS + 'steps']} steps"]
        made += [row[OURS + "data set"]] if len(datasets) > 1 else []
        notes[i] = _note(made, row[OURS + "seeds"], row[OURS + "command"])
    columns = {name: (heading if name == "variant" else short[name], rights[name]) for name in names}
    return Block(spans, columns, table, notes)


def _note(made: list[str], seeds: str, command: str) -> list[str]:
    """How a row was made, in lines that fit the page: budget and seeds, then the command."""
    words = " · ".join(filter(None, (made[0], seeds and f"seed {seeds}", *made[1:])))
    return [line for part in (words, command) for line in textwrap.wrap(part, LETTERS)]


def _used_marks(table: pd.DataFrame) -> str:
    """What the marks in the paper's columns mean."""
    printed = table[[name for name in table if name.startswith(PAPER)]].astype(str)
    printed = " ".join(printed.to_numpy().ravel()) + " "
    return "   ".join(f"{mark} {words}" for mark, words in MARKS.values() if f" {mark} " in printed)
