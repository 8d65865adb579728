"""POET, Figure 7: attention maps of the encoder (place to places) and of the decoder (query to places)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import diagram, maps, people, style
from posekit.layouts import COCO, Layout


@style.styled
def fig07_attention(
    image: np.ndarray, encoder: list[tuple], decoder: list[tuple], layout: Layout = COCO, dataset: str = "drawn people"
):
    """Figure 7: where (a) the encoder looks from reference points (yellow), (b) the decoder for queries.

    Args:
        image: uint8 (H, W, 3). encoder: ((x, y) pixels, map (h, w)) per reference point; decoder: (map (h, w), Poses
        with one person) per query;
            up to six of each. Maps are averages over the heads; each panel is scaled to its own maximum.
    """
    encoder, decoder = encoder[:6], decoder[:6]
    ratio = image.shape[0] / image.shape[1]
    cell = style.DOUBLE / 5
    fig = style.figure(style.DOUBLE, 4 * cell * ratio + 0.9)
    top, bottom = fig.subfigures(2, 1)
    main, cells = _overview(top)
    people.show(main, image)
    for i, (place, weights) in enumerate(encoder):
        _overlay(cells[i], image, weights)
        for ax in (main, cells[i]):
            diagram.point(ax, place, 26)
        look = {"textcoords": "offset points", "fontsize": 7, "weight": "bold", "color": diagram.YELLOW}
        main.annotate(f"{i + 1}", place, xytext=(4, 3), path_effects=diagram.OUTLINE, **look)
        diagram.outlined(cells[i], (0.03, 0.97), f"{i + 1}", va="top", transform=cells[i].transAxes)
    style.title(top, "a", f"encoder self-attention of numbered reference points ({dataset})", x=0.01)
    main, cells_below = _overview(bottom)
    people.show(main, image)
    for i, (weights, pose) in enumerate(decoder):
        people.draw(main, pose, layout, size=0.9)
        _overlay(cells_below[i], image, weights)
        people.draw(cells_below[i], pose, layout, joints=False, size=0.45, colour="#FFFFFF")
        diagram.outlined(cells_below[i], (0.03, 0.97), f"{i + 1}", va="top", transform=cells_below[i].transAxes)
        diagram.outlined(main, np.nanmean(pose.keypoints[0], 0), f"{i + 1}", ha="center", va="center")
    style.title(bottom, "b", "decoder cross-attention of numbered queries, with their poses", x=0.01)
    for ax in [*cells[len(encoder) :], *cells_below[len(decoder) :]]:
        ax.set_axis_off()
    return fig


@style.styled
def one_map(image: np.ndarray, weights: np.ndarray, point=None, pose=None, layout: Layout = COCO, title: str = ""):
    """A single attention map (h, w) over the picture, with the reference point or the pose that it belongs to."""
    fig = style.figure(3.2, 3.2 * image.shape[0] / image.shape[1] + 0.2)
    ax = fig.subplots()
    _overlay(ax, image, weights)
    if pose is not None:
        people.draw(ax, pose, layout, joints=False, size=0.8, colour="#FFFFFF")
    if point is not None:
        ax.scatter(*point, s=40, color="#FFE600", edgecolors="#000000", linewidths=0.8, zorder=5)
    ax.set_title(title)
    return fig


def fig07_data(encoder: list[tuple], decoder: list[tuple]) -> pd.DataFrame:
    """The plotted attention as rows: part, number (as shown), x, y (reference point), row, column, weight."""
    planes = [("encoder", i, *map(float, place), weights) for i, (place, weights) in enumerate(encoder[:6], 1)]
    for i, (weights, pose) in enumerate(decoder[:6], 1):
        planes.append(("decoder", i, *map(float, pose.keypoints[0].mean(0)), weights))
    return maps.cell_rows(planes, ["part", "number", "x", "y"], "weight")


def _overview(fig):
    """(large axes, six small ones) of one half of Figure 7."""
    grid = fig.add_gridspec(2, 5)
    main = fig.add_subplot(grid[:, :2])
    return main, [fig.add_subplot(grid[i // 3, 2 + i % 3]) for i in range(6)]


def _overlay(ax, image, weights) -> None:
    """An attention map over the pale picture, scaled to its own maximum."""
    import cv2
    import matplotlib

    height, width = image.shape[:2]
    weights = np.asarray(weights, np.float32)
    weights = cv2.resize(weights / max(float(weights.max()), 1e-12), (width, height), interpolation=cv2.INTER_LINEAR)
    weights = weights.clip(0, 1)[..., None]
    tint = matplotlib.colormaps[maps.HEAT](weights[..., 0])[..., :3] * 255
    # One opaque picture: people stay recognisable where attention is low, the colour takes over where it is high.
    people.show(ax, maps.tinted(tint, 0.45 + 0.3 * weights, image.mean(2, keepdims=True)))
