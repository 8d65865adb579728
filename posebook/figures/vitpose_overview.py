"""ViTPose, Figure 2: the model at a glance, alive on one crop; whom one token attends to in each attention variant.

Data in, matplotlib Figure out; `analysis.tokens.follow` makes what they show. Coordinates: COCO pixels of the crop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from posebook.figures import drawing, people, style
from posekit.layouts import COCO, Layout

if TYPE_CHECKING:
    from posebook.analysis.tokens import Tokens

INKS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # joints, colour-blind safe


@style.styled
def fig_overview(tokens: Tokens, joints: list[int], layout: Layout = COCO, dataset: str = "drawn people"):
    """Figure 2: (a) from a crop to heatmaps to a pose; (b) the cosine of every token with the marked one, before the
    blocks and after some; (c) heatmaps of up to four keypoints, `joints`.
    """
    if not joints:
        raise ValueError("the overview shows the heatmaps of one to four joints; name at least one")
    joints = joints[: len(INKS)]
    shown = _evenly(len(tokens.alike), 6)
    fig = style.figure(style.DOUBLE, 5.4)
    top, middle, bottom = fig.subfigures(3, 1, height_ratios=(1.15, 1, 1.15))
    _pipeline(top.subplots(), tokens, layout)
    axes = middle.subplots(1, len(shown))
    for ax, step in zip(np.atleast_1d(axes), shown, strict=True):
        shown = drawing.overlay(ax, tokens.image, tokens.alike[step], drawing.SIMILARITY)
        drawing.point(ax, tokens.place)
        ax.set_title("patches + places" if step == 0 else f"after block {step}", fontsize=7)
    _bar(middle, shown, axes, "cosine")
    style.title(middle, "b", "how much the tokens are like the marked one", x=0.01)
    axes = bottom.subplots(1, len(joints))
    for ax, joint, ink in zip(np.atleast_1d(axes), joints, INKS, strict=False):
        shown = _heat(ax, tokens.image, tokens.heatmaps[joint], high=float(tokens.heatmaps.max()))
        drawing.cross(ax, tokens.pose.keypoints[0, joint], ink, "white", "+", 8)
        ax.set_title(f"{style.joint_name(layout.keypoints[joint])}, {tokens.heatmaps[joint].max():.2g}", fontsize=7)
    _bar(bottom, shown, axes, "heatmap")
    words = "decoder: a heatmap per joint, decoded to a place (+), with its highest value"
    style.title(bottom, "c", words, x=0.01)
    style.corner(fig, f"crop: {dataset}")
    return fig


@style.styled
def fig_attention(variants: dict[str, Tokens], dataset: str = "drawn people"):
    """Whom one token attends to: a column per attention variant, a row for the first two blocks and the last, mean over
    the heads. Every map has its own scale; its highest weight is printed.

    Args: variants: name -> `Tokens` of the same crop.
    """
    if not variants:
        raise ValueError("no attention variant to show; pass at least one")
    depth = min(len(tokens.attention) for tokens in variants.values())
    blocks = sorted({0, min(1, depth - 1), depth - 1})
    first = next(iter(variants.values()))
    width = min(style.DOUBLE, 0.35 + 1.4 * len(variants))
    height = (width - 0.3) / len(variants) * first.image.shape[0] / first.image.shape[1] + 0.06
    fig = style.figure(width, len(blocks) * height + 0.4)
    axes = fig.subplots(len(blocks), len(variants), squeeze=False)
    for column, (name, tokens) in enumerate(variants.items()):
        for row, block in enumerate(blocks):
            ax, most = axes[row, column], _attention(axes[row, column], tokens, block)
            corner = {"ha": "right", "weight": "normal", "transform": ax.transAxes}
            drawing.outlined(ax, (0.97, 0.03), f"{100 * most:.1f} %", "white", 6, **corner)
            if row == 0:
                ax.set_title(name, fontsize=7.5)
            if column == 0:
                ax.set_ylabel(f"block {block + 1}", fontsize=7)
    style.note(fig, f"one token of {first.grid[0]} x {first.grid[1]} (yellow); {dataset}")
    return fig


@style.styled
def fig_blocks(tokens: Tokens, blocks: list[int], dataset: str = "drawn people"):
    """Whom one token (yellow) attends to: a column per block (from 0), mean over the heads, each on its own scale."""
    ratio = tokens.image.shape[0] / tokens.image.shape[1]
    each = min(style.DOUBLE / len(blocks), 1.5)
    fig = style.figure(each * len(blocks), each * ratio + 0.4)
    for ax, block in zip(fig.subplots(1, len(blocks), squeeze=False)[0], blocks, strict=True):
        most = _attention(ax, tokens, block)
        ax.set_title(f"block {block + 1}, at most {100 * most:.1f} %", fontsize=7.5)
    style.note(fig, f"weights of one token of {tokens.grid[0]} x {tokens.grid[1]}; {dataset}")
    return fig


def _attention(ax, tokens: Tokens, block: int) -> float:
    """The weights of one block, mean over the heads; returns the highest."""
    weights = tokens.attention[block].mean(0)
    drawing.overlay(ax, tokens.image, weights, smooth=False)
    drawing.point(ax, tokens.place)
    return weights.max()


def attention_rows(variants: dict[str, Tokens]) -> pd.DataFrame:
    """The weights: variant, block (from 1), row, column, weight (mean over heads)."""
    planes = [
        (name, block, weights.mean(0))
        for name, tokens in variants.items()
        for block, weights in enumerate(tokens.attention, 1)
    ]
    return drawing.cell_rows(planes, ["variant", "block"], "weight")


def overview_rows(tokens: Tokens, joints: list[int], layout: Layout = COCO) -> pd.DataFrame:
    """The plotted maps of `fig_overview`: part ("alike" or "heatmap"), name, row, column, value."""
    shown = _evenly(len(tokens.alike), 6)
    parts = [("alike", f"block {step}" if step else "patches", tokens.alike[step]) for step in shown]
    parts += [("heatmap", layout.keypoints[joint], tokens.heatmaps[joint]) for joint in joints[: len(INKS)]]
    return drawing.cell_rows(parts, ["part", "name"])


def _evenly(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly, first and last among them."""
    return sorted({int(round(i)) for i in np.linspace(0, count - 1, min(count, most))})


