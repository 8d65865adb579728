"""POET, Figure 2: the model at a glance, drawn by matplotlib.

a) image -> CNN -> transformer -> pose vectors; b) one pose vector on a person: centre, offsets, visibility
(section "The POET Model"); c) the bipartite matching of predictions to annotated people (Eq. 1 and 2).
"""

from __future__ import annotations

import numpy as np
from matplotlib.patches import ConnectionPatch, Rectangle

from posebook.figures import drawing, people, style
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

SLOTS = 5  # predictions in panel c


@style.styled
def fig02_overview(image, target: dict, predictions: Poses, pairs, layout: Layout = COCO, dataset="drawn people"):
    """Figure 2: a) the pipeline, b) the pose vector on a person, c) predictions matched one-to-one with the people.

    Args:
        image: uint8 (H, W, 3); target: the data set's dict; predictions: all Q poses of the model, best first.
        pairs: (prediction, person) of the optimal matching. (c) lists up to `SLOTS` predictions, the matched ones and
            some that stand for "no object".
    """
    if not len(target["keypoints"]):
        raise ValueError("figure 2 needs an image with at least one person")
    truth = people.from_target(target)
    fig = style.figure(style.DOUBLE, 4.5)
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.55))
    _pipeline(top.subplots(), image, predictions, layout, [p for p, _ in pairs])
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.25))
    _pose_vector(left, image, truth, layout)
    _matching(right, image, predictions, truth, pairs, layout)
    style.corner(fig, f"image: {dataset}")
    return fig


def _pipeline(ax, image, predictions, layout, matched) -> None:
    """Panel a on a canvas of 100 x 24 units, the image at both ends."""
    drawing.canvas(ax, 100, 24)
    style.panel(ax, "a", "one forward pass, no grouping, no suppression")
    grey = {"fontsize": 5.8, "color": style.GREY}
    drawing.inset(ax, (0, 2, 15, 19), image)
    drawing.box(ax, 18, 5, 11, 13, "CNN\nbackbone\n(stride S)", drawing.BLUE)
    for i in range(3):
        ax.add_patch(Rectangle((31.6 + 0.9 * i, 8 + 0.9 * i), 5, 6, fc="#FFFFFF", ec="#555555", lw=0.6))
    ax.text(35, 5.4, "C×H/S×W/S", ha="center", **grey)
    drawing.box(ax, 41.5, 5, 13, 13, "transformer\nencoder", drawing.ORANGE)
    ax.text(48, 20.6, "+ sine position", ha="center", **grey)
    drawing.arrow(ax, (48, 20.2), (48, 18.1))
    drawing.box(ax, 58.5, 5, 13, 13, "transformer\ndecoder", drawing.GREEN)
    for i in range(5):
        ax.add_patch(Rectangle((60.4 + 1.9 * i, 0.2), 1.4, 2.2, fc="#56B4E9", ec="#333333", lw=0.4))
    ax.text(70.6, 0.9, "object queries (learned)", **grey)
    drawing.arrow(ax, (65, 2.6), (65, 4.9))
    drawing.box(ax, 75.5, 5, 8, 13, "pose\nhead\n(MLP)", drawing.PINK)
    spans = ((15.3, 17.9), (29.1, 31.4), (38.9, 41.4), (54.6, 58.4), (71.6, 75.4), (83.6, 85.6))
    drawing.arrows_along(ax, 11.5, spans)
    inset = drawing.inset(ax, (85.2, 2, 15, 19), image)
    people.draw(inset, predictions.select(np.array(matched, int)), layout, size=0.6)


