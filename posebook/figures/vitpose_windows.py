"""Windowed attention on a grid of tokens: whom one token sees, the mask, the cost beside that of full attention."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap

from posebook.analysis import windows
from posebook.figures import drawing, style

SEEN = ListedColormap(["#F2F2F2", "#0072B2", "#BFDDF0"])  # not at all, itself, as part of a window's mean


@style.styled
def fig_mask(grid, window, shift=(0, 0), pool: bool = False, token=(0, 0), dim: int = 768, heads: int = 12):
    """a) The grid: whom the token (row, column) may attend to; lines are borders of windows. b) The mask, a row per
    token. c) What one layer costs, in per cent of full attention.

    Args: grid, window, shift: (rows, columns) in tokens; window None = full. dim, heads: of the layer.
    """
    seen = windows.allowed(grid, window, shift, pool)
    numbers = windows.window_numbers(grid, window, shift)
    ours, full = (windows.cost(grid, *how, dim, heads) for how in ((window, shift, pool), (None, (0, 0), False)))
    row, column = np.clip(token, 0, np.array(grid) - 1)
    fig = style.figure(style.DOUBLE, 2.75)
    cells, mask, bars = fig.subplots(1, 3, width_ratios=(0.9, 1.15, 1.25))
    look = {"cmap": SEEN, "vmin": 0, "vmax": 2, "interpolation": "nearest"}
    cells.imshow(seen[row * grid[1] + column].reshape(grid), **look)
    _borders(cells, numbers)
    drawing.point(cells, (column, row))
    mask.imshow(seen, **look)
    for ax in (cells, mask):
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
    cells.set_xlabel(f"{grid[0]} x {grid[1]} tokens")
    mask.set(xlabel="key", ylabel="query")
    count = "full" if window is None else f"{numbers.max() + 1} groups"
    style.panel(cells, "a", f"token ({row}, {column})")
    style.panel(mask, "b", f"mask: {(seen == 1).mean():.1%} of pairs, {count}")
    rows = (("multiply-adds", ours.gmac, full.gmac, "GMAC"), ("scores kept", ours.scores_mb, full.scores_mb, "MB"))
    for place, (name, value, most, unit) in enumerate(rows):
        bars.barh(place, 100 * value / most, color=style.colour("vitpose"), height=0.45)
        told = f"{name}: {value:.3g} of {most:.3g} {unit} ({value / most:.0%})"
        bars.text(0, place - 0.32, told, fontsize=6.5, va="bottom")
    bars.axvline(100, color=style.GREY, lw=0.8, ls=":")
    most = 100 * max(ours.gmac / full.gmac, ours.scores_mb / full.scores_mb, 1)
    bars.set(xlim=(0, 1.08 * most), ylim=(1.5, -0.75), yticks=[], xlabel="% of full attention")
    bars.grid(axis="y", visible=False)
    style.panel(bars, "c", f"one layer, {dim} channels, {heads} heads")
    return fig


def _borders(ax, numbers: np.ndarray) -> None:
    """A line between neighbours of different groups, and around the grid."""
    rows, columns = numbers.shape
    down = [[(c + 0.5, r - 0.5), (c + 0.5, r + 0.5)] for r, c in np.argwhere(numbers[:, 1:] != numbers[:, :-1])]
    across = [[(c - 0.5, r + 0.5), (c + 0.5, r + 0.5)] for r, c in np.argwhere(numbers[1:] != numbers[:-1])]
    ax.add_collection(LineCollection(down + across, colors="#333333", linewidths=0.8), autolim=False)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
