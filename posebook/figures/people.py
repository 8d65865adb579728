"""Poses drawn on images.

Limbs carry the colour of their side (left, right, middle: `posekit.layouts`), joints are filled where the model says
that they are visible (visibility >= 0.5) and hollow where not. Coordinates: COCO pixels, corner (0, 0).
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from posebook.figures import style
from posekit.layouts import COCO, MIDDLE, Layout
from posekit.poses import Poses

CENTER, OFFSET = "#D7191C", "#0050FF"  # POET, Figure 9: predicted centres red, displacements blue


def show(ax, image: np.ndarray, grey: bool = False) -> None:
    """Show a uint8 (H, W, 3) RGB image in COCO coordinates; `grey`: pale, a ground for overlays."""
    if grey:
        tone = image.astype(np.float32).mean(2, keepdims=True) * 0.75 + 64
        image = np.repeat(tone.clip(0, 255).astype(np.uint8), 3, axis=2)
    height, width = image.shape[:2]
    # Small images are enlarged smoothly; large ones are reduced without aliasing.
    ax.imshow(image, extent=(0, width, height, 0), interpolation="bicubic" if width < 400 else "antialiased")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    style.bare(ax)


def frame(ax, box, ink: str, width: float, **look) -> None:
    """The outline of a box x0 y0 x1 y1."""
    ax.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, ec=ink, lw=width, **look))


def from_target(target: dict) -> Poses:
    """Annotated people as poses to draw: visible joints filled, occluded ones hollow, unlabelled (NaN) left out."""
    visibility = np.asarray(target["visibility"])
    keypoints = np.array(target["keypoints"], np.float32)
    keypoints[visibility == 0] = np.nan
    visible = (visibility == 2).astype(np.float32)
    return Poses(keypoints, visible, np.ones(len(keypoints), np.float32), np.asarray(target["boxes"], np.float32))


def draw(
    ax, poses: Poses, layout: Layout = COCO, threshold=0.0, least=0.0, offsets=False, joints=True, size=1.0, colour=None
) -> int:
    """Draw the people whose score reaches `threshold`: filled joints are visible (visibility >= 0.5), others hollow.

    Args:
        least: joints below this visibility are left out, with their limbs. POET never learns where a joint outside the
            image is: its guess for one may lie anywhere.
        offsets: instead of limbs, the predicted centre (red) and the vectors from it to the joints (blue).
        size: 1 suits an image of two inches. colour: one for everything, instead of a colour per side.

    Returns: how many people were drawn.
    """
    people = poses.select(poses.scores >= threshold)
    inks = np.array([colour] * len(layout) if colour else layout.colours)
    for keypoints, visibility, center in zip(people.keypoints, people.visibility, people.centers, strict=True):
        keypoints = np.where((visibility >= least)[:, None], keypoints, np.nan)
        if layout.limbs and not offsets:
            pairs = np.array(layout.limbs)
            tones = [colour] * len(pairs) if colour else layout.limb_colours
            lines = keypoints[pairs]
            whole = np.isfinite(lines).all((1, 2))
            tones = [tone for tone, ok in zip(tones, whole, strict=True) if ok]
            for width, ink, order in ((1.9, "#FFFFFF", 2), (1.0, tones, 3)):
                look = {"linewidths": width * size, "zorder": order, "capstyle": "round"}
                ax.add_collection(LineCollection(lines[whole], colors=ink, **look), autolim=False)
        if offsets and np.isfinite(center).all():
            vectors = [(center, joint) for joint in keypoints if np.isfinite(joint).all()]
            ax.add_collection(LineCollection(vectors, colors=OFFSET, linewidths=0.6 * size, zorder=3.5), autolim=False)
        if joints:
            filled = visibility >= 0.5
            x, y = keypoints.T
            ax.scatter(x, y, s=8.5 * size**2, zorder=3.9, linewidths=0, color="#FFFFFF")  # a halo on any ground
            look = {"facecolors": np.where(filled, inks, "#FFFFFF"), "edgecolors": inks, "linewidths": 0.7 * size}
            ax.scatter(x, y, s=4.5 * size**2, zorder=4, **look)
        if offsets and np.isfinite(center).all():
            ax.scatter(*center, s=13 * size**2, color=CENTER, edgecolors="#FFFFFF", linewidths=0.6 * size, zorder=5)
    return len(people)


@style.styled
def grid(images: list, poses=None, titles=None, layout: Layout = COCO, columns=4, width=style.DOUBLE, **options):
    """Contact sheet: images with their poses, `columns` a row; `options` go to `draw`. Returns a Figure."""
    if not images:
        raise ValueError("grid needs at least one image")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    ratio = max(image.shape[0] / image.shape[1] for image in images)
    fig = style.figure(width, rows * (width / columns * ratio + (0.17 if titles else 0.0)))
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for i, ax in enumerate(axes):
        if i >= len(images):
            ax.set_axis_off()
            continue
        show(ax, images[i])
        if poses is not None:
            draw(ax, poses[i], layout, **options)
        if titles:
            ax.set_title(titles[i], fontsize=7, pad=2)
    return fig


@style.styled
def gallery(rows: dict[str, list], layout: Layout = COCO, dataset="drawn people", threshold=0.5, least=0.1):
    """Predictions, a row of images per kind of example; below the last row, the same images with the annotated people.

    Args:
        rows: name of a row -> its examples, each (image, Poses, target or None, mean OKS) as `selection.example` makes
            it; the last row may be empty.
        threshold, least: predictions below this score and keypoints below this visibility are not drawn.
    """
    last = [name for name, examples in rows.items() if examples][-1]
    annotated = [(image, from_target(target), oks) for image, _, target, oks in rows[last] if target is not None]
    shown = {name: [(image, poses, oks) for image, poses, _, oks in row] for name, row in rows.items() if row}
    shown |= {"annotated": annotated} if annotated else {}
    columns = max(map(len, shown.values()))
    ratio = max(image.shape[0] / image.shape[1] for row in shown.values() for image, *_ in row)
    fig = style.figure(style.DOUBLE, len(shown) * (style.DOUBLE / columns * ratio + 0.14) + 0.2)
    for axes, (name, row) in zip(fig.subplots(len(shown), columns, squeeze=False), shown.items(), strict=True):
        for ax in axes[len(row) :]:
            ax.set_axis_off()
        for ax, (image, poses, oks) in zip(axes, row, strict=False):
            show(ax, image)
            truth = name == "annotated"
            draw(ax, poses, layout, *((0.0, 0.0) if truth else (threshold, least)), size=4.4 / columns)
            if not truth:
                ax.set_title(f"OKS {oks:.2f}", fontsize=6.5, pad=1.5)
        axes[0].set_ylabel(f"{last}, annotated" if name == "annotated" else name, fontsize=6.5)
    style.note(fig, f"{dataset}; predictions with score ≥ {threshold:g}; hollow joints: occluded", 7, "black")
    return fig


def legend(ax, layout: Layout = COCO, **options) -> None:
    """What the colours and the hollow joints mean, as a legend of `ax`."""
    from matplotlib.lines import Line2D

    from posekit.layouts import LEFT, RIGHT

    sides = [("left", LEFT), ("right", RIGHT), ("middle", MIDDLE)]
    handles = [Line2D([], [], color=ink, label=name) for name, ink in sides]
    for name, face in (("visible", style.GREY), ("occluded", "#FFFFFF")):
        handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc=face, mec=style.GREY, label=name))
    ax.legend(handles=handles, **options)
