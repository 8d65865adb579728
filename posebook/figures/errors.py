"""What all systems get wrong, and how far their scores can be believed. Data in, Figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.analysis.error_anatomy import MENDED
from posebook.figures import style
from posekit.evaluation.errors import KINDS

INKS = dict(zip(KINDS, ("#D9D9D9", "#56B4E9", "#E69F00", "#CC79A7", "#D55E00"), strict=True))
MARKS = dict(zip(MENDED, "os^vDx+", strict=True))


@style.styled
def all_errors(rows: pd.DataFrame, dataset: str = "drawn people"):
    """(a) Joints of detected people by kind of error; (b) what AP would gain if a kind were corrected.

    rows: a row per system, best AP first: system, AP, `KINDS` (shares), `MENDED` with the prefix "gain " (in AP).
    """
    fig = style.figure(style.DOUBLE, 1.7 + 0.24 * len(rows))
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.1, 1))
    places = np.arange(len(rows))[::-1]
    start = np.zeros(len(rows))
    for kind in KINDS:
        share = rows[kind].fillna(0).to_numpy()
        left.barh(places, share, 0.68, start, color=INKS[kind], label=kind, lw=0)
        start = start + share
    left.set_yticks(places, [f"{style.label(row.system)}, AP {row.AP:.2f}" for row in rows.itertuples()], fontsize=6.5)
    left.set(xlim=(0, 1), xlabel=f"joints of detected people, {dataset}")
    look = {"fontsize": 6, "loc": "lower left", "columnspacing": 0.9, "handletextpad": 0.3, "handlelength": 1.2}
    left.legend(ncols=len(KINDS), bbox_to_anchor=(-0.03, 1.0), **look)
    for kind in MENDED:
        ink = INKS.get(kind, "#333333" if kind == "all joints" else style.GREY)
        face = ink if kind in INKS else "white"
        right.plot(rows[f"gain {kind}"], places, MARKS[kind], color=ink, mfc=face, ms=4.2, mew=1.0, label=kind)
    right.axvline(0, color="#444444", lw=0.6)
    right.set(xlabel="AP gained if it were corrected")
    right.legend(ncols=3, bbox_to_anchor=(-0.03, 1.0), **look)
    return fig


@style.styled
def all_calibration(rows: pd.DataFrame, models: dict[str, str], dataset: str = "drawn people"):
    """(a) Scores: how many detections of a score find somebody at OKS 0.5; (b) visibility: how many joints of a number
    are visible. On the diagonal a number is a probability.

    rows: system, what ("score" or "visibility"), predicted, observed, error. models: system -> model, for its colour.
    """
    fig = style.figure(style.DOUBLE, 2.7)
    axes = dict(zip(("score", "visibility"), fig.subplots(1, 2), strict=True))
    titles = {"score": f"a detection's score, {dataset}", "visibility": "a joint's visibility"}
    inks = [style.colour(models[system]) for system in rows.system.unique()]
    lines = {system: (inks[i], ("o-", "s--", "^:")[min(inks[:i].count(inks[i]), 2)])  # a family has one colour
             for i, system in enumerate(rows.system.unique())}  # fmt: skip
    for letter, (what, ax) in zip("ab", axes.items(), strict=True):
        for system, bins in rows[rows.what == what].groupby("system", sort=False):
            ink, line = lines[system]
            name = style.label(system) if what == "visibility" else None
            ax.plot(bins.predicted, bins.observed, line, color=ink, ms=2.6, lw=1.0, label=name)
        ax.plot((0, 1), (0, 1), "--", color="#555555", lw=0.7, zorder=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted", ylabel="share for which it holds")
        style.panel(ax, letter, titles[what])
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right center", fontsize=6, frameon=False)
    return fig
