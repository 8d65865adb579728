"""RTMO's 1-D heatmaps: on people (Figure 4), with and without bin encoding (Figure 5), by length of training; sigma.

A `Person` is one detection with the heatmaps of all its joints, in COCO pixels of its image. A heatmap is drawn as
probability per bin, at the bin's place: that of x below the image, that of y on its right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from posebook.figures import drawing, people, style
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

INKS = ("#D55E00", "#0072B2", "#009E73")  # joints in one panel, colour-blind safe
TRUE = "#000000"


@dataclass
class Person:
    """`image` uint8 (H, W, 3); `pose`: Poses with one person; `heatmap_x` (K, Bx), `heatmap_y` (K, By), `bins_x` (Bx,),
    `bins_y` (By,) px; `truth` (K, 2) px, NaN where nothing is annotated; `title`.
    """

    image: np.ndarray
    pose: Poses
    heatmap_x: np.ndarray
    heatmap_y: np.ndarray
    bins_x: np.ndarray
    bins_y: np.ndarray
    truth: np.ndarray
    title: str = ""

    @classmethod
    def of(cls, image, found, target: dict, person: int, title: str = "") -> Person:
        """The first person of what `analysis.heatmaps.read_heatmaps` found, with person `person` of the annotation."""
        labelled = np.asarray(target["visibility"][person]) > 0
        truth = np.where(labelled[:, None], target["keypoints"][person], np.nan)
        parts = (found.heatmap_x[0], found.heatmap_y[0], found.bins_x[0], found.bins_y[0])
        return cls(image, found.poses.select([0]), *parts, truth, title)

    def along(self, axis: str, joint: int) -> tuple[np.ndarray, np.ndarray, float]:
        """(bins, heatmap) of a joint along "x" or "y", and the annotated coordinate, NaN where there is none."""
        bins, heat = (self.bins_x, self.heatmap_x) if axis == "x" else (self.bins_y, self.heatmap_y)
        return bins, heat[joint], self.truth[joint]["xy".index(axis)]


@style.styled
def joint_heatmaps(person: Person, joints: list[int], layout: Layout = COCO):
    """One person and the two heatmaps of up to three keypoints, as the coordinate classifier gives them."""
    fig = style.figure(3.6, 3.9)
    cross(fig.subplots(), person, joints, layout)
    return fig


@style.styled
def fig04_heatmaps(crowd: list[Person], joints: list[int], layout: Layout = COCO, dataset: str = "drawn people"):
    """Figure 4: poses (top) and heatmaps (bottom) of up to three people, the curves of `joints`.

    Tint: the product of the two heatmaps of each joint; dotted: the range of the bins; ticks: the annotation.
    """
    if not crowd:
        raise ValueError("figure 4 needs at least one person")
    crowd = crowd[:3]
    fig = style.figure(style.DOUBLE, 4.5)
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.25))
    axes, below = top.subplots(1, 3), bottom.subplots(1, 3)
    for ax in [*axes[len(crowd) :], *below[len(crowd) :]]:
        ax.set_axis_off()
    for person, ax, part in zip(crowd, axes, below, strict=False):
        people.show(ax, person.image)
        people.draw(ax, person.pose, layout, size=0.8)
        _box(ax, person)
        ax.set_title(person.title, fontsize=7)
        cross(part, person, joints, layout, tint=True)
    style.corner(fig, f"images: {dataset}")
    return fig


@style.styled
def fig05_bin_encoding(pairs: list[tuple], joint: int, layout: Layout = COCO, dataset: str = "drawn people"):
    """Figure 5: heatmaps of the same people without (left) and with (right) dynamic bin encoding.

    Args: pairs: (Person without, Person with), one row each, at most three; joint: whose heatmaps are shown.
    """
    if not pairs:
        raise ValueError("figure 5 needs at least one person that both models found")
    pairs = pairs[:3]
    fig = style.figure(style.DOUBLE, 1.75 * len(pairs) + 0.35)
    grid = fig.add_gridspec(len(pairs), 5, width_ratios=(1.05, 1, 1, 1, 1))
    for row, both in enumerate(pairs):
        ax = fig.add_subplot(grid[row, 0])
        people.show(ax, both[1].image, grey=True)
        ax.scatter(*both[1].truth[joint], s=22, color=TRUE, marker="x", lw=0.9, zorder=5)
        for column, (person, ink) in enumerate(zip(both, (style.GREY, style.colour("rtmo")), strict=True)):
            ax.scatter(*person.pose.keypoints[0][joint], s=14, color=ink, edgecolors="#FFFFFF", lw=0.6, zorder=6)
            for i, axis in enumerate("xy"):
                (bins, heat, truth), panel = person.along(axis, joint), fig.add_subplot(grid[row, 1 + 2 * column + i])
                panel.bar(bins, heat, width=0.9 * _step(bins), color=ink, lw=0)
                panel.axvline(truth, color=TRUE, lw=0.8, ls=":")
                panel.set_yticks([])
                if row == 0:
                    panel.set_title(f"{('without', 'with')[column]} encoding: ${axis}$", fontsize=7.5, color=ink)
                if row == len(pairs) - 1:
                    panel.set_xlabel(f"${axis}$ (px)")
        if row == 0:
            ax.set_title(style.joint_name(layout.keypoints[joint]), fontsize=7.5)
    ax.set_xlabel(f"dotted, ×: annotation\n({dataset})", fontsize=6, color=style.GREY)
    return fig


@style.styled
def sharpening(
    stages: list[tuple], measured: pd.DataFrame, joint: int, layout: Layout = COCO, dataset: str = "drawn people"
):
    """Heatmaps by length of training: one joint of one person after ever more steps, and the width over many people.

    Args:
        stages: (steps, Person) per model, the same annotated person throughout.
        measured: a row per model: steps, `seen` and `hidden` = median spread of the heatmaps of visible and occluded
            joints, relative to the person's size.
    """
    fig = style.figure(style.DOUBLE, 2.4)
    left, middle, right = fig.subplots(1, 3)
    ink, name = drawing.rgb(style.colour("rtmo")) / 255, style.joint_name(layout.keypoints[joint])
    for letter, ax, axis in (("a", left, "x"), ("b", middle, "y")):
        for i, (shade, (steps, person)) in enumerate(zip(np.linspace(0.45, 1.0, len(stages)), stages, strict=True)):
            tone, (bins, heat, truth) = tuple(1 - shade * (1 - ink)), person.along(axis, joint)
            ax.plot(bins, heat / _step(bins), color=tone, lw=0.8 + 0.7 * shade)  # densities: bins differ in width
            if ax is left:
                look = {"color": tone, "ha": "right", "va": "top", "fontsize": 6.5}
                style.inside(left, 1, 0.98 - 0.09 * i, f"{steps:,} steps", **look)
        ax.axvline(truth, color=TRUE, lw=0.8, ls=":")
        ax.set(xlabel=f"${axis}$ (px)", ylim=(0, None))
        style.panel(ax, letter, f"{name}, ${axis}$")
    left.set_ylabel("probability per px")
    ends = []
    for column, name, marker, tone in (
        ("seen", "visible", "o", style.colour("rtmo")),
        ("hidden", "occluded", "s", style.GREY),
    ):
        right.plot(measured.steps, measured[column], marker=marker, ms=3.5, color=tone)
        ends.append((measured[column].iloc[-1], name, tone))
    right.set(xscale="log", ylim=(0, None), xlabel="steps of training", ylabel="width / person's size")
    right.minorticks_off()
    right.set_xticks(measured.steps, [f"{steps:,}" for steps in measured.steps])
    style.direct_labels(right, [end for end in ends if np.isfinite(end[0])])
    style.panel(right, "c", f"median ({dataset})")
    return fig


@style.styled
def sigmas(table: pd.DataFrame, dataset: str = "drawn people"):
    """The learned sigma per joint beside the error that is made there.

    Args:
        table: a row per joint: joint (name), sigma, error, tolerance (OKS's sigma), relative to the person's size. 2
            sigma is drawn, the mean distance under the paper's Laplace density exp(-d / 2 sigma).
    """
    fig = style.figure(4.6, 0.17 * len(table) + 0.75)
    ax = fig.subplots()
    y = np.arange(len(table))[::-1]
    ax.hlines(y, 2 * table.sigma, table.error, color="#CCCCCC", lw=1)
    ax.plot(2 * table.sigma, y, "o", ms=5, color=style.colour("rtmo"), label="predicted, $2\\hat\\sigma$")
    ax.plot(table.error, y, "o", ms=5, color=style.GREY, mfc="#FFFFFF", label="measured error")
    ax.plot(2 * table.tolerance, y, "|", ms=5, color=TRUE, label="tolerance of OKS, 2σ")
    ax.set_yticks(y, [style.joint_name(name) for name in table.joint], fontsize=6.5)
    ax.set(xlim=(0, None), xlabel=f"relative to the root of the person's area ({dataset})")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, handletextpad=0.2, columnspacing=1.2)
    return fig


@style.styled
def likelihood(bins: np.ndarray, heatmap: np.ndarray, places: dict, values: np.ndarray, curves: dict, size: float):
    """The MLE loss along one axis: a) prediction and error model; b) the loss over sigma for annotations near and far.

    Args:
        bins, heatmap (B,): px and probabilities. places: name -> annotated place, px. values (S,): sigmas of the
        curves, relative to `size` px. curves: name -> loss (S,).
    """
    fig = style.figure(style.DOUBLE, 2.5)
    left, right = fig.subplots(1, 2)
    left.bar(bins, heatmap, width=0.9 * _step(bins), color="#CCCCCC", lw=0)
    fine = np.linspace(bins[0], bins[-1], 400)
    ends = []
    for ink, (name, place) in zip(INKS, places.items(), strict=False):
        best, top = values[np.argmin(curves[name])], heatmap.max()
        left.plot(fine, top * np.exp(-np.abs(fine - place) / (2 * best * size)), color=ink, lw=1)
        look = {"color": ink, "fontsize": 6.5, "ha": "center", "va": "center"}
        look["arrowprops"] = {"arrowstyle": "-", "lw": 0.5, "color": ink, "shrinkB": 0}
        left.annotate(name, (place, top), (place, top * (1.07 + 0.1 * len(ends))), **look)
        right.plot(values, curves[name], color=ink)
        right.plot(best, curves[name].min(), "o", ms=4, color=ink)
        ends.append((curves[name][-1], name, ink))
    left.set(xlabel="$x$ (px)", yticks=[], ylim=(0, heatmap.max() * (1.15 + 0.1 * len(ends))))
    style.panel(left, "a", "$\\hat p(x_i)$ (grey) and $P(\\mu | x_i)$ at the best $\\hat\\sigma$")
    right.set(xscale="log", xlabel="$\\hat\\sigma$ (relative to the person)", ylabel="$L_{mle}^{(x)}$")
    style.direct_labels(right, ends)
    style.panel(right, "b", "the loss over $\\hat\\sigma$; dots: the least")
    return fig


def cross(main, person: Person, joints: list[int], layout: Layout, tint: bool = False) -> None:
    """The person's part of the image in axes `main`, with the heatmap of x below and that of y on its right."""
    people.show(main, _tinted(person) if tint else person.image, grey=not tint)
    if not tint:
        people.draw(main, person.pose, layout, joints=False, size=0.7, colour="#777777")
    _box(main, person)
    (x0, x1), (y0, y1) = _window(person)
    main.set(xlim=(x0, x1), ylim=(y1, y0))
    below, beside = main.inset_axes((0, -0.33, 1, 0.3)), main.inset_axes((1.03, 0, 0.3, 1))
    for i, (ink, joint) in enumerate(zip(INKS, joints, strict=False)):
        below.plot(person.bins_x, person.heatmap_x[joint], color=ink, lw=1)
        beside.plot(person.heatmap_y[joint], person.bins_y, color=ink, lw=1)
        main.scatter(*person.pose.keypoints[0][joint], s=16, color=ink, edgecolors="#FFFFFF", lw=0.6, zorder=6)
        x, y = person.truth[joint]
        below.plot([x], [0], "|", ms=7, mew=1.4, color=ink, clip_on=False)
        beside.plot([0], [y], "_", ms=7, mew=1.4, color=ink, clip_on=False)
        name = style.joint_name(layout.keypoints[joint])
        style.inside(main, 1.04, -0.06 - 0.09 * i, name, color=ink, fontsize=5.8, va="top")
    below.set(xlim=(x0, x1), ylim=(0, None), yticks=[], xlabel="$x$ (px)")
    beside.set(ylim=(y1, y0), xlim=(0, None), xticks=[])
    beside.yaxis.tick_right()


