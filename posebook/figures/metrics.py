"""What the data hold and what the score rewards: images for the chapter on people and metrics.

OKS is Equation 5 of POET (Stoffl et al. 2021), AP follows COCO's keypoint task. Each function takes data and
returns a matplotlib Figure. G people, K keypoints. Coordinates: COCO pixels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.patches import Circle

from posebook.figures import people, style
from posekit.evaluation.centers import true_centers
from posekit.evaluation.oks import oks
from posekit.layouts import COCO, Layout

FLAGS = {0: ("outside", "#D9D9D9"), 1: ("occluded", "#56B4E9"), 2: ("visible", "#0072B2")}
MEDIUM, LARGE = 32.0**2, 96.0**2  # COCO's limits, pixels^2


@style.styled
def scene(image: np.ndarray, target: dict, layout: Layout = COCO):
    """One image as it is, and annotated: joints (filled: visible, hollow: occluded), boxes, centres."""
    fig = style.figure(style.DOUBLE, style.DOUBLE / 2 * image.shape[0] / image.shape[1] + 0.45)
    plain, annotated = fig.subplots(1, 2)
    people.show(plain, image)
    people.show(annotated, image)
    people.draw(annotated, people.from_target(target), layout, size=1.5)
    for box in target["boxes"]:
        people.frame(annotated, box, "#FFFFFF", 1.6, zorder=2)
        people.frame(annotated, box, "#333333", 0.7, zorder=2)
    centers = true_centers(target["keypoints"], target["visibility"])
    annotated.scatter(*centers.T, marker="X", s=42, color=people.CENTER, edgecolors="#FFFFFF", lw=0.8, zorder=6)
    people.legend(annotated, layout, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=5, columnspacing=1.2)
    return fig


@style.styled
def statistics(per_image: np.ndarray, areas: np.ndarray, visibility: np.ndarray, layout: Layout = COCO):
    """(a) people per image, (b) areas of people with COCO's limits, (c) joints visible, occluded and outside.

    Args:
        per_image (I,): number of people. areas (G,): pixels^2 on the canvas where COCO's limits hold.
        visibility (G, K): 0, 1, 2.
    """
    fig = style.figure(style.DOUBLE, 2.7)
    count, area, joints = fig.subplots(1, 3, width_ratios=(1, 1.25, 1.5))
    numbers, images = np.unique(per_image, return_counts=True)
    ink = FLAGS[2][1]
    count.bar(numbers, images, color=ink, width=0.8)
    count.set(xlabel="people in the image", ylabel="images", xticks=numbers if len(numbers) < 9 else numbers[::3])
    bins = np.geomspace(max(areas.min(), 1) * 0.95, areas.max() * 1.05, 36)
    area.hist(areas, bins, color=ink, lw=0)
    top = area.get_ylim()[1] * 1.14
    area.set(xscale="log", xlabel="area of the person (px², nominal canvas)", ylabel="people", ylim=(0, top))
    low, high = area.get_xlim()
    for limit in (MEDIUM, LARGE):
        area.axvline(limit, color=style.TRUTH, lw=1)
    spans = {"small": (low, MEDIUM), "medium": (MEDIUM, LARGE), "large": (LARGE, high)}
    for name, (left, right) in spans.items():
        inside = (areas >= left) & (areas < right)
        if inside.mean() >= 0.005:
            middle = np.sqrt(max(left, low) * min(right, high))
            area.text(middle, top * 0.985, f"{name}\n{100 * inside.mean():.0f} %", ha="center", va="top", fontsize=6.5)
    order, start = np.arange(len(layout)), np.zeros(len(layout))
    for flag in (2, 1, 0):
        share = (visibility == flag).mean(0)
        joints.barh(order, share, left=start, color=FLAGS[flag][1], height=0.8, label=FLAGS[flag][0])
        start += share
    names = [style.joint_name(name) for name in layout.keypoints]
    joints.set(yticks=order, yticklabels=names, ylim=(len(layout) - 0.4, -0.6), xlim=(0, 1), xlabel="share of people")
    joints.tick_params(axis="y", labelsize=6)
    joints.grid(False)
    joints.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 0.985), borderpad=0, columnspacing=1, handlelength=1)
    for ax, letter in ((count, "a"), (area, "b")):
        style.panel(ax, letter)
    joints.text(-0.02, 1.03, "c", weight="bold", transform=joints.transAxes, ha="right", fontsize=8)
    return fig


def oks_radii(area: float, sigmas: np.ndarray, similarity: float = 0.5) -> np.ndarray:
    """(K,) pixels: how far each joint may be off until its term of Eq. 5 falls to `similarity`, in (0, 1)."""
    if not 0 < similarity < 1:
        raise ValueError(f"a similarity between 0 and 1 has a radius, {similarity:g} has none")
    return 2 * np.asarray(sigmas, float) * np.sqrt(-2 * area * np.log(similarity))


@style.styled
def oks_circles(image: np.ndarray, target: dict, person: int, similarity: float = 0.5, layout: Layout = COCO):
    """Left: circles on which a joint's `similarity` (its term of Eq. 5) is the same; right: similarity by distance."""
    box, area = target["boxes"][person], float(target["areas"][person])
    labelled = np.asarray(target["visibility"][person]) > 0
    points, colours = np.asarray(target["keypoints"][person]), np.array(layout.colours)
    fig = style.figure(style.DOUBLE, 3.5)
    where, curve = fig.subplots(1, 2, width_ratios=(1, 1.1))
    people.show(where, image, grey=True)
    people.draw(where, people.from_target(target).select([person]), layout, size=0.9)
    radii = oks_radii(area, layout.sigmas, similarity)
    for k in np.flatnonzero(labelled):
        look = {"facecolor": colours[k] + "22", "edgecolor": colours[k], "lw": 0.8, "zorder": 3}
        where.add_patch(Circle(points[k], radii[k], **look))
    middle, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2 + radii.max() * 1.05
    where.set(xlim=middle[0] + np.array([-reach, reach]), ylim=middle[1] + np.array([reach, -reach]), aspect="equal")
    where.set_title(f"similarity {similarity:g} on the circles", pad=3)
    distance = np.linspace(0, 0.5, 200)
    shown = dict(zip(layout.sigmas, [name.split("_")[-1] for name in layout.keypoints], strict=True))
    for n, (sigma, name) in enumerate(sorted(shown.items(), reverse=True)):
        ink = style.matplotlib.colormaps["viridis"](0.9 * n / max(len(shown) - 1, 1))
        value = np.exp(-((distance / (2 * sigma)) ** 2) / 2)
        curve.plot(distance, value, color=ink, label=f"{name}, σ {sigma:.3f}")
    curve.axhline(similarity, color="#555555", lw=0.7, ls="--")
    curve.set(xlim=(0, 0.5), ylim=(0, 1.02), xlabel="distance / √area", ylabel="similarity of the joint")
    curve.legend(loc="upper right")
    return fig


