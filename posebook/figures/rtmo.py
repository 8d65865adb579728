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
SHAPES = {"t": "v", "s": "o", "m": "s", "l": "D"}  # marker and width of line by the size of a model
WIDTHS = {"t": 0.8, "s": 1.2, "m": 1.6, "l": 2.0}
CLOCKS = {"V100 ONNXRuntime": "o", "V100": "o", "V100 PyTorch": "^", "PETR's paper": "s"}


def family(method: str) -> str:
    """Such as "RTMO-s" -> "RTMO"; methods outside `FAMILIES` are "others"."""
    return next((name for name in FAMILIES if method.startswith(name)), "others")


def split(method: str) -> tuple[str, str]:
    """Such as "rtmo_s_openvino_bf16" -> ("rtmo_s", "openvino_bf16")."""
    backend = max((name for name in BACKENDS if method.endswith(f"_{name}")), key=len)
    return method.removesuffix(f"_{backend}"), backend


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
def fig03_latency(
    rows: pd.DataFrame,
    model: str,
    device: str,
    claim: float,
    published: pd.Series | None = None,
    backend: str = "eager",
):
    """Figure 3: by one backend (a) time of all systems against the number of people and (b) published AP against that
    time; RTMO in every backend, (c) time and (d) per cent of an empty image. Without other systems (c) and (d) alone.

    Args:
        rows: method (model_backend), people, part, median_ms, q25, q75; `model`: of (c) and (d).
        claim: per cent, what the paper reports for more than ten people.
        published: model -> AP on COCO val2017, per cent; backend: of (a) and (b), a key of `BACKENDS`.
    """
    total = rows[rows.part == "total"].assign(ms=lambda table: table.median_ms)
    own = [name for name in BACKENDS if f"{model}_{name}" in set(total.method)]
    systems = [name for name in dict.fromkeys(total.method) if name.endswith(f"_{backend}")]
    height = 5.6 if len(systems) > 1 else 2.7
    fig = style.figure(style.DOUBLE, height)
    axes = fig.subplots(1 + (len(systems) > 1), 2, squeeze=False, width_ratios=(1.15, 1))
    letters = iter("abcd")
    if len(systems) > 1:
        times = {name.removesuffix(f"_{backend}"): total[total.method == name].set_index("people") for name in systems}
        _systems(axes[0, 0], times)
        style.panel(axes[0, 0], next(letters), f"{BACKENDS[backend][0]} ({device})")
        _accuracy(axes[0, 1], times, pd.Series(dtype=float) if published is None else published)
        style.panel(axes[0, 1], next(letters), "AP as published, time as here")
    left, right = axes[-1]
    ends, added = [], []
    for key in own:
        times = total[total.method == f"{model}_{key}"].sort_values("people")
        name, ink, line, marker = BACKENDS[key]
        left.plot(times.people, times.ms, line, marker=marker, color=ink, ms=3)
        left.fill_between(times.people, times.q25, times.q75, color=ink, alpha=0.2, lw=0)
        ends.append((times.ms.iloc[-1], f"{name}, {times.ms.iloc[-1]:.3g} ms", ink))
        share = 100 * (times.ms / times.ms.iloc[0] - 1)
        right.plot(times.people, share, line, marker=marker, color=ink, ms=3)
        added.append((share.iloc[-1], f"{share.iloc[-1]:+.1f} %", ink))
    for ax in axes[:, 0].tolist() + [right]:
        ax.set(xlabel="people in the image", xlim=(-0.3, total.people.max() + 0.3))
        style.whole_ticks(ax)
    left.set(ylabel="ms per image", ylim=(0, 1.12 * total[total.method.str.startswith(f"{model}_")].q75.max()))
    right.set(ylabel="more than the empty image, per cent")
    low, high = right.get_ylim()
    right.set_ylim(min(low, -5), max(high, 5))
    right.axhline(0, color="#444444", lw=0.6)
    right.axhline(claim, color=style.GREY, ls=(0, (1, 1.5)), lw=0.9)
    style.inside(right, 0.03, 0.04, f"dotted: paper, RTMO-l on a V100, {claim:g} %")
    style.panel(
        left, next(letters), f"{style.label(model)}: median, quartiles" + (f" ({device})" if height < 5 else "")
    )
    style.panel(right, next(letters), "what people add")
    style.direct_labels(left, ends, size=6.2)
    style.direct_labels(right, added, size=6.2)
    return fig


def _systems(ax, times: dict[str, pd.DataFrame]) -> None:
    """Panel a of Figure 3: a line per system; sizes of a family share a colour, the larger the thicker."""
    ends = []
    for model, one in times.items():
        one, look = one.sort_index(), {"color": style.colour(model), "lw": WIDTHS.get(model[-1], 1.0)}
        ax.plot(one.index, one.ms, SHAPES.get(model[-1], "o") + "-", ms=3, **look)
        ends.append((one.ms.iloc[-1], style.label(model).replace(" + ", " +\n"), look["color"]))
    ax.set(ylabel="ms per image", ylim=(0, 1.05 * max(one.ms.max() for one in times.values())))
    style.direct_labels(ax, ends, 15, 6.2)


def _accuracy(ax, times: dict[str, pd.DataFrame], published: pd.Series) -> None:
    """Panel b: AP against time; two-stage systems move to the right with people, whose numbers stand at the points."""
    known = [model for model in times if model in published.index]
    if not known:
        style.inside(ax, 0.5, 0.5, "no AP is published for these models", ha="center")
    for model in known:
        one, ink, ap = times[model].sort_index(), style.colour(model), published[model]
        moves = one.ms.iloc[-1] > 1.2 * one.ms.iloc[0]
        people = [n for n in one.index if n] if moves else [one.index[0]]
        people = sorted({people[0], people[len(people) // 2], people[-1]})
        ax.plot(one.ms[people], [ap] * len(people), SHAPES.get(model[-1], "o") + "-", color=ink, ms=3.5, lw=0.8)
        for n in people if moves else ():
            style.beside(ax, (one.ms[n], ap), (0, 4), str(n), fontsize=5.6, color=ink, ha="center")
        at = (one.ms[people[0]], ap)
        style.beside(ax, at, (0, -9), style.label(model).partition(" + ")[0], fontsize=6, color=ink, ha="center")
    ax.set(xscale="log", xlabel="ms per image (log)", ylabel="AP on COCO val2017, per cent (published)")
    style.plain_log(ax.xaxis)
    ax.margins(0.2, 0.16)
    style.inside(ax, 0.02, 0.96, "numbers at points: people")
