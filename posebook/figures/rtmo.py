"""Figures of results of the RTMO paper (Lu et al. 2023): data in, matplotlib Figure out, no I/O.

Numbers of drawn people and of COCO or CrowdPose never share an axis.
"""

from __future__ import annotations

import pandas as pd

from posebook.figures import style

# Colour, line and marker of a backend: shades of RTMO's vermilion.
BACKENDS = {
    "eager": ("PyTorch, eager", "#D55E00", "-", "o"),
    "onnxruntime": ("ONNX Runtime", "#7A3600", "--", "s"),
    "openvino": ("OpenVINO, float32", "#EE9A4D", "-.", "^"),
    "openvino_bf16": ("OpenVINO, bfloat16", "#A8793F", ":", "D"),
}
FAMILIES = {  # of Table 1, with their colours; all others are grey
    "RTMO": style.MODEL_COLOURS["rtmo"],
    "YOLO-Pose": style.MODEL_COLOURS["yolox"],
    "KAPAO": "#CC79A7",
    "ED-Pose": "#0072B2",
    "PETR": "#009E73",
    "CID": "#E69F00",
}
CLOCKS = {"V100 ONNXRuntime": "o", "V100": "o", "V100 PyTorch": "^", "PETR's paper": "s"}


def family(method: str) -> str:
    """Such as "RTMO-s" -> "RTMO"; methods outside `FAMILIES` are "others"."""
    return next((name for name in FAMILIES if method.startswith(name)), "others")


@style.styled
def fig01_tradeoff(paper: pd.DataFrame, ours: pd.DataFrame, dataset: str, device: str = ""):
    """Figure 1, as time against AP: (a) the paper's methods on COCO, (b) this book's small models on other data.

    Args:
        paper: rows of the paper's Table 1: method, backbone, time_ms, timed, AP (per cent), extra_data.
        ours: label, model, backend ("eager" or another of `BACKENDS`), ms, AP in [0, 1]; one row per point.
        dataset, device: where AP and times of `ours` come from.
    """
    fig = style.figure(style.DOUBLE, 3.1)
    left, right = fig.subplots(1, 2, width_ratios=(1.35, 1))
    known = paper[paper.time_ms.notna() & paper.AP.notna()]
    known = known.assign(family=[family(name) for name in known.method])
    for (name, more), rows in known.sort_values("time_ms").groupby(["family", "extra_data"], sort=False):
        ink, chain = FAMILIES.get(name, style.GREY), rows[rows.backbone.isin(["CSPDarknet", "CSPNet"])]
        if name != "others":
            left.plot(chain.time_ms, chain.AP, ":" if more == "yes" else "-", color=ink, lw=1)
        look = {"color": ink, "mfc": "white" if more == "yes" else ink, "ms": 4.2, "mew": 0.9}
        for row in rows.itertuples():
            left.plot(row.time_ms, row.AP, CLOCKS[row.timed], **look)
    _name_families(left, known)
    left.set(xscale="log", xlabel="ms per image on a V100 (log)", ylabel="AP on COCO test-dev, per cent")
    left.set(xlim=(6.5, 420), ylim=(59.6, 74.6))
    left.set_xticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    left.minorticks_off()
    style.panel(left, "a", "as printed in the paper, Table 1")
    note = "circle: authors' V100 (RTMO: ONNXRuntime)\ntriangle: by PyTorch   square: from PETR's paper\n"
    style.inside(left, 0.98, 0.02, note + "hollow: more data (†)", fontsize=5.4, va="bottom", ha="right")
    _our_points(right, ours)
    right.set(xlabel=f"ms per image{', ' + device if device else ''}", ylabel=f"AP on {dataset}")
    style.panel(right, "b", "this book: tiny models, other data")
    return fig


