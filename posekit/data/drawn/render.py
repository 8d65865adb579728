"""Painting posed bodies back to front, in colour or as ids: limbs as tapered capsules, trunk, head.

The same polygons are filled twice: once anti-aliased in colour (the image), once hard-edged with (person,
part) numbers (the id buffer, which decides what can be seen).

Frames: shapes live on the canvas, `CANVAS` x `CANVAS` units, corner (0, 0), whatever the image's size.
OpenCV puts pixel centres on integers, so a canvas point p lands on `p * size / CANVAS - 0.5`; `SHIFT` bits of
it are fractions.

Shapes: N people, C = 23 parts per person (`PARTS`), V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from posekit.data.drawn.body_parts import CAPSULES, PART, TAIL, Appearance
from posekit.data.drawn.skeleton import FACE, PAIR, POINT, Bodies

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
    """Canvas points to OpenCV's pixels of a `size` x `size` image, int32 with `SHIFT` bits of fraction."""
    unit = float(1 << SHIFT)
    return np.rint(points * (size / CANVAS * unit) - 0.5 * unit).astype(np.int32)


@dataclass
class PlacedBodies:
    """N placed bodies ready to be painted.

    `outer` and `inner`: per person, C canvas polygons with and without the outline (None: not drawn).
    `order`: per person, the groups of parts from back to front. `points` (N, P, 3): xy canvas, z canvas
    units towards the viewer. `facing` (N, P) bool: False where the body's own turn hides the point. `facing_away`
    (N,) bool and `radius` (N,) of the heads.
    """

    points: np.ndarray
    facing: np.ndarray
    facing_away: np.ndarray
    radius: np.ndarray
    outer: list[list]
    inner: list[list]
    order: list[list[list[int]]]


def place_bodies(bodies: Bodies, centre: np.ndarray, height: np.ndarray, appearance: Appearance) -> PlacedBodies:
    """Scale bodies to `height` (N,) and put the middle of their extent at `centre` (N, 2), canvas units."""
    points = bodies.points * height[:, None, None]
    middle = 0.5 * (points[:, :, :2].min(1) + points[:, :, :2].max(1))
    points[:, :, :2] += (centre - middle)[:, None]
    # Everything below is decided on this grid, so that rounding in the last bit cannot differ between machines.
    points = np.rint(points * 64) / 64
    radius = np.rint(bodies.lengths["head"] * height * 64) / 64
    facing, facing_away = _facing(bodies, appearance), _facing_away(bodies.head)
    outer, inner = _polygons(bodies, points, height, radius, appearance)
    return PlacedBodies(points, facing, facing_away, radius, outer, inner, _order(points, height, appearance))


def _facing(bodies: Bodies, appearance: Appearance) -> np.ndarray:
    """(N, P): face points by the turn of the head; in profile the far shoulder and hip are occluded."""
    facing = np.ones(bodies.points.shape[:2], bool)
    for name, edge in (("nose", -0.12), ("eye", 0.05), ("ear", -0.42)):
        normal = np.array(FACE[name])
        if name == "nose":
            facing[:, POINT[name]] = bodies.head[:, 2] @ normal > edge
            continue
        for side, sign in (("left", 1.0), ("right", -1.0)):
            facing[:, POINT[f"{side}_{name}"]] = bodies.head[:, 2] @ (normal * [sign, 1, 1]) > edge
            if name == "ear":
                facing[:, POINT[f"{side}_ear"]] &= ~appearance.long_hair
    turn = bodies.trunk[:, 2, 0]  # depth of the body's left: the sine of its yaw
    for name in ("shoulder", "hip"):
        facing[:, PAIR[name]] = np.stack([turn > -0.85, turn < 0.85], axis=1)
    return facing


_A, _B, _RA, _RB = (np.array(column) for column in list(zip(*CAPSULES, strict=True))[1:])
_TAIL_A, _TAIL_B, _TAIL_RA, _TAIL_RB = (np.array(column) for column in list(zip(*TAIL, strict=True))[1:])


