"""Painting posed bodies back to front, in colour or as ids: limbs as tapered capsules, trunk, head.

The same polygons are filled twice: once anti-aliased in colour (the picture), once hard-edged with (person,
part) numbers (the id buffer, which decides what can be seen).

Frames: shapes live on the canvas, `CANVAS` x `CANVAS` units, corner (0, 0), whatever the picture's size.
OpenCV puts pixel centres on integers, so a canvas point p lands on `p * size / CANVAS - 0.5`; `SHIFT` bits of
it are fractions.

Shapes: N people, C = 23 pieces per person (`PIECES`), V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from posekit.data.drawn.body_parts import (
    CAPSULES,
    FACE_PIECE,
    HAIR,
    HEAD,
    MUZZLE,
    NECK,
    PELVIS,
    PIECE,
    SKIRT,
    TAIL,
    TORSO,
    Looks,
)
from posekit.data.drawn.skeleton import FACE, POINT, Bodies

CANVAS = 512
SHIFT = 4

_ARC = np.linspace(-np.pi / 2, np.pi / 2, 7)
_COS, _SIN = np.cos(_ARC), np.sin(_ARC)
_RING = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=-1)


def capsules(a: np.ndarray, b: np.ndarray, ra: np.ndarray, rb: np.ndarray) -> np.ndarray:
    """Outlines of tapered capsules: ends (..., 2), radii (...) -> polygons (..., 14, 2)."""
    along = b - a
    length = np.sqrt((along**2).sum(-1, keepdims=True))
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), [0.0, 1.0])[..., None, :]
    across = along[..., ::-1] * [-1.0, 1.0]
    cap = _COS[:, None] * along + _SIN[:, None] * across
    end = b[..., None, :] + rb[..., None, None] * cap
    start = a[..., None, :] + ra[..., None, None] * (_SIN[::-1, None] * across - _COS[:, None] * along)
    return np.concatenate([end, start], axis=-2)


def to_pixels(points: np.ndarray, size: int) -> np.ndarray:
    """Canvas points to OpenCV's pixels of a `size` x `size` picture, int32 with `SHIFT` bits of fraction."""
    unit = float(1 << SHIFT)
    return np.rint(points * (size / CANVAS * unit) - 0.5 * unit).astype(np.int32)


@dataclass
class Figures:
    """N placed bodies ready to be painted.

    `outer` and `inner`: per person, C canvas polygons with and without the outline (None: not drawn).
    `order`: per person, the groups of pieces from back to front. `points` (N, P, 3): xy canvas, z canvas
    units towards the viewer. `facing` (N, P) bool: False where the body's own turn hides the point. `away`
    (N,) bool and `radius` (N,) of the heads.
    """

    points: np.ndarray
    facing: np.ndarray
    away: np.ndarray
    radius: np.ndarray
    outer: list[list]
    inner: list[list]
    order: list[list[list[int]]]


def place(bodies: Bodies, centre: np.ndarray, height: np.ndarray, look: Looks) -> Figures:
    """Scale bodies to `height` (N,) and put the middle of their extent at `centre` (N, 2), canvas units."""
    points = bodies.points * height[:, None, None]
    middle = 0.5 * (points[:, :, :2].min(1) + points[:, :, :2].max(1))
    points[:, :, :2] += (centre - middle)[:, None]
    # Everything below is decided on this grid, so that rounding in the last bit cannot differ between
    # machines.
    points = np.rint(points * 64) / 64
    radius = np.rint(bodies.lengths["head"] * height * 64) / 64
    facing = _facing(bodies, look)
    outer, inner = _polygons(bodies, points, height, radius, look)
    return Figures(points, facing, _away(bodies.head), radius, outer, inner, _order(points, height, look))


def _facing(bodies: Bodies, look: Looks) -> np.ndarray:
    """(N, P): face points by the turn of the head; in profile the far shoulder and hip are hidden."""
    facing = np.ones(bodies.points.shape[:2], bool)
    for name, edge in (("nose", -0.12), ("eye", 0.05), ("ear", -0.42)):
        normal = np.array(FACE[name])
        if name == "nose":
            facing[:, POINT[name]] = bodies.head[:, 2] @ normal > edge
            continue
        for side, sign in (("left", 1.0), ("right", -1.0)):
            facing[:, POINT[f"{side}_{name}"]] = bodies.head[:, 2] @ (normal * [sign, 1, 1]) > edge
            if name == "ear":
                facing[:, POINT[f"{side}_ear"]] &= ~look.long_hair
    turn = bodies.trunk[:, 2, 0]  # depth of the body's left: the sine of its yaw
    for name in ("shoulder", "hip"):
        facing[:, POINT[f"left_{name}"]] = turn > -0.85
        facing[:, POINT[f"right_{name}"]] = turn < 0.85
    return facing


