"""What surrounds drawn people: grounds with horizons and patterns, things behind and in front, camera grain.

Everything is decided at a fixed resolution or on the canvas, so that a scene at another size is the same
scene. Integer and fixed-point operations only: OpenCV's float resize may differ between machines,
INTER_LINEAR_EXACT does not.
"""

from __future__ import annotations

import cv2
import numpy as np

from posekit.data.drawn.render import CANVAS, SHIFT, capsules, to_pixels
from posekit.data.drawn.styles import Style

TEXTURE_SIZE = 128  # pixels of the ground before it is resized to the image


def _colour_field(rng: np.random.Generator, contrast: float, palette: tuple = ()) -> np.ndarray:
    """(TEXTURE_SIZE, TEXTURE_SIZE, 3) uint8: smoothly varying colours around one, of the palette if there is one."""
    cells = 2 + int(4 * rng.random())
    base = 40 + 175 * rng.random(3)
    base = base.mean() + (base - base.mean()) * 0.9 * rng.random()
    if palette:
        base = 0.15 * base + 0.85 * np.array(palette[int(len(palette) * rng.random())])
        contrast = 0.5 * contrast
    light, tint = rng.random((cells, cells, 1)) - 0.5, rng.random((cells, cells, 3)) - 0.5
    lattice = np.clip(base + contrast * 255 * (0.8 * light + 0.45 * tint), 0, 255).astype(np.uint8)
    return cv2.resize(lattice, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_LINEAR_EXACT)