def _pose_vector(fig, image, truth: Poses, layout: Layout) -> None:
    """Panel b: the person with most visible joints, the centre of the visible ones and the offsets."""
    best = int(np.argmax(truth.visibility.sum(1) * 1e6 + (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(1)))
    person = truth.select([best])
    joints, seen = person.keypoints[0], person.visibility[0] > 0.5
    center = joints[seen].mean(0) if seen.any() else np.nanmean(joints, 0)
    person.centers = center[None].astype(np.float32)
    ax, below = fig.subplots(2, 1, height_ratios=(1, 0.26))
    people.show(ax, image, grey=True)
    people.draw(ax, person, layout, offsets=True, size=1.2)
    far = int(np.nanargmax(np.where(seen, joints[:, 0] - center[0], np.nan) if seen.any() else joints[:, 0]))
    look = {"textcoords": "offset points", "fontsize": 7.5, "va": "center", "zorder": 6}
    look["bbox"] = {"fc": "#FFFFFF", "ec": "none", "alpha": 0.8, "pad": 0.8}
    ax.annotate("$(x_c, y_c)$", center, (-6, 0), ha="right", **look)
    ax.annotate("$(\\Delta x_i, \\Delta y_i),\\; v_i = 1$", joints[far], (6, 0), ha="left", **look)
    low, high = np.nanmin(joints, 0), np.nanmax(joints, 0)
    size = np.array(image.shape[1::-1], float)
    # The person fills the panel, which stays inside the image.
    span = np.minimum((high - low).max() * np.array([1.7, 1.25]), size)
    start = np.clip((low + high) / 2 - span / 2, 0, size - span)
    ax.set(xlim=(start[0], start[0] + span[0]), ylim=(start[1] + span[1], start[1]))
    style.panel(ax, "b", "a pose as one vector")
    below.set_axis_off()
    vector = r"$[\, x_c,\, y_c,\; \Delta x_1, \Delta y_1, v_1,\; \ldots,\; \Delta x_n, \Delta y_n, v_n \,]$"
    words = "red: centre of the visible joints   blue: offsets   hollow: v = 0 (not visible)"
    below.text(0.5, 1.0, vector, ha="center", va="top", fontsize=8)
    below.text(0.5, 0.42, words, ha="center", va="top", fontsize=6, color=style.GREY)


def _matching(fig, image, predictions: Poses, truth: Poses, pairs, layout: Layout) -> None:
    """Panel c: predictions above, annotated people below, a line per matched pair, the rest is no object."""
    pairs = pairs[: SLOTS - 1]
    matched = {p for p, _ in pairs}
    rest = [i for i in range(len(predictions)) if i not in matched][: SLOTS - len(pairs)]
    shown = sorted([*matched, *rest])  # in the model's order, so that the matching is seen to reorder
    grid = fig.add_gridspec(3, max(len(shown), len(pairs) + 1), height_ratios=(1, 0.45, 1))
    above, below = {}, []
    for column, p in enumerate(shown):
        above[p] = fig.add_subplot(grid[0, column])
        people.show(above[p], image, grey=True)
        people.draw(above[p], predictions.select([p]), layout, size=0.5)
        above[p].set_title(f"{predictions.scores[p]:.2f}", fontsize=6, loc="center", pad=1.5)
    for column, (p, t) in enumerate(pairs):
        below.append(fig.add_subplot(grid[2, column]))
        people.show(below[-1], image, grey=True)
        people.draw(below[-1], truth.select([t]), layout, size=0.5, colour=style.TRUTH)
        _link(fig, above[p], below[-1], style.TRUTH, "-")
    empty = fig.add_subplot(grid[2, len(pairs)])
    people.show(empty, np.full_like(image, 245))
    empty.text(0.5, 0.5, "∅", transform=empty.transAxes, ha="center", va="center", fontsize=14, color=style.GREY)
    empty.set_xlabel("no object", fontsize=6, labelpad=1)
    for p in rest:
        _link(fig, above[p], empty, "#AAAAAA", (0, (2, 2)))
    above[shown[0]].set_ylabel("predictions\n(score)", fontsize=6.5)
    [*below, empty][0].set_ylabel("people", fontsize=6.5)
    style.title(fig, "c", "bipartite matching: one prediction per person")


def _link(fig, upper, lower, ink, line) -> None:
    """A line from the bottom of one panel to the top of another."""
    places = ((0.5, -0.04), (0.5, 1.04), "axes fraction", "axes fraction")
    patch = ConnectionPatch(*places, axesA=upper, axesB=lower, color=ink, lw=0.9, ls=line)
    patch.set_in_layout(False)
    fig.add_artist(patch)
