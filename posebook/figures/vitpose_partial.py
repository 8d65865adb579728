"""AP against the visible share of the body (ViTPose: its summary's limitation, "struggles with partial inputs"): a
figure and its sentences, data in, no I/O. How the share is controlled: `posebook.analysis.visible_share`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from posebook.figures import people, style
from posebook.verdicts import ONE_SEED, verdict
from posekit.layouts import COCO, Layout
from posekit.poses import Poses

KEPT = {"upper": "upper body kept", "lower": "lower body kept", "side": "one side kept"}
LOOKS = ((style.GREY, "s", "--"), (style.colour("vitpose"), "o", "-"), ("#0072B2", "^", "-."), ("#CC79A7", "D", ":"))
FOUND = "#0072B2"
SMALL = 0.6  # shares up to here are what the sentence below the figure is about


@style.styled
def fig_partial(rows: pd.DataFrame, dataset: str = "drawn people, crops"):
    """The paper's stated limitation, measured: above, AP against the visible share of the body, per training; below,
    what the further trainings gain over the first one. Lines: means over seeds; bands: least to largest; dots: seeds.

    Args:
        rows: a row per training (the first is the base), seed, kept (a column of panels each, see `KEPT`) and share: AP
            in [0, 1] or NaN, people, AP_whole (the dotted lines).
    """
    if not len(rows):
        raise ValueError("partial bodies need at least one row: a training, a share of the body, an AP")
    names, sides = list(dict.fromkeys(rows.training)), list(dict.fromkeys(rows.kept))
    fig = style.figure(style.DOUBLE, 4.4)
    axes = fig.subplots(2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=(1.5, 1))
    for place, side in enumerate(sides):
        own = rows[rows.kept == side]
        _curves(axes[0, place], own, names)
        _gains(axes[1, place], own, names)
        style.panel(axes[0, place], "abc"[place], KEPT[side])
    gaps = np.diff(np.unique(rows.share))
    gap = gaps.min() if len(gaps) else 0.2
    axes[0, 0].set(xlim=(rows.share.min() - gap / 3, rows.share.max() + gap / 3))
    axes[0, 0].set(ylim=(0, 1.12 * max(float(rows.filter(regex="^AP").max(axis=None)), 0.01)))
    low, high = axes[1, 0].get_ylim()
    axes[1, 0].set(ylim=(min(low, -1), max(high, 1)), ylabel="points of AP gained")
    axes[0, 0].set_ylabel(f"AP on {dataset}")
    axes[1, len(sides) // 2].set_xlabel("visible share of the body")
    handles, _ = axes[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], ls=":", color="#444444", lw=1, label="the same joints, nothing cut away"))
    fig.legend(handles=handles, loc="outside upper left", ncols=4, handlelength=2.6)
    return fig


def _curves(ax, rows: pd.DataFrame, names: list[str]) -> None:
    """AP of every training, its control, and how many people stand behind the points."""
    for name, (ink, marker, line) in zip(names, LOOKS, strict=False):
        own = rows[(rows.training == name) & rows.AP.notna()].groupby("share")
        seeds = own.AP.agg(["mean", "min", "max"])
        ax.plot(seeds.index, seeds["mean"], line, marker=marker, color=ink, ms=3.5, label=name)
        ax.fill_between(seeds.index, seeds["min"], seeds["max"], color=ink, alpha=0.2, lw=0)
        control = own.AP_whole.mean()
        ax.plot(control.index, control, ":", color=ink, lw=1, alpha=0.75)
    counts = rows.groupby("share").people.first()
    people = f"{counts.min()} to {counts.max()}" if counts.nunique() > 1 else str(counts.iloc[0])
    style.inside(ax, 0.03, 0.97, f"{people} people a point", fontsize=5.8, va="top")


def _gains(ax, rows: pd.DataFrame, names: list[str]) -> None:
    """AP of each further training minus the first one's, per share: a dot per seed that both have, a line of means."""
    wide = rows.pivot_table(index=["share", "seed"], columns="training", values="AP")
    ax.axhline(0, color="#444444", lw=0.6)
    for name, (ink, marker, line) in list(zip(names, LOOKS, strict=False))[1:]:
        if name not in wide or names[0] not in wide:
            continue
        gain = 100 * (wide[name] - wide[names[0]]).dropna()
        ax.plot(gain.index.get_level_values("share"), gain, marker, color=ink, mfc="white", ms=3.5, ls="")
        mean = gain.groupby("share").mean()
        ax.plot(mean.index, mean, line, color=ink)
    if len(names) < 2:
        style.not_run(ax, 0.6)


