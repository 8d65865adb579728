"""Skeletons on an image: what `Poses.draw`, the command line and videos show.

Limbs have the colour of their side (left, right, middle: `posekit.layouts`), joints are filled where the model says
that they are visible and hollow where not. Coordinates: COCO pixels, which are converted to OpenCV's here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from posekit.layouts import Layout, layout_of
from posekit.pixels import to_pixel_index

if TYPE_CHECKING:
    from posekit.poses import Poses

SHIFT = 4  # bits of a pixel's fraction in OpenCV's coordinates
VISIBLE = 0.5  # least visibility of a filled joint
HALO = (255, 255, 255)


def draw(
    image: np.ndarray,
    poses: Poses,
    layout: Layout | None = None,
    threshold: float = 0.3,
    least: float = 0.0,
    boxes: bool = False,
    size: float = 1.0,
) -> np.ndarray:
    """A copy of the image (H, W, 3) uint8 RGB with the people whose score reaches `threshold`.

    Args:
        layout: colours and limbs; None = the known one with as many keypoints, else joints without limbs.
        least: joints below this visibility are left out, with their limbs. boxes: draw these too, with the scores.
        size: of lines and joints; 1 suits the image.
    """
    canvas, layout = np.ascontiguousarray(image).copy(), layout or poses.layout or layout_of(poses.keypoints.shape[1])
    width = max(1, round(size * max(image.shape[:2]) / 320))
    joints, limbs = [_rgb(one) for one in layout.colours], [_rgb(one) for one in layout.limb_colours]
    people = poses.select(poses.scores >= threshold)
    for i in range(len(people) - 1, -1, -1):  # the surest on top
        points, shown = people.keypoints[i], people.visibility[i] >= least
        shown = shown & (np.abs(points) < 1e5).all(1)  # NaN too
        places = _places(np.where(shown[:, None], points, 0))
        if boxes:
            first, last = _places(np.nan_to_num(people.boxes[i]).clip(-1e5, 1e5).reshape(2, 2))
            cv2.rectangle(canvas, first, last, HALO, width, cv2.LINE_AA, SHIFT)
            _write(canvas, f"{people.scores[i]:.2f}", first, width)
        drawn = [(a, b, ink) for (a, b), ink in zip(layout.limbs, limbs, strict=True) if shown[a] and shown[b]]
        for extra in (2 * max(width // 2, 1), 0):
            for a, b, ink in drawn:
                cv2.line(canvas, places[a], places[b], HALO if extra else ink, width + extra, cv2.LINE_AA, SHIFT)
        radius = round(1.3 * (width + 0.5) * 2**SHIFT)
        for joint in np.flatnonzero(shown):
            filled = people.visibility[i, joint] >= VISIBLE
            cv2.circle(canvas, places[joint], radius, joints[joint] if filled else HALO, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, places[joint], radius, HALO if filled else joints[joint], 1, cv2.LINE_AA, SHIFT)
    return canvas


def _places(points: np.ndarray) -> list[tuple[int, int]]:
    """Points (N, 2) in COCO pixels as OpenCV takes them."""
    return [(int(x), int(y)) for x, y in np.rint(to_pixel_index(points) * 2**SHIFT)]


def _write(canvas: np.ndarray, words: str, place: tuple[int, int], width: int) -> None:
    x, y = (value >> SHIFT for value in place)
    scale, at = 0.35 * (width + 0.5), (x, max(y - 3, 10 * width))
    for extra, ink in ((2, (0, 0, 0)), (0, HALO)):
        cv2.putText(canvas, words, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, max(width // 2, 1) + extra, cv2.LINE_AA)


def _rgb(colour: str) -> tuple[int, int, int]:
    """ "#0072B2" -> (0, 114, 178)"""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue
