"""All systems of the book on the same images: time per backend, and AP against what it costs. Data in, Figure out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import style

# Name and marker of a backend.
BACKENDS = {"torch": ("PyTorch", "o"), "onnxruntime": ("ONNX Runtime", "s"), "openvino": ("OpenVINO", "^")}
COSTS = {
    "ms": "ms per image, the fastest backend",
    "gmac": "10$^9$ multiply-adds per image",
    "params_m": "parameters, millions",
    "peak_mb": "memory, MB",
}


def split(method: str) -> tuple[str, str]:
    """Such as "rtmo_tiny_onnxruntime" -> ("rtmo_tiny", "onnxruntime")."""
    name, _, backend = method.rpartition("_")
    return name, backend


def by_system(times: pd.DataFrame) -> pd.DataFrame:
    """`times` with `method` taken apart into the columns `system` and `backend`."""
    apart = [split(method) for method in times.method]
    return times.assign(system=[one for one, _ in apart], backend=[other for _, other in apart])


def best(values: pd.DataFrame, cost: str) -> pd.DataFrame:
    """The systems that no other one beats in AP at the same or a lower cost, by rising cost."""
    ordered = values.dropna(subset=["AP", cost]).sort_values([cost, "AP"], ascending=[True, False])
    return ordered[ordered.AP > ordered.AP.cummax().shift(fill_value=-np.inf)]


@style.styled
def all_speed(systems: pd.DataFrame, times: pd.DataFrame, people: int, device: str = ""):
    """(a) Time per image of every system and backend; (b) what each further person adds.

    Args:
        systems: system, model. times: a row per method (SYSTEM_BACKEND): median_ms, q25, q75 with `people` people, and
            b_ms, b_low, b_high, the line's slope.
    """
    shown = by_system(times)
    order = shown.groupby("system").median_ms.min().sort_values(ascending=False).index
    inks = systems.set_index("system").model.map(style.colour)
    fig = style.figure(style.DOUBLE, 1.0 + 0.24 * len(order))
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    shifts = dict(zip(BACKENDS, np.linspace(0.22, -0.22, len(BACKENDS)), strict=True))
    for row in shown.itertuples():
        at, ink = order.get_loc(row.system) + shifts[row.backend], inks[row.system]
        point = {"marker": BACKENDS[row.backend][1], "ms": 3.6, "mfc": ink if row.backend == "torch" else "white"}
        for ax, low, middle, high in (
            (left, row.q25, row.median_ms, row.q75),
            (right, row.b_low, row.b_ms, row.b_high),
        ):
            ax.plot([low, high], [at, at], "-", color=ink, lw=0.8)
            ax.plot(middle, at, color=ink, mew=0.8, **point)
    for backend, (name, marker) in BACKENDS.items():
        if backend in set(shown.backend):
            face = style.GREY if backend == "torch" else "white"
            left.plot([], [], marker, color=style.GREY, mfc=face, ms=4, label=name)
    left.set_yticks(range(len(order)), [style.label(name) for name in order], fontsize=6.5)
    left.set(xscale="log", xlabel=f"ms per image with {people} people{', ' + device if device else ''}")
    style.plain_log(left.xaxis)
    right.axvline(0, color="#444444", lw=0.6)
    right.set(xlabel="ms that a further person adds")
    fig.legend(*left.get_legend_handles_labels(), fontsize=6, loc="outside upper left", ncols=3, handletextpad=0.1)
    style.panel(left, "a", "from pixels to poses: median, quartiles")
    style.panel(right, "b", "slope, 95 % interval")
    return fig


@style.styled
def all_tradeoff(systems: pd.DataFrame, dataset: str = "drawn people"):
    """AP against time, multiply-adds, parameters and memory; the line joins the systems that no other one beats.

    systems: system, model, AP and the columns of `COSTS`.
    """
    rows = systems.sort_values("AP", ascending=False, ignore_index=True)
    fig = style.figure(style.DOUBLE, 4.9)
    grid = fig.add_gridspec(2, 3, width_ratios=(1, 1, 0.62))
    for i, (cost, words) in enumerate(COSTS.items()):
        ax = fig.add_subplot(grid[i // 2, i % 2])
        front = best(rows, cost)
        ax.plot(front[cost], front.AP, "-", color=style.GREY, lw=0.7, zorder=1)
        for number, row in enumerate(rows.itertuples(), 1):
            at, ink = (getattr(row, cost), row.AP), style.colour(row.model)
            hollow = "white" if row.boxes == "annotated" else ink
            ax.plot(*at, "o", color=ink, mfc=hollow, ms=4.4, mew=0.9, zorder=2)
            style.beside(ax, at, (3.5, 2.5), str(number), fontsize=6, color=ink)
        ax.set(xscale="log", xlabel=words, ylabel=f"AP on {dataset}")
        ax.margins(0.12, 0.12)
        style.plain_log(ax.xaxis)
        style.panel(ax, "abcd"[i])
    key = fig.add_subplot(grid[:, 2])
    style.bare(key)
    key.set(xticks=[], yticks=[])
    for number, row in enumerate(rows.itertuples(), 1):
        words = f"{number}  {style.label(row.system)}"
        style.inside(key, 0.0, 1.0 - 0.052 * number, words, color=style.colour(row.model), fontsize=6.2)
    style.inside(key, 0.0, 0.02, "hollow: annotated boxes\nline: no other system is better\nand costs less")
    return fig
