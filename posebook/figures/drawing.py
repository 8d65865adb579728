"""What figures share: boxes, arrows and insets of diagrams, marks readable on any image, maps over images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.patheffects import withStroke

from posebook.figures import people

BLUE, ORANGE, GREEN, PINK = "#E8F1F8", "#FBE9D9", "#E2F3EC", "#F6E7F0"  # fills of boxes
YELLOW = "#FFE600"
HEAT, SIMILARITY = "viridis", "cividis"  # perceptually uniform and colour-blind safe
OUTLINE = [withStroke(linewidth=1.6, foreground="#000000")]


def canvas(ax, width: float, height: float):
    """Turn axes into an empty page of `width` x `height` units, origin at the lower left; returns them."""
    ax.set(xlim=(0, width), ylim=(0, height), xticks=[], yticks=[])
    ax.set_axis_off()
    return ax


def box(ax, x: float, y: float, width: float, height: float, words: str, fill: str) -> None:
    """A rounded box with words in its middle."""
    shape = "round,pad=0,rounding_size=0.8"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, fc=fill, ec="#555555", lw=0.7))
    ax.text(x + width / 2, y + height / 2, words, ha="center", va="center", fontsize=6.4, linespacing=1.3)


def arrow(ax, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=6, lw=0.8, color="#333333"))


def arrows_along(ax, y: float, spans) -> None:
    """Horizontal arrows at height y, one per (from, to)."""
    for start, end in spans:
        arrow(ax, (start, y), (end, y))


def inset(ax, bounds: tuple[float, float, float, float], image=None, **options):
    """Axes inside axes, `bounds` (x, y, width, height) in data units, with an image; `options` go to `people.show`."""
    inside = ax.inset_axes(bounds, transform=ax.transData)
    if image is not None:
        people.show(inside, image, **options)
    return inside


def outlined(ax, place, words: str, colour: str = YELLOW, size: float = 8, **options) -> None:
    """Bold text with a black outline; `options` go to `ax.text`."""
    look = {"weight": "bold", "zorder": 6, "path_effects": OUTLINE} | options
    ax.text(*place, words, fontsize=size, color=colour, **look)


def point(ax, place, size: float = 24) -> None:
    """A yellow dot, the place that a map belongs to."""
    ax.scatter(*place, s=size, color=YELLOW, edgecolors="#000000", linewidths=0.7, zorder=5)


def cross(ax, place, colour: str, edge: str, marker: str = "x", size: float = 6) -> None:
    """A cross or plus, readable on dark and light."""
    ax.plot(*place, marker, color=edge, ms=size, mew=2.2, zorder=4)
    ax.plot(*place, marker, color=colour, ms=size, mew=1.1, zorder=4.1)


def overlay(ax, image, values, colours=HEAT, high: float | None = None, extent=None, smooth=True, alpha=0.62):
    """A map (h, w) over the pale image; returns the artist whose scale is the map's.

    extent: left, right, bottom, top px of the image that the map covers; None = all of it.
    """
    people.show(ax, image, grey=True)
    height, width = image.shape[:2]
    look = {"extent": extent or (0, width, height, 0), "cmap": colours, "alpha": alpha, "zorder": 2}
    artist = ax.imshow(values, vmin=0, vmax=high, interpolation="bilinear" if smooth else "nearest", **look)
    ax.set(xlim=(0, width), ylim=(height, 0))
    return artist


def udp_extent(cells: tuple[int, int], pixels: tuple[int, int]) -> tuple[float, float, float, float]:
    """`extent` of a heatmap (h, w) in a crop (H, W): UDP's first and last cell have the middles of the first and last
    pixel, so a little of the outermost cells lies outside."""
    (rows, columns), (height, width) = cells, pixels
    down, across = ((size - 1) / max(count - 1, 1) / 2 for size, count in ((height, rows), (width, columns)))
    return 0.5 - across, width - 0.5 + across, height - 0.5 + down, 0.5 - down


def tinted(tint: np.ndarray, share: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """`share` (H, W, 1) of a colour, the rest of the grey image, as one opaque uint8 image."""
    return (share * tint + (1 - share) * grey).clip(0, 255).astype(np.uint8)


def rgb(colour: str) -> np.ndarray:
    """(3,) in [0, 255] of a colour such as "#D55E00"."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def cell_rows(planes: Iterable[tuple], names: list[str], value: str = "value") -> pd.DataFrame:
    """A row per cell of maps: `planes` are (*key, (h, w)); columns `names` of the key, row, column, `value`."""
    rows = [(*key, *place, float(cell)) for *key, plane in planes for place, cell in np.ndenumerate(np.asarray(plane))]
    return pd.DataFrame(rows, columns=[*names, "row", "column", value])
