"""Tables that set a paper's numbers beside ours.

The paper's numbers come from `data/paper/*.csv` only. `comparison` stacks the paper's rows and ours, `study_table` puts
them side by side; `page` shows both, `write` saves them. "AP, area M" is COCO's AP of people of medium area; "AP, crowd
medium" is CrowdPose's AP of images whose Crowd Index is in the middle band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from posebook.verdicts import NOT_RUN as NOT_RUN
from posebook.verdicts import verdict
from posekit.files import resolve, write_bytes

NOT_PRINTED = "–"
BASELINE, OTHER_BUDGET = "compared with", "other budget"
PAPER, OURS = "paper: ", "ours: "
MADE = ("data set", "scaled down", "seeds", "command")
UNVERIFIED = "as remembered from the paper, unverified"
MARKS = {"unverified": ("?", UNVERIFIED), "third party": ("‡", "quoted by a third party")}
COCO_MEASURES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "APM": "AP, area M", "APL": "AP, area L", "AR": "AR"}
CROWD_MEASURES = {"AP": "AP", "APeasy": "AP, crowd easy", "APmedium": "AP, crowd medium", "APhard": "AP, crowd hard"}
# What a study may measure beside AP: name -> (heading, format).
FACTS = {"memory_mb": ("memory, MB", ",.0f"), "gflops": ("GFLOPs", ".2f"), "gmac": ("GMAC", ".3g"), "ms": ("ms", ".3g")}


def read_paper(stem: str, folder: str | Path = "data/paper") -> pd.DataFrame:
    """One of the paper's tables, e.g. `read_paper("poet_table1")`; empty cells are NaN.

    Raises FileNotFoundError: no such table; the message lists those that there are.
    """
    path = resolve(folder) / f"{stem}.csv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"no published table {stem!r} in {folder}; there are: {known}")
    return pd.read_csv(path)


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


def marked(values: Iterable, sources: Iterable[str], form: str) -> list[str | None]:
    """Published numbers as text, each with the mark of its source (`MARKS`); None where there is no number."""
    pairs = zip(values, sources, strict=True)
    return [None if pd.isna(value) else text(value, form, _mark(source)) for value, source in pairs]


def distinct_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs without those that repeat a run: the same `trained` on the same data set. The first stays."""
    return rows.drop_duplicates(["trained", "data set"]) if "trained" in rows else rows


def comparison(
    paper: pd.DataFrame,
    ours: pd.DataFrame | list[dict],
    measures: dict[str, str] | Sequence[str],
    facts: dict[str, tuple] | None = None,
    not_run: Iterable[dict] = (),
    keys: Sequence[str] = ("method",),
) -> pd.DataFrame:
    """The paper's rows, then ours, as text in per cent; the columns `by` ("paper" or "ours") and "data set" come first.

    Args:
        paper: `keys`, data, `measures` in per cent, perhaps `facts`; extra_data "yes" adds the paper's dagger.
        ours: a row per run, as `reports.RunFiles.score_row` makes it: `keys`, `measures` in [0, 1], perhaps `facts`.
            Runs that differ in the seed alone become one row, mean ± standard deviation; the same run counts once.
        measures: name -> heading, or the names. facts: name -> (heading, format[, unit]) of what describes a method.
        not_run: rows of ours that nobody has run: `keys`, "data set", command, perhaps `facts`.

    Raises ValueError: our rows lack a column.
    """
    measures = measures if isinstance(measures, dict) else {name: name for name in measures}
    keys, facts, ours = list(keys), facts or {}, pd.DataFrame(ours)
    _require(ours, [*keys, "seed", "data set", "recipe", "command"])

    def described(line: dict) -> dict[str, str]:
        words = {heading: text(line.get(name), *form) for name, (heading, *form) in facts.items()}
        return {name: text(line[name], "g") for name in keys} | words

    rows = []
    for line in paper.to_dict("records"):
        row = {"by": "paper", **described(line), "data set": line["data"]}
        row[keys[0]] += " †" if line.get("extra_data") == "yes" else ""
        rows.append(row | {heading: text(line[name], ".1f") for name, heading in measures.items()})
    for line in not_run:
        made = {name: line[name] for name in MADE if name in line}
        rows.append({"by": "ours", **described(line), **dict.fromkeys(measures.values(), NOT_RUN), **made})
    if len(ours):
        groups = [*keys, "data set", "recipe"]
        for _, runs in distinct_runs(ours).drop_duplicates([*groups, "seed"]).groupby(groups, sort=False):
            numbers = {heading: spread(100 * runs[name]) for name, heading in measures.items()}
            rows.append({"by": "ours", **described(runs.iloc[0].to_dict()), **numbers, **_made(runs)})
    columns = ["by", *keys, *(heading for heading, *_ in facts.values()), *measures.values(), *MADE]
    return pd.DataFrame(rows, columns=columns).fillna("")


