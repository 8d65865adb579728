"""POET, Figure 2: the model at a glance, drawn by matplotlib.

a) picture -> CNN -> transformer -> pose vectors; b) one pose vector on a person: centre, offsets, visibility
(section "The POET Model"); c) the bipartite matching of predictions to annotated people (Eq. 1 and 2).
"""

from __future__ import annotations

import numpy as np
from matplotlib.patches import ConnectionPatch, FancyArrowPatch, FancyBboxPatch, Rectangle

from posebook.figures import people, style
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

BOX = {"cnn": "#E8F1F8", "encoder": "#FBE9D9", "decoder": "#E2F3EC", "head": "#F6E7F0"}


@style.styled
def fig02_overview(
    image: np.ndarray,
    target: dict,
    predictions: Poses,
    layout: Layout = COCO,
    pairs: list[tuple[int, int]] | None = None,
    dataset: str = "drawn people",
    slots: int = 5,
):
    """Figure 2: a) the pipeline, b) the pose vector on a person, c) predictions matched one-to-one with the
    people.

    Args:
        image: uint8 (H, W, 3); target: the data set's dict; predictions: all Q poses of the model, best
        first.
        pairs: (prediction, person) of the optimal matching; without them the pairs with the smallest sum of
            mean keypoint distances are drawn.
        slots: how many predictions (c) lists; the matched ones come first, the rest stand for "no object".
    """
    if not len(target["keypoints"]):
        raise ValueError("figure 2 needs a picture with at least one person")
    truth = people.from_target(target)
    pairs = nearest_pairs(predictions, truth) if pairs is None else pairs
    fig = style.figure(style.DOUBLE, 4.5)
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.55))
    _pipeline(top.subplots(), image, predictions, layout, [p for p, _ in pairs])
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.25))
    _pose_vector(left, image, truth, layout)
    _matching(right, image, predictions, truth, pairs, layout, slots)
    fig.text(0.995, 0.995, f"picture: {dataset}", ha="right", va="top", fontsize=6, color=style.GREY).set_in_layout(
        False
    )
    return fig


