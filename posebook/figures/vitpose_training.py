"""What ViTPose is trained from, and what its variants cost: data in, matplotlib Figure out, no I/O.

`fig_reconstruction` (a masked autoencoder), `fig_datasets` (several data sets, a decoder each), `fig_cost` (memory,
time and multiply-adds of attention), `fig_token` (a knowledge token). Coordinates: COCO pixels of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posebook.figures import drawing, people, style
from posekit.layouts import Layout
from posekit.poses import Poses

if TYPE_CHECKING:
    from posebook.analysis.crop_views import CropView, Reconstruction

SCORES, FUSED = "scores", "fused"
KERNEL_WORDS = {SCORES: "scores kept", FUSED: "fused kernel"}
HEAT, CHANGE = "magma", "RdBu_r"
PLACE = "#00E5FF"  # where a joint is annotated
ROWS = (("image", "crop"), ("visible", "masked"), ("reconstructed", "reconstructed"), ("brightness", "brightness"))


@style.styled
def fig_reconstruction(found: list[Reconstruction], dataset: str = "drawn people"):
    """A masked autoencoder at work: the crop, its visible patches, the reconstruction, and the patches' brightness.

    Below: the error on the masked patches; 1 is that of the brightness alone.
    """
    if not found:
        raise ValueError("nothing was reconstructed: pass at least one crop")
    height, width = found[0].image.shape[:2]
    side = (style.DOUBLE - 0.3) / max(len(found), 6)
    fig = style.figure(0.3 + side * len(found), len(ROWS) * (side * height / width + 0.03) + 0.45)
    axes = fig.subplots(len(ROWS), len(found), squeeze=False)
    for column, one in enumerate(found):
        for row, (name, title) in enumerate(ROWS):
            ax = axes[row, column]
            people.show(ax, getattr(one, name))
            if column == 0:
                ax.set_ylabel(title, fontsize=7)
        axes[-1, column].set_xlabel(f"{one.error:.2f}", fontsize=7)
    rows, columns = found[0].masked.shape
    gone = found[0].masked.mean()
    words = f"{gone:.0%} of {rows} x {columns} patches masked; number: error on them, 1 = brightness alone; {dataset}"
    style.note(fig, words)
    return fig


@style.styled
def fig_datasets(sets: list[tuple[str, Layout, list[CropView], list[Poses]]]):
    """Several data sets, a row each: people as they are annotated, and as the decoder of their data set finds them.

    Args: sets: (name, its keypoints, people, what was found on them).
    """
    if not sets:
        raise ValueError("no data set to show; pass at least one")
    count = max(len(views) for _, _, views, _ in sets)
    height, width = sets[0][2][0].image.shape[:2]
    side = (style.DOUBLE - 0.4) / (2 * count)
    fig = style.figure(style.DOUBLE, len(sets) * (side * height / width + 0.06) + 0.3)
    halves = fig.subfigures(1, 2, width_ratios=(count * side + 0.3, count * side))
    for half, title, found in zip(halves, ("annotated", "found by its own decoder"), (False, True), strict=True):
        axes = half.subplots(len(sets), count, squeeze=False)
        half.suptitle(title, fontsize=8)
        for row, (name, layout, views, poses) in enumerate(sets):
            for ax in axes[row, len(views) :]:
                ax.set_axis_off()
            for ax, one, pose in zip(axes[row], views, poses, strict=False):
                people.show(ax, one.image)
                people.draw(ax, pose if found else one.pose, layout, size=0.75)
            if not found:
                axes[row, 0].set_ylabel(f"{name}\n{len(layout)} joints", fontsize=7)
    return fig


def dataset_rows(sets: list[tuple[str, Layout, list[CropView], list[Poses]]]) -> pd.DataFrame:
    """The drawn joints: data set, person, joint, annotated x, y (NaN where it is not), found x, y, px of the crop."""
    rows = [
        (name, i, joint, *map(float, (*truth, *found)))
        for name, layout, views, poses in sets
        for i, (one, pose) in enumerate(zip(views, poses, strict=True))
        for joint, truth, found in zip(layout.keypoints, one.pose.keypoints[0], pose.keypoints[0], strict=True)
    ]
    return pd.DataFrame(rows, columns=["data set", "person", "joint", "x", "y", "found x", "found y"])


def reconstruction_rows(found: list[Reconstruction]) -> pd.DataFrame:
    """person, patches, masked (how many), error."""
    rows = [(i, one.masked.size, int(one.masked.sum()), one.error) for i, one in enumerate(found)]
    return pd.DataFrame(rows, columns=["person", "patches", "masked", "error"])


@style.styled
def fig_cost(rows: pd.DataFrame, title: str = ""):
    """What the variants of attention cost in training: (a) memory of a step, (b) its time, (c) multiply-adds.

    Filled: attention that keeps its scores; hollow: the fused kernel. Percentages: against full attention.

    Args: rows: variant, kernel ("scores", "fused"), peak_mb, step_ms per crop, gmac_transformer.

    Raises ValueError: no row.
    """
    if not len(rows):
        raise ValueError("no attention was measured; run notebooks/15_vitpose_cost.ipynb")
    names = list(dict.fromkeys(rows.variant))
    fig = style.figure(style.DOUBLE, 0.75 + 0.36 * len(names))
    axes = fig.subplots(1, 3, sharey=True, width_ratios=(1.15, 1.15, 0.8))
    ink, kernels = style.colour("vitpose"), [name for name in KERNEL_WORDS if (rows.kernel == name).any()]
    looks = {SCORES: {"fc": ink, "ec": ink}, FUSED: {"fc": "white", "ec": ink}}
    thick = 0.8 / len(kernels)
    panels = (
        ("a", "memory of a step", "peak_mb", "MB", kernels),
        ("b", "time of a step", "step_ms", "ms a crop", kernels),
        ("c", "forward pass", "gmac_transformer", "GMAC a crop", kernels[:1]),
    )
    for ax, (letter, words, column, unit, shown) in zip(axes, panels, strict=True):
        for k, kernel in enumerate(shown):
            values = rows[rows.kernel == kernel].set_index("variant")[column].reindex(names)
            y = np.arange(len(names)) + (k - (len(shown) - 1) / 2) * thick
            tall = 0.92 * (thick if len(shown) > 1 else 0.5)
            ax.barh(y, values, tall, lw=0.8, label=KERNEL_WORDS[kernel], **looks[kernel])
            for place, value in zip(y, values, strict=True):
                ax.text(value, place, f" {_with_difference(value, values.iloc[0])}", fontsize=5.8, va="center")
        ax.set(xlim=(0, 1.38 * rows[column].max()), xlabel=unit, yticks=range(len(names)), yticklabels=names)
        ax.grid(axis="y", visible=False)
        style.panel(ax, letter, words)
    axes[0].invert_yaxis()
    if len(kernels) > 1:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=6.5)
    style.note(fig, title)
    return fig


def _with_difference(value: float, base: float) -> str:
    """A number, and its difference from the first variant's in per cent."""
    if pd.isna(value):
        return "not measured"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return number if value == base or pd.isna(base) else f"{number}  {100 * (value / base - 1):+.0f} %"


