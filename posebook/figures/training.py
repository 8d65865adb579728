"""How models learned: every term of the loss, and AP, over epochs, minutes or steps.

A *log* is the DataFrame of a run's log.csv: one row per epoch with epoch, step, minutes, lr, train_<term>, val_<term>,
AP, AP50, APM, APL; rows without an evaluation hold NaN.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd

from posebook.figures import style

TITLES = {
    "total": "weighted sum",
    # RTMO
    "loss_cls": "score, varifocal",
    "loss_bbox": "box, 1 - IoU²",
    "loss_oks": "proxy pose, 1 - OKS",
    "loss_vis": "visibility, cross-entropy",
    "loss_mle": "coordinates, -log likelihood",
    "loss_kld": "coordinates, KL divergence",
    "loss_oks_decoded": "coordinates, 1 - OKS",
    "loss_bbox_aux": "box, L1 (late)",
    # ViTPose
    "loss_heatmap": "heatmaps, squared error",
}
SCORES = {"AP": "-", "AP50": "--", "APL": "-.", "APM": ":"}  # lines


def terms(log: pd.DataFrame) -> list[str]:
    """Names of the terms in a log, the sum last; of models with layers, those of the last layer."""
    found = [name.removeprefix("train_") for name in log if name.startswith("train_") and log[name].notna().any()]
    found = [name for name in found if not re.search(r"_(\d+|dense)$", name)]
    return sorted(found, key=lambda name: name == "total")


@style.styled
def losses(
    log: pd.DataFrame,
    model: str,
    dataset: str,
    titles: dict[str, str] | None = None,
    columns: int = 4,
    logarithmic: bool = False,
):
    """A panel per term over the epochs; training solid, validation dashed.

    Read in it: all terms should fall together, and the gap between solid and dashed is overfitting. A term may jump
    where a stage of the training begins, because its target changes then.

    Args:
        titles: term -> title of the panels; None = those that the log has.
        logarithmic: a logarithmic axis where a term falls by more than a factor of two; on less, its ticks would crowd.
    """
    titles = titles or {name: TITLES.get(name, style.joint_name(name.removeprefix("loss_"))) for name in terms(log)}
    columns = min(len(titles), columns)
    rows = math.ceil(len(titles) / columns)
    fig = style.figure(style.DOUBLE, 0.4 + 1.5 * rows)
    axes = fig.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for ax, letter, (term, title) in zip(axes, "abcdefghijkl", titles.items(), strict=False):
        drawn = []
        for split, words, line in (("train", "training", "-"), ("val", "validation", "--")):
            name = f"{split}_{term}"
            if name in log and log[name].notna().any():
                rows_ = log[log[name].notna()]
                look = {"color": style.colour(model) if split == "train" else "#333333", "lw": 1.2, "ms": 3}
                ax.plot(rows_.epoch, rows_[name], line, marker="o" if len(rows_) < 4 else None, label=words, **look)
                drawn.append(rows_[name])
        if logarithmic and drawn and pd.concat(drawn).max() > 2 * pd.concat(drawn).min() > 0:
            ax.set_yscale("log")
            style.plain_log(ax)
        style.panel(ax, letter, title)
        style.whole_ticks(ax)
    for ax in axes[len(titles) :]:
        ax.set_axis_off()
    for ax in axes[max(len(titles) - columns, 0) : len(titles)]:
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    axes[0].legend(loc="best")
    fig.suptitle(f"{style.label(model)}, {dataset}", fontsize=8, x=0.01, ha="left")
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
    """AP on the validation set over the epochs, minutes above; a dotted line marks a drop of the learning rate.

    Read in it: whether learning had levelled off when training ended, and what the drop brought. AP in bold; AP50
    (lenient), APL and APM (large and medium people) thin.
    """
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
        top = ax.secondary_xaxis("top", functions=_between(minutes.epoch, minutes.minutes))
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
    """Not in the papers: AP against minutes of training, such as of dense assignment (RTMO) and set prediction (POET).

    Read in it: the dotted line is the longest time that all runs have had; compare there.

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


def learning_rate_drops(log: pd.DataFrame, factor: float = 4.0) -> list[float]:
    """Epochs at which the learning rate falls by at least `factor` in one step (a cosine has none)."""
    if "lr" not in log or len(log) < 3:
        return []
    rate, epoch = log.lr.to_numpy(float), log.epoch.to_numpy(float)
    falls = [i for i in range(1, len(rate)) if rate[i] > 0 and rate[i - 1] / rate[i] >= factor]
    # A cosine's last epochs fall fast as well, epoch after epoch; a step stands between level stretches.
    before = [i > 1 and rate[i - 2] / rate[i - 1] < 1.1 for i in falls]
    after = [i + 1 >= len(rate) or rate[i] / max(rate[i + 1], 1e-30) < 1.1 for i in falls]
    return [float(epoch[i]) for i, a, b in zip(falls, before, after, strict=True) if a and b]


def short(value: float) -> str:
    """AP as papers write it here: .336; 1.000 stays."""
    return f"{value:.3f}".lstrip("0") if value < 1 else f"{value:.3f}"


def _between(x: pd.Series, y: pd.Series):
    """(x -> y, y -> x) by straight pieces, continued beyond both ends, for a secondary axis."""
    x, y = x.to_numpy(float), y.to_numpy(float)
    keep = np.concatenate([[True], np.diff(y) > 0])
    x, y = x[keep], y[keep]

    def line(a, b):
        def through(value):
            value = np.asarray(value, float)
            i = np.clip(np.searchsorted(a, value) - 1, 0, len(a) - 2)
            return b[i] + (value - a[i]) * (b[i + 1] - b[i]) / (a[i + 1] - a[i])

        return through

    if len(x) < 2:
        return (lambda value: value, lambda value: value)
    return line(x, y), line(y, x)
