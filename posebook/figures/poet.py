"""The curves of the POET paper (Stoffl, Vidal, Mathis 2021): data in, matplotlib Figure out, no I/O.

Figure 2 is in `poet_overview`, figures with images (4, 7, 9, 10) in `poet_images`. `dataset`: how numbers are
labelled, never as COCO's where they are measured on drawn people. Logs: see `training`.
"""

from __future__ import annotations

import pandas as pd

from posebook.figures import style, training

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
SHOWN = (1, 5, 13)  # numbers of people whose time is split into parts; the nearest measured ones are taken
QUERIES = {
    "poet_tiny": "learned queries (the paper)",
    "poet_tiny_proposals": "queries chosen from\nthe encoder (extension)",
}


@style.styled
def fig01_speed(data: pd.DataFrame, device: str = ""):
    """Figure 1: (a) frames per second against the number of people; (b) the parts of the median time of one image.

    Args:
        data: columns method, people, part ("total" or a key of `PARTS`), median_ms, q25, q75.
        device: processor, threads and precision, printed in the title.
    """
    total = data[data.part == "total"]
    methods = list(dict.fromkeys(total.method))
    fig = style.figure(style.DOUBLE, 1.4 + 0.5 * len(methods))
    left, right = fig.subplots(1, 2, width_ratios=(1.25, 1))
    ends = []
    for method in methods:
        # A method that does nothing for an empty image (boxes given, no boxes) has no speed there.
        worked = data[(data.method == method) & (data.part != "total") & (data.median_ms > 0)].people
        rows = total[(total.method == method) & total.people.isin(worked)].sort_values("people")
        ink, name = style.colour(method), style.label(method).replace(" + ", " +\n").replace(", ", ",\n")
        left.plot(rows.people, 1000 / rows.median_ms, "o-", color=ink, ms=3)
        left.fill_between(rows.people, 1000 / rows.q75, 1000 / rows.q25, color=ink, alpha=0.2, lw=0)
        ends.append((1000 / rows.median_ms.iloc[-1], name, ink))
    left.set(xlabel="people in the image", ylabel="frames per second", yscale="log")
    left.set_xlim(-0.3, total.people.max() + 0.3)
    style.whole_ticks(left)
    style.plain_log(left.yaxis)
    style.panel(left, "a", "median, quartiles" + (f" ({device})" if device else ""))
    style.direct_labels(left, ends, 21, 6.3)  # a legend inside would hide lines of a crowded plot
    people = [int(n) for n in sorted(total.people.unique())]
    counts = sorted({min(people, key=lambda n: abs(n - wanted)) for wanted in SHOWN})
    _time_parts(right, data, methods, counts)
    style.panel(right, "b", "medians of the parts")
    return fig


def _time_parts(ax, data: pd.DataFrame, methods: list[str], counts: list[int]) -> None:
    """Panel b of Figure 1: a bar per method and number of people, made of its parts."""
    ticks, ms = [], data[data.median_ms > 0].set_index(["method", "people", "part"]).median_ms
    used = [part for part in PARTS if part in ms[ms.index.isin(counts, level="people")].index.get_level_values("part")]
    for i, method in enumerate(methods):
        for j, count in enumerate(counts):
            at, start = i * (len(counts) + 0.9) + j, 0.0
            ticks.append(at)
            for part in (part for part in used if (method, count, part) in ms):
                ax.barh(at, ms[method, count, part], left=start, color=PARTS[part][1], height=0.8, lw=0)
                start += ms[method, count, part]
        look = {"transform": ax.get_yaxis_transform(), "fontsize": 6.3, "ha": "right", "va": "bottom"}
        ax.text(0.99, i * (len(counts) + 0.9) - 0.62, style.label(method), color=style.colour(method), **look)
    names = [f"{count}" for count in counts] * len(methods)
    ax.set(xlabel="milliseconds per image", ylabel="people in the image", yticks=ticks, yticklabels=names)
    ax.set_ylim(max(ticks) + 0.6, -1.6)
    ax.grid(False, axis="y")
    handles = [ax.barh(0, 0, color=PARTS[part][1], label=PARTS[part][0]) for part in used]
    look = {"fontsize": 6, "handlelength": 1, "handletextpad": 0.4, "columnspacing": 0.8}
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.4, -0.49 / ax.figure.get_figheight()), ncols=3, **look
    )