def _pattern(rng: np.random.Generator) -> np.ndarray:
    """(TEXTURE_SIZE, TEXTURE_SIZE) int16: stripes, checks or slanted bars, brighter and darker."""
    kind, period = rng.random(), 4 + int(20 * rng.random())
    amplitude = 5 + int(26 * rng.random())
    slant = int(5 * rng.random()) - 2
    y, x = np.arange(TEXTURE_SIZE, dtype=np.int16)[:, None], np.arange(TEXTURE_SIZE, dtype=np.int16)[None]
    bars = ((2 * x + slant * y + 1024) // (2 * period)) & 1
    if kind < 0.35:
        bars = bars ^ ((y // period) & 1)
    elif kind < 0.65:
        bars = np.broadcast_to((y // period) & 1, (TEXTURE_SIZE, TEXTURE_SIZE))
    return (2 * bars - 1) * np.int16(amplitude)


def draw_ground(rng: np.random.Generator, size: int, palette: tuple = ()) -> np.ndarray:
    """(size, size, 3) uint8 RGB: one or two colour fields, perhaps a pattern, cloudy and fine texture.

    With a palette (`Style.grounds`) the fields have its colours, and nothing has a pattern.
    """
    image = _colour_field(rng, 0.15 + 0.75 * rng.random(), palette)
    if rng.random() < 0.6:
        row = int(TEXTURE_SIZE * (0.3 + 0.5 * rng.random()))
        image[row:] = _colour_field(rng, 0.1 + 0.4 * rng.random(), palette)[row:]
    shade = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.int16)
    for _ in range(0 if palette else int(2.2 * rng.random())):
        pattern = _pattern(rng)
        edge = int(TEXTURE_SIZE * rng.random())
        part = rng.random()
        rows = slice(0, TEXTURE_SIZE) if part < 0.4 else slice(edge, TEXTURE_SIZE) if part < 0.7 else slice(0, edge)
        shade[rows] += pattern[rows]
    for cells in (8 << int(3 * rng.random()), TEXTURE_SIZE):
        strength = rng.random() ** 2 * (70 if cells < TEXTURE_SIZE else 34)
        cloud = np.frombuffer(rng.bytes(cells * cells), np.uint8).reshape(cells, cells)
        if cells < TEXTURE_SIZE:
            cloud = cv2.resize(cloud, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_LINEAR_EXACT)
        shade += ((cloud.astype(np.int16) - 128) * np.int16(strength)) >> 8
    image = cv2.add(image, cv2.merge([shade, shade, shade]), dtype=cv2.CV_8U)
    return image if size == TEXTURE_SIZE else cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR_EXACT)


def occluder(rng: np.random.Generator, style: Style, extent: tuple[float, float]) -> list[tuple[np.ndarray, tuple]]:
    """One object, [(canvas polygon (V, 2), RGB)]: a box, disc, triangle, pole, or a limb that is nobody's.

    `extent`: the range of its size as a share of the canvas.
    """
    u = rng.random(8)
    at = CANVAS * (1.1 * rng.random(2) - 0.05)
    colour = 255 * rng.random(3)
    colour = colour.mean() + (colour - colour.mean()) * u[0]
    if style.grounds:
        colour = 0.3 * colour + 0.7 * np.array(style.grounds[int(u[7] * len(style.grounds))])
    long = CANVAS * (extent[0] + (extent[1] - extent[0]) * u[1] ** 2)
    angle = 2 * np.pi * u[2] if u[3] < 0.5 else 0.0
    axis = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-axis[1], axis[0]])
    wide = long * (0.3 + 0.7 * u[4])
    kind = u[5]
    if kind < 0.30:
        along, aside = long * axis, wide * across
        shapes = [at + 0.5 * np.array([along + aside, along - aside, -along - aside, aside - along])]
    elif kind < 0.48:
        turn = np.arange(20) * (np.pi / 10)
        shapes = [at + 0.5 * (long * np.cos(turn)[:, None] * axis + wide * np.sin(turn)[:, None] * across)]
    elif kind < 0.62:
        shapes = [at + np.array([long * axis, wide * across, -0.5 * wide * axis - 0.4 * long * across])]
    elif kind < 0.78:
        width = np.array(0.06 * long + 2)
        shapes = [capsules(at, at + 2.0 * long * axis, width, width)]
    else:
        if u[6] < 0.5:
            colour = np.array(style.skins[int(u[7] * len(style.skins))], float)
        joint, bend = at + 0.8 * long * axis, 0.8 * long * (axis * (u[6] - 0.5) + across * (1 - u[6]))
        r = np.array([0.16, 0.12, 0.09]) * long
        shapes = [capsules(at, joint, r[0], r[1]), capsules(joint, joint + bend, r[1], r[2])]
    colour = tuple(int(c) for c in np.clip(colour, 0, 255))
    return [(np.rint(shape * 64) / 64, colour) for shape in shapes]


def paint_occluder(image: np.ndarray, shapes, outlined: bool) -> None:
    """Paint an object into an RGB image (S, S, 3), in place."""
    size = image.shape[0]
    for shape, colour in shapes:
        pixels = to_pixels(shape, size)
        cv2.fillConvexPoly(image, pixels, colour, cv2.LINE_AA, SHIFT)
        if outlined:
            dark = tuple(c * 2 // 5 for c in colour)
            cv2.polylines(image, [pixels], True, dark, 1, cv2.LINE_AA, SHIFT)


def erase_ids(ids: np.ndarray, shapes) -> None:
    """Write 0 into the id buffer (R, R, 2) where an object covers it, in place."""
    for shape, _ in shapes:
        cv2.fillConvexPoly(ids, to_pixels(shape, ids.shape[0]), (0, 0), cv2.LINE_8, SHIFT)


def apply_camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The camera: exposure, contrast and tint per channel, then grain. A new (S, S, 3) uint8 image."""
    gain, lift = 0.75 + 0.4 * rng.random(), 40 * (rng.random() - 0.5)
    tint = 0.92 + 0.16 * rng.random(3)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 128) * gain * tint + 128 + lift, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(256, 1, 3))
    strength = int(20 * rng.random() ** 2)
    grain = np.frombuffer(rng.bytes(TEXTURE_SIZE * TEXTURE_SIZE), np.uint8).reshape(TEXTURE_SIZE, TEXTURE_SIZE)
    if strength == 0:
        return image
    size = image.shape[0]
    grain = ((grain.astype(np.int16) - 128) * np.int16(strength)) >> 7
    times = -(-size // TEXTURE_SIZE)
    grain = np.tile(grain, (times, times))[:size, :size] if size != TEXTURE_SIZE else grain
    return cv2.add(image, cv2.merge([grain, grain, grain]), dtype=cv2.CV_8U)