def _polygons(bodies: Bodies, points: np.ndarray, height: np.ndarray, radius: np.ndarray, appearance: Appearance):
    n = len(height)
    girth = bodies.lengths["girth"] * height
    xy = points[:, :, :2]
    grow = np.stack([0.011 * height + 0.8, np.zeros(n)])[..., None]  # outer and inner edge of the outline
    limbs = capsules(xy[None, :, _A], xy[None, :, _B], _RA * girth[:, None] + grow, _RB * girth[:, None] + grow)

    shoulders, hips = xy[:, PAIR["shoulder"]], xy[:, PAIR["hip"]]
    neck, pelvis, waist = (xy[:, POINT[p]][:, None] for p in ("neck", "pelvis", "waist"))
    chest = np.concatenate(
        [neck + 0.62 * (shoulders - neck) + 0.12 * (pelvis - neck), waist + 0.75 * (hips - pelvis)], axis=1
    )
    seat = np.concatenate([waist + 0.7 * (hips - pelvis), hips], axis=1)
    knees = xy[:, PAIR["knee"]]
    seat[:, 2:] += appearance.skirt[:, None, None] * 0.75 * (knees - seat[:, 2:])
    rings = np.stack([chest, seat], axis=1)  # (N, 2, 4, 2)
    radii = np.array([[0.056, 0.056, 0.058, 0.058], [0.056, 0.056, 0.054, 0.054]]) * girth[:, None, None]
    radii[:, 1, 2:] *= 1 + 0.25 * appearance.skirt[:, None]
    radii = radii[None] + grow[..., None]
    clouds = (rings[None, ..., None, :] + radii[..., None, None] * _RING).reshape(2, n, 2, -1, 2).astype(np.float32)

    centre, r = xy[:, POINT["head"]], radius
    oval = _RING @ _oval(bodies.head)
    heads = centre[:, None] + oval * ((r * np.where(appearance.bald, 1.02, 1.09)) + grow[..., 0])[..., None, None]
    rim, in_view = _hairline(bodies.head, np.where(appearance.hat, 1.12, 0.92 if appearance.furry else 1.33))
    faces = centre[:, None] + rim * (r * np.where(_facing_away(bodies.head), 1.09, 1.0))[:, None, None]
    face_visible = in_view & ~appearance.bald
    if appearance.furry:  # a small face is the convex part only while it looks at the viewer
        face_visible &= ~_facing_away(bodies.head)
    nape = centre + bodies.head[:, :2, 1] * (r * 1.5)[:, None] - bodies.head[:, :2, 2] * (r * 0.35)[:, None]
    crown, neck = (np.broadcast_to(end, (2, n, 2)) for end in (centre, nape))
    hair = capsules(crown, neck, r * 1.05 + grow[..., 0], r * 0.8 + grow[..., 0])

    if appearance.furry:
        thick, thin = (r * girth[:, None] + grow for r in (_TAIL_RA, _TAIL_RB))
        tails = capsules(xy[None, :, _TAIL_A], xy[None, :, _TAIL_B], thick, thin)
        jaw = centre + bodies.head[:, :2] @ np.array([0.0, 0.38, 0.45]) * r[:, None]
        nose = xy[:, POINT["nose"]] + bodies.head[:, :2] @ np.array([0.0, 0.12, -0.12]) * r[:, None]
        muzzles = capsules(np.stack([jaw] * 2), np.stack([nose] * 2), r * 0.5 + grow[..., 0], r * 0.36 + grow[..., 0])
    outer, inner = [], []
    for i in range(n):
        for edge, out in ((0, outer), (1, inner)):
            hulls = [cv2.convexHull(clouds[edge, i, h])[:, 0] for h in (0, 1)]
            lower = [None, hulls[1]] if appearance.skirt[i] else [hulls[1], None]
            parts = list(limbs[edge, i]) + [hulls[0]] + lower + [heads[edge, i], faces[i] if face_visible[i] else None]
            parts.append(hair[edge, i] if appearance.long_hair[i] else None)
            out.append(parts + [*tails[edge, i], muzzles[edge, i]] if appearance.furry else parts)
    return outer, inner


def _oval(head: np.ndarray) -> np.ndarray:
    """(N, 2, 2): stretches a ring by up to 1.14 along the head's own up direction as the viewer sees it."""
    up = head[:, :2, 1]
    return np.eye(2) + 0.14 * up[:, :, None] * up[:, None, :]


_FACE_MIDDLE = np.array([0.0, 0.30, 0.954])


def _facing_away(head: np.ndarray) -> np.ndarray:
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


_LEGS = [[PART[f"{s}_{p}"] for p in ("thigh", "shin", "foot")] for s in ("left", "right")]
_TAIL = [PART[c[0]] for c in TAIL]
_ARMS = [[PART[f"{s}_{p}"] for p in ("upper_arm", "forearm", "hand")] for s in ("left", "right")]


