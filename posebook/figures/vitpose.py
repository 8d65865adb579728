"""ViTPose's studies as tables, speed against accuracy: data in, matplotlib Figure or text out, no I/O.

All studies of the paper (pre-training, resolution, attention, ...) vary one thing, so one table serves them: a row per
variant, the paper's number on COCO in columns of its own, ours on crops of drawn people in others, and what our runs
allow to say. Marks on published numbers: see `MARKS`.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from posebook.figures import style
from posebook.figures.ablation_table import apart
from posebook.figures.tables import NOT_PRINTED, NOT_RUN, spread, text

UNVERIFIED = "as remembered from the paper, unverified"
MARKS = {"unverified": ("?", UNVERIFIED), "third party": ("‡", "quoted by a third party")}
# What a study may measure beside AP: name -> (heading, format). Of the paper's and of ours alike.
FACTS = {"memory_mb": ("memory, MB", ",.0f"), "gflops": ("GFLOPs", ".2f"), "gmac": ("GMAC", ".3g"), "ms": ("ms", ".3g")}
PAPER, OURS = "paper: ", "ours: "
OTHER_BUDGET, PROPOSED = "other budget", "compared with"


def study_table(
    paper: pd.DataFrame,
    ours: pd.DataFrame | list[dict],
    base: str,
    facts: dict[str, tuple[str, str]] | None = None,
    paper_base: str = "",
) -> pd.DataFrame:
    """A study as text: one row per variant and budget, AP in per cent with one digit.

    Args:
        paper: rows of `tables.read_paper`, one per variant: source, variant, AP in per cent, data, perhaps `facts`.
        ours: one row per run: variant, AP in [0, 1], steps, seed, "data set", "scaled down", command, perhaps `facts`.
            Runs that differ in the seed alone become one row, mean ± standard deviation, the facts' means.
        base: the variant that differences and verdicts are against.
        paper_base: the one that the paper's differences are against, where it has another name; "" = `base`.
        facts: name -> (heading, format) of what is shown beside AP; None = `FACTS`. A fact that nobody has is left out.

    A variant of the paper without a run of ours is "not run"; variants of ours alone follow, with the paper's dash.

    Returns: columns variant, then "paper: " + (AP, difference, facts, source, data), then "ours: " + (AP, difference,
        verdict, facts, steps, seeds, data set, scaled down, command).

    Raises:
        ValueError: a variant that the paper's rows name twice (choose one network), or runs without a column.
    """
    facts, ours = FACTS if facts is None else facts, pd.DataFrame(ours)
    if paper.variant.duplicated().any():
        twice = paper.variant[paper.variant.duplicated()].iloc[0]
        raise ValueError(f"variant {twice!r} stands twice in the paper's rows; pass those of one method")
    missing = [name for name in ("variant", "AP", "steps", "seed", "data set", "command") if name not in ours]
    if len(ours) and missing:
        raise ValueError(f"our runs lack the column(s) {', '.join(missing)}: every number of ours needs them")
    printed = {name: told for name, told in facts.items() if name in paper and paper[name].notna().any()}
    measured = {name: told for name, told in facts.items() if name in ours and ours[name].notna().any()}
    lines = {line["variant"]: line for line in paper.to_dict("records")}
    names = [*lines, *(name for name in (ours.variant.unique() if len(ours) else ()) if name not in lines)]
    against = ours[ours.variant == base] if len(ours) else ours
    rows = []
    for name in names:
        row = {"variant": name, **_printed(lines.get(name), lines.get(paper_base or base), printed)}
        mine = ours[ours.variant == name] if len(ours) else ours
        if not len(mine):
            rows.append({**row, OURS + "AP": NOT_RUN})
        for _, runs in mine.groupby(["data set", "steps", "command"], sort=False) if len(mine) else ():
            rows.append({**row, **_measured(runs, against, measured)})
    columns = ["variant", PAPER + "AP", PAPER + "difference", *(PAPER + told for told, _ in printed.values())]
    columns += [PAPER + "source", PAPER + "data", OURS + "AP", OURS + "difference", OURS + "verdict"]
    columns += [OURS + told for told, _ in measured.values()]
    columns += [OURS + name for name in ("steps", "seeds", "data set", "scaled down", "command")]
    return pd.DataFrame(rows, columns=columns).fillna("")


def _printed(line: dict | None, base: dict | None, facts: dict) -> dict[str, str]:
    """The paper's cells of one variant, each doubtful number with its mark."""
    if line is None:
        told = ("AP", "difference", *(heading for heading, _ in facts.values()))
        return {PAPER + name: NOT_PRINTED for name in told}
    marks = {source: f" {MARKS[source][0]}" for source in MARKS}
    mark = marks.get(line["source"], "")
    cells = {"AP": text(line["AP"], ".1f", mark), "source": MARKS.get(line["source"], (None, line["source"]))[1]}
    cells["data"] = line["data"]
    if base is not None and base is not line and pd.notna(line["AP"]) and pd.notna(base["AP"]):
        doubt = mark or marks.get(base["source"], "")
        cells["difference"] = f"{line['AP'] - base['AP']:+.1f}{doubt}"
    cells |= {told: text(line[name], form, mark) for name, (told, form) in facts.items()}
    return {PAPER + name: cell for name, cell in cells.items()}


