"""How models learned: every term of the loss, and AP, over epochs, minutes or steps.

A *log* is the DataFrame of a run's log.csv: one row per epoch with epoch, step, minutes, lr, train_<term>, val_<term>,
AP, AP50, APM, APL; rows without an evaluation hold NaN.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
from scipy.interpolate import interp1d

from posebook.figures import style

TITLES = {
    "total": "weighted sum",
    "loss_cls": "score, varifocal",
    "loss_bbox": "box, 1 - IoU²",
    "loss_oks": "proxy pose, 1 - OKS",
    "loss_vis": "visibility, cross-entropy",
    "loss_mle": "coordinates, -log likelihood",
    "loss_kld": "coordinates, KL divergence",
    "loss_oks_decoded": "coordinates, 1 - OKS",
    "loss_bbox_aux": "box, L1 (late)",
    "loss_heatmap": "heatmaps, squared error",
}
SCORES = {"AP": "-", "AP50": "--", "APL": "-.", "APM": ":"}  # lines


def terms(log: pd.DataFrame) -> list[str]:
    """Names of the terms in a log, the sum last; of models with layers, those of the last layer."""
    found = [name.removeprefix("train_") for name in log if name.startswith("train_") and log[name].notna().any()]
    found = [name for name in found if not re.search(r"_(\d+|dense)$", name)]
    return sorted(found, key=lambda name: name == "total")


@style.styled
def losses(log: pd.DataFrame, model: str, dataset: str, titles: dict | None = None, columns=4, logarithmic=False):
    """A panel per term over the epochs; training solid, validation dashed.

    Args:
        titles: term -> title of the panels; None = those that the log has.
        logarithmic: a logarithmic axis where a term falls by more than a factor of two; on less, its ticks would crowd.
    """
    titles = titles or {name: TITLES.get(name, style.joint_name(name.removeprefix("loss_"))) for name in terms(log)}
    columns = min(len(titles), columns)
    rows = math.ceil(len(titles) / columns)
    fig = style.figure(style.DOUBLE, 0.4 + 1.5 * rows)
    axes = fig.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    splits = {"train": ("training", "-", style.colour(model)), "val": ("validation", "--", "#333333")}
    for ax, letter, (term, title) in zip(axes, "abcdefghijkl", titles.items(), strict=False):
        drawn = log.reindex(columns=[f"{split}_{term}" for split in splits])
        for name, (words, line, ink) in zip(drawn, splits.values(), strict=True):
            if len(values := drawn[name].dropna()):
                look = {"color": ink, "lw": 1.2, "ms": 3, "marker": "o" if len(values) < 4 else None}
                ax.plot(log.epoch[values.index], values, line, label=words, **look)
        if logarithmic and drawn.max(axis=None) > 2 * drawn.min(axis=None) > 0:
            ax.set_yscale("log")
            style.plain_log(ax.yaxis)
        style.panel(ax, letter, title)
        style.whole_ticks(ax)
    for ax in axes[len(titles) :]:
        ax.set_axis_off()
    for ax in axes[max(len(titles) - columns, 0) : len(titles)]:
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    axes[0].legend(loc="best")
    style.note(fig, f"{style.label(model)}, {dataset}", 8, "black")
    return fig


def score_lines(ax, rows: pd.DataFrame, by: str, model: str, markers: bool) -> None:
    """AP in bold and its companions thin against a column, named at their right ends.

    COCO's -1 means that no such person is in the data. Set the limits of the axes first.
    """
    ends = []
    for name, line in SCORES.items():
        if name in rows and (rows[name] >= 0).any():
            values, main = rows[rows[name] >= 0], name == "AP"
            ink = style.colour(model) if main else style.GREY
            look = {"lw": 1.8 if main else 0.9, "zorder": 3 if main else 2, "ms": 3.3}
            ax.plot(values[by], values[name], line, color=ink, marker="o" if markers else None, **look)
            ends.append((values[name].iloc[-1], f"{name} {short(values[name].iloc[-1])}", ink))
    ax.set_ylim(0, None)
    style.direct_labels(ax, ends)


@style.styled
def ap_over_epochs(log: pd.DataFrame, model: str, dataset: str):
    """AP on the validation set over the epochs, minutes above; a dotted line marks a drop of the learning rate."""
    fig = style.figure(style.SINGLE, 2.5)
    ax = fig.subplots()
    rows = log[log.AP.notna()]
    for epoch in learning_rate_drops(log):
        ax.axvline(epoch, color="#444444", lw=0.8, ls=(0, (1, 1.5)))
        look = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 6, "ha": "right"}
        ax.annotate("learning rate\ndropped", (epoch, 0.03), (-2, 0), **look)
    ax.set(xlabel="epoch", ylabel=f"AP on {dataset}", xlim=(0, float(log.epoch.max()) or 1))
    style.whole_ticks(ax)
    minutes = log[log.minutes.notna()]
    if len(minutes) > 1 and minutes.minutes.is_monotonic_increasing:
        x, y = minutes.drop_duplicates("minutes")[["epoch", "minutes"]].to_numpy(float).T
        ends = ((x, y), (y, x)) if len(x) > 1 else ()
        pieces = tuple(interp1d(*pair, fill_value="extrapolate") for pair in ends)
        top = ax.secondary_xaxis("top", functions=pieces or None)
        top.set_xlabel("minutes of training")
        top.tick_params(labelsize=6.5)
    score_lines(ax, rows, "epoch", model, markers=len(rows) < 4)
    return fig


def ap_lines(ax, logs: dict[str, pd.DataFrame], by: str) -> list[tuple]:
    """AP of several models against a column of their logs; returns (last AP, model, colour) for the names of lines."""
    ends = []
    for model, log in logs.items():
        rows = log[log.AP.notna()]
        ax.plot(rows[by], rows.AP, "o-", ms=2.5, color=style.colour(model))
        ends.append((rows.AP.iloc[-1], model, style.colour(model)))
    ax.set(xlim=(0, None), ylim=(0, None))
    return ends


@style.styled
def ap_against_minutes(logs: dict[str, pd.DataFrame], dataset: str = "drawn people"):
    """Not in the papers: AP against minutes of training; dotted: the longest time that all runs have had.

    Args: logs: model name -> log.csv with minutes and AP.
    """
    fig = style.figure(style.SINGLE + 0.6, 2.4)
    ax = fig.subplots()
    if not logs:
        style.not_run(ax)
        return fig
    ends = ap_lines(ax, logs, "minutes")
    ax.axvline(min(log.minutes.max() for log in logs.values()), color="#444444", lw=0.8, ls=(0, (1, 1.5)))
    ax.set(xlabel="minutes of training", ylabel=f"AP on {dataset}")
    style.direct_labels(ax, [(ap, f"{model}\nAP {ap:.3f}", ink) for ap, model, ink in ends], gap_points=18)
    return fig


def at_equal_minutes(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, float, float]:
    """(minutes, AP of one, AP of the other) at the longest time that both logs reach; AP between rows on a line."""
    one, other = (log[log.AP.notna()] for log in (one, other))
    minutes = float(min(one.minutes.max(), other.minutes.max()))
    first, second = (float(np.interp(minutes, log.minutes, log.AP, left=0.0)) for log in (one, other))
    return minutes, first, second


def learning_rate_drops(log: pd.DataFrame) -> list[float]:
    """Epochs at which the learning rate falls by a factor of at least 4 in one step (a cosine has none)."""
    if "lr" not in log or len(log) < 3:
        return []
    # A cosine's last epochs fall fast as well, epoch after epoch; a step stands between level stretches.
    fall = (log.lr.shift() / log.lr).fillna(np.inf)
    level = fall < 1.1
    dropped = (log.lr > 0) & (fall >= 4) & level.shift(fill_value=False) & level.shift(-1, fill_value=True)
    return log.epoch[dropped].astype(float).tolist()


def short(value: float) -> str:
    """AP as papers write it here: .336; 1.000 stays."""
    return f"{value:.3f}".lstrip("0") if value < 1 else f"{value:.3f}"
