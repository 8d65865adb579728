"""ViTPose, Figure 2: the model at a glance, alive on one crop; whom one token attends to in each attention variant.

Data in, matplotlib Figure out; `evaluation.tokens.look` makes what they show. Frame: pixels of the crop, COCO's frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from posebook.figures import people, style
from posekit.layouts import COCO, Layout

if TYPE_CHECKING:
    from posebook.analysis.tokens import Tokens

BOX = {"patches": "#E8F1F8", "blocks": "#FBE9D9", "decoder": "#E2F3EC"}
INKS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # joints, colour-blind safe
POINT, HEAT, ALIKE = "#FFE600", "viridis", "cividis"


@style.styled
def fig_overview(tokens: Tokens, joints: list[int], layout: Layout = COCO, dataset: str = "drawn people"):
    """Figure 2: (a) from a crop to heatmaps to a pose; (b) one token through the blocks; (c) heatmaps of some joints.

    Read in (b): the cosine of every token with the marked one. Before the blocks places alike in colour and position
    are alike; after the last, what belongs to the same part of the body should be.

    Args: joints: up to four, shown in (c).
    """
    if not joints:
        raise ValueError("the overview shows the heatmaps of one to four joints; name at least one")
    joints = joints[: len(INKS)]
    shown = _some(len(tokens.alike), 6)
    fig = style.figure(style.DOUBLE, 5.4)
    top, middle, bottom = fig.subfigures(3, 1, height_ratios=(1.15, 1, 1.15))
    _pipeline(top.subplots(), tokens, layout)
    axes = middle.subplots(1, len(shown))
    for ax, step in zip(np.atleast_1d(axes), shown, strict=True):
        picture = _map(ax, tokens.image, tokens.alike[step], ALIKE, low=0.0)
        _mark(ax, tokens.place)
        ax.set_title("patches + places" if step == 0 else f"after block {step}", fontsize=7)
    _bar(middle, picture, axes, "cosine")
    _title(middle, "b", "how much the tokens are like the marked one")
    axes = bottom.subplots(1, len(joints))
    for ax, joint, ink in zip(np.atleast_1d(axes), joints, INKS, strict=False):
        picture = _heat(ax, tokens.image, tokens.heatmaps[joint], high=float(tokens.heatmaps.max()))
        x, y = tokens.pose.keypoints[0, joint]
        ax.plot(x, y, "+", color="white", ms=8, mew=2.2)
        ax.plot(x, y, "+", color=ink, ms=8, mew=1.1)
        value = tokens.heatmaps[joint].max()
        ax.set_title(f"{layout.keypoints[joint].replace('_', ' ')}, {value:.2g}", fontsize=7)
    _bar(bottom, picture, axes, "heatmap")
    _title(bottom, "c", "decoder: a heatmap per joint, decoded to a place (+), with its highest value")
    words = fig.text(0.995, 0.995, f"crop: {dataset}", ha="right", va="top", fontsize=6, color=style.GREY)
    words.set_in_layout(False)
    return fig


@style.styled
def fig_attention(variants: dict[str, Tokens], blocks: list[int] | None = None, dataset: str = "drawn people"):
    """Whom one token attends to: a column per attention variant, a row per block, mean over the heads.

    Read in it: `window` sees its window and nothing else; `shift` sees another one in every second block; `pool` sees
    all, the rest of the crop in the steps of the windows. Every map has its own scale; its highest weight is printed.

    Args: variants: name -> `Tokens` of the same crop; blocks: which ones from 0, None = the first two and the last.
    """
    if not variants:
        raise ValueError("no attention variant to show; pass at least one")
    depth = min(len(tokens.attention) for tokens in variants.values())
    blocks = sorted({0, min(1, depth - 1), depth - 1}) if blocks is None else blocks
    first = next(iter(variants.values()))
    ratio = first.image.shape[0] / first.image.shape[1]
    width = min(style.DOUBLE, 0.35 + 1.4 * len(variants))
    fig = style.figure(width, len(blocks) * ((width - 0.3) / len(variants) * ratio + 0.06) + 0.4)
    axes = fig.subplots(len(blocks), len(variants), squeeze=False)
    for column, (name, tokens) in enumerate(variants.items()):
        for row, block in enumerate(blocks):
            ax, weights = axes[row, column], tokens.attention[block].mean(0)
            _map(ax, tokens.image, weights, HEAT, low=0.0, smooth=False)
            _mark(ax, tokens.place)
            most = {"transform": ax.transAxes, "fontsize": 6, "ha": "right", "color": "white"}
            ax.text(0.97, 0.03, f"{100 * weights.max():.1f} %", path_effects=_outline(), **most)
            if row == 0:
                ax.set_title(name, fontsize=7.5)
            if column == 0:
                ax.set_ylabel(f"block {block + 1}", fontsize=7)
    rows, columns = first.grid
    fig.suptitle(
        f"one token of {rows} x {columns} (yellow); {dataset}", fontsize=6, color=style.GREY, x=0.01, ha="left"
    )
    return fig


@style.styled
def fig_blocks(tokens: Tokens, blocks: list[int], dataset: str = "drawn people"):
    """Whom one token (yellow) attends to: a column per block (from 0), mean over the heads, each on its own scale."""
    ratio = tokens.image.shape[0] / tokens.image.shape[1]
    each = min(style.DOUBLE / len(blocks), 1.5)
    fig = style.figure(each * len(blocks), each * ratio + 0.4)
    for ax, block in zip(fig.subplots(1, len(blocks), squeeze=False)[0], blocks, strict=True):
        weights = tokens.attention[block].mean(0)
        _map(ax, tokens.image, weights, HEAT, low=0.0, smooth=False)
        _mark(ax, tokens.place)
        ax.set_title(f"block {block + 1}, at most {100 * weights.max():.1f} %", fontsize=7.5)
    rows, columns = tokens.grid
    fig.suptitle(
        f"weights of one token of {rows} x {columns}; {dataset}", fontsize=6, color=style.GREY, x=0.01, ha="left"
    )
    return fig


def attention_rows(variants: dict[str, Tokens], blocks: list[int] | None = None) -> pd.DataFrame:
    """The plotted weights: variant, block (from 1), row, column, weight (mean over heads)."""
    rows = []
    for name, tokens in variants.items():
        for block in range(len(tokens.attention)) if blocks is None else blocks:
            for (row, column), weight in np.ndenumerate(tokens.attention[block].mean(0)):
                rows.append((name, block + 1, row, column, float(weight)))
    return pd.DataFrame(rows, columns=["variant", "block", "row", "column", "weight"])


def overview_rows(tokens: Tokens, joints: list[int], layout: Layout = COCO) -> pd.DataFrame:
    """The plotted maps of `fig_overview`: part ("alike" or "heatmap"), name, row, column, value."""
    parts = [
        ("alike", f"block {step}" if step else "patches", tokens.alike[step]) for step in _some(len(tokens.alike), 6)
    ]
    parts += [("heatmap", layout.keypoints[joint], tokens.heatmaps[joint]) for joint in joints[: len(INKS)]]
    rows = [(part, name, *place, float(value)) for part, name, plane in parts for place, value in np.ndenumerate(plane)]
    return pd.DataFrame(rows, columns=["part", "name", "row", "column", "value"])


def _some(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly, first and last among them."""
    return sorted({int(round(i)) for i in np.linspace(0, count - 1, min(count, most))})