@style.styled
def fig_cuts(examples: list, layout: Layout = COCO, dataset: str = "drawn people"):
    """One person, cut ever further: a row per kept side, a column per share; `examples` of `analysis.visible_share`."""
    if not examples:
        raise ValueError("no cut to show; pass at least one example")
    sides, shares = (list(dict.fromkeys(getattr(one, name) for one in examples)) for name in ("kept", "share"))
    ratio = examples[0].image.shape[0] / examples[0].image.shape[1]
    width = min(style.DOUBLE, 1.2 * len(shares))
    fig = style.figure(width, len(sides) * (0.9 * width / len(shares) * ratio + 0.25) + 0.15)
    axes = fig.subplots(len(sides), len(shares), squeeze=False)
    for one in examples:
        ax = axes[sides.index(one.kept), shares.index(one.share)]
        people.show(ax, one.image)
        for joints, ink, size in ((one.truth, style.TRUTH, 1.2), (one.found, FOUND, 0.8)):
            known = np.isfinite(joints).all(-1).astype(np.float32)
            people.draw(ax, Poses(joints[None], known[None], np.ones(1)), layout, colour=ink, size=size)
        count = int(np.isfinite(one.truth).all(-1).sum())
        ax.set_title(f"{one.share:.0%}, {count} joints, {one.oks:.2f}", fontsize=6, pad=2)
        if one.share == shares[0]:
            ax.set_ylabel(KEPT.get(one.kept, one.kept), fontsize=7)
    style.note(fig, f"share kept, joints left, their OKS; orange: annotated, blue: found; {dataset}")
    return fig


def cut_rows(examples: list, layout: Layout = COCO) -> pd.DataFrame:
    """The drawn joints: kept, share, oks, joint, x, y (annotated), found_x, found_y; px of the crop."""
    rows = [
        (one.kept, one.share, one.oks, name, *one.truth[k], *one.found[k])
        for one in examples
        for k, name in enumerate(layout.keypoints)
        if np.isfinite(one.truth[k]).all()
    ]
    return pd.DataFrame(rows, columns=["kept", "share", "oks", "joint", "x", "y", "found_x", "found_y"])


def partial_verdict(rows: pd.DataFrame) -> list[str]:
    """Sentences per kept side: what the missing body costs the first training, and what the others gain there.

    Over shares up to `SMALL`, means per seed, with the word of `verdicts.verdict`. rows: as in `fig_partial`.
    """
    (base, *others), said = dict.fromkeys(rows.training), []
    for side, own in rows[rows.share <= SMALL].dropna(subset=["AP"]).groupby("kept", sort=False):
        mean = 100 * own.groupby(["training", "seed"])[["AP", "AP_whole"]].mean()
        ap, control = mean.loc[base].mean()
        words = f"{KEPT[side]}, shares up to {SMALL:g}: AP {ap:.1f}"
        words += f" where the same joints of whole bodies have {control:.1f}"
        for name in (name for name in others if name in mean.index):
            found = verdict(mean.AP[name], mean.AP[base])
            words += f"; “{name}” {found.difference:+.1f}" + (f", **{found.word}**" if found.seeds > 1 else "")
        said.append(words + ".")
    return said + [ONE_SEED] * bool(rows.groupby("training").seed.nunique().min() < 2)
