"""RTMO, Figure 2: the model at a glance; its dense grid of cells, and how SimOTA assigns them (Section 3.3).

Coordinates: COCO pixels of the network's input. N cells ("priors") of all levels, G annotated people.
"""

from __future__ import annotations

import numpy as np

from posebook.figures import drawing, people, style
from posebook.figures.rtmo_heatmaps import Person, cross
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

PERSON_INKS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A5F00")
MOST = 8  # poses drawn in one image: a model that has hardly learned finds a crowd everywhere


@style.styled
def fig02_overview(image, priors, scores, poses: Poses, person: Person, joints, layout=COCO, dataset="drawn people"):
    """Figure 2: a) from the image to a score in every cell and to people; b) the coordinate classifier on one person.

    Args:
        image: uint8 (H, W, 3), the network's input. priors (N, 3): x, y, stride; scores (N,) in [0, 1].
        poses: what the model returns. person: one of them with its heatmaps; joints: up to three to draw.
    """
    fig = style.figure(style.DOUBLE, 4.7)
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.75))
    _pipeline(top.subplots(), image, priors, scores, poses, layout)
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.15))
    _classifier(left.subplots(), len(layout), len(person.bins_x), len(person.bins_y))
    cross(right.subplots(), person, joints, layout)
    style.title(right, "c", "two heatmaps per joint over 1.25 times the box (dotted)")
    style.corner(fig, f"image: {dataset}")
    return fig


@style.styled
def dense_grid(image, priors, scores, kept: np.ndarray, poses: Poses, layout: Layout = COCO):
    """Every cell of every level with its score, those that survive threshold and suppression, and their poses.

    Args: image, priors, scores: as in `fig02_overview`. kept: indices of the surviving cells.
    """
    strides = np.unique(priors[:, 2])
    fig = style.figure(style.DOUBLE, 2.5)
    axes = fig.subplots(1, len(strides) + 1)
    for ax, stride in zip(axes, strides, strict=False):
        shown = _scores(ax, image, priors, scores, stride)
        mine = kept[priors[kept, 2] == stride]
        ax.scatter(priors[mine, 0], priors[mine, 1], s=16, facecolors="none", edgecolors=style.TRUTH, lw=1.1, zorder=5)
        ax.set_title(f"stride {stride:.0f}: {(priors[:, 2] == stride).sum()} cells", fontsize=7.5)
    people.show(axes[-1], image)
    drawn = people.draw(axes[-1], poses.select(slice(MOST)), layout, size=0.8)
    few = "" if drawn == len(poses) else f", the best {drawn}"
    axes[-1].set_title(f"{len(poses)} survivors (circles){few}", fontsize=7.5)
    fig.colorbar(shown, ax=axes[:-1], pad=0.01, shrink=0.85, label="score").outline.set_visible(False)
    return fig


@style.styled
def assignment(
    image, target: dict, priors, person: np.ndarray, candidate: np.ndarray, overlaps: np.ndarray, overlap: str
):
    """SimOTA on one image: a) candidates (small) and positives (large, in their person's colour); b) how many.

    Args:
        target: keypoints (G, K, 2), boxes (G, 4). person (N,): index or -1; candidate (N,) bool.
        overlaps (G, 10): the ten best overlaps of each person, whose sum is its number k of positives; `overlap` names
            them: "OKS" or "IoU".
    """
    fig = style.figure(style.DOUBLE, 2.6)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.2))
    people.show(left, image, grey=True)
    left.scatter(priors[candidate, 0], priors[candidate, 1], s=2.5, color="#555555", lw=0, zorder=3)
    for i, box in enumerate(np.asarray(target["boxes"])):
        ink, mine = PERSON_INKS[i % len(PERSON_INKS)], priors[person == i]
        people.frame(left, box, ink, 0.9)
        left.scatter(*mine[:, :2].T, s=1.3 * mine[:, 2], color=ink, edgecolors="#FFFFFF", lw=0.6, zorder=5)
        edges, parts = np.cumsum([0, *overlaps[i]]), np.full(len(overlaps[i]), i)
        right.barh(parts, overlaps[i], left=edges[:-1], color=ink, ec="#FFFFFF", lw=0.6, height=0.6)
        right.text(edges[-1] + 0.08, i, f"{edges[-1]:.1f} → {max(int(edges[-1]), 1)}", fontsize=6.5, va="center")
    style.panel(left, "a", "candidates and positives")
    right.set_yticks(range(len(overlaps)), [f"person {i + 1}" for i in range(len(overlaps))])
    right.set(ylim=(len(overlaps) - 0.4, -0.6), xlim=(0, max(overlaps.sum(1).max() * 1.25, 1.0)))
    right.set_xlabel(f"sum of the ten best {overlap} → dynamic $k$")
    right.grid(axis="y", visible=False)
    style.panel(right, "b", "how many positives")
    return fig


