"""What ViTPose is trained from, and what its variants cost: data in, matplotlib Figure out, no I/O.

`fig_reconstruction` (a masked autoencoder), `fig_datasets` (several data sets, a decoder each), `fig_cost` (memory,
time and multiply-adds of attention). Coordinates: COCO pixels of the crop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from posebook.figures import people, style
from posekit.layouts import Layout
from posekit.poses import Poses

if TYPE_CHECKING:
    from posebook.analysis.crop_views import CropView, Reconstruction

SCORES, FUSED = "scores", "fused"
KERNEL_WORDS = {SCORES: "scores kept", FUSED: "fused kernel"}
ROWS = (("image", "crop"), ("visible", "seen"), ("reconstructed", "painted"), ("brightness", "brightness"))


@style.styled
def fig_reconstruction(found: list[Reconstruction], dataset: str = "drawn people"):
    """A masked autoencoder at work: the crop, its visible patches, the reconstruction, and the patches' brightness.

    Read in it: the mean brightness and the contrast of a masked patch are given to it (normalised targets), its colours
    and shapes are not. So what counts is how far “painted” differs from “brightness” towards the crop. Below: the error
    on the masked patches; 1 is that of the brightness alone.

    Raises:
        ValueError: nothing to show.
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
    words = f"{gone:.0%} of {rows} x {columns} patches hidden; number: error on them, 1 = brightness alone; {dataset}"
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
    rows = []
    for name, layout, views, poses in sets:
        for i, (one, pose) in enumerate(zip(views, poses, strict=True)):
            pairs = zip(layout.keypoints, one.pose.keypoints[0], pose.keypoints[0], strict=True)
            rows += [(name, i, joint, *map(float, (*truth, *found))) for joint, truth, found in pairs]
    return pd.DataFrame(rows, columns=["data set", "person", "joint", "x", "y", "found x", "found y"])


def reconstruction_rows(found: list[Reconstruction]) -> pd.DataFrame:
    """person, patches, hidden (how many), error."""
    rows = [(i, one.masked.size, int(one.masked.sum()), one.error) for i, one in enumerate(found)]
    return pd.DataFrame(rows, columns=["person", "patches", "hidden", "error"])


@style.styled
def fig_cost(rows: pd.DataFrame, title: str = ""):
    """What the variants of attention cost in training: (a) memory of a step, (b) its time, (c) multiply-adds.

    Read in it: filled bars are what the paper measured, attention that keeps its scores; hollow ones the fused kernel
    that PyTorch chooses today. Percentages: against full attention with the same kernel.

    Args: rows: variant, kernel ("scores", "fused"), peak_mb, step_ms per crop, gmac_transformer.

    Raises:
        ValueError: no row.
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
    if title:
        style.note(fig, title)
    return fig


def _with_difference(value: float, base: float) -> str:
    """A number, and its difference from the first variant's in per cent."""
    if pd.isna(value):
        return "not measured"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return number if value == base or pd.isna(base) else f"{number}  {100 * (value / base - 1):+.0f} %"