def _measured(runs: pd.DataFrame, against: pd.DataFrame, facts: dict) -> dict[str, str]:
    """Our cells of one variant at one budget; `against`: all runs of the variant that it is compared with."""
    first = runs.iloc[0]
    cells = {"AP": spread(100 * runs.AP), "steps": f"{first.steps:,.0f}", "data set": first["data set"]}
    cells |= {told: text(runs[name].mean(), form) for name, (told, form) in facts.items()}
    cells |= {"seeds": ", ".join(str(seed) for seed in sorted(runs.seed)), "command": first.command}
    cells["scaled down"] = "; ".join(dict.fromkeys(runs["scaled down"])) if "scaled down" in runs else ""
    if len(against) and first.variant == against.variant.iloc[0]:
        cells["verdict"] = PROPOSED
    elif len(against):
        equal = against[(against.steps == first.steps) & (against["data set"] == first["data set"])]
        if len(equal):
            off, word = apart(100 * runs.AP, 100 * equal.AP)
            side = "below" if off < 0 else "above"
            cells |= {"difference": f"{off:+.1f}", "verdict": word.replace("apart", side)}
        else:
            cells["verdict"] = OTHER_BUDGET
    return {OURS + name: cell for name, cell in cells.items()}


def study_numbers(table: pd.DataFrame, base: str) -> str:
    """What came out, in sentences: numbers only, as the table prints them, ours and the published differences.

    Args: table: of `study_table`. base: as there.
    """
    ours = table[~table[OURS + "AP"].isin(["", NOT_RUN])]
    if not len(ours):
        return "Not run."
    pairs = zip(ours[OURS + "steps"], ours[OURS + "seeds"], strict=True)
    budgets = [f"{steps} steps, seed{'s' * (',' in seeds)} {seeds}" for steps, seeds in pairs]
    alike = len(set(budgets)) == 1
    told = [
        f"{name} {ap}" + ("" if alike else f" ({budget})")
        for name, ap, budget in zip(ours.variant, ours[OURS + "AP"], budgets, strict=True)
    ]
    words = f"Ours, AP: {', '.join(told)}" + (f" ({budgets[0]})." if alike else ".")
    if base not in set(ours.variant):
        return f"{words} {base} was not run: no differences."
    off = []
    for _, row in ours[ours[OURS + "difference"] != ""].iterrows():
        known = row[PAPER + "difference"] not in ("", NOT_PRINTED)
        off.append(f"{row.variant} {row[OURS + 'difference']}" + f" (published {row[PAPER + 'difference']})" * known)
    return words + (f" Minus {base}, in points: {', '.join(off)}." if off else "")