@dataclass
class TokenEffect:
    """One model on one crop. `name`; `image` uint8 (H, W, 3); `place` (2,) px of the crop, the annotated joint;
    `with_token`, `without` (h, w) heatmaps of the joint; `attention` (D,) share that goes to the token, per block."""

    name: str
    image: np.ndarray
    place: np.ndarray
    with_token: np.ndarray
    without: np.ndarray
    attention: np.ndarray


@style.styled
def fig_token(rows: list[TokenEffect], joint: str, tokens: int, dataset: str = "drawn people"):
    """What the token changes in one heatmap, a row per model; and how much attention it gets in each block.

    "equal shares": what it would get if all were attended to alike. Args: joint: its name; tokens: how many there are.
    """
    if not rows:
        raise ValueError("no model to show; pass at least one")
    ratio = rows[0].image.shape[0] / rows[0].image.shape[1]
    fig = style.figure(style.DOUBLE, 0.2 + len(rows) * (1.12 * ratio + 0.32))
    axes = fig.subplots(len(rows), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 1.5))
    blocks = max(len(row.attention) for row in rows)
    most = max(max(row.attention.max() for row in rows), 1 / (tokens + 1))
    for line, (row, (crop, plain, token, off, share)) in enumerate(zip(rows, axes, strict=True)):
        people.show(crop, row.image)
        crop.set_ylabel(row.name, fontsize=7)
        high = max(float(row.with_token.max()), float(row.without.max()), 1e-9)
        change = row.with_token - row.without
        reach = max(float(np.abs(change).max()), 1e-12)
        panels = (
            (plain, row.without, (HEAT, 0, high), f"{row.without.max():.3g}"),
            (token, row.with_token, (HEAT, 0, high), f"{row.with_token.max():.3g}"),
            (off, change, (CHANGE, -reach, reach), f"±{reach:.2g}"),
        )
        for ax, values, look, words in panels:
            _map(ax, row.image, values, *look)
            ax.set_xlabel(words, fontsize=6, labelpad=2)
        for ax in (crop, plain, token, off):
            ax.plot(*row.place, "+", color=PLACE, ms=6, mew=1.1)
        share.bar(range(1, len(row.attention) + 1), 100 * row.attention, color=style.colour("vitpose"), width=0.6)
        equal = 100 / (tokens + 1)
        share.axhline(equal, color=style.GREY, lw=0.9)
        look = {"ha": "right", "fontsize": 5.6, "color": style.GREY}
        look["bbox"] = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.4}
        style.beside(share, (blocks + 0.6, equal), (0, 2), "equal shares", **look)
        share.set(xticks=range(1, blocks + 1), ylim=(0, 125 * most), xlim=(0.4, blocks + 0.6), ylabel="per cent")
        if line == 0:
            titles = ("crop", "without token", "with token", "difference")
            for ax, words in zip((crop, plain, token, off), titles, strict=True):
                ax.set_title(words, fontsize=7)
            share.set_title("attention to the token", fontsize=7)
    axes[-1, -1].set_xlabel("block")
    style.note(fig, f"{style.joint_name(joint)} (+: annotated); highest values below the maps; {dataset}")
    return fig


def token_rows(rows: list[TokenEffect]) -> pd.DataFrame:
    """The plotted numbers: model, part ("with", "without": cells of the heatmap; "attention"), row, column, value."""
    planes = [(one.name, *part) for one in rows for part in (("with", one.with_token), ("without", one.without))]
    cells = drawing.cell_rows(planes, ["model", "part"])
    shares = [(one.name, "attention", block, 0, float(n)) for one in rows for block, n in enumerate(one.attention, 1)]
    return pd.concat([cells, pd.DataFrame(shares, columns=cells.columns)], ignore_index=True)


def _map(ax, image: np.ndarray, values: np.ndarray, colours: str, low: float, high: float) -> None:
    """A map over the crop's frame, nothing below it: signed differences would mix with the image."""
    height, width = image.shape[:2]
    ax.imshow(values, extent=(0, width, height, 0), cmap=colours, vmin=low, vmax=high, interpolation="bilinear")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    style.bare(ax)
