"""RTMO's 1-D heatmaps of one joint and the likelihood of its annotation, at given sigma, bins and temperature."""

from __future__ import annotations

import numpy as np

from posebook.analysis.coordinate_classifier import SIGMAS, Coordinate
from posebook.figures import style

ERROR, TRUE = "#0072B2", "#000000"


@style.styled
def likelihood_of(found: Coordinate, name: str, words: str = ""):
    """a, b) The heatmap along x and y, the error model around the annotation, and their overlap P(mu);
    c) L_mle over sigma: the dot is the sigma of a and b, the ring the least loss.

    name: of the joint. words: the settings, a line above.
    """
    fig = style.figure(style.DOUBLE, 2.65)
    *along, loss = fig.subplots(1, 3, width_ratios=(1, 1, 1))
    ink = style.colour("rtmo")
    for ax, letter, axis in zip(along, "ab", "xy", strict=True):
        bins, truth = found.bins[axis], found.truth[axis]
        step = float(bins[1] - bins[0])
        density = found.heatmap[axis] / step  # per px, so that another number of bins has the same scale
        edges = np.append(bins, bins[-1] + step) - step / 2
        ax.stairs(density, edges, fill=True, color=ink, alpha=0.5, lw=0)
        fine = np.sort(np.append(np.linspace(bins[0], bins[-1], 300), truth))
        kernel = np.exp(-np.abs(fine - truth) / (2 * found.sigma * found.size))
        ax.plot(fine, density.max() * kernel, color=ERROR, lw=1)
        ax.axvline(truth, color=TRUE, lw=0.8, ls=":")
        ax.plot(found.decoded[axis], density.max() * 1.03, "v", color=ink, ms=5, mec="#FFFFFF", mew=0.5)
        off = abs(found.decoded[axis] - truth)
        told = f"{off:.1f} px off\n$P(\\mu_{axis})$ = {found.likelihood[axis]:.3g}"
        style.inside(ax, 0.02, 0.98, told, va="top", linespacing=1.35)
        ax.set(xlim=_view(found, axis), ylim=(0, density.max() * 1.35))
        ax.set_xlabel(f"${axis}$ (px); bins from {bins[0]:.0f} to {bins[-1]:.0f}")
        style.panel(ax, letter, f"{name}, ${axis}$, {len(bins)} bins")
    along[0].set_ylabel("probability per px")
    least = found.losses.argmin()
    loss.plot(SIGMAS, found.losses, color=ERROR)
    loss.plot(SIGMAS[least], found.losses[least], "o", mfc="none", mec=ERROR, ms=7)
    loss.plot(found.sigma, found.loss, "o", color=ERROR, ms=4)
    loss.set(xscale="log", xlabel="$\\hat\\sigma$ (relative to the person)", ylabel="$L_{mle}$")
    loss.minorticks_off()
    low = min(found.losses.min(), found.loss)
    loss.set_ylim(low - 1, min(max(found.losses.max(), found.loss) + 1, low + 25))
    style.panel(loss, "c", f"loss {found.loss:.2f}; least at {SIGMAS[least]:.3f}")
    if words:
        style.note(fig, words, 7, "black")
    return fig


def _view(found: Coordinate, axis: str) -> tuple[float, float]:
    """The part of the bins' range that holds 99.8 % of the heatmap, the annotation and most of the error model."""
    bins, reach = found.bins[axis], found.heatmap[axis].cumsum()
    ends = np.interp((0.001, 0.999), reach, bins)
    around = max(3 * (bins[1] - bins[0]), 6 * found.sigma * found.size, 4.0)
    places = np.array([*ends, found.truth[axis], found.decoded[axis]])
    low, high = places.min() - around, places.max() + around
    return max(low, min(bins[0], found.truth[axis])), min(high, max(bins[-1], found.truth[axis]))
