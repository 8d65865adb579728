"""ViTPose, speed against accuracy (Figure 1), and what joins a study's runs with what their networks cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import style
from posebook.tables import UNVERIFIED


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
def fig_tradeoff(paper, ours, dataset: str, more_data: pd.DataFrame, references: dict[str, float], device: str = ""):
    """Figure 1 of the paper, crops per second against AP: (a) as published on COCO, (b) this book's small models.

    The area of a circle is the number of parameters, on one scale per panel.

    Args:
        paper: variant, params_m, AP (per cent), fps (NaN: left out), fps_source ("unverified" points are hollow).
        ours: a row per point: label, model, params_m, per_s (crops per second), AP in [0, 1], on `dataset`, `device`.
        more_data: the same networks trained on more data: variant, AP. references: name -> crops per second, a line.
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
        look = {"fontsize": 7, "color": ink, "ha": "right"}
        style.beside(left, (row.fps, row.AP), (-radius - 2, -radius - 5), name, **look)
    same = known.merge(more_data[["variant", "AP"]], on="variant", suffixes=("", "_more"))
    left.plot(same.fps, same.AP_more, "--", color="#00513B", lw=0.8, marker="^", ms=4)
    middle = same.iloc[len(same) // 2]
    words = "trained on COCO, AIC and MPII"
    style.beside(left, (middle.fps, middle.AP_more), (7, 5), words, fontsize=6, color="#00513B")
    top, bottom = known.AP.max(), known.AP.min()
    for name, value in references.items():
        left.axvline(value, color=style.GREY, lw=0.8, ls=(0, (1, 1.5)))
        look = {"fontsize": 6, "color": style.GREY, "rotation": 90, "ha": "right", "va": "bottom"}
        left.text(value, bottom - 0.9, f" {name}: {value:g} per second", **look)
    left.set(xscale="log", xlim=(120, 1500), ylim=(bottom - 1, top + 1.2))
    left.set_xticks([150, 250, 500, 1000], ["150", "250", "500", "1,000"])
    left.minorticks_off()
    left.set(xlabel="crops of 256 x 192 per second on an A100 (log)", ylabel="AP on COCO val2017, per cent")
    if (known.fps_source == "unverified").any():
        style.inside(left, 0.99, 0.98, f"hollow, ?: speed {UNVERIFIED}", fontsize=5.4, ha="right", va="top")
    style.panel(left, "a", "as published (area: parameters)")
    _our_points(right, ours)
    right.set(xlabel=f"crops per second{', ' + device if device else ''}", ylabel=f"AP on {dataset}")
    style.panel(right, "b", "this book: tiny models, other data")
    return fig


def _our_points(ax, ours: pd.DataFrame) -> None:
    """A circle per model, its name at the right."""
    if not len(ours):
        style.not_run(ax)
        return
    top, fastest = max(float(ours.AP.max()), 0.01), float(ours.per_s.max())
    ax.set(xlim=(0, 1.6 * fastest), ylim=(0, 1.4 * top))
    area, names = 200 / max(ours.params_m.max(), 1e-9), []
    for row in ours.itertuples():
        ink, words = style.colour(row.model), f"{row.label}\n{row.params_m:.2g} M, AP {row.AP:.3f}"
        ax.scatter(row.per_s, row.AP, s=area * row.params_m, fc=ink, ec="white", lw=0.8, zorder=3)
        names.append((row.per_s, row.AP, words, ink))
    style.point_names(ax, names, 1.1 * fastest, 0.13 * top, lowest=0.08 * top)