def fig_data(crowd: list[Person], joints: list[int], layout: Layout = COCO, names: list[str] | None = None):
    """The plotted heatmaps as rows: person, joint, axis, bin, place (px), probability."""
    parts = []
    for name, person in zip(names or [str(i + 1) for i in range(len(crowd))], crowd, strict=True):
        for joint in joints:
            for axis in "xy":
                bins, heat, _ = person.along(axis, joint)
                rows = {"person": name, "joint": layout.keypoints[joint], "axis": axis, "bin": range(len(bins))}
                parts.append(pd.DataFrame(rows | {"place": bins, "probability": heat}))
    return pd.concat(parts, ignore_index=True)


def _box(ax, person: Person) -> None:
    """The range of the bins, dotted."""
    box = np.array([person.bins_x[0], person.bins_y[0], person.bins_x[-1], person.bins_y[-1]])
    people.frame(ax, box, "#333333", 0.8, ls=":")


def _window(person: Person) -> tuple:
    """(x0, x1), (y0, y1): the bins' range, cut to the image, as a square."""
    height, width = person.image.shape[:2]
    low = np.maximum([person.bins_x[0], person.bins_y[0]], 0)
    high = np.maximum(np.minimum([person.bins_x[-1], person.bins_y[-1]], [width, height]), low + 4)
    half = min(max(high - low) / 2 + 2, min(width, height) / 2)
    middle = np.clip((low + high) / 2, half, [width - half, height - half])
    return (middle[0] - half, middle[0] + half), (middle[1] - half, middle[1] + half)


def _tinted(person: Person) -> np.ndarray:
    """The image in grey under the product of the heatmaps, per joint scaled to its maximum, in the joints' orange."""

    def plane(count: int, bins: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
        heat = np.stack([np.interp(np.arange(count) + 0.5, bins, one, left=0, right=0) for one in heatmap])
        return heat / np.maximum(heat.max(1, keepdims=True), 1e-12)

    height, width = person.image.shape[:2]
    x, y = plane(width, person.bins_x, person.heatmap_x), plane(height, person.bins_y, person.heatmap_y)
    heat = np.sqrt((y[:, :, None] * x[:, None]).max(0))[..., None]
    return drawing.tinted(drawing.rgb(INKS[0]), heat, person.image.mean(2, keepdims=True) * 0.55 + 100)


def _step(bins: np.ndarray) -> float:
    return max(float(bins[1] - bins[0]), 1e-6)
