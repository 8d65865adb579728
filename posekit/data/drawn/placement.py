"""Who stands where and how large: arrangements with little overlap, or crowded on purpose.

Frame: canvas units (`CANVAS` wide). Shapes: n people, T arrangements tried, P points of a body.
"""

from __future__ import annotations

import numpy as np

from posekit.data.drawn.render import CANVAS
from posekit.data.drawn.skeleton import POINT, Bodies
from posekit.data.drawn.styles import Style


def sample_placement(style: Style, rng: np.random.Generator, bodies: Bodies) -> tuple[np.ndarray, np.ndarray]:
    """Heights (n,) and centres (n, 2) of the bodies."""
    if style.crowding:
        return _crowd_together(style, rng, bodies)
    return _spread_out(style, rng, len(bodies.points))


def _spread_out(style: Style, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights (n,) and centres (n, 2), canvas units; in half the scenes those who look taller stand lower."""
    low, high = style.heights
    high = max(low + 0.1, high * min(1.0, (6 / n) ** 0.5))
    height = low * (high / low) ** rng.random(n)
    tries = style.layouts[0] + int((style.layouts[1] - style.layouts[0] + 1) * rng.random())
    u = rng.random((4, tries, n))
    slots = (np.argsort(u[0], axis=1) + 0.5 + min(1.4, 0.5 + 0.3 * n) * (u[1] - 0.5)) / n
    spread = style.spread[0] + (style.spread[1] - style.spread[0]) * rng.random()
    x = 0.5 + (slots - 0.5) * spread + (1 - spread) * (rng.random() - 0.5)
    y = 0.2 + 0.6 * u[2]
    if rng.random() < 0.5:
        horizon = 0.25 + 0.25 * rng.random()
        y = horizon + 0.45 * height + 0.25 * (u[2] - 0.5)
    # Overlap of upright boxes, relative to the smaller person; the arrangement with the least of it is kept.
    centre = np.clip(np.stack([x, y], axis=-1), 0.04, 0.96)
    gap = np.abs(centre[:, :, None] - centre[:, None])
    reach = 0.5 * (height[:, None] + height)[..., None] * np.array([0.34, 0.9])
    overlap = np.maximum(reach - gap, 0).prod(-1) / np.minimum(height[:, None], height) ** 2
    best = int(np.argmin(np.rint(overlap.sum((1, 2)) * 1e6)))
    return height * CANVAS, CANVAS * centre[best]


def _crowd_together(style: Style, rng: np.random.Generator, bodies: Bodies) -> tuple[np.ndarray, np.ndarray]:
    """As `_spread_out`, near a Crowd Index that is drawn first: 0 to 0.1 for `crowding` of the scenes, else up to 1.25.

    Of T random arrangements, from a tight group to the whole canvas, one of the nearest to it is kept.
    """
    n, tries = len(bodies.points), style.layouts[1]
    u, v = rng.random((tries, 4)), rng.random((3, tries, n))
    aim = rng.random(2)
    aim = 0.1 * aim[1] if aim[0] < style.crowding else 0.1 + 1.15 * aim[1]
    low, high = style.heights
    # People of a crowd are about as large as each other, and the smaller the more they are.
    scene = low * (max(low + 0.1, high * min(1.0, (4 / n) ** 0.4)) / low) ** u[:, :1]
    height = scene * 1.35 ** (v[0] - 0.5)
    slots = (np.argsort(v[1], axis=1) + 0.2 + 0.6 * v[2]) / n - 0.5
    width = style.spread[0] + (style.spread[1] - style.spread[0]) * u[:, 1:2]
    depth = np.roll(v[2], 1, axis=1) - 0.5
    x = 0.5 + slots * width + 0.5 * (1 - width) * (u[:, 2:3] - 0.5)
    y = 0.5 + depth * np.maximum(0.25 * width, width - 0.5) + 0.3 * (1 - width) * (u[:, 3:4] - 0.5)
    centre = np.clip(np.stack([x, y], axis=-1), 0.06, 0.94)
    # Of arrangements about as good, the larger one: small people are hard enough without a crowd.
    distance = np.abs(_approximate_crowd_index(style, bodies, height, centre) - aim) - 0.2 * scene[:, 0]
    best = int(np.argmin(np.rint(distance * 1e4)))
    return height[best] * CANVAS, centre[best] * CANVAS


def _approximate_crowd_index(style: Style, bodies: Bodies, height: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(T,) about what the Crowd Index of arrangements `height` (T, n), `centre` (T, n, 2) will be."""
    flat = bodies.points[:, :, :2]
    low, high = flat.min(1), flat.max(1)
    joints = flat[:, [POINT[name] for name in style.layout.keypoints]] - (0.5 * (low + high))[:, None]
    joints = centre[:, :, None] + joints * height[..., None, None]  # (T, n, K, 2)
    half = height[..., None] * (0.5 * (high - low) + 0.03)
    lower, upper = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    labelled = ((joints >= 0) & (joints <= 1)).all(-1)
    inside = ((joints[:, None] >= lower[:, :, None, None]) & (joints[:, None] <= upper[:, :, None, None])).all(-1)
    inside = (inside & labelled[:, None]).sum(3)  # (T, n boxes, n people)
    strangers = inside.sum(2) - np.diagonal(inside, axis1=1, axis2=2)
    return (strangers / np.maximum(labelled.sum(2), 1)).mean(1)