_A, _B = np.array([c[1] for c in CAPSULES]), np.array([c[2] for c in CAPSULES])
_TAIL_A, _TAIL_B = [c[1] for c in TAIL], [c[2] for c in TAIL]
_TAIL_RA, _TAIL_RB = np.array([c[3] for c in TAIL]), np.array([c[4] for c in TAIL])
_RA, _RB = np.array([c[3] for c in CAPSULES]), np.array([c[4] for c in CAPSULES])


def _polygons(bodies: Bodies, points: np.ndarray, height: np.ndarray, radius: np.ndarray, look: Looks):
    n = len(height)
    girth = bodies.lengths["girth"] * height
    xy = points[:, :, :2]
    grow = np.stack([0.011 * height + 0.8, np.zeros(n)])[..., None]  # outer and inner edge of the outline
    limbs = capsules(xy[None, :, _A], xy[None, :, _B], _RA * girth[:, None] + grow, _RB * girth[:, None] + grow)

    shoulders, hips = xy[:, _pair("shoulder")], xy[:, _pair("hip")]
    neck, pelvis, waist = (xy[:, POINT[p]][:, None] for p in ("neck", "pelvis", "waist"))
    chest = np.concatenate(
        [neck + 0.62 * (shoulders - neck) + 0.12 * (pelvis - neck), waist + 0.75 * (hips - pelvis)], axis=1
    )
    seat = np.concatenate([waist + 0.7 * (hips - pelvis), hips], axis=1)
    knees = xy[:, _pair("knee")]
    seat[:, 2:] += look.skirt[:, None, None] * 0.75 * (knees - seat[:, 2:])
    rings = np.stack([chest, seat], axis=1)  # (N, 2, 4, 2)
    radii = np.array([[0.056, 0.056, 0.058, 0.058], [0.056, 0.056, 0.054, 0.054]]) * girth[:, None, None]
    radii[:, 1, 2:] *= 1 + 0.25 * look.skirt[:, None]
    radii = radii[None] + grow[..., None]
    clouds = (rings[None, ..., None, :] + radii[..., None, None] * _RING).reshape(2, n, 2, -1, 2).astype(np.float32)

    centre, r = xy[:, POINT["head"]], radius
    oval = _RING @ _oval(bodies.head)
    heads = centre[:, None] + oval * ((r * np.where(look.bald, 1.02, 1.09)) + grow[..., 0])[..., None, None]
    rim, in_view = _hairline(bodies.head, np.where(look.hat, 1.12, 0.92 if look.furry else 1.33))
    faces = centre[:, None] + rim * (r * np.where(_away(bodies.head), 1.09, 1.0))[:, None, None]
    face_seen = in_view & ~look.bald
    if look.furry:  # a small face is the convex part only while it looks at the viewer
        face_seen &= ~_away(bodies.head)
    nape = centre + bodies.head[:, :2, 1] * (r * 1.5)[:, None] - bodies.head[:, :2, 2] * (r * 0.35)[:, None]
    hair = capsules(
        np.broadcast_to(centre, (2, n, 2)),
        np.broadcast_to(nape, (2, n, 2)),
        r * 1.05 + grow[..., 0],
        r * 0.8 + grow[..., 0],
    )

    if look.furry:
        radii = [r * girth[:, None] + grow for r in (_TAIL_RA, _TAIL_RB)]
        tails = capsules(xy[None, :, _TAIL_A], xy[None, :, _TAIL_B], *radii)
        jaw = centre + bodies.head[:, :2] @ np.array([0.0, 0.38, 0.45]) * r[:, None]
        nose = xy[:, POINT["nose"]] + bodies.head[:, :2] @ np.array([0.0, 0.12, -0.12]) * r[:, None]
        muzzles = capsules(np.stack([jaw] * 2), np.stack([nose] * 2), r * 0.5 + grow[..., 0], r * 0.36 + grow[..., 0])
    outer, inner = [], []
    for i in range(n):
        for edge, out in ((0, outer), (1, inner)):
            hulls = [cv2.convexHull(clouds[edge, i, h])[:, 0] for h in (0, 1)]
            lower = [None, hulls[1]] if look.skirt[i] else [hulls[1], None]
            pieces = list(limbs[edge, i]) + [hulls[0]] + lower + [heads[edge, i], faces[i] if face_seen[i] else None]
            pieces.append(hair[edge, i] if look.long_hair[i] else None)
            out.append(pieces + [*tails[edge, i], muzzles[edge, i]] if look.furry else pieces)
    return outer, inner


