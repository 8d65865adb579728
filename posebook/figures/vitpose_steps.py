"""ViTPose step by step on one image: boxes and windows, target and heatmap, decodings, flip test, whose boxes.

Data in, matplotlib Figure out. Coordinates: COCO pixels of the image or of the crop; only `fig_decodings` works
in heatmap index, where cell (r, c) has its middle at (c, r), as `models.heatmap_decoding.locate` does.
n people, K keypoints, (h, w) heatmap.
"""

from __future__ import annotations

import numpy as np

from posebook.figures import drawing, people, style
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

LOOKS = {"argmax": ("#000000", "s"), "quarter": ("#0072B2", "^"), "dark": ("#D55E00", "o")}
NAMES = {"argmax": "highest cell", "quarter": "quarter step", "dark": "DARK"}
MOST = 4  # crops in a row


@style.styled
def fig_windows(image, boxes: np.ndarray, windows: np.ndarray, crops: list, followed: int, dataset="drawn people"):
    """From boxes to crops: a) each person's box (solid) and what is cut out around it (dashed); b) the crops.

    Args:
        boxes, windows: (n, 4) x0 y0 x1 y1 px of the image. crops: n images, of equal size; the first four are
            shown, and the followed one among them.
    """
    shown = list(dict.fromkeys([followed, *range(len(crops))]))[:MOST]
    fig = style.figure(style.DOUBLE, 2.35)
    left, right = fig.subfigures(1, 2, width_ratios=(1, 0.52 * len(shown) + 0.1))
    ax = left.subplots()
    people.show(ax, image, grey=True)
    for i, (box, window) in enumerate(zip(boxes, windows, strict=True)):
        ink = style.TRUTH if i == followed else style.GREY
        people.frame(ax, box, ink, 1.1)
        people.frame(ax, window, ink, 0.8, ls=(0, (3, 2)))
    tall, wide = image.shape[:2]
    low, high = np.minimum(windows[:, :2].min(0), 0) - 2, np.maximum(windows[:, 2:].max(0), (wide, tall)) + 2
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    style.panel(ax, "a", "boxes, windows (dashed)")
    ax.set_xlabel(dataset, fontsize=6, color=style.GREY)
    for place, (ax, i) in enumerate(zip(np.atleast_1d(right.subplots(1, len(shown))), shown, strict=True)):
        people.show(ax, crops[i])
        style.panel(ax, "b" if place == 0 else " ", f"person {i + 1}" + ", followed" * (i == followed))
        if i == followed:
            people.frame(ax, np.array([0, 0, *crops[i].shape[1::-1]]), style.TRUTH, 2, clip_on=False)
    return fig


@style.styled
def fig_targets(image, target: np.ndarray, predicted: np.ndarray, joints: list[int], layout: Layout, truth: np.ndarray):
    """What a heatmap should be (top) and is (bottom): a column per joint; in the corner, the highest value of a map.

    Args: image: the crop. target, predicted: (K, h, w). truth: (K, 2) px of the crop, drawn as a cross.
    """
    height, width = image.shape[:2]
    column = min(style.DOUBLE / len(joints), 1.5)
    fig = style.figure(column * len(joints) + 0.2, 2 * column * height / width + 0.35)
    axes = fig.subplots(2, len(joints), squeeze=False)
    for row, (name, planes) in enumerate((("target", target), ("predicted", predicted))):
        for ax, joint in zip(axes[row], joints, strict=True):
            heat_map(ax, image, planes[joint])
            drawing.cross(ax, truth[joint], drawing.YELLOW, "black")
            style.inside(ax, 0.97, 0.03, f"{planes[joint].max():.2f}", ha="right", color="white")
            if row == 0:
                ax.set_title(style.joint_name(layout.keypoints[joint]), fontsize=7)
        axes[row, 0].set_ylabel(name, fontsize=7.5)
    return fig


