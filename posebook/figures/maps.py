"""Maps over a crop or a picture: heatmaps, attention, scores; and their cells as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from posebook.figures import people

HEAT, SIMILARITY = "viridis", "cividis"  # perceptually uniform and colour-blind safe


def overlay(ax, image, values, colours=HEAT, high: float | None = None, extent=None, smooth=True, alpha=0.62):
    """A map (h, w) over the pale picture; returns the artist whose scale is the map's.

    extent: left, right, bottom, top px of the picture that the map covers; None = all of it.
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
    """`share` (H, W, 1) of a colour, the rest of the grey picture, as one opaque uint8 picture."""
    return (share * tint + (1 - share) * grey).clip(0, 255).astype(np.uint8)


def rgb(colour: str) -> np.ndarray:
    """(3,) in [0, 255] of a colour such as "#D55E00"."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def cell_rows(planes: Iterable[tuple], names: list[str], value: str = "value") -> pd.DataFrame:
    """A row per cell of maps: `planes` are (*key, (h, w)); columns `names` of the key, row, column, `value`."""
    rows = [(*key, *place, float(cell)) for *key, plane in planes for place, cell in np.ndenumerate(np.asarray(plane))]
    return pd.DataFrame(rows, columns=[*names, "row", "column", value])
