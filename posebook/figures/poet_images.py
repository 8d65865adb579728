"""POET, Figures 4, 7, 9 and 10: predictions on images, attention, centres, visibility."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
import pandas as pd

from posebook.figures import drawing, people, style
from posekit.evaluation.centers import VISIBLE
from posekit.layouts import COCO, Layout


def fig04_examples(good: list, bad: list, layout: Layout = COCO, dataset="drawn people", threshold=0.5, least=0.1):
    """Figure 4: example predictions; above the best images by mean OKS, below the worst and who is annotated there.

    Args: good, bad: examples as `people.gallery` takes them; bad may be empty.
    """
    return people.gallery({"best": good, "worst": bad}, layout, dataset, threshold, least)


@style.styled
def fig09_centers(
    examples: list, offsets: pd.DataFrame, compared: list, layout: Layout, dataset: str, least: float, visible: str
):
    """Figure 9: (a) learned centres and offsets; (b) how far they are from the annotated ones; (c) two trainings.

    Args:
        examples: (image, Poses with centers) for (a), up to four.
        offsets: columns dx, dy (predicted - annotated centre, in box widths and heights), a row per matched person.
        compared: (image, Poses of the model with both losses, Poses of the model without) for (c), up to three.
        visible: of which joints the annotated centres are the mean, see `posekit.evaluation.centers.true_centers`.
    """
    examples, compared = examples[:4], compared[:3]
    fig = style.figure(style.DOUBLE, 4.15 if compared else 3.0)
    left, right = fig.subfigures(1, 2, width_ratios=(1.12, 1))
    draw = {"layout": layout, "least": least, "size": 0.8, "joints": False, "offsets": True}
    axes = left.subplots(2, 2, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        if i >= len(examples):
            ax.set_axis_off()
            continue
        people.show(ax, examples[i][0])
        people.draw(ax, examples[i][1], **draw)
    style.title(left, "a", f"predicted centres and offsets ({dataset})")
    upper, lower = right.subfigures(2, 1, height_ratios=(1.1, 1)) if compared else (right, None)
    _offset_scatter(upper, offsets, VISIBLE[visible][1])
    if lower is not None:
        axes = lower.subplots(2, len(compared), squeeze=False)
        for column, (image, *both) in enumerate(compared):
            for row, poses in enumerate(both):
                people.show(axes[row, column], image)
                people.draw(axes[row, column], poses, **draw)
                axes[row, 0].set_ylabel(("with", "without")[row], fontsize=7)
        style.title(lower, "c", "with and without centre and offset losses")
    return fig


def _offset_scatter(fig, offsets: pd.DataFrame, joints: str) -> None:
    """Panel b of Figure 9: scatter with histograms on the margins; the limits hold 99 % of the people."""
    dx, dy = (offsets[name].to_numpy(float) for name in ("dx", "dy"))
    finite = np.isfinite(dx) & np.isfinite(dy)
    dx, dy = dx[finite], dy[finite]
    reach = max(0.1, float(np.ceil(np.quantile(np.abs(np.concatenate([dx, dy, [0.0]])), 0.99) * 20) / 20))
    axes = fig.subplots(2, 2, sharex="col", sharey="row", width_ratios=(4, 1), height_ratios=(1, 4))
    (over, none), (main, side) = axes
    none.set_axis_off()
    ink, alpha = style.colour("poet_tiny"), min(1.0, max(0.08, 200 / max(len(dx), 1)))
    main.scatter(dx, dy, s=3, color=ink, alpha=alpha, linewidths=0, rasterized=True)
    main.locator_params(nbins=5)
    main.axhline(0, color="#555555", lw=0.6)
    main.axvline(0, color="#555555", lw=0.6)
    bins = np.linspace(-reach, reach, 41)
    over.hist(dx, bins, color=ink, lw=0)
    side.hist(dy, bins, color=ink, lw=0, orientation="horizontal")
    for ax in (over, side):
        ax.tick_params(bottom=False, left=False, labelbottom=False, labelleft=False)
        style.bare(ax)
    main.set(xlim=(-reach, reach), ylim=(reach, -reach), xlabel="Δx / box width", ylabel="Δy / box height")
    inside = np.mean((np.abs(dx) <= 0.1) & (np.abs(dy) <= 0.1)) if len(dx) else float("nan")
    words = f"{len(dx)} people\n{100 * inside:.0f} % within ±0.1"
    style.inside(main, 0.03, 0.03, words, fontsize=6.3, color="black")
    style.title(fig, "b", f"predicted centre − mean of the {joints}")


def fig10_data(truth: np.ndarray, predicted: np.ndarray, bins: int = 40) -> pd.DataFrame:
    """Histograms of the predicted visibility (0..1), one per annotated value 0, 1, 2: what Figure 10 draws.

    Returns: columns truth, low, high, count, joints (of that value), correct (share on the right side of 0.5:
    visible means annotated 2, as in the released code).
    """
    edges, parts = np.linspace(0, 1, bins + 1), []
    for value in (0, 1, 2):
        chosen = pd.Series(np.ravel(predicted)[np.ravel(truth) == value], dtype=float)
        part = pd.DataFrame({"truth": value, "low": edges[:-1], "high": edges[1:]})
        right = ((chosen >= 0.5) == (value == 2)).mean()
        parts.append(part.assign(count=np.histogram(chosen, edges)[0], joints=len(chosen), correct=right))
    return pd.concat(parts, ignore_index=True)


@style.styled
def fig10_visibility(data: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Figure 10: distribution of the predicted visibility of joints annotated 0 (outside), 1 (occluded), 2 (visible).

    Args: data: as `fig10_data` returns it.
    """
    fig = style.figure(style.SINGLE, 2.7)
    ax = fig.subplots()
    names = ["outside or\nnot labelled", "occluded\n", "visible\n"]
    ticks = []
    for value, rows in data.groupby("truth"):
        joints = int(rows.joints.iloc[0])
        ticks.append(f"{value}: {names[int(value)]}\n{joints:,} joints".replace(",", " "))
        middle = (rows.low + rows.high) / 2
        if joints:
            half, shade = 0.42 * rows["count"] / rows["count"].max(), 0.85 if value == 2 else 0.5
            ax.fill_betweenx(middle, value - half, value + half, color=style.colour(model), lw=0, alpha=shade)
            words = f"{100 * rows.correct.iloc[0]:.1f} % correct"
            ax.text(value, 1.045, words, ha="center", va="bottom", fontsize=6.8)
    ax.axhline(0.5, color="#333333", lw=0.8, ls="--")
    ax.set_xticks((0, 1, 2), ticks)
    ax.set(ylabel="predicted visibility", xlabel=f"annotated visibility, {dataset}")
    ax.set(ylim=(-0.02, 1.16), xlim=(-0.55, 2.55), yticks=np.arange(0, 1.01, 0.25))
    ax.grid(False, axis="x")
    return fig