@style.styled
def precision_recall(curves: pd.DataFrame, noise: pd.DataFrame):
    """Left: precision against recall at several OKS thresholds; right: AP against the noise of the joints.

    Args:
        curves: columns threshold, recall, precision (the best at this recall or beyond).
        noise: columns errors, AP, AP50, AP75.
    """
    fig = style.figure(style.DOUBLE, 2.5)
    axes = fig.subplots(1, 2)
    shades = style.matplotlib.colormaps["viridis"](np.linspace(0.85, 0, curves.threshold.nunique()))
    for (threshold, rows), ink in zip(curves.groupby("threshold"), shades, strict=True):
        area = rows.precision.mean()
        axes[0].step(rows.recall, rows.precision, where="pre", color=ink, label=f"OKS ≥ {threshold:g}: {area:.3f}")
    axes[0].set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="best precision from here on")
    axes[0].legend(loc="lower left", title="AP = mean height", title_fontsize=7)
    for name, ink in (("AP50", style.GREY), ("AP", "#0072B2"), ("AP75", "#56B4E9")):
        axes[1].plot(noise.errors, noise[name], color=ink, marker="o", ms=3, label=name)
    axes[1].legend(loc="upper right")
    axes[1].set(xlim=(0, noise.errors.max()), ylim=(0, 1.03), ylabel="score")
    axes[1].set_xlabel("errors of the joints, in units of 2σ√area")
    for ax, letter in zip(axes, "ab", strict=True):
        style.panel(ax, letter)
    return fig