@style.styled
def study_page(table: pd.DataFrame, heading: str = "variant"):
    """A table of `study_table` as a figure: COCO's columns, then drawn people's, and in grey how each row was made."""
    datasets = [name for name in dict.fromkeys(table[OURS + "data set"]) if name]
    columns = {"variant": (heading, 16)}
    for whose, told in ((PAPER, ("source", "data")), (OURS, ("steps", "seeds", "data set", "scaled down", "command"))):
        for name in table.columns:
            short = name.removeprefix(whose)
            if name.startswith(whose) and short not in told:
                columns[name] = (short, {"verdict": 13.5, "AP": 7.5}.get(short, 6.5))
    own = [name for name in columns if name.startswith(PAPER)]
    few = max(19 / sum(columns[name][1] for name in own), 1)  # room for the heading above
    columns |= {name: (columns[name][0], few * columns[name][1]) for name in own}
    rights, total = {}, sum(width for _, width in columns.values())
    for name, (_, width) in columns.items():
        rights[name] = list(rights.values())[-1] + 100 * width / total if rights else 100 * width / total
    notes = {i: _note(row, datasets) for i, row in table.iterrows()}
    printed = table[[name for name in table.columns if name.startswith(PAPER)]].astype(str)
    printed = " ".join(printed.to_numpy().ravel()) + " "
    marks = [words for mark, words in MARKS.values() if f" {mark} " in printed]
    lines = 4.6 + len(table) + sum(0.85 * len(told) + 0.25 * bool(told) for told in notes.values()) + 0.9 * bool(marks)
    fig = style.figure(style.DOUBLE, 0.165 * lines)
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(lines, 0))
    ax.set_axis_off()
    data = ", ".join(dict.fromkeys(name for name in table[PAPER + "data"] if name)) or "COCO"
    titles = {PAPER: f"as published, {data}", OURS: f"this book, {', '.join(datasets) or 'drawn people, crops'}"}
    for whose, words in titles.items():
        own = [name for name in columns if name.startswith(whose)]
        left = rights[own[0]] - 100 * columns[own[0]][1] / total + 1.2
        room = 72 * style.DOUBLE * (rights[own[-1]] - left) / 100
        size = min(6.4, room / (0.56 * len(words)))  # a long name of the data gets smaller letters
        ax.text(left, 0.6, words, fontsize=size, va="center", style="italic").set_in_layout(False)
        ax.plot((left, rights[own[-1]]), (1.2, 1.2), color="#444444", lw=0.5)
    for name, (short, _) in columns.items():
        side = "left" if name == "variant" else "right"
        words = short.replace(", ", "\n")
        ax.text(
            0.3 if side == "left" else rights[name],
            2.2,
            words,
            fontsize=6,
            ha=side,
            va="center",
            color=style.GREY,
            linespacing=1,
        )
    ax.axhline(3.1, color="#444444", lw=0.6)
    y = 3.8
    for i, row in table.iterrows():
        ax.text(0.3, y, row["variant"], fontsize=6.4, va="center", weight="bold")
        for name in list(columns)[1:]:
            ax.text(rights[name], y, row[name], fontsize=6.2, ha="right", va="center")
        y += 1
        for words in notes[i]:
            ax.text(1.5, y - 0.12, words, fontsize=5, va="center", color=style.GREY).set_in_layout(False)
            y += 0.85
        y += 0.25 * bool(notes[i])
    if marks:
        told = "   ".join(f"{mark} {words}" for mark, words in MARKS.values() if words in marks)
        ax.text(0.3, y + 0.2, told, fontsize=5.4, va="center", color=style.GREY)
    return fig


def _note(row: pd.Series, datasets: list[str]) -> list[str]:
    """How a row of ours was made: budget, seeds and, where the page has several, the data set; then the command."""
    if not row[OURS + "command"]:
        return []
    made = [row[OURS + "scaled down"] or f"{row[OURS + 'steps']} steps", f"seed {row[OURS + 'seeds']}"]
    made += [row[OURS + "data set"]] if len(datasets) > 1 else []
    return [line for words in (" · ".join(made), row[OURS + "command"]) for line in textwrap.wrap(words, 165)]


def marked(values: pd.Series, sources: pd.Series, form: str) -> list[str | None]:
    """Published numbers as text, each with the mark of where it comes from (`MARKS`); None where there is no number."""
    marks = {source: f" {mark}" for source, (mark, _) in MARKS.items()}
    pairs = zip(values, sources, strict=True)
    return [None if pd.isna(value) else text(value, form, marks.get(source, "")) for value, source in pairs]