@style.styled
def encoding(bins: np.ndarray, code: np.ndarray, vectors: np.ndarray):
    """How bins become vectors: a) the sine code of each bin's place; b) how alike the bins are to the middle one.

    Args: bins (B,): px. code, vectors (B, D): the code, and the code after the learned layer.
    """
    fig = style.figure(style.DOUBLE, 2.1)
    left, right = fig.subplots(1, 2, width_ratios=(1.1, 1))
    extent = (bins[0], bins[-1], code.shape[1], 0)
    left.imshow(code.T, extent=extent, aspect="auto", cmap="cividis", vmin=-1, vmax=1, interpolation="nearest")
    left.set(xlabel="place of the bin, $x_i$ (px)", ylabel="component $c$", yticks=[0, code.shape[1]])
    left.grid(False)
    style.panel(left, "a", "$PE(x_i)$, cosines above sines")
    ends = []
    for name, rows, ink in (("$PE$", code, style.GREY), ("$\\phi(PE)$", vectors, style.colour("rtmo"))):
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        alike = unit @ unit[len(bins) // 2]
        right.plot(bins, alike, color=ink)
        ends.append((alike[-1], name, ink))
    right.set(xlabel="place of the bin, $x_i$ (px)", xlim=(bins[0], bins[-1]))
    style.direct_labels(right, ends)
    style.panel(right, "b", "cosine similarity to the middle bin")
    return fig


def _scores(ax, image, priors, scores, stride):
    """The scores of one level as squares over the pale image."""
    mine = priors[:, 2] == stride
    rows = len(np.unique(priors[mine, 1]))
    low, high = priors[mine, :2].min(0) - stride / 2, priors[mine, :2].max(0) + stride / 2
    look = {"extent": (low[0], high[0], high[1], low[1]), "high": max(float(scores.max()), 1e-3)}
    look |= {"colours": drawing.SIMILARITY, "smooth": False, "alpha": 0.6}
    return drawing.overlay(ax, image, scores[mine].reshape(rows, -1), **look)


def _pipeline(ax, image, priors, scores, poses, layout) -> None:
    """Panel a on a canvas of 100 x 25 units."""
    drawing.canvas(ax, 100, 25)
    style.panel(ax, "a", "every grid cell answers; only survivors are decoded")
    drawing.inset(ax, (0, 3, 15, 19), image)
    drawing.box(ax, 17.5, 4, 9.5, 17, "CSP-\nDarknet", drawing.BLUE)
    drawing.box(ax, 29.5, 4, 9.5, 17, "hybrid\nencoder\n(neck)", drawing.ORANGE)
    for i, stride in enumerate(np.unique(priors[:, 2])[:2]):
        _scores(drawing.inset(ax, (42.5, 13.2 - 12.2 * i, 10.5, 11)), image, priors, scores, stride)
        ax.text(53.4, 14.2 - 12.2 * i, f"stride {stride:.0f}", fontsize=5.4, rotation=90, color=style.GREY)
    drawing.box(ax, 57, 4, 15, 17, "heads, per cell:\nscore\nbox\nvisibility\npose features", drawing.GREEN)
    drawing.box(ax, 75, 4, 8, 17, "DCC\n(b)", drawing.PINK)
    ax.text(73.4, 1.2, "score > 0.1, then NMS", fontsize=5.6, color=style.GREY, ha="center")
    spans = ((15.2, 17.4), (27.1, 29.4), (39.1, 42.3), (54.9, 56.9), (72.1, 74.9), (83.1, 85.1))
    drawing.arrows_along(ax, 12.5, spans)
    people.draw(drawing.inset(ax, (85.2, 3, 15, 19), image), poses.select(slice(MOST)), layout, size=0.6)


def _classifier(ax, joints: int, bins_x: int, bins_y: int) -> None:
    """Panel b: what the Dynamic Coordinate Classifier multiplies with what, on a canvas of 50 x 44 units."""
    drawing.canvas(ax, 50, 44)
    style.panel(ax, "b", "Dynamic Coordinate Classifier")
    drawing.box(ax, 0.5, 33, 15, 9, "pose features\nof the cell", drawing.GREEN)
    drawing.box(ax, 0.5, 17, 15, 9, f"linear, GAU over\nthe {joints} joints", drawing.PINK)
    drawing.box(ax, 20.5, 33, 13.5, 9, "box of the cell", drawing.GREEN)
    drawing.box(ax, 20.5, 17, 13.5, 9, f"× 1.25, cut into\n{bins_x} and {bins_y} bins", drawing.PINK)
    drawing.box(ax, 36.5, 17, 13.2, 9, "$\\phi(PE(x_i))$\na vector per bin", drawing.PINK)
    drawing.box(ax, 8, 1, 32, 9, "", drawing.ORANGE)
    middle = {"ha": "center", "va": "center", "fontsize": 6.5}
    ax.text(24, 7.4, r"$\hat p_k(x_i) = \mathrm{softmax}_i\; f_k \cdot \phi(PE(x_i))$", **middle)
    ax.text(24, 3.4, r"$\hat x_k = \sum_i\; \hat p_k(x_i)\, x_i$", **middle)
    arrows = (((8, 32.8), (8, 26.3)), ((27.2, 32.8), (27.2, 26.3)), ((34.2, 21.5), (36.3, 21.5)))
    for start, end in (*arrows, ((10, 16.8), (15, 10.3)), ((42, 16.8), (35, 10.3))):
        drawing.arrow(ax, start, end)
    ax.text(11.2, 12.6, "$f_k$", fontsize=7, ha="right")
