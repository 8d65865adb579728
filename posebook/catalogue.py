"""The figures and tables of the book, one row each in `data/paper/figures.csv`.

paper     POET, RTMO, ViTPose, "all" (comparisons of them) or "book" (introductory pages)
number    as the paper counts, "table" where the paper's number is not known, or what stands in for one
kind      "figure" (STEM.svg, .png, .csv) or "table" (STEM.csv, .md, .tex)
stem      name of the files; notebook: the page that makes them
title     what is shown: the caption of the gallery and the text of readers who do not see the image
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from posekit.files import resolve, write_bytes

TABLE, COMMITTED = "data/paper/figures.csv", "figures/reference"
SUFFIXES = {"figure": ("svg", "png", "csv"), "table": ("csv", "md", "tex")}
# How many characters of a figure's own words stand for it where the catalogue does not know it.
LONGEST = 300


def entries() -> pd.DataFrame:
    """The rows of the table, in its order, all of them text."""
    return pd.read_csv(resolve(TABLE), dtype=str)


def caption(stem: str) -> str:
    """Paper, number and title of a figure or table; "" of a stem that the table does not list, or without the table."""
    known = entries().set_index("stem") if resolve(TABLE).is_file() else pd.DataFrame()
    if stem not in known.index:
        return ""
    row = known.loc[stem]
    return f"{place(row.paper, row.number)}: {row.title}" if row.paper not in ("all", "book") else row.title


def place(paper: str, number: str) -> str:
    """Where a figure stands: "POET, Figure 3", "all three papers" (comparisons) or "this book" (introductory pages)."""
    return {"all": "all three papers", "book": "this book"}.get(paper, f"{paper}, {number}")


def alt_text(fig) -> str:
    """What stands in the place of an image: the caption of a saved figure, of another one the words that are in it.

    fig: a matplotlib Figure; `style.save` labels it with its stem.
    """
    if found := caption(str(fig.get_label())):
        return found
    parts = [fig.get_suptitle(), *(part.get_suptitle() for part in fig.subfigs)]
    for ax in fig.axes:
        parts += [ax.get_title(loc) for loc in ("left", "center", "right")] + [ax.get_xlabel(), ax.get_ylabel()]
    words = dict.fromkeys(filter(None, (_plain(part) for part in parts)))
    said = "; ".join(words)
    return "Figure: " + (said if len(said) <= LONGEST else said[: LONGEST - 1] + "…") if said else "Images of people"


def profile(stem: str, folder: str | Path = COMMITTED) -> str:
    """The profiles that the committed files of a stem were made with, as their footer says; "" without one."""
    row = entries().set_index("stem").loc[stem]
    path = resolve(folder) / f"{stem}.{'svg' if row.kind == 'figure' else 'md'}"
    if not path.is_file():
        return ""
    text = " ".join(path.read_text(encoding="utf-8").split())
    footer = text if row.kind == "figure" else text.rpartition("<small>")[2]  # an SVG holds its words as comments
    return ", ".join(dict.fromkeys(re.findall(r"\bprofile (\w+)", footer)))


def markdown(folder: str = "", notebooks: str = "../../notebooks", suffix: str = ".ipynb") -> str:
    """The catalogue as a table in Markdown: paper, figure or table, page, files, profile.

    folder: where the files lie, as seen from the page; notebooks, suffix: how its links name a notebook.
    """
    lines = ["| paper | number | what it shows | notebook | files | profile |", "|---|---|---|---|---|---|"]
    for row in entries().itertuples():
        ending = SUFFIXES[row.kind]
        made = (resolve(COMMITTED) / f"{row.stem}.csv").is_file()
        files = " ".join(f"[{kind}]({folder}{row.stem}.{kind})" for kind in ending) if made else "not run"
        page = f"[{row.notebook}]({notebooks}/{row.notebook}{suffix})"
        paper = {"all": "all three", "book": "this book"}.get(row.paper, row.paper)
        cells = [paper, row.number, row.title, page, f"`{row.stem}` {files}", profile(row.stem) or "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """`figures/reference/README.md`."""
    return f"""# Figures and tables

Which notebook makes which figure or table of the papers, and the profile that the committed files were made with
(the footer of each names the run). `make reproduce` makes them anew, in `figures/PROFILE`. Written by
`python -m posebook.catalogue` from [{TABLE}](../../{TABLE}).

{markdown()}"""


def _plain(words: str) -> str:
    """Words of a figure without the marks of mathematical type."""
    return re.sub(r"\s+", " ", re.sub(r"\\[a-zA-Z]+|[${}\\^_]", " ", words)).strip()


if __name__ == "__main__":
    write_bytes(resolve(COMMITTED) / "README.md", page().encode())