def ablation(paper: pd.DataFrame, ours: pd.DataFrame | list[dict], keys: Sequence[str]) -> pd.DataFrame:
    """`comparison` of AP and AR where every line of the paper has a row of ours, "not run" if need be, in its order.

    The column `data` comes second. Our runs without a line in the paper are left out.
    """
    keys, ours = list(keys), pd.DataFrame(ours)
    table = comparison(paper, ours, ("AP", "AR"), keys=keys).rename(columns={"data set": "data"})
    printed, mine = (table[table.by == by] for by in ("paper", "ours"))
    mine = printed[keys].drop_duplicates().merge(mine, on=keys, how="left").assign(by="ours")
    data = ours["data set"].iloc[0] if len(ours) else "drawn people"
    mine = mine.fillna({"AP": NOT_RUN, "AR": NOT_RUN, "data": data}).fillna("")
    return pd.concat([printed, mine], ignore_index=True)[list(dict.fromkeys(["by", "data", *table]))]


def study_table(
    paper: pd.DataFrame,
    ours: pd.DataFrame | list[dict],
    base: str,
    facts: dict[str, tuple[str, str]] | None = None,
    paper_base: str = "",
) -> pd.DataFrame:
    """A study as text: one row per variant and budget, the paper's columns ("paper: " + name) beside ours ("ours: ").

    A variant of the paper without a run of ours is "not run"; variants of ours alone follow, with the paper's dash.

    Args:
        paper: one row per variant: source, variant, AP in per cent, data, perhaps `facts`.
        ours: one row per run, as `study_runs.study_rows` makes it. Runs of one budget differ in the seed alone and
            become one row, mean ± standard deviation, the facts' means.
        base: the variant that differences and verdicts are against; paper_base: that of the paper, "" = `base`.
        facts: name -> (heading, format) of what is shown beside AP; None = `FACTS`. A fact that nobody has is left out.

    Raises ValueError: a variant that the paper's rows name twice (choose one network), or runs without a column.
    """
    facts, ours = FACTS if facts is None else facts, pd.DataFrame(ours)
    if len(twice := paper.variant[paper.variant.duplicated()]):
        raise ValueError(f"variant {twice.iloc[0]!r} stands twice in the paper's rows; pass those of one method")
    _require(ours, ["variant", "AP", "steps", "seed", "data set", "command"])
    ours = ours if len(ours) else pd.DataFrame(columns=["variant"])
    printed, measured = ({n: fact for n, fact in facts.items() if n in t and t[n].notna().any()} for t in (paper, ours))
    lines = {line["variant"]: line for line in paper.to_dict("records")}
    against, rows = ours[ours.variant == base], []
    for name in dict.fromkeys([*lines, *ours.variant]):
        row = {"variant": name} | _published_cells(lines.get(name), lines.get(paper_base or base), printed)
        mine = ours[ours.variant == name]
        if not len(mine):
            rows.append(row | {OURS + "AP": NOT_RUN})
            continue
        for _, runs in mine.groupby(["data set", "steps"], sort=False):
            rows.append(row | _measured_cells(runs, against, measured))
    columns = ["AP", "difference", *(heading for heading, _ in printed.values()), "source", "data"]
    own = ["AP", "difference", "verdict", *(heading for heading, _ in measured.values()), "steps", "seeds", *MADE]
    names = ["variant", *(PAPER + name for name in columns), *(OURS + name for name in dict.fromkeys(own))]
    return pd.DataFrame(rows, columns=names).fillna("")


def study_numbers(table: pd.DataFrame, base: str) -> str:
    """The numbers of a `study_table` in sentences, as the table prints them: ours and the published differences."""
    ours = table[~table[OURS + "AP"].isin(["", NOT_RUN])]
    if not len(ours):
        return "Not run."
    seeds = ours[OURS + "seeds"]
    budgets = ours[OURS + "steps"] + " steps, seed" + seeds.str.contains(",").map({True: "s ", False: " "}) + seeds
    alike = budgets.nunique() == 1
    numbers = ours.variant + " " + ours[OURS + "AP"] + ("" if alike else " (" + budgets + ")")
    words = f"Ours, AP: {', '.join(numbers)}" + (f" ({budgets.iloc[0]})." if alike else ".")
    if base not in set(ours.variant):
        return f"{words} {base} was not run: no differences."
    ours = ours[ours[OURS + "difference"] != ""]
    known = " (published " + ours[PAPER + "difference"] + ")"
    known = known.where(~ours[PAPER + "difference"].isin(["", NOT_PRINTED]), "")
    off = [*(ours.variant + " " + ours[OURS + "difference"] + known)]
    return words + (f" Minus {base}, in points: {', '.join(off)}." if off else "")


def _published_cells(line: dict | None, base: dict | None, facts: dict) -> dict[str, str]:
    """The paper's cells of one variant, each doubtful number with its mark."""
    if line is None:
        return {PAPER + name: NOT_PRINTED for name in ("AP", "difference", *(heading for heading, _ in facts.values()))}
    mark = _mark(line["source"])
    cells = {"AP": text(line["AP"], ".1f", mark), "source": MARKS.get(line["source"], (None, line["source"]))[1]}
    cells["data"] = line["data"]
    if base is not None and base is not line and pd.notna(line["AP"]) and pd.notna(base["AP"]):
        cells["difference"] = f"{line['AP'] - base['AP']:+.1f}{mark or _mark(base['source'])}"
    cells |= {heading: text(line[name], form, mark) for name, (heading, form) in facts.items()}
    return {PAPER + name: cell for name, cell in cells.items()}


