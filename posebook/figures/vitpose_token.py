"""The knowledge token in pictures (ViTPose, "Transferability"): data in, matplotlib Figure out, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from posebook.figures import maps, people, style

HEAT, CHANGE = "magma", "RdBu_r"
PLACE = "#00E5FF"  # where a joint is annotated


@dataclass
class TokenEffect:
    """One model on one crop. `name`; `image` uint8 (H, W, 3); `place` (2,) px of the crop, the annotated joint;
    `with_token`, `without` (h, w) heatmaps of the joint; `attention` (D,) share that goes to the token, per block."""

    name: str
    image: np.ndarray
    place: np.ndarray
    with_token: np.ndarray
    without: np.ndarray
    attention: np.ndarray


@style.styled
def fig_token(rows: list[TokenEffect], joint: str, tokens: int, dataset: str = "drawn people"):
    """What the token changes in one heatmap, a row per model; and how much attention it gets in each block.

    Read in it: heatmaps of a row are on one scale; the difference has a scale of its own, its largest value is printed.
    On the right, "equal shares" is what the token would get if all tokens were attended to alike.

    Args: joint: its name; tokens: how many the crop has.
    """
    if not rows:
        raise ValueError("no model to show; pass at least one")
    ratio = rows[0].image.shape[0] / rows[0].image.shape[1]
    fig = style.figure(style.DOUBLE, 0.2 + len(rows) * (1.12 * ratio + 0.32))
    axes = fig.subplots(len(rows), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 1.5))
    blocks = max(len(row.attention) for row in rows)
    most = max(max(row.attention.max() for row in rows), 1 / (tokens + 1))
    for line, (row, (crop, plain, token, off, share)) in enumerate(zip(rows, axes, strict=True)):
        people.show(crop, row.image)
        crop.set_ylabel(row.name, fontsize=7)
        high = max(float(row.with_token.max()), float(row.without.max()), 1e-9)
        change = row.with_token - row.without
        reach = max(float(np.abs(change).max()), 1e-12)
        panels = (
            (plain, row.without, (HEAT, 0, high), f"{row.without.max():.3g}"),
            (token, row.with_token, (HEAT, 0, high), f"{row.with_token.max():.3g}"),
            (off, change, (CHANGE, -reach, reach), f"±{reach:.2g}"),
        )
        for ax, values, look, words in panels:
            _map(ax, row.image, values, *look)
            ax.set_xlabel(words, fontsize=6, labelpad=2)
        for ax in (crop, plain, token, off):
            ax.plot(*row.place, "+", color=PLACE, ms=6, mew=1.1)
        share.bar(range(1, len(row.attention) + 1), 100 * row.attention, color=style.colour("vitpose"), width=0.6)
        equal = 100 / (tokens + 1)
        share.axhline(equal, color=style.GREY, lw=0.9)
        look = {"textcoords": "offset points", "ha": "right", "fontsize": 5.6, "color": style.GREY}
        white = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.4}
        share.annotate("equal shares", (blocks + 0.6, equal), (0, 2), bbox=white, **look)
        share.set(xticks=range(1, blocks + 1), ylim=(0, 125 * most), xlim=(0.4, blocks + 0.6), ylabel="per cent")
        if line == 0:
            titles = ("crop", "without token", "with token", "difference")
            for ax, words in zip((crop, plain, token, off), titles, strict=True):
                ax.set_title(words, fontsize=7)
            share.set_title("attention to the token", fontsize=7)
    axes[-1, -1].set_xlabel("block")
    style.note(fig, f"{style.joint_name(joint)} (+: annotated); highest values below the maps; {dataset}")
    return fig


def token_rows(rows: list[TokenEffect]) -> pd.DataFrame:
    """The plotted numbers: model, part ("with", "without": cells of the heatmap; "attention"), row, column, value."""
    planes = []
    for one in rows:
        planes.append(maps.cell_rows([("with", one.with_token), ("without", one.without)], ["part"]))
        blocks = pd.DataFrame({"part": "attention", "row": range(1, len(one.attention) + 1), "column": 0})
        planes[-1] = pd.concat([planes[-1], blocks.assign(value=one.attention.astype(float))])
        planes[-1].insert(0, "model", one.name)
    return pd.concat(planes, ignore_index=True)


def _map(ax, image: np.ndarray, values: np.ndarray, colours: str, low: float, high: float) -> None:
    """A map over the crop's frame, nothing below it: signed differences would mix with the picture."""
    height, width = image.shape[:2]
    ax.imshow(values, extent=(0, width, height, 0), cmap=colours, vmin=low, vmax=high, interpolation="bilinear")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    style.bare(ax)
