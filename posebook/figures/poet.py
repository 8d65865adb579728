"""The figures of the POET paper (Stoffl, Vidal, Mathis 2021), one function each: data in, matplotlib Figure
out, no I/O.

Curves live here; Figure 2 is in `poet_overview`, Figure 7 in `poet_attention`, the others with pictures (4,
9, 10) in `poet_pictures`; all are reachable from here. Every function takes `dataset`, the words under which
its numbers are shown: the default says drawn people, because nothing measured on them may be read as COCO.

A *log* is the DataFrame of a run's log.csv: one row per epoch with epoch, step, minutes, lr, train_<term>,
val_<term>, AP, AP50, APM, APL; rows without an evaluation hold NaN.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import style
from posebook.figures.poet_attention import fig07_attention, fig07_data, one_map
from posebook.figures.poet_overview import fig02_overview
from posebook.figures.poet_pictures import fig04_examples, fig09_centers, fig10_data, fig10_visibility

__all__ = [
    "ext_queries",
    "fig01_speed",
    "fig02_overview",
    "fig03_losses",
    "fig04_examples",
    "fig05_map",
    "fig07_attention",
    "fig07_data",
    "fig08_decoder_depth",
    "fig09_centers",
    "fig10_data",
    "fig10_visibility",
    "learning_rate_drops",
    "one_map",
]

# Loss terms with the paper's names (Eq. 3 and 4) and what they are.
TERMS = {
    "loss_kpts": "$L_{abs}$: keypoints, L1",
    "loss_deltas": "$L_{deltas}$: offsets, L1",
    "loss_ctrs": "$L_{ctr}$: centre, L2²",
    "loss_kpts_class": "$L_{vis}$: visibility, L2²",
    "loss_ce": "class, cross-entropy",
    "total": "weighted sum",
}
PARTS = {
    "F": ("forward", "#0072B2"),
    "P": ("post-processing", "#CC79A7"),
    "D": ("person detector", "#8A5F00"),
    "C": ("crops", "#56B4E9"),
    "T": ("pose network on crops", "#E69F00"),
}
MEASURES = {"AP": "-", "AP50": "--", "APL": "-.", "APM": ":"}


@style.styled
def fig01_speed(data: pd.DataFrame, device: str = "", shown: tuple[int, ...] = (1, 5, 13)):
    """Figure 1: frames per second against the number of people, and where the time goes.

    Read in (a): a flat line is a model whose speed does not depend on the people in the picture (POET); a
    falling one pays per person (top-down). (b) splits the median time of one picture into its parts for few,
    some and many people.

    Args:
        data: columns method, people, part ("total", "F", "P", "D", "C" or "T"), median_ms, q25, q75.
        device: processor, threads and precision, printed in the title.
        shown: numbers of people in (b); the nearest measured number is taken.
    """
    total = data[data.part == "total"]
    methods = list(dict.fromkeys(total.method))
    fig = style.figure(style.DOUBLE, 2.9)
    left, right = fig.subplots(1, 2, width_ratios=(1.25, 1))
    ends = []
    for method in methods:
        # A method that does nothing for an empty picture (boxes given, no boxes) has no speed there.
        worked = data[(data.method == method) & (data.part != "total") & (data.median_ms > 0)].people
        rows = total[(total.method == method) & total.people.isin(worked)].sort_values("people")
        ink = style.colour(method)
        left.plot(rows.people, 1000 / rows.median_ms, "o-", color=ink, ms=3)
        left.fill_between(rows.people, 1000 / rows.q75, 1000 / rows.q25, color=ink, alpha=0.2, lw=0)
        ends.append((1000 / rows.median_ms.iloc[-1], style.label(method), ink))
    left.set(xlabel="people in the picture", ylabel="frames per second", yscale="log")
    left.set_xlim(-0.3, total.people.max() + 0.3)
    left.xaxis.get_major_locator().set_params(integer=True)
    _plain_log(left)
    style.panel(left, "a", "speed: median, quartiles" + (f" ({device})" if device else ""))
    # The labels need the final height of the axis: a legend inside would hide lines of a crowded plot.
    style.direct_labels(
        left, [(y, text.replace(" + ", " +\n").replace(", ", ",\n"), ink) for y, text, ink in ends], 21, 6.3
    )

    people = [int(n) for n in sorted(total.people.unique())]
    counts = sorted({min(people, key=lambda n: abs(n - wanted)) for wanted in shown})
    ticks, names, used = [], [], []
    for i, method in enumerate(methods):
        for j, count in enumerate(counts):
            at, start = i * (len(counts) + 0.9) + j, 0.0
            for part, (_, ink) in PARTS.items():
                rows = data[(data.method == method) & (data.people == count) & (data.part == part)]
                if len(rows) and rows.median_ms.iloc[0] > 0:
                    right.barh(at, rows.median_ms.iloc[0], left=start, color=ink, height=0.8, lw=0)
                    start += rows.median_ms.iloc[0]
                    used.append(part)
            ticks.append(at)
            names.append(f"{count}")
        right.text(
            0.99,
            i * (len(counts) + 0.9) - 0.62,
            style.label(method),
            transform=right.get_yaxis_transform(),
            fontsize=6.3,
            color=style.colour(method),
            ha="right",
            va="bottom",
        )
    right.set(xlabel="milliseconds per picture", ylabel="people in the picture", yticks=ticks, yticklabels=names)
    right.set_ylim(max(ticks) + 0.6, -1.6)
    right.grid(False, axis="y")
    handles = [right.barh(0, 0, color=PARTS[part][1], label=PARTS[part][0]) for part in PARTS if part in used]
    right.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.4, -0.17),
        ncols=3,
        fontsize=6,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=0.8,
    )
    style.panel(right, "b", "medians of the parts")
    return fig


@style.styled
def fig03_losses(
    log: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people", weights: dict | None = None
):
    """Figure 3: every term of the loss (Eq. 4) over the epochs; training solid, validation dashed.

    Read in it: all terms should fall together, and the gap between solid and dashed is overfitting. The terms
    are unweighted, of the last decoder layer; `weights` (term -> coefficient) adds the coefficient to each
    title.
    """
    fig = style.figure(style.DOUBLE, 3.5)
    axes = fig.subplots(2, 3, sharex=True).ravel()
    ink = style.colour(model)
    for ax, letter, (term, title) in zip(axes, "abcdef", TERMS.items(), strict=True):
        drawn = []
        for split, line, shade in (("train", "-", ink), ("val", "--", "#333333")):
            name = f"{split}_{term}"
            if name in log and log[name].notna().any():
                rows = log[log[name].notna()]
                ax.plot(
                    rows.epoch,
                    rows[name],
                    line,
                    color=shade,
                    lw=1.2,
                    marker="o" if len(rows) < 4 else None,
                    ms=3,
                    label={"train": "training"}.get(split, "validation"),
                )
                drawn.append(rows[name].to_numpy())
        # A log axis where the loss falls by more than a factor of two; on less, its ticks would crowd.
        if drawn and np.concatenate(drawn).max() > 2 * np.concatenate(drawn).min() > 0:
            ax.set_yscale("log")
            _plain_log(ax)
        factor = (weights or {}).get(term)
        style.panel(ax, letter, title + (f"  (× {factor:g})" if factor is not None else ""))
    axes[0].legend(loc="upper right")
    for ax in axes[3:]:
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[::3]:
        ax.set_ylabel("loss per person")
    axes[4].set_ylabel("loss per query")
    axes[5].set_ylabel("all layers")
    fig.suptitle(f"{style.label(model)}, {dataset}", fontsize=8, x=0.01, ha="left")
    return fig


@style.styled
def fig05_map(log: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Figure 5: AP on the validation set over the epochs, minutes above; a dotted line marks a drop of the
    learning rate.

    Read in it: whether learning had levelled off when training ended, and what the drop brought. AP in bold;
    AP50 (lenient), APL and APM (large and medium people) thin.
    """
    fig = style.figure(style.SINGLE, 2.5)
    ax = fig.subplots()
    rows = log[log.AP.notna()]
    ends = []
    for name, line in MEASURES.items():
        if name in rows and (rows[name] >= 0).any():
            values = rows[rows[name] >= 0]  # COCO's -1: no such person in the data
            main = name == "AP"
            ink = style.colour(model) if main else style.GREY
            ax.plot(
                values.epoch,
                values[name],
                line,
                color=ink,
                lw=1.8 if main else 0.9,
                zorder=3 if main else 2,
                marker="o" if len(values) < 4 else None,
                ms=3,
            )
            ends.append((values[name].iloc[-1], f"{name} {_short(values[name].iloc[-1])}", ink))
    for epoch in learning_rate_drops(log):
        ax.axvline(epoch, color="#444444", lw=0.8, ls=(0, (1, 1.5)))
        ax.annotate(
            "learning rate\ndropped",
            (epoch, 0.03),
            xycoords=("data", "axes fraction"),
            fontsize=6,
            ha="right",
            xytext=(-2, 0),
            textcoords="offset points",
        )
    ax.set(xlabel="epoch", ylabel=f"AP on {dataset}", xlim=(0, float(log.epoch.max()) or 1))
    ax.set_ylim(0, None)
    ax.xaxis.get_major_locator().set_params(integer=True)
    minutes = log[log.minutes.notna()]
    if len(minutes) > 1 and minutes.minutes.is_monotonic_increasing:
        top = ax.secondary_xaxis("top", functions=_between(minutes.epoch, minutes.minutes))
        top.set_xlabel("minutes of training")
        top.tick_params(labelsize=6.5)
    style.direct_labels(ax, ends)
    return fig


