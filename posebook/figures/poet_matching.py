"""The matching cost of one picture and its assignment, and how good predicted visibility is as a probability.

Two drawings that the POET paper leaves to its equations: Eq. 1 and 2 as a table of costs, Figure 10 as a curve.
"""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Rectangle

from posebook.figures import diagram, people, style
from posekit.layouts import COCO, Layout
from posekit.poses import Poses


@style.styled
def matching(image: np.ndarray, target: dict, predictions: Poses, cost: np.ndarray, pairs: list, layout: Layout = COCO):
    """Eq. 1 and 2 on one picture: a) people; b) what each query would cost for each; c) the matched poses.

    Read in it: every column has exactly one vermilion cell, no row has two; it is not always the cheapest
    of its column.

    Args:
        image, target: of a data set. predictions: one pose per query, in the order of the queries.
        cost (Q, N): Eq. 1. pairs: (query, person), the assignment of least total cost.
    """
    fig = style.figure(style.DOUBLE, 2.7)
    left, middle, right = fig.subplots(1, 3, width_ratios=(1, 1.25, 1))
    truth = people.from_target(target)
    for ax, letter, title in ((left, "a", "annotated people"), (right, "c", "matched predictions")):
        people.show(ax, image)
        style.panel(ax, letter, title)
    people.draw(left, truth, layout, size=0.9)
    people.draw(right, predictions.select(np.array([query for query, _ in pairs], int)), layout, size=0.9)
    for query, person in pairs:
        _number(left, truth.keypoints[person], f"{person + 1}")
        _number(right, predictions.keypoints[query], f"{query + 1}")
    shown = middle.imshow(cost, cmap="cividis_r", aspect="auto")
    for query, person in pairs:
        middle.add_patch(Rectangle((person - 0.5, query - 0.5), 1, 1, fill=False, ec=style.TRUTH, lw=1.6))
        middle.text(person, query, f"{cost[query, person]:.1f}", ha="center", va="center", fontsize=5.5)
    middle.set(xlabel="person", ylabel="query", xticks=range(cost.shape[1]), yticks=range(0, len(cost), 5))
    middle.set_xticklabels([str(i + 1) for i in range(cost.shape[1])])
    middle.set_yticklabels([str(i + 1) for i in range(0, len(cost), 5)])
    middle.grid(False)
    style.panel(middle, "b", "matching cost")
    fig.colorbar(shown, ax=middle, pad=0.02).outline.set_visible(False)
    return fig


@style.styled
def reliability(curve, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Not in the paper: predicted visibility as a probability, all thresholds at once.

    Read in (a): the nearer to the upper left corner, the better visible joints are separated from the others,
    whatever the threshold; the dot is 0.5. (b): on the diagonal a prediction of .8 is right eight times in
    ten; the bars say how many joints stand behind each point.

    Args:
        curve: `posekit.evaluation.visibility.Visibility`.
    """
    fig = style.figure(style.DOUBLE, 2.5)
    left, right = fig.subplots(1, 2)
    ink = style.colour(model)
    left.plot(curve.false_rate, curve.true_rate, color=ink)
    left.plot(1 - curve.hidden_correct, curve.visible_correct, "o", ms=4, color=ink)
    left.set(xlabel="non-visible joints called visible", ylabel="visible joints found")
    style.panel(left, "a", f"ROC on {dataset}: area {curve.auc:.3f}")
    bins = curve.calibration
    right.bar((bins.low + bins.high) / 2, bins.count / max(bins.count.max(), 1), width=0.09, color="#DDDDDD", lw=0)
    right.plot(bins.predicted, bins.observed, "o-", ms=3.5, color=ink)
    right.set(xlabel="predicted visibility", ylabel="share of joints that are seen")
    style.panel(right, "b", f"calibration: error {bins.error:.3f}")
    for ax in (left, right):
        ax.plot((0, 1), (0, 1), color="#555555", lw=0.7, ls="--", zorder=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return fig


def _number(ax, keypoints: np.ndarray, words: str) -> None:
    diagram.outlined(ax, np.nanmean(keypoints, 0), words, ha="center", va="center")