def nearest_pairs(predictions: Poses, truth: Poses) -> list[tuple[int, int]]:
    """(prediction, person) pairs with the smallest sum of mean keypoint distances (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment

    labelled = np.isfinite(truth.keypoints).all(-1)
    distance = np.linalg.norm(predictions.keypoints[:, None] - np.nan_to_num(truth.keypoints)[None], axis=-1)
    cost = (distance * labelled).sum(-1) / np.maximum(labelled.sum(-1), 1)
    return sorted(
        ((int(p), int(t)) for p, t in zip(*linear_sum_assignment(cost), strict=True)), key=lambda pair: pair[1]
    )


def _pipeline(ax, image, predictions, layout, matched) -> None:
    """Panel a: boxes and arrows on a canvas of 100 x 26 units, the picture at both ends."""
    ax.set(xlim=(0, 100), ylim=(0, 24), xticks=[], yticks=[])
    ax.set_axis_off()
    style.panel(ax, "a", "one forward pass, no grouping, no suppression")
    _inset(ax, image, (0, 2, 15, 19))

    def box(x, width, y, height, text, kind):
        ax.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=BOX[kind], ec="#555555", lw=0.7
            )
        )
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=6.5, linespacing=1.25)

    def arrow(start, end, **kwargs):
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=6, lw=0.8, color="#333333", **kwargs))

    box(18, 11, 5, 13, "CNN\nbackbone\n(stride S)", "cnn")
    for i in range(3):
        ax.add_patch(Rectangle((31.6 + 0.9 * i, 8 + 0.9 * i), 5, 6, fc="#FFFFFF", ec="#555555", lw=0.6))
    ax.text(35, 5.4, "C×H/S×W/S", ha="center", fontsize=5.5, color=style.GREY)
    box(41.5, 13, 5, 13, "transformer\nencoder", "encoder")
    ax.text(48, 20.6, "+ sine position", ha="center", fontsize=5.8, color=style.GREY)
    arrow((48, 20.2), (48, 18.1))
    box(58.5, 13, 5, 13, "transformer\ndecoder", "decoder")
    for i in range(5):
        ax.add_patch(Rectangle((60.4 + 1.9 * i, 0.2), 1.4, 2.2, fc="#56B4E9", ec="#333333", lw=0.4))
    ax.text(70.6, 0.9, "object queries (learned)", fontsize=5.8, color=style.GREY)
    arrow((65, 2.6), (65, 4.9))
    box(75.5, 8, 5, 13, "pose\nhead\n(MLP)", "head")
    for start, end in ((15.3, 17.9), (29.1, 31.4), (38.9, 41.4), (54.6, 58.4), (71.6, 75.4), (83.6, 85.6)):
        arrow((start, 11.5), (end, 11.5))
    inset = _inset(ax, image, (85.2, 2, 15, 19))
    people.draw(inset, predictions.select(np.array(matched, int)), layout, size=0.6)


def _inset(ax, image, bounds):
    """The picture inside an axes, `bounds` (x, y, width, height) in its data units."""
    inset = ax.inset_axes(bounds, transform=ax.transData)
    people.show(inset, image)
    return inset


def _pose_vector(fig, image, truth: Poses, layout: Layout) -> None:
    """Panel b: the person with most seen joints, the centre of the seen ones and the offsets."""
    best = int(np.argmax(truth.visibility.sum(1) * 1e6 + (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(1)))
    person = truth.select([best])
    seen = person.visibility[0] > 0.5
    center = person.keypoints[0][seen].mean(0) if seen.any() else np.nanmean(person.keypoints[0], 0)
    person.centers = center[None].astype(np.float32)
    ax, text = fig.subplots(2, 1, height_ratios=(1, 0.26))
    people.show(ax, image, grey=True)
    people.draw(ax, person, layout, limbs=False, offsets=True, size=1.2)
    joints = person.keypoints[0]
    far = int(np.nanargmax(np.where(seen, joints[:, 0] - center[0], np.nan) if seen.any() else joints[:, 0]))
    for text_at, where, words in (
        ((-6, 0), center, "$(x_c, y_c)$"),
        ((6, 0), joints[far], "$(\\Delta x_i, \\Delta y_i),\\; v_i = 1$"),
    ):
        ax.annotate(
            words,
            where,
            xytext=text_at,
            textcoords="offset points",
            fontsize=7.5,
            va="center",
            ha="right" if text_at[0] < 0 else "left",
            zorder=6,
            bbox={"fc": "#FFFFFF", "ec": "none", "alpha": 0.8, "pad": 0.8},
        )
    low, high = np.nanmin(joints, 0), np.nanmax(joints, 0)
    size = np.array(image.shape[1::-1], float)
    # The person fills the panel, and the window stays inside the picture.
    span = np.minimum((high - low).max() * np.array([1.7, 1.25]), size)
    start = np.clip((low + high) / 2 - span / 2, 0, size - span)
    ax.set(xlim=(start[0], start[0] + span[0]), ylim=(start[1] + span[1], start[1]))
    style.panel(ax, "b", "a pose as one vector")
    text.set_axis_off()
    text.text(
        0.5,
        1.0,
        r"$[\, x_c,\, y_c,\; \Delta x_1, \Delta y_1, v_1,\; \ldots,\; \Delta x_n, \Delta y_n, v_n \,]$",
        ha="center",
        va="top",
        fontsize=8,
    )
    text.text(
        0.5,
        0.42,
        "red: centre of the seen joints   blue: offsets   hollow: v = 0 (hidden)",
        ha="center",
        va="top",
        fontsize=6,
        color=style.GREY,
    )


def _matching(fig, image, predictions: Poses, truth: Poses, pairs, layout: Layout, slots: int) -> None:
    """Panel c: predictions above, annotated people below, a line per matched pair, the rest is no object."""
    pairs = pairs[: slots - 1]
    rest = [i for i in range(len(predictions)) if i not in {p for p, _ in pairs}][: slots - len(pairs)]
    shown = [p for p, _ in pairs] + rest
    # Interleave, so that the matching is seen to reorder: slots keep the model's order.
    shown.sort()
    grid = fig.add_gridspec(3, max(len(shown), len(pairs) + 1), height_ratios=(1, 0.45, 1))
    above = {}
    for column, p in enumerate(shown):
        ax = fig.add_subplot(grid[0, column])
        people.show(ax, image, grey=True)
        people.draw(ax, predictions.select([p]), layout, size=0.5)
        ax.set_title(f"{predictions.scores[p]:.2f}", fontsize=6, loc="center", pad=1.5)
        above[p] = ax
        if column == 0:
            ax.set_ylabel("predictions\n(score)", fontsize=6.5)
    first = None
    for column, (p, t) in enumerate(pairs):
        ax = fig.add_subplot(grid[2, column])
        people.show(ax, image, grey=True)
        people.draw(ax, truth.select([t]), layout, size=0.5, colour=style.TRUTH)
        first = first or ax
        _link(fig, above[p], ax, style.TRUTH, "-")
    empty = fig.add_subplot(grid[2, len(pairs)])
    people.show(empty, np.full_like(image, 245))
    empty.text(0.5, 0.5, "∅", transform=empty.transAxes, ha="center", va="center", fontsize=14, color=style.GREY)
    empty.set_xlabel("no object", fontsize=6, labelpad=1)
    for p in rest:
        _link(fig, above[p], empty, "#AAAAAA", (0, (2, 2)))
    (first or empty).set_ylabel("people", fontsize=6.5)
    fig.suptitle("$\\bf{c}$  bipartite matching: one prediction per person", fontsize=8, x=0.02, ha="left")


def _link(fig, upper, lower, ink, line) -> None:
    patch = ConnectionPatch(
        (0.5, -0.04),
        (0.5, 1.04),
        "axes fraction",
        "axes fraction",
        axesA=upper,
        axesB=lower,
        color=ink,
        lw=0.9,
        ls=line,
    )
    patch.set_in_layout(False)
    fig.add_artist(patch)