def _name_families(ax, known: pd.DataFrame) -> None:
    """The name of each family beside one of its points, and the letters of RTMO's sizes."""
    places = {  # method and backbone of the point, offset in points
        "RTMO": ("RTMO-l", "CSPDarknet", (-38, -2)),
        "YOLO-Pose": ("YOLO-Pose-s", "CSPDarknet", (5, -3)),
        "KAPAO": ("KAPAO-s", "CSPNet", (6, -3)),
        "ED-Pose": ("ED-Pose", "Swin-L", (-30, 5)),
        "PETR": ("PETR", "Swin-L", (6, -8)),
        "CID": ("CID", "HRNet-w48", (-16, 3)),
    }
    for name, (method, backbone, offset) in places.items():
        for at in known[(known.method == method) & (known.backbone == backbone)].nlargest(1, "AP").itertuples():
            weight = "bold" if name == "RTMO" else "normal"
            style.beside(ax, (at.time_ms, at.AP), offset, name, color=FAMILIES[name], fontsize=7, weight=weight)
    for row in known[known.method.str.match("RTMO-") & (known.extra_data == "no")].itertuples():
        size = row.method.removeprefix("RTMO-")
        offset = (5, -8 if size == "r50" else -5)
        style.beside(ax, (row.time_ms, row.AP), offset, size, fontsize=6, color=FAMILIES["RTMO"])
    for at in known[known.family == "others"].nsmallest(1, "AP").itertuples():
        style.beside(ax, (at.time_ms, at.AP), (6, -3), "others", fontsize=7, color=style.GREY)


def _our_points(ax, ours: pd.DataFrame) -> None:
    """A filled point per weights by PyTorch, hollow ones by other backends, a line between them, names at the right."""
    if not len(ours):
        style.not_run(ax)
        return
    top, slowest = max(float(ours.AP.max()), 0.01), float(ours.ms.max())
    ax.set(xlim=(0, 1.9 * slowest), ylim=(-0.06 * top, 1.3 * top))
    names = []
    for (label, model), rows in ours.groupby(["label", "model"], sort=False):
        ink, rows = style.colour(model), rows.sort_values("ms")
        ax.plot(rows.ms, rows.AP, "-", color=ink, lw=0.6)
        for row in rows.itertuples():
            face = ink if row.backend == "eager" else "white"
            ax.plot(row.ms, row.AP, BACKENDS[row.backend][3], color=ink, mfc=face, ms=4.5, mew=0.9)
        names.append((rows.ms.iloc[-1], rows.AP.iloc[0], f"{label}\nAP {rows.AP.iloc[0]:.3f}", ink))
    style.point_names(ax, names, 1.15 * slowest, 0.13 * top)
    for name in (name for name in BACKENDS if name in set(ours.backend)):
        face = style.GREY if name == "eager" else "white"
        ax.plot([], [], BACKENDS[name][3], color=style.GREY, mfc=face, ms=4, label=BACKENDS[name][0])
    ax.legend(fontsize=5.6, loc="upper right", handletextpad=0.1)


@style.styled
def fig03_latency(rows: pd.DataFrame, model: str, device: str, claim: float):
    """Figure 3, first version: (a) time against the number of people; (b) in per cent of an empty image.

    Args: rows: method (`model`_`backend`), people, part, median_ms, q25, q75. claim: per cent, what the paper reports
        for more than ten people.
    """
    fig = style.figure(style.DOUBLE, 2.7)
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    total = rows[rows.part == "total"]
    ends, added = [], []
    for method in total.method.unique():
        times = total[total.method == method].sort_values("people")
        other = (style.label(method), style.GREY, "-", "o")
        name, ink, line, marker = BACKENDS.get(method.removeprefix(f"{model}_"), other)
        left.plot(times.people, times.median_ms, line, marker=marker, color=ink, ms=3)
        left.fill_between(times.people, times.q25, times.q75, color=ink, alpha=0.2, lw=0)
        ends.append((times.median_ms.iloc[-1], f"{name}, {times.median_ms.iloc[-1]:.3g} ms", ink))
        share = 100 * (times.median_ms / times.median_ms.iloc[0] - 1)
        right.plot(times.people, share, line, marker=marker, color=ink, ms=3)
        added.append((share.iloc[-1], f"{share.iloc[-1]:+.1f} %", ink))
    for ax in (left, right):
        ax.set(xlabel="people in the image", xlim=(-0.3, total.people.max() + 0.3))
        style.whole_ticks(ax)
    left.set(ylabel="ms per image", ylim=(0, 1.12 * total.q75.max()))
    right.set(ylabel="more than the empty image, per cent")
    low, high = right.get_ylim()
    right.set_ylim(min(low, -5), max(high, 5))
    right.axhline(0, color="#444444", lw=0.6)
    right.axhline(claim, color=style.GREY, ls=(0, (1, 1.5)), lw=0.9)
    style.inside(right, 0.03, 0.04, f"dotted: paper, RTMO-l on a V100, {claim:g} %")
    style.panel(left, "a", f"{model}: median, quartiles ({device})")
    style.panel(right, "b", "what people add")
    style.direct_labels(left, ends, size=6.2)
    style.direct_labels(right, added, size=6.2)
    return fig