def _order(points: np.ndarray, height: np.ndarray, appearance: Appearance) -> list[list[list[int]]]:
    """Per person: groups of parts from back to front, by depth; else the shirt covers the trousers."""
    z = points[:, :, 2] / height[:, None]
    trunk = 0.5 * (z[:, POINT["neck"]] + z[:, POINT["pelvis"]])
    knee, ankle = z[:, PAIR["knee"]], z[:, PAIR["ankle"]]
    shoulder, elbow, wrist = z[:, PAIR["shoulder"]], z[:, PAIR["elbow"]], z[:, PAIR["wrist"]]
    leg = 0.6 * knee + 0.4 * z[:, PAIR["hip"]] - z[:, POINT["pelvis"]][:, None] - 0.09 - appearance.skirt[:, None] * 0.3
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
                order += [[PART["skirt"] if appearance.skirt[i] else PART["pelvis"]], [PART["neck"]], [PART["torso"]]]
            elif appearance.long_hair[i]:
                order.append([PART["hair"], PART["head"]])
            elif appearance.furry:
                order += [[PART["head"]], [PART["muzzle"]]] if hair_first[i] else [[PART["muzzle"]], [PART["head"]]]
            else:
                order.append([PART["head"]])
        if appearance.long_hair[i] and hair_first[i]:  # seen from the front, long hair falls behind the shoulders
            order = [[PART["hair"]]] + [[PART["head"]] if PART["head"] in group else group for group in order]
        if appearance.furry:
            order = order + [_TAIL] if tail[i] > 0 else [_TAIL, *order]
        orders.append(order)
    return orders


def paint_person(image: np.ndarray, placed: PlacedBodies, appearance: Appearance, i: int) -> None:
    """Paint person i into an RGB image (S, S, 3) uint8, in place."""
    size = image.shape[0]
    outer = [None if p is None else to_pixels(p, size) for p in placed.outer[i]]
    inner = [None if p is None else to_pixels(p, size) for p in placed.inner[i]]
    colours = appearance.colours[i].tolist()
    darker = (appearance.colours[i] * 0.42).tolist()
    # Of a head that looks away the hairline bounds the hair: it is painted over skin.
    if placed.facing_away[i] and inner[PART["face"]] is not None:
        colours[PART["head"]], colours[PART["face"]] = colours[PART["face"]], colours[PART["head"]]
    fill = cv2.fillConvexPoly
    for group in placed.order[i]:
        for part in group:
            fill(image, outer[part], darker[part], cv2.LINE_AA, SHIFT)
        for part in group:
            fill(image, inner[part], colours[part], cv2.LINE_AA, SHIFT)
            if part == PART["head"]:
                _paint_features(image, placed, appearance, i, "ear")
                if inner[PART["face"]] is not None:
                    fill(image, inner[PART["face"]], colours[PART["face"]], cv2.LINE_AA, SHIFT)
                _paint_features(image, placed, appearance, i, *(("eye",) if appearance.furry else ("eye", "nose")))
            elif part == PART["muzzle"]:
                _paint_features(image, placed, appearance, i, "eye", "nose")  # the muzzle covers the eyes


def _paint_features(image, placed: PlacedBodies, appearance: Appearance, i: int, *features: str) -> None:
    """Paint "ear", "eye" or "nose" (with the mouth) of person i where they face the viewer, in place."""
    size, skin = image.shape[0], appearance.skin[i]
    unit = (1 << SHIFT) * size / CANVAS * placed.radius[i]
    at = to_pixels(placed.points[i, :, :2], size).tolist()

    def disc(name: str, radius: float, colour) -> None:
        cv2.circle(image, at[POINT[name]], int(radius * unit), colour, -1, cv2.LINE_AA, SHIFT)

    for feature in features:
        for name in ("nose",) if feature == "nose" else (f"left_{feature}", f"right_{feature}"):
            if not placed.facing[i, POINT[name]]:
                continue
            if feature == "ear":
                disc(name, 0.24, skin.tolist())
            elif feature == "eye":
                disc(name, 0.19, (214, 176, 120) if appearance.furry else (240, 240, 240))
                disc(name, 0.11, (20, 20, 30))
            else:
                disc(name, 0.13, (skin * 0.72).tolist())
                lips, width = (skin * [0.62, 0.38, 0.38]).tolist(), max(1, int(0.14 * unit) >> SHIFT)
                cv2.line(image, at[POINT["left_mouth"]], at[POINT["right_mouth"]], lips, width, cv2.LINE_AA, SHIFT)


def paint_ids(ids: np.ndarray, placed: PlacedBodies, i: int) -> None:
    """Write (i + 1, part + 1) into the id buffer (R, R, 2) uint8 wherever person i covers it, in place."""
    size = ids.shape[0]
    for group in placed.order[i]:
        for part in group:
            cv2.fillConvexPoly(ids, to_pixels(placed.inner[i][part], size), (int(i) + 1, part + 1), cv2.LINE_8, SHIFT)
