"""POET's matching on one image (Eq. 1 and 2): who is matched to whom, and what every other pair would cost."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from posebook.figures import drawing, people, style
from posekit.evaluation.centers import true_centers
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

QUERY, MOVED = "#0072B2", "#CC79A7"


@style.styled
def matching(
    image: np.ndarray,
    target: dict,
    predictions: Poses,
    cost: np.ndarray,
    pairs: list,
    layout: Layout = COCO,
    usual: list | None = None,
    words: str = "",
):
    """a) Annotated people and the centres of all queries, lines from person to query; b) the cost of every pair;
    c) the matched poses.

    Args:
        image, target: of a data set. predictions: one pose per query with its centre, in the order of the queries.
        cost (Q, N): Eq. 1. pairs: (query, person), the assignment of least total cost. usual: the pairs of another
            assignment; pairs that are not among them are marked. words: a line above, such as the weights.
    """
    fig = style.figure(style.DOUBLE, 2.7 if not words else 2.9)
    left, middle, right = fig.subplots(1, 3, width_ratios=(1, 1.25, 1))
    truth = people.from_target(target)
    for ax, letter, title in ((left, "a", "people and queries"), (right, "c", "matched predictions")):
        people.show(ax, image, grey=ax is left)
        style.panel(ax, letter, title)
    people.draw(left, truth, layout, size=0.6)
    matched = np.array([query for query, _ in pairs], int)
    people.draw(right, predictions.select(matched), layout, size=0.9)
    inks = {pair: style.TRUTH if usual is None or pair in usual else MOVED for pair in map(tuple, pairs)}
    _lines(left, target, predictions, inks)
    for query, _ in pairs:
        where = np.nanmean(predictions.keypoints[query], 0)
        drawing.outlined(right, where, f"{query + 1}", ha="center", va="center")
    shown = middle.imshow(cost, cmap="cividis_r", aspect="auto")
    for (query, person), ink in inks.items():
        middle.add_patch(Rectangle((person - 0.5, query - 0.5), 1, 1, fill=False, ec=ink, lw=1.8))
        middle.text(person, query, f"{cost[query, person]:.1f}", ha="center", va="center", fontsize=5.5)
    middle.set(xlabel="person", ylabel="query", xticks=range(cost.shape[1]), yticks=range(0, len(cost), 5))
    middle.set_xticklabels([str(i + 1) for i in range(cost.shape[1])])
    middle.set_yticklabels([str(i + 1) for i in range(0, len(cost), 5)])
    middle.grid(False)
    style.panel(middle, "b", f"matching cost, total {sum(cost[pair] for pair in inks):.2f}")
    fig.colorbar(shown, ax=middle, pad=0.02).outline.set_visible(False)
    if words:
        style.note(fig, words, 7, "black")
    return fig


def _lines(ax, target: dict, predictions: Poses, inks: dict) -> None:
    """All queries as rings at their predicted centres, larger with the score; matched ones joined to their person."""
    centers = true_centers(target["keypoints"], target["visibility"])
    (height, width), margin = ax.images[0].get_size(), 2
    inside = np.clip(predictions.centers, margin, (width - margin, height - margin))
    ax.scatter(*inside.T, s=6 + 40 * predictions.scores, facecolors="none", edgecolors=QUERY, lw=0.9, zorder=5)
    for (query, person), ink in inks.items():
        start = centers[person]
        if np.isfinite(start).all():
            ax.plot(*np.stack([start, inside[query]]).T, color=ink, lw=1.4, zorder=5.5)
            ax.scatter(*start, marker="X", s=26, color=ink, edgecolors="#FFFFFF", lw=0.6, zorder=5.6)
            up = {"xytext": (3, 4), "textcoords": "offset points"}
            note = ax.annotate(
                f"{person + 1}→{query + 1}", inside[query], **up, fontsize=6.5, color="#FFFFFF", zorder=6
            )
            note.set(weight="bold", path_effects=drawing.OUTLINE)
