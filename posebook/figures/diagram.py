"""Primitives of the overview diagrams: a canvas, boxes, arrows, insets; numbers that are readable on any picture."""

from __future__ import annotations

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.patheffects import withStroke

from posebook.figures import people

BLUE, ORANGE, GREEN, PINK = "#E8F1F8", "#FBE9D9", "#E2F3EC", "#F6E7F0"  # fills of boxes
YELLOW = "#FFE600"
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
    """Axes inside axes, `bounds` (x, y, width, height) in data units, with a picture; `options` go to `people.show`."""
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
