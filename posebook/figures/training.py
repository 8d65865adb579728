"""How any model learned: every term of its loss, epoch by epoch, whatever the terms are."""

from __future__ import annotations

import math
import re

import pandas as pd

from posebook.figures import style

TITLES = {
    "total": "weighted sum",
    # RTMO
    "loss_cls": "score, varifocal",
    "loss_bbox": "box, 1 - IoU²",
    "loss_oks": "proxy pose, 1 - OKS",
    "loss_vis": "visibility, cross-entropy",
    "loss_mle": "coordinates, -log likelihood",
    "loss_kld": "coordinates, KL divergence",
    "loss_oks_decoded": "coordinates, 1 - OKS",
    "loss_bbox_aux": "box, L1 (late)",
    # ViTPose
    "loss_heatmap": "heatmaps, squared error",
}


def terms(log: pd.DataFrame) -> list[str]:
    """Names of the terms in a log, the sum last; of models with layers, those of the last layer."""
    found = [name.removeprefix("train_") for name in log if name.startswith("train_") and log[name].notna().any()]
    found = [name for name in found if not re.search(r"_(\d+|dense)$", name)]
    return sorted(found, key=lambda name: name == "total")


@style.styled
def losses(log: pd.DataFrame, model: str, dataset: str):
    """A panel per term over the epochs; training solid, validation dashed.

    Read in it: all terms should fall together, and the gap between solid and dashed is overfitting. A term may jump
    where a stage of the training begins, because its target changes then.
    """
    names = terms(log)
    columns = min(len(names), 4)
    rows = math.ceil(len(names) / columns)
    fig = style.figure(style.DOUBLE, 0.4 + 1.5 * rows)
    axes = fig.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for place, (ax, name) in enumerate(zip(axes, names, strict=False)):
        for split, line, ink in (("train", "-", style.colour(model)), ("val", "--", "#333333")):
            if f"{split}_{name}" in log:
                drawn = log[log[f"{split}_{name}"].notna()]
                marker = "o" if len(drawn) < 4 else None
                told = {"train": "training", "val": "validation"}[split]
                ax.plot(drawn.epoch, drawn[f"{split}_{name}"], line, color=ink, lw=1.2, marker=marker, ms=3, label=told)
        style.panel(ax, "abcdefghijkl"[place], TITLES.get(name, name.removeprefix("loss_").replace("_", " ")))
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    for ax in axes[max(len(names) - columns, 0) : len(names)]:
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    axes[0].legend(loc="best")
    fig.suptitle(f"{style.label(model)}, {dataset}", fontsize=8, x=0.01, ha="left")
    return fig