def _pipeline(ax, tokens: Tokens, layout: Layout) -> None:
    """Panel a on a canvas of 100 x 30 units."""
    ax.set(xlim=(0, 100), ylim=(0, 30), xticks=[], yticks=[])
    ax.set_axis_off()
    style.panel(ax, "a", "a crop, its patches, a plain transformer, a small decoder, a heatmap per joint, a pose")
    (rows, columns), (height, width) = tokens.grid, tokens.image.shape[:2]
    inset = _inset(ax, (0, 3, 18, 25))
    people.show(inset, tokens.image)
    lines = {"color": "white", "lw": 0.35, "alpha": 0.8}
    for i in range(1, rows):
        inset.axhline(i * height / rows, **lines)
    for i in range(1, columns):
        inset.axvline(i * width / columns, **lines)
    _mark(inset, tokens.place)
    ax.text(9, 0.6, f"{height} x {width} px", fontsize=5.6, ha="center", color=style.GREY)
    _block(ax, 21, 14, f"{rows} x {columns}\npatches\n→ {rows * columns}\ntokens,\n+ places", "patches")
    depth, heads = tokens.attention.shape[:2]
    _block(ax, 38, 15, f"{depth} blocks:\nattention\n({heads} heads),\nfeed-forward", "blocks")
    planes, fine, wide = tokens.heatmaps.shape
    _block(ax, 56, 13, f"decoder\n→ {planes} maps\nof {fine} x {wide}", "decoder")
    inset = _inset(ax, (71, 3, 13, 25))
    _heat(inset, tokens.image, tokens.heatmaps.max(0))
    ax.text(77.5, 0.6, "all maps, highest", fontsize=5.6, ha="center", color=style.GREY)
    inset = _inset(ax, (86, 3, 14, 25))
    people.show(inset, tokens.image)
    people.draw(inset, tokens.pose, layout, size=0.8)
    for start, end in ((17.4, 20.8), (35.2, 37.8), (53.2, 55.8), (69.2, 71.4), (84.0, 86.4)):
        arrow = {"arrowstyle": "-|>", "mutation_scale": 6, "lw": 0.8, "color": "#333333"}
        ax.add_patch(FancyArrowPatch((start, 15.5), (end, 15.5), **arrow))


