"""POET, Figures 4, 9 and 10: predictions on pictures, learned centres, visibility."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import people, style
from posekit.evaluation.centers import VISIBLE
from posekit.layouts import COCO, Layout


@style.styled
def fig04_examples(
    good: list[tuple],
    bad: list[tuple],
    layout: Layout = COCO,
    dataset: str = "drawn people",
    threshold: float = 0.5,
    least: float = 0.0,
):
    """Figure 4: example predictions; above the best pictures by mean OKS, below the worst.

    Read in it: hollow joints are those that the model believes occluded. In the lower row the annotated people are thin
    vermilion skeletons under the predictions, so that a miss, a duplicate and a swap can be told apart.

    Args:
        good, bad: (image, Poses, target or None, mean OKS) per picture; bad may be empty.
        threshold: predictions below this score are not drawn.
        least: joints below this predicted visibility are not drawn.
    """
    columns = max(len(good), len(bad))
    ratio = max(row[0].shape[0] / row[0].shape[1] for row in [*good, *bad])
    height = 2 * (style.DOUBLE / columns * ratio + 0.22) + 0.2
    fig = style.figure(style.DOUBLE, height)
    axes = fig.subplots(2, columns, squeeze=False)
    for row, (examples, name) in enumerate(((good, "best"), (bad, "worst"))):
        for column, ax in enumerate(axes[row]):
            if column >= len(examples):
                ax.set_axis_off()
                continue
            image, poses, target, oks = examples[column]
            people.show(ax, image)
            if row and target is not None:
                people.draw(ax, people.from_target(target), layout, joints=False, size=0.8, colour=style.TRUTH)
            people.draw(ax, poses, layout, threshold=threshold, least=least, size=0.8)
            ax.set_title(f"OKS {oks:.2f}", fontsize=7, pad=2)
            if not column:
                ax.set_ylabel(f"{name} by mean OKS", fontsize=7)
    text = f"{dataset}; predictions with score ≥ {threshold:g}; vermilion in the lower row: annotated people"
    fig.suptitle(text, fontsize=7, x=0.01, ha="left")
    return fig


@style.styled
def fig09_centers(
    examples: list[tuple],
    offsets: pd.DataFrame,
    compared: list[tuple],
    layout: Layout = COCO,
    dataset: str = "drawn people",
    threshold: float = 0.5,
    least: float = 0.0,
    names: tuple[str, str] = ("with", "without"),
    visible: str = "released",
):
    """Figure 9: the centres that the model learned.

    Read in (a): red centres with blue vectors to the joints should lie amid the seen joints; (b): offset of
    the predicted from the annotated centre in units of the box's width and height, tight around zero; (c): a
    model trained without centre and offset losses may put its centres anywhere and still find the joints.

    Args:
        examples: (image, Poses with centers) for (a), up to four.
        offsets: columns dx, dy (predicted - annotated centre, divided by box width and height), one row per
        matched person.
        compared: (image, Poses of the model with both losses, Poses of the model without) for (c), up to
        three; may be empty.
        visible: of which joints the annotated centres are the mean, see `posekit.evaluation.centers.true_centers`.
    """
    examples, compared = examples[:4], compared[:3]
    fig = style.figure(style.DOUBLE, 4.15 if compared else 3.0)
    left, right = fig.subfigures(1, 2, width_ratios=(1.12, 1))
    draw = {"layout": layout, "threshold": threshold, "least": least, "size": 0.8}
    draw |= {"limbs": False, "joints": False, "offsets": True}
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
                if not column:
                    axes[row, 0].set_ylabel(names[row], fontsize=7)
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
    main.text(0.03, 0.03, words, transform=main.transAxes, fontsize=6.3)
    style.title(fig, "b", f"predicted centre − mean of the {joints}")


def fig10_data(truth: np.ndarray, predicted: np.ndarray, bins: int = 40) -> pd.DataFrame:
    """Histograms of the predicted visibility (0..1), one per annotated value 0, 1, 2: what Figure 10 draws.

    Returns: columns truth, low, high, count, joints (of that value), correct (share on the right side of 0.5:
    visible means annotated 2, as in the released code).
    """
    truth, predicted = np.asarray(truth).ravel(), np.asarray(predicted, float).ravel()
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for value in (0, 1, 2):
        chosen = predicted[truth == value]
        right = (chosen >= 0.5) == (value == 2)
        share = float(right.mean()) if len(chosen) else float("nan")
        counts, _ = np.histogram(chosen, edges)
        rows += [(value, edges[i], edges[i + 1], int(count), len(chosen), share) for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["truth", "low", "high", "count", "joints", "correct"])


@style.styled
def fig10_visibility(data: pd.DataFrame, model: str = "poet_tiny", dataset: str = "drawn people"):
    """Figure 10: distribution of the predicted visibility for joints annotated 0 (outside), 1 (hidden) and 2 (seen).

    Read in it: the first two shapes should sit below the line at 0.5, the last above; the share that does is printed.
    The paper (COCO) counts 94.84 % of the non-visible and 91.09 % of the visible joints on the right side.

    Args:
        data: as `fig10_data` returns it.
    """
    fig = style.figure(style.SINGLE, 2.7)
    ax = fig.subplots()
    names = ["outside or\nnot labelled", "hidden\n", "seen\n"]
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
    ax.set(
        xticks=(0, 1, 2), xticklabels=ticks, ylabel="predicted visibility", xlabel=f"annotated visibility, {dataset}"
    )
    ax.set(ylim=(-0.02, 1.16), xlim=(-0.55, 2.55), yticks=np.arange(0, 1.01, 0.25))
    ax.grid(False, axis="x")
    return fig