def _measured_cells(runs: pd.DataFrame, against: pd.DataFrame, facts: dict) -> dict[str, str]:
    """Our cells of one variant at one budget; `against`: all runs of the baseline."""
    first = runs.iloc[0]
    cells = {"AP": spread(100 * runs.AP), "steps": f"{first.steps:,.0f}", **_made(runs)}
    cells |= {heading: text(runs[name].mean(), form) for name, (heading, form) in facts.items()}
    if len(against) and first.variant == against.variant.iloc[0]:
        cells["verdict"] = BASELINE
    elif len(against):
        equal = against[(against.steps == first.steps) & (against["data set"] == first["data set"])]
        cells["verdict"] = OTHER_BUDGET
        if len(equal):
            found = verdict(100 * runs.AP, 100 * equal.AP)
            cells |= {"difference": f"{found.difference:+.1f}", "verdict": found.word}
    return {OURS + name: cell for name, cell in cells.items()}


def _made(runs: pd.DataFrame) -> dict[str, str]:
    """`MADE` of runs that differ in the seed alone; the command is the first one's."""
    words = {name: "; ".join(dict.fromkeys(runs[name])) for name in ("data set", "scaled down") if name in runs}
    return words | {"seeds": ", ".join(map(str, sorted(runs.seed))), "command": runs.command.iloc[0]}


def _mark(source: str) -> str:
    return f" {MARKS[source][0]}" if source in MARKS else ""


def _require(ours: pd.DataFrame, names: list[str]) -> None:
    missing = [name for name in names if name not in ours]
    if len(ours) and missing:
        raise ValueError(f"our rows lack the column(s) {', '.join(missing)}: every number of ours needs them")


def write(table: pd.DataFrame, stem: str, folder: str | Path, caption: str = "", footer: str = "") -> list[Path]:
    """Write `stem.csv`, `stem.md` and `stem.tex`; the same table gives the same bytes. Returns the paths."""
    contents = {"csv": table.to_csv(index=False, lineterminator="\n")}
    contents |= {"md": markdown(table, caption, footer), "tex": latex(table, caption, footer)}
    return write_files(folder, stem, {kind: words.encode() for kind, words in contents.items()})


def write_files(folder: str | Path, stem: str, contents: dict[str, bytes]) -> list[Path]:
    """Write `stem.KIND` for every kind, each file in one step; returns the paths."""
    paths = [Path(folder) / f"{stem}.{kind}" for kind in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_bytes(path, content)
    return paths


def page(table: pd.DataFrame, caption: str = "") -> Styler:
    """The table for a page: the paper's columns and ours under a heading each, commands folded, marks explained."""
    heads = [tuple(name.rpartition(": ")[::2]) for name in table]
    shown = table.set_axis(pd.MultiIndex.from_tuples(heads), axis=1) if OURS + "AP" in table else table
    printed = " ".join(table.filter(like=PAPER).astype(str).to_numpy().ravel()) + " "
    marks = [f"{mark} {words}" for mark, words in MARKS.values() if f" {mark} " in printed]
    styler = Styler(shown, uuid="table", cell_ids=False).hide(axis="index").set_caption("; ".join([caption, *marks]))
    commands = [name for name in shown if "command" in name]
    folded = "<details><summary>command</summary><code>{}</code></details>"
    return styler.format(escape="html").format(lambda one: one and folded.format(escape(one)), subset=commands)


def markdown(table: pd.DataFrame, caption: str = "", footer: str = "") -> str:
    """The table in Markdown; commands in code type, a bar inside a cell escaped."""

    def cell(name, value):
        words = str(value).replace("|", "\\|").replace("\n", " ")
        return f"`{words}`" if name == "command" and words else words

    names = [str(name) for name in table.columns]
    rows = [names, *(map(cell, names, row) for row in table.itertuples(index=False, name=None))]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(names))
    lines = [f"**{caption}**", "", *lines] if caption else lines
    return "\n".join(lines + (["", f"<small>{footer}</small>"] if footer else [])) + "\n"


_LATEX = {letter: "\\" + letter for letter in "&%$#_{}"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"}
_LATEX |= {"×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$", "²": r"$^2$"}


def latex(table: pd.DataFrame, caption: str = "", footer: str = "") -> str:
    """The table in LaTeX (package booktabs), special characters escaped."""

    def escape(value) -> str:
        return str(value).translate(str.maketrans(_LATEX))

    shown = table.style.hide(axis="index").format(escape).format_index(escape, axis=1)
    options = {"hrules": True, "column_format": "l" * len(table.columns), "caption": escape(caption)}
    words = shown.to_latex(**options)
    small = rf"\par\tiny {escape(footer)}" + "\n" if footer else ""
    return words.replace(r"\end{table}", small + r"\end{table}")