def _pipeline(ax, tokens: Tokens, layout: Layout) -> None:
    """Panel a on a canvas of 100 x 30 units."""
    drawing.canvas(ax, 100, 30)
    style.panel(ax, "a", "a crop, its patches, a plain transformer, a small decoder, a heatmap per joint, a pose")
    (rows, columns), (height, width) = tokens.grid, tokens.image.shape[:2]
    inset = drawing.inset(ax, (0, 3, 18, 25), tokens.image)
    lines = {"color": "white", "lw": 0.35, "alpha": 0.8}
    inset.hlines(np.arange(1, rows) * height / rows, 0, width, **lines)
    inset.vlines(np.arange(1, columns) * width / columns, 0, height, **lines)
    drawing.point(inset, tokens.place)
    below = {"fontsize": 5.6, "ha": "center", "color": style.GREY}
    ax.text(9, 0.6, f"{height} x {width} px", **below)
    patches = f"{rows} x {columns}\npatches\n→ {rows * columns}\ntokens,\n+ places"
    drawing.box(ax, 21, 6, 14, 19, patches, drawing.BLUE)
    depth, heads = tokens.attention.shape[:2]
    blocks = f"{depth} blocks:\nattention\n({heads} heads),\nfeed-forward"
    drawing.box(ax, 38, 6, 15, 19, blocks, drawing.ORANGE)
    planes, fine, wide = tokens.heatmaps.shape
    drawing.box(ax, 56, 6, 13, 19, f"decoder\n→ {planes} maps\nof {fine} x {wide}", drawing.GREEN)
    _heat(drawing.inset(ax, (71, 3, 13, 25)), tokens.image, tokens.heatmaps.max(0))
    ax.text(77.5, 0.6, "all maps, highest", **below)
    people.draw(drawing.inset(ax, (86, 3, 14, 25), tokens.image), tokens.pose, layout, size=0.8)
    drawing.arrows_along(ax, 15.5, ((17.4, 20.8), (35.2, 37.8), (53.2, 55.8), (69.2, 71.4), (84.0, 86.4)))


def _heat(ax, image, values, high=None):
    """A heatmap, every cell in its place."""
    return drawing.overlay(ax, image, values, high=high, extent=drawing.udp_extent(values.shape, image.shape[:2]))


def _bar(fig, artist, axes, label: str) -> None:
    bar = fig.colorbar(artist, ax=axes, pad=0.01, shrink=0.9, aspect=14, label=label)
    bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])  # one digit: the label stays on the page
    bar.outline.set_visible(False)