@style.styled
def fig08_decoder_depth(data: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Figure 8: AP when the poses are read from decoder layer 1, 2, ... of one trained model.

    Read in it: how many layers the model needs. The paper (six layers, COCO) levels off after four.

    Args:
        data: columns layer (from 1), AP, and where known AP50, APM, APL.
    """
    fig = style.figure(style.SINGLE, 2.3)
    ax = fig.subplots()
    ends = []
    for name, line in MEASURES.items():
        if name in data and (data[name] >= 0).all():
            main = name == "AP"
            ink = style.colour(model) if main else style.GREY
            ax.plot(data.layer, data[name], line, marker="o", ms=3.5, color=ink, lw=1.8 if main else 0.9)
            ends.append((data[name].iloc[-1], f"{name} {_short(data[name].iloc[-1])}", ink))
    gain = data.AP.iloc[-1] - data.AP.iloc[0]
    ax.set(xlabel="decoder layer", ylabel=f"AP on {dataset}", xticks=list(data.layer))
    ax.set_title(f"last layer − first layer: {gain:+.3f} AP")
    ax.set_ylim(0, None)
    ax.set_xlim(data.layer.min() - 0.15, data.layer.max() + 0.15)
    style.direct_labels(ax, ends)
    return fig


@style.styled
def ext_queries(
    learned: pd.DataFrame,
    chosen: pd.DataFrame,
    dataset: str = "drawn people",
    models: tuple[str, str] = ("poet_tiny", "poet_tiny_proposals"),
):
    """Not in the paper: learned queries (POET) against queries chosen from the encoder (an extension), AP
    over time.

    Read in it: the same AP, how much earlier? (a) against minutes of the same machine, (b) against optimiser
    steps.

    Args: two logs; both need minutes, step and AP.
    """
    fig = style.figure(style.DOUBLE, 2.5)
    axes = fig.subplots(1, 2, sharey=True)
    names = {
        "poet_tiny": "learned queries (the paper)",
        "poet_tiny_proposals": "queries chosen from\nthe encoder (extension)",
    }
    for ax, letter, by, unit in zip(
        axes, "ab", ("minutes", "step"), ("minutes of training", "optimiser steps"), strict=True
    ):
        ends = []
        for log, model in zip((learned, chosen), models, strict=True):
            rows = log[log.AP.notna()]
            ink = style.colour(model)
            ax.plot(rows[by], rows.AP, "o-", ms=2.5, color=ink)
            ends.append((rows.AP.iloc[-1], f"{names.get(model, model)}\nAP {_short(rows.AP.iloc[-1])}", ink))
        ax.set_xlabel(unit)
        ax.set_xlim(0, None)
        ax.set_ylim(0, None)
        style.panel(ax, letter, f"AP against {unit}")
        if letter == "b":
            style.direct_labels(ax, ends, gap_points=26)
    axes[0].set_ylabel(f"AP on {dataset}")
    return fig


def learning_rate_drops(log: pd.DataFrame, factor: float = 4.0) -> list[float]:
    """Epochs at which the learning rate falls by at least `factor` in one step (a cosine has none)."""
    if "lr" not in log or len(log) < 3:
        return []
    rate = log.lr.to_numpy(float)
    epoch = log.epoch.to_numpy(float)
    falls = [i for i in range(1, len(rate)) if rate[i] > 0 and rate[i - 1] / rate[i] >= factor]
    # A cosine's last epochs fall fast as well, epoch after epoch; a step stands between level stretches.
    before = [i > 1 and rate[i - 2] / rate[i - 1] < 1.1 for i in falls]
    after = [i + 1 >= len(rate) or rate[i] / max(rate[i + 1], 1e-30) < 1.1 for i in falls]
    return [float(epoch[i]) for i, a, b in zip(falls, before, after, strict=True) if a and b]


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


def _plain_log(ax) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """AP as papers write it here: .336; 1.000 stays."""
    return f"{value:.3f}".lstrip("0") if value < 1 else f"{value:.3f}"
