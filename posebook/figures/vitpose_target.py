"""The Gaussian target of one joint at a given sigma, and what the decodings make of it (ViTPose)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.figures import drawing, style
from posebook.figures.vitpose_steps import LOOKS, NAMES, heat_map


@style.styled
def fig_sigma(image: np.ndarray, target: np.ndarray, places: dict, truth, unit, errors: pd.DataFrame, sigma: float):
    """a) The target over the crop; b) its cells around the joint and where the decodings put it; c) the mean error of
    the decodings on perfect targets over sigma, with the sigma of a and b.

    Args:
        image: the crop. target (h, w). places: method -> (2,) heatmap index. truth (2,) heatmap index. unit (2,): px of
        the crop per cell. errors: of `analysis.target_sigma.decoding_errors`. sigma: in cells.
    """
    fig = style.figure(style.DOUBLE, 2.6)
    whole, cells, curve = fig.subplots(1, 3, width_ratios=(0.85, 1.15, 1.6))
    heat_map(whole, image, target)
    drawing.cross(whole, truth * unit + 0.5, drawing.YELLOW, "black")
    style.panel(whole, "a", f"target, σ = {sigma:g} cells")
    cells.imshow(target, cmap=drawing.HEAT, interpolation="nearest", vmin=0, vmax=1)
    reach, (column, row) = 4.5, np.round(truth)
    cells.set(xlim=(column - reach, column + reach), ylim=(row + reach, row - reach), xticks=[], yticks=[])
    cells.grid(False)
    for method, place in places.items():
        ink, marker = LOOKS[method]
        off = np.hypot(*((place - truth) * unit))
        label = f"{NAMES[method]}: {off:.2f} px off"
        cells.scatter(*place, color=ink, marker=marker, s=34, ec="white", lw=0.8, zorder=5, label=label)
        curve.plot(errors.sigma, errors[method], color=ink, marker=marker, ms=3.2, lw=1, label=NAMES[method])
    cells.scatter(*truth, color=drawing.YELLOW, marker="X", s=34, ec="black", lw=0.8, zorder=4, label="annotation")
    cells.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), borderpad=0, handletextpad=0.2, labelspacing=0.25)
    style.panel(cells, "b", f"highest cell {target.max():.2f}")
    curve.axvline(sigma, color=style.GREY, lw=0.8, ls=":")
    curve.set(xscale="log", ylim=(0, None), xlabel="σ of the target (cells)", ylabel="mean error (px of the crop)")
    style.plain_log(curve.xaxis)
    curve.minorticks_off()
    curve.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    style.panel(curve, "c", "decoding perfect targets")
    return fig