@style.styled
def fig03_losses(log: pd.DataFrame, model="poet_tiny", dataset="drawn people", weights: dict | None = None):
    """Figure 3: every term of the loss (Eq. 4) over the epochs; training solid, validation dashed.

    The terms are unweighted, of the last decoder layer; `weights` (term -> coefficient) adds the coefficient to each
    title.
    """
    weights = weights or {}
    titles = {term: words + (f"  (× {weights[term]:g})" if term in weights else "") for term, words in TERMS.items()}
    fig = training.losses(log, model, dataset, titles, columns=3, logarithmic=True)
    words = ("loss per person", "", "", "loss per person", "loss per query", "all layers")
    for ax, unit in zip(fig.axes, words, strict=True):
        ax.set_ylabel(unit)
    return fig


@style.styled
def fig06_stride(data: pd.DataFrame, dataset: str = "drawn people"):
    """Figure 6: AP against the stride of the features, the line through the means, a point per run.

    Args: data: a row per run: method ("POET" or "AE"), stride in pixels, AP.
    """
    fig = style.figure(style.SINGLE, 2.4)
    ax, strides, ends = fig.subplots(), sorted(data.stride.unique()), []
    ax.set(xscale="log", xlabel="stride (px)", ylabel=f"AP on {dataset}", ylim=(0, max(1.08 * data.AP.max(), 0.01)))
    ax.minorticks_off()
    ax.set_xticks(strides, [f"{stride:g}" for stride in strides])
    for method, runs in data.groupby("method", sort=False):
        means, ink = runs.groupby("stride").AP.mean(), style.colour(f"{method.lower()}_tiny")
        ax.plot(means.index, means, color=ink)
        ax.plot(runs.stride, runs.AP, "o", ms=3.5, color=ink)
        ends.append((means.iloc[-1], method, ink))
    style.direct_labels(ax, ends, 20)
    return fig


@style.styled
def fig08_decoder_depth(data: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Figure 8: AP when the poses are read from decoder layer 1, 2, ... of one trained model.

    Args: data: columns layer (from 1), AP, and where known AP50, APM, APL.
    """
    fig = style.figure(style.SINGLE, 2.3)
    ax = fig.subplots()
    ax.set(xlabel="decoder layer", ylabel=f"AP on {dataset}", xticks=list(data.layer))
    ax.set_title(f"last layer − first layer: {data.AP.iloc[-1] - data.AP.iloc[0]:+.3f} AP")
    ax.set_xlim(data.layer.min() - 0.15, data.layer.max() + 0.15)
    training.score_lines(ax, data, "layer", model, markers=True)
    return fig


@style.styled
def ext_queries(learned: pd.DataFrame, chosen: pd.DataFrame, dataset: str = "drawn people"):
    """Not in the paper: learned queries (POET) against queries chosen from the encoder (an extension), AP over time.

    Args: two logs; both need minutes, step and AP.
    """
    fig = style.figure(style.DOUBLE, 2.5)
    left, right = fig.subplots(1, 2, sharey=True)
    units = ((left, "a", "minutes", "minutes of training"), (right, "b", "step", "optimiser steps"))
    for ax, letter, by, unit in units:
        ends = training.ap_lines(ax, dict(zip(QUERIES, (learned, chosen), strict=True)), by)
        ax.set_xlabel(unit)
        style.panel(ax, letter, f"AP against {unit}")
    names = [(ap, f"{QUERIES[model]}\nAP {training.short(ap)}", ink) for ap, model, ink in ends]
    style.direct_labels(right, names, gap_points=26)
    left.set_ylabel(f"AP on {dataset}")
    return fig