@style.styled
def fig_decodings(heatmap: np.ndarray, places: dict[str, np.ndarray], truth: np.ndarray, title: str):
    """One heatmap, several decodings: a) the cells around the peak; b) the row of cells through it.

    Args: heatmap: (h, w). places: method -> (2,) heatmap index. truth: (2,) heatmap index, NaN without annotation.
    """
    reach = 4  # cells shown on each side of the highest
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    fig = style.figure(5.6, 2.5)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.25))
    shown = left.imshow(heatmap, cmap=drawing.HEAT, interpolation="nearest")
    left.set(xlim=(column - reach - 0.5, column + reach + 0.5), ylim=(row + reach + 0.5, row - reach - 0.5))
    left.set(xlabel="column of the heatmap", ylabel="row")
    left.grid(False)
    fig.colorbar(shown, ax=left, pad=0.02, shrink=0.85).outline.set_visible(False)
    cells = np.arange(max(column - reach, 0), min(column + reach + 1, heatmap.shape[1]))
    values = heatmap[row, cells]
    low, high = min(float(values.min()), 0.0), float(values.max())
    right.bar(cells, values, width=0.92, color="#D9D9D9", zorder=1)
    marks = {name: (places[name], *LOOKS[name]) for name in places}
    if np.abs(truth - (column, row)).max() <= reach + 0.5:  # not so for NaN
        marks["annotation"] = (truth, drawing.YELLOW, "X")
    words = {"fontsize": 6.5, "va": "top", "ha": "left"}
    for step, (name, (place, ink, marker)) in enumerate(marks.items()):
        yellow = ink == drawing.YELLOW  # no colour for a line on white
        left.scatter(*place, color=ink, marker=marker, s=34, ec="black" if yellow else "white", lw=0.8, zorder=4 + step)
        line = "#9C8B00" if yellow else ink
        right.axvline(place[0], ymax=0.68, color=line, lw=1.1, ls=(0, (2, 1.5)) if yellow else "-")
        style.inside(right, 0.03, 0.98 - 0.075 * step, f"{place[0]:.2f}  {NAMES.get(name, name)}", color=line, **words)
    if np.isfinite(truth).all() and "annotation" not in marks:
        style.inside(right, 0.03, 0.98 - 0.075 * len(marks), "annotation: outside of the view", **words)
    right.set(xlabel="column of the heatmap", ylim=(low, low + (high - low) / 0.64 + 1e-9), xlim=left.get_xlim())
    style.panel(left, "a", title)
    style.panel(right, "b", f"row {row}, and where the methods put x")
    return fig


@style.styled
def fig_flip(image: np.ndarray, maps: dict[str, np.ndarray], places: dict[str, np.ndarray], truth: np.ndarray):
    """The flip test on one joint: a column per entry of `maps` (h, w), its decoded place (2,) px of the crop as a plus,
    the annotation as a cross; above, the distance of the two."""
    height, width = image.shape[:2]
    fig = style.figure(1.55 * len(maps), 1.45 * height / width + 0.4)
    for ax, (name, values) in zip(fig.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        heat_map(ax, image, values)
        drawing.cross(ax, places[name], style.TRUTH, "white", "+", 9)
        drawing.cross(ax, truth, drawing.YELLOW, "black")
        off = f"\n{np.hypot(*(places[name] - truth)):.1f} px off" if np.isfinite(truth).all() else ""
        ax.set_title(name + off, fontsize=7.5)
    return fig


@style.styled
def fig_boxes(image: np.ndarray, found: dict[str, Poses], layout: Layout = COCO):
    """The same image once per entry: whose boxes (thin, dashed), and the poses that came of them."""
    height, width = image.shape[:2]
    each = style.DOUBLE / max(len(found), 2)
    fig = style.figure(each * len(found), each * height / width + 0.25)
    for ax, (name, poses) in zip(fig.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        people.show(ax, image)
        for box in poses.boxes:
            people.frame(ax, box, "#333333", 0.7, ls=(0, (3, 2)))
        people.draw(ax, poses, layout, size=0.8)
        ax.set_title(name, fontsize=7)
    return fig


def heat_map(ax, image: np.ndarray, values: np.ndarray) -> None:
    """A heatmap (h, w) over the pale crop, every cell in its place."""
    extent = drawing.udp_extent(values.shape, image.shape[:2])
    drawing.overlay(ax, image, values, high=max(float(values.max()), 1e-6), extent=extent, smooth=False, alpha=0.72)