def _map(ax, image, values, colours: str, low=None, high=None, smooth: bool = True):
    """A map over the pale crop; returns the artist whose scale is the map's."""
    people.show(ax, image, grey=True)
    height, width = image.shape[:2]
    look = {"extent": (0, width, height, 0), "cmap": colours, "alpha": 0.62, "zorder": 2}
    return ax.imshow(values, vmin=low, vmax=high, interpolation="bilinear" if smooth else "nearest", **look)


def heat_extent(cells: tuple[int, int], pixels: tuple[int, int]) -> tuple[float, float, float, float]:
    """`extent` of a heatmap (h, w) in a crop (H, W): UDP's first and last cell have the middles of the first and last
    pixel, so a little of the outermost cells lies outside."""
    (rows, columns), (height, width) = cells, pixels
    down, across = ((size - 1) / max(count - 1, 1) / 2 for size, count in ((height, rows), (width, columns)))
    return 0.5 - across, width - 0.5 + across, height - 0.5 + down, 0.5 - down


def _heat(ax, image, values, high=None):
    """As `_map`, for a heatmap."""
    picture = _map(ax, image, values, HEAT, low=0.0, high=high)
    picture.set_extent(heat_extent(values.shape, image.shape[:2]))
    ax.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    return picture


def _bar(fig, picture, axes, label: str) -> None:
    bar = fig.colorbar(picture, ax=axes, pad=0.01, shrink=0.9, aspect=14, label=label)
    bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])  # one digit: the label stays on the page
    bar.outline.set_visible(False)


def _title(fig, letter: str, words: str) -> None:
    fig.suptitle(f"$\\bf{{{letter}}}$  {words}", fontsize=8, x=0.01, ha="left")


def _mark(ax, place) -> None:
    ax.scatter(*place, s=24, color=POINT, edgecolors="#000000", linewidths=0.7, zorder=5)


def _block(ax, x, width, words, kind) -> None:
    shape = "round,pad=0,rounding_size=0.8"
    ax.add_patch(FancyBboxPatch((x, 6), width, 19, boxstyle=shape, fc=BOX[kind], ec="#555555", lw=0.7))
    ax.text(x + width / 2, 15.5, words, ha="center", va="center", fontsize=6.5, linespacing=1.3)


def _inset(ax, bounds):
    """Axes inside axes, `bounds` (x, y, width, height) in data units."""
    return ax.inset_axes(bounds, transform=ax.transData)


def _outline():
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.6, foreground="#000000")]