@style.styled
def reliability(curve, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Not in the paper: predicted visibility as a probability. (a) ROC, the dot is the threshold 0.5; (b) calibration,
    the bars say how many keypoints stand behind each point.

    Args: curve: `posekit.evaluation.visibility.Visibility`.
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
    right.set(xlabel="predicted visibility", ylabel="share of joints that are visible")
    style.panel(right, "b", f"calibration: error {bins.error:.3f}")
    for ax in (left, right):
        ax.plot((0, 1), (0, 1), color="#555555", lw=0.7, ls="--", zorder=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return fig


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
            drawing.point(ax, place, 26)
        look = {"textcoords": "offset points", "fontsize": 7, "weight": "bold", "color": drawing.YELLOW}
        main.annotate(f"{i + 1}", place, xytext=(4, 3), path_effects=drawing.OUTLINE, **look)
        drawing.outlined(cells[i], (0.03, 0.97), f"{i + 1}", va="top", transform=cells[i].transAxes)
    style.title(top, "a", f"encoder self-attention of numbered reference points ({dataset})", x=0.01)
    main, cells_below = _overview(bottom)
    people.show(main, image)
    for i, (weights, pose) in enumerate(decoder):
        people.draw(main, pose, layout, size=0.9)
        _overlay(cells_below[i], image, weights)
        people.draw(cells_below[i], pose, layout, joints=False, size=0.45, colour="#FFFFFF")
        drawing.outlined(cells_below[i], (0.03, 0.97), f"{i + 1}", va="top", transform=cells_below[i].transAxes)
        drawing.outlined(main, np.nanmean(pose.keypoints[0], 0), f"{i + 1}", ha="center", va="center")
    style.title(bottom, "b", "decoder cross-attention of numbered queries, with their poses", x=0.01)
    for ax in [*cells[len(encoder) :], *cells_below[len(decoder) :]]:
        ax.set_axis_off()
    return fig


@style.styled
def one_map(image: np.ndarray, weights: np.ndarray, point=None, pose=None, layout: Layout = COCO, title: str = ""):
    """A single attention map (h, w) over the image, with the reference point or the pose that it belongs to."""
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
    return drawing.cell_rows(planes, ["part", "number", "x", "y"], "weight")


def _overview(fig):
    """(large axes, six small ones) of one half of Figure 7."""
    grid = fig.add_gridspec(2, 5)
    main = fig.add_subplot(grid[:, :2])
    return main, [fig.add_subplot(grid[i // 3, 2 + i % 3]) for i in range(6)]


def _overlay(ax, image, weights) -> None:
    """An attention map over the pale image, scaled to its own maximum."""
    height, width = image.shape[:2]
    weights = np.asarray(weights, np.float32)
    weights = cv2.resize(weights / max(float(weights.max()), 1e-12), (width, height), interpolation=cv2.INTER_LINEAR)
    weights = weights.clip(0, 1)[..., None]
    tint = matplotlib.colormaps[drawing.HEAT](weights[..., 0])[..., :3] * 255
    # One opaque image: people stay recognisable where attention is low, the colour takes over where it is high.
    people.show(ax, drawing.tinted(tint, 0.45 + 0.3 * weights, image.mean(2, keepdims=True)))