@style.styled
def leniency(image, target: dict, person: int, guess: np.ndarray, scored, over: pd.DataFrame, sigma=1.0, area=1.0):
    """OKS and AP with all sigmas and areas times a factor: a) one person, its predicted joints (crosses) and circles of
    similarity one half; b) precision against recall; c) AP over the factor of sigma, and where a and b stand.

    Args: guess (K, 2): the person's predicted joints. scored, over: of `analysis.leniency.Leniency`, `score` with these
        factors and `over_sigma`.
    """
    truth, labelled = np.asarray(target["keypoints"][person], float), np.asarray(target["visibility"][person]) > 0
    size, sigmas = float(target["areas"][person]) * area, COCO.sigmas * sigma
    same = oks(guess[None], truth[None], labelled[None], [size], sigmas)[0, 0]
    fig = style.figure(style.DOUBLE, 2.6)
    where, curve, line = fig.subplots(1, 3, width_ratios=(1, 1.15, 1.15))
    people.show(where, image, grey=True)
    radii, inks = oks_radii(size, sigmas), np.array(COCO.colours)
    for k in np.flatnonzero(labelled):
        where.add_patch(Circle(truth[k], radii[k], facecolor=inks[k] + "22", edgecolor=inks[k], lw=0.7, zorder=3))
        where.plot(*np.stack([truth[k], guess[k]]).T, color="#333333", lw=0.6, zorder=3.5)
    where.scatter(*guess[labelled].T, marker="x", s=14, color="#000000", lw=0.9, zorder=4)
    low, high = truth[labelled].min(0), truth[labelled].max(0)
    middle, reach = (low + high) / 2, (high - low).max() * 0.62
    where.set(xlim=middle[0] + np.array([-reach, reach]), ylim=middle[1] + np.array([reach, -reach]), aspect="equal")
    style.panel(where, "a", f"OKS of this person {same:.3f}")
    shades = style.matplotlib.colormaps["viridis"](np.linspace(0.85, 0, len(scored.curves)))
    levels = np.linspace(0, 1, 101)
    for (limit, precision), ink in zip(scored.curves.items(), shades, strict=True):
        curve.step(levels, precision, where="pre", color=ink, label=f"OKS ≥ {limit:g}: {precision.mean():.3f}")
    curve.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="best precision from here on")
    curve.legend(loc="lower left")
    style.panel(curve, "b", f"AP {scored.stats['AP']:.3f}")
    now = sigma * np.sqrt(area)
    for name, ink in (("AP50", style.GREY), ("AP", "#0072B2"), ("AP75", "#56B4E9")):
        line.plot(over.sigma, over[name], color=ink, lw=1.2, label=name)
        line.plot(now, scored.stats[name], "o", color=ink, ms=4.5)
    line.axvline(now, color=style.GREY, lw=0.8, ls=":")
    line.set(xscale="log", ylim=(0, 1.03), xlabel="factor of σ√area")
    style.plain_log(line.xaxis)
    line.minorticks_off()
    line.legend(loc="upper left")
    style.panel(line, "c", f"σ × {sigma:.2g}, area × {area:.2g}")
    return fig