def _pair(name: str) -> list[int]:
    return [POINT[f"left_{name}"], POINT[f"right_{name}"]]


def _oval(head: np.ndarray) -> np.ndarray:
    """(N, 2, 2): stretches a ring by up to 1.14 along the head's own up direction as the viewer sees it."""
    up = head[:, :2, 1]
    return np.eye(2) + 0.14 * up[:, :, None] * up[:, None, :]


_FACE_MIDDLE = np.array([0.0, 0.30, 0.954])


def _away(head: np.ndarray) -> np.ndarray:
    """(N,) bool: the face points away from the viewer."""
    return head[:, 2] @ _FACE_MIDDLE < 0


def _hairline(head: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rim of the face, `angle` (N,) from its middle, on unit heads (N, 20, 2); is any of it in view (N,)?

    Rim points behind the head are moved out to its silhouette. The polygon then bounds the face of a head
    that looks at the viewer, and the hair of a head that looks away: in both cases the convex one of the two.
    """
    middle, side, top = head @ _FACE_MIDDLE, head[..., 0], head @ np.array([0.0, -0.954, 0.30])
    rim = _RING[:, :1] * side[:, None] + _RING[:, 1:] * top[:, None]
    rim = np.cos(angle)[:, None, None] * middle[:, None] + np.sin(angle)[:, None, None] * rim
    flat, depth = rim[..., :2], rim[..., 2:]
    outward = flat / np.maximum(np.sqrt((flat**2).sum(-1, keepdims=True)), 1e-6)
    return np.where(depth < 0, outward, flat) @ _oval(head), (depth > 0).any((1, 2))


_LEGS = [[PIECE[f"{s}_{p}"] for p in ("thigh", "shin", "foot")] for s in ("left", "right")]
_TAIL = [PIECE[c[0]] for c in TAIL]
_ARMS = [[PIECE[f"{s}_{p}"] for p in ("upper_arm", "forearm", "hand")] for s in ("left", "right")]


def _order(points: np.ndarray, height: np.ndarray, look: Looks) -> list[list[list[int]]]:
    """Per person: groups of pieces from back to front, by depth; else the shirt covers the trousers."""
    z = points[:, :, 2] / height[:, None]
    trunk = 0.5 * (z[:, POINT["neck"]] + z[:, POINT["pelvis"]])
    knee, ankle = z[:, _pair("knee")], z[:, _pair("ankle")]
    shoulder, elbow, wrist = z[:, _pair("shoulder")], z[:, _pair("elbow")], z[:, _pair("wrist")]
    leg = 0.6 * knee + 0.4 * z[:, _pair("hip")] - z[:, POINT["pelvis"]][:, None] - 0.09 - look.skirt[:, None] * 0.3
    arm = 0.3 * shoulder + 0.3 * elbow + 0.4 * wrist - trunk[:, None] + 0.04
    head = z[:, POINT["head"]] - trunk
    head = np.where(np.abs(head) < 0.14, 0.02, head)
    depth = np.concatenate([leg, arm, np.zeros((len(z), 1)), head[:, None]], axis=1)
    leg_forward, arm_forward = ankle >= knee, wrist >= elbow
    tail = z[:, POINT["tail_2"]] - z[:, POINT["pelvis"]]
    hair_first = z[:, POINT["nose"]] > z[:, POINT["head"]]
    orders = []
    for i, ranks in enumerate(np.argsort(depth, axis=1, kind="stable")):
        order = []
        for g in ranks:
            if g < 4:
                chain, forward = (_LEGS[g], leg_forward[i, g]) if g < 2 else (_ARMS[g - 2], arm_forward[i, g - 2])
                order.append(chain if forward else chain[::-1])
            elif g == 4:
                order += [[SKIRT if look.skirt[i] else PELVIS], [NECK], [TORSO]]
            elif look.long_hair[i]:
                order.append([HAIR, HEAD])
            elif look.furry:
                order += [[HEAD], [MUZZLE]] if hair_first[i] else [[MUZZLE], [HEAD]]
            else:
                order.append([HEAD])
        if look.long_hair[i] and hair_first[i]:  # seen from the front, long hair falls behind the shoulders
            order = [[HAIR]] + [[HEAD] if HEAD in group else group for group in order]
        if look.furry:
            order = order + [_TAIL] if tail[i] > 0 else [_TAIL, *order]
        orders.append(order)
    return orders


def paint_person(picture: np.ndarray, figures: Figures, look: Looks, i: int) -> None:
    """Paint person i into an RGB picture (S, S, 3) uint8, in place."""
    size = picture.shape[0]
    outer = [None if p is None else to_pixels(p, size) for p in figures.outer[i]]
    inner = [None if p is None else to_pixels(p, size) for p in figures.inner[i]]
    colours = look.colours[i].tolist()
    darker = (look.colours[i] * 0.42).tolist()
    if figures.away[i] and inner[FACE_PIECE] is not None:  # then the hairline bounds the hair: paint it over skin
        colours[HEAD], colours[FACE_PIECE] = colours[FACE_PIECE], colours[HEAD]
    fill = cv2.fillConvexPoly
    for group in figures.order[i]:
        for piece in group:
            fill(picture, outer[piece], darker[piece], cv2.LINE_AA, SHIFT)
        for piece in group:
            fill(picture, inner[piece], colours[piece], cv2.LINE_AA, SHIFT)
            if piece == HEAD:
                _paint_face(picture, figures, look, i, inner[FACE_PIECE], colours[FACE_PIECE])
            elif piece == MUZZLE:
                _paint_eyes(picture, figures, look, i)  # again, where the muzzle covers them
                _paint_nose(picture, figures, look, i)


def _paint_face(picture, figures: Figures, look: Looks, i: int, rim, rim_colour) -> None:
    size = picture.shape[0]
    skin = look.skin[i].tolist()
    unit = (1 << SHIFT) * size / CANVAS * figures.radius[i]
    at = to_pixels(figures.points[i, :, :2], size).tolist()
    facing = figures.facing[i]
    for side in ("left_ear", "right_ear"):
        if facing[POINT[side]]:
            cv2.circle(picture, at[POINT[side]], int(0.24 * unit), skin, -1, cv2.LINE_AA, SHIFT)
    if rim is not None:
        cv2.fillConvexPoly(picture, rim, rim_colour, cv2.LINE_AA, SHIFT)
    _paint_eyes(picture, figures, look, i)
    if not look.furry:
        _paint_nose(picture, figures, look, i)


def _paint_eyes(picture, figures: Figures, look: Looks, i: int) -> None:
    size = picture.shape[0]
    unit = (1 << SHIFT) * size / CANVAS * figures.radius[i]
    at = to_pixels(figures.points[i, :, :2], size).tolist()
    facing = figures.facing[i]
    white = (214, 176, 120) if look.furry else (240, 240, 240)
    for side in ("left_eye", "right_eye"):
        if facing[POINT[side]]:
            cv2.circle(picture, at[POINT[side]], int(0.19 * unit), white, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(picture, at[POINT[side]], int(0.11 * unit), (20, 20, 30), -1, cv2.LINE_AA, SHIFT)


def _paint_nose(picture, figures: Figures, look: Looks, i: int) -> None:
    """Nose and mouth."""
    size = picture.shape[0]
    unit = (1 << SHIFT) * size / CANVAS * figures.radius[i]
    at = to_pixels(figures.points[i, :, :2], size).tolist()
    if figures.facing[i, POINT["nose"]]:
        shade = (look.skin[i] * 0.72).tolist()
        cv2.circle(picture, at[POINT["nose"]], int(0.13 * unit), shade, -1, cv2.LINE_AA, SHIFT)
        lips = (look.skin[i] * [0.62, 0.38, 0.38]).tolist()
        ends = at[POINT["left_mouth"]], at[POINT["right_mouth"]]
        cv2.line(picture, *ends, lips, max(1, int(0.14 * unit) >> SHIFT), cv2.LINE_AA, SHIFT)


def paint_ids(ids: np.ndarray, figures: Figures, i: int) -> None:
    """Write (i + 1, piece + 1) into the id buffer (R, R, 2) uint8 wherever person i covers it, in place."""
    size = ids.shape[0]
    for group in figures.order[i]:
        for piece in group:
            cv2.fillConvexPoly(
                ids, to_pixels(figures.inner[i][piece], size), (int(i) + 1, piece + 1), cv2.LINE_8, SHIFT
            )