def with_costs(runs: pd.DataFrame, costs: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """A study's runs with what their networks cost: new column -> column of `costs`, joined by `variant`.

    A variant that was not measured has NaN, and so has every one where `costs` is empty.
    """
    if not len(runs):
        return runs
    known = costs.drop_duplicates("variant").set_index("variant") if len(costs) else pd.DataFrame()
    return runs.assign(**{new: runs.variant.map(known[old]) if len(known) else np.nan for new, old in columns.items()})


def speed_points(runs: pd.DataFrame, costs: pd.DataFrame, model: str) -> pd.DataFrame:
    """Our points of `fig_tradeoff`: a row per variant that was both trained and measured, AP the mean over seeds.

    Args: runs: of `study_runs.study_rows`. costs: of 15_vitpose_cost, kind "size". model: what gives the colour.

    Returns: label, model, params_m, per_s, AP, seeds (how many), steps, threads. Of several budgets the largest counts.
    """
    columns = ["label", "model", "params_m", "per_s", "AP", "seeds", "steps", "threads"]
    if not len(runs) or not len(costs):
        return pd.DataFrame(columns=columns)
    runs = with_costs(runs[runs.steps == runs.steps.max()], costs, {"per_s": "per_s", "threads": "threads"})
    means = {name: (name, "mean") for name in ("params_m", "per_s", "AP", "steps", "threads")}
    points = runs.dropna(subset="per_s").groupby("variant", sort=False).agg(**means, seeds=("seed", "nunique"))
    return points.reset_index(names="label").assign(model=model)[columns]


@style.styled
def fig_tradeoff(
    paper: pd.DataFrame,
    ours: pd.DataFrame,
    dataset: str,
    more_data: pd.DataFrame | None = None,
    rivals: dict[str, float] | None = None,
    device: str = "",
):
    """Figure 1 of the paper, crops per second against AP: (a) as published on COCO, (b) this book's small models.

    Read in it: up is better, right is faster. The area of a circle is the number of parameters, on one scale per panel.
    The panels share no axis: other data, other machine, other networks.

    Args:
        paper: variant, params_m, AP (per cent), fps, fps_source ("unverified" points are hollow); sizes without fps are
            left out.
        ours: a row per point: label, model, params_m, per_s (crops per second), AP in [0, 1].
        dataset, device: where AP and speed of `ours` come from.
        more_data: the same networks trained on more data: variant, AP.
        rivals: crops per second of networks whose AP is not at hand: name -> value; drawn as a line.
    """
    fig = style.figure(style.DOUBLE, 2.9)
    left, right = fig.subplots(1, 2, width_ratios=(1.1, 1))
    ink, known = style.colour("vitpose"), paper[paper.fps.notna() & paper.AP.notna()].sort_values("fps")
    area = 260 / max(known.params_m.max(), 1)
    left.plot(known.fps, known.AP, "-", color=ink, lw=0.8, zorder=2)
    for row in known.itertuples():
        doubtful = row.fps_source == "unverified"
        left.scatter(row.fps, row.AP, s=area * row.params_m, fc="white" if doubtful else ink, ec=ink, lw=1, zorder=3)
        name = f"{row.variant.removeprefix('ViTPose-')}  {row.AP:.1f}" + (" ?" if doubtful else "")
        radius = 0.4 * np.sqrt(area * row.params_m)
        left.annotate(
            name,
            (row.fps, row.AP),
            (-radius - 2, -radius - 5),
            textcoords="offset points",
            fontsize=7,
            color=ink,
            ha="right",
        )
    if more_data is not None:
        same = known.merge(more_data[["variant", "AP"]], on="variant", suffixes=("", "_more"))
        left.plot(same.fps, same.AP_more, "--", color="#00513B", lw=0.8, marker="^", ms=4)
        if len(same):
            middle = same.iloc[len(same) // 2]
            left.annotate(
                "trained on COCO, AIC and MPII",
                (middle.fps, middle.AP_more),
                (7, 5),
                fontsize=6,
                textcoords="offset points",
                color="#00513B",
            )
    top, bottom = known.AP.max(), known.AP.min()
    for name, value in (rivals or {}).items():
        left.axvline(value, color=style.GREY, lw=0.8, ls=(0, (1, 1.5)))
        left.text(
            value,
            bottom - 0.9,
            f" {name}: {value:g} per second",
            fontsize=6,
            color=style.GREY,
            rotation=90,
            ha="right",
            va="bottom",
        )
    left.set(xscale="log", xlim=(120, 1500), ylim=(bottom - 1, top + 1.2))
    left.set_xticks([150, 250, 500, 1000], ["150", "250", "500", "1,000"])
    left.minorticks_off()
    left.set(xlabel="crops of 256 x 192 per second on an A100 (log)", ylabel="AP on COCO val2017, per cent")
    if (known.fps_source == "unverified").any():
        told = f"hollow, ?: speed {UNVERIFIED}"
        left.text(0.99, 0.98, told, transform=left.transAxes, fontsize=5.4, color=style.GREY, ha="right", va="top")
    style.panel(left, "a", "as published (area: parameters)")
    _our_points(right, ours)
    right.set(xlabel=f"crops per second{', ' + device if device else ''}", ylabel=f"AP on {dataset}")
    style.panel(right, "b", "this book: tiny models, other data")
    return fig


def _our_points(ax, ours: pd.DataFrame) -> None:
    """A circle per model, its name above or below the others' names."""
    if not len(ours):
        ax.text(0.5, 0.5, NOT_RUN, transform=ax.transAxes, ha="center", color=style.GREY)
        return
    top, fastest = max(float(ours.AP.max()), 0.01), float(ours.per_s.max())
    ax.set(xlim=(0, 1.6 * fastest), ylim=(0, 1.4 * top))
    area, height = 200 / max(ours.params_m.max(), 1e-9), -np.inf
    for row in ours.sort_values("AP").itertuples():
        ink = style.colour(row.model)
        ax.scatter(row.per_s, row.AP, s=area * row.params_m, fc=ink, ec="white", lw=0.8, zorder=3)
        height = max(height + 0.13 * top, row.AP, 0.08 * top)  # names of near points stand above each other
        ax.annotate(
            f"{row.label}\n{row.params_m:.2g} M, AP {row.AP:.3f}",
            (row.per_s, row.AP),
            (1.1 * fastest, height),
            fontsize=6,
            color=ink,
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": ink, "shrinkB": 5},
        )
