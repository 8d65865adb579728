"""Tables that set a paper's numbers beside ours: read the paper's CSV, join, write .csv, .md and .tex.

The paper's numbers come from `data/paper/*.csv` only. Ours carry the data set that they were measured on in a
column of their own; a difference is printed only where both were measured on the same data, and what was not
run says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from posebook.figures.style import write_bytes
from posekit.files import resolve

NOT_RUN, NOT_PRINTED, OTHER_DATA = "not run", "–", "other data"
COLUMNS = ("measure", "paper", "paper's data", "our model", "ours", "difference", "data set", "scaled down", "seeds")


def read_paper(stem: str, folder: str | Path = "data/paper") -> pd.DataFrame:
    """One of the paper's tables, e.g. `read_paper("poet_table1")`; empty cells are NaN.

    Raises:
        FileNotFoundError: no such table; the message lists those that there are.
    """
    path = resolve(folder) / f"{stem}.csv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"no published table {stem!r} in {folder}; there are: {known}")
    return pd.read_csv(path)


def comparison(
    paper_rows: pd.DataFrame,
    our_rows: pd.DataFrame | list[dict],
    keys: Sequence[str] = ("method",),
    measures: Sequence[str] = ("AP",),
    scale: float = 100.0,
    digits: int = 1,
) -> pd.DataFrame:
    """Paper against ours, one row per line of the paper, measure and data set of ours.

    Args:
        paper_rows: with the columns `keys`, `measures` and data (the paper's data set); in the unit to be
        printed.
        our_rows: one row per run, with `keys` (the line of the paper that it answers to), the measures in [0,
            1], and "data set", "scaled down", "seed", "command", "model". Runs that agree in all but the seed
            are averaged and shown as mean ± standard deviation. May be empty.
        scale: ours times this gives the paper's unit (100: per cent).

    Returns: text columns `keys`, then measure, paper, paper's data, our model, ours, difference, data set,
        scaled down, seeds, command. A run without a line in the paper is appended with "–" for the paper.

    Raises:
        ValueError: our rows lack a column.
    """
    keys, ours = list(keys), once(pd.DataFrame(our_rows))
    described = ["data set", "scaled down", "command", "model"]
    if len(ours):
        missing = [name for name in [*keys, "seed", *described] if name not in ours]
        if missing:
            raise ValueError(f"our rows lack the column(s) {', '.join(missing)}: every number of ours needs them")
        ours = ours.assign(**{name: ours[name].fillna("").astype(str) for name in described})
    paper_keys = [_key(row, keys) for _, row in paper_rows.iterrows()]
    groups: dict[tuple, list[tuple]] = {}
    if len(ours):
        for _, runs in ours.groupby([*keys, *described], sort=False, dropna=False):
            groups.setdefault(_key(runs.iloc[0], keys), []).append(runs)
    rows = []
    lines = [(key, row) for key, (_, row) in zip(paper_keys, paper_rows.iterrows(), strict=True)]
    lines += [(key, None) for key in groups if key not in paper_keys]
    for key, line in lines:
        for runs in groups.get(key, [None]):
            for measure in measures:
                rows.append({**dict(zip(keys, key, strict=True)), **_cells(line, runs, measure, scale, digits)})
    return pd.DataFrame(rows, columns=[*keys, *COLUMNS, "command"])


def _cells(line, runs, measure: str, scale: float, digits: int) -> dict[str, str]:
    """The text of one row: `line` of the paper or None, our `runs` or None."""
    published = float(line[measure]) if line is not None and measure in line and pd.notna(line[measure]) else None
    cells = {
        "measure": measure,
        "paper": NOT_PRINTED if published is None else f"{published:.{digits}f}",
        "paper's data": str(line["data"]) if line is not None else NOT_PRINTED,
    }
    values = runs[measure].dropna() * scale if runs is not None and measure in runs else []
    if not len(values):
        empty = {name: "" for name in ("our model", "difference", "data set", "scaled down", "seeds", "command")}
        return {**cells, **empty, "ours": NOT_RUN}
    first, mean = runs.iloc[0], float(values.mean())
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    same = published is not None and first["data set"] == cells["paper's data"]
    difference = f"{mean - published:+.{digits}f}" if same else ("" if published is None else OTHER_DATA)
    return {
        **cells,
        "our model": first["model"],
        "ours": f"{mean:.{digits}f}{spread}",
        "difference": difference,
        "data set": first["data set"],
        "scaled down": first["scaled down"],
        "seeds": ", ".join(str(seed) for seed in sorted(runs.loc[values.index, "seed"])),
        "command": first["command"],
    }


def _key(row, keys: list[str]) -> tuple[str, ...]:
    """The key columns as text: equal numbers give equal text, an empty cell gives the paper's dash."""
    texts = []
    for name in keys:
        value = row[name]
        if pd.isna(value):
            texts.append(NOT_PRINTED)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            texts.append(f"{value:g}")
        else:
            texts.append(str(value))
    return tuple(texts)


def once(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs without those that repeat a run: the same `trained` on the same data set. The first stays."""
    return rows.drop_duplicates(["trained", "data set"]) if "trained" in rows else rows


def text(value, form: str, unit: str = "") -> str:
    """A number in its format, words as they are, a dash for nothing."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return NOT_PRINTED
    return value if isinstance(value, str) else f"{value:{form}}{unit}"


def spread(values: pd.Series, form: str = ".1f") -> str:
    """Mean ± standard deviation of runs that differ in the seed alone; of one run its value."""
    values = values.dropna()
    if not len(values):
        return NOT_PRINTED
    return f"{values.mean():{form}}" + (f" ± {values.std(ddof=1):{form}}" if len(values) > 1 else "")


def write(table: pd.DataFrame, stem: str, folder: str | Path, caption: str = "", footer: str = "") -> list[Path]:
    """Write `stem.csv`, `stem.md` and `stem.tex`; the same table gives the same bytes. Returns the paths."""
    contents = {
        "csv": table.to_csv(index=False, lineterminator="\n"),
        "md": markdown(table, caption, footer),
        "tex": latex(table, caption, footer),
    }
    return [write_bytes(Path(folder) / f"{stem}.{kind}", text.encode()) for kind, text in contents.items()]


def markdown(table: pd.DataFrame, caption: str = "", footer: str = "") -> str:
    """The table in Markdown; commands in code type, a bar inside a cell escaped."""

    def cell(name, value):
        text = str(value).replace("|", "\\|").replace("\n", " ")
        return f"`{text}`" if name == "command" and text else text

    names = [str(name) for name in table.columns]
    lines = [f"**{caption}**", ""] if caption else []
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(map(cell, names, row)) + " |" for row in table.itertuples(index=False, name=None)]
    return "\n".join(lines + (["", f"<small>{footer}</small>"] if footer else [])) + "\n"


def latex(table: pd.DataFrame, caption: str = "", footer: str = "") -> str:
    """The table in LaTeX (package booktabs), special characters escaped."""
    names = [str(name) for name in table.columns]
    body = [" & ".join(map(_escape, row)) + r" \\" for row in table.itertuples(index=False, name=None)]
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escape(caption)}}}",
        rf"\begin{{tabular}}{{{'l' * len(names)}}}",
        r"\toprule",
    ]
    lines += [" & ".join(map(_escape, names)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\tiny {_escape(footer)}"] if footer else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _escape(value) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "²": r"$^2$",
    }
    return "".join(special.get(letter, letter) for letter in str(value))
