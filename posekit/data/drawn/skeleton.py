"""An articulated body: joint angles with limits and forward kinematics; `styles` holds the proportions and poses.

Forward kinematics over all N people of a scene at once; the length unit is the standing height of the body.

Body frame: x to the image's right, y down, z towards the viewer. A body at yaw 0 faces the viewer, so its
left side (+1 below) lies at +x. Every random choice is read from uniform numbers, so a pose is the same on
every machine.

Shapes: N people, 2 sides (left, right), P named points, R a stack of 3x3 rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posekit.data.drawn.styles import GESTURES, STYLES, Style

# Degrees of one side: flexion forwards, abduction outwards, twist inwards, elbow or knee, ankle.
ARM_LIMITS = np.array([(-60, 180), (-20, 178), (-120, 100), (0, 148)], float)
LEG_LIMITS = np.array([(-45, 125), (-20, 70), (-35, 45), (0, 145), (-25, 60)], float)
# Angles of the trunk: lean forwards, lean sideways, twist; head: yaw, nod, tilt; then camera pitch and roll.
TRUNK_LIMITS = np.array([(-25, 80), (-28, 28), (-35, 35), (-75, 75), (-35, 40), (-25, 25), (-15, 30), (-95, 95)], float)

SIDED = ("eye", "ear", "mouth", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toe")
POINTS = (
    ("pelvis", "waist", "neck", "head", "top_head", "nose")
    + tuple(f"{side}_{name}" for name in SIDED for side in ("left", "right"))
    + ("tail_1", "tail_2", "tail_3")
)
POINT = {name: i for i, name in enumerate(POINTS)}
PAIR = {name: [POINT[f"left_{name}"], POINT[f"right_{name}"]] for name in SIDED}
SIDE = np.array([1.0, -1.0])
# Outward normals of the face points on the head's sphere (x is mirrored for the right side).
FACE = {
    "nose": (0.0, 0.10, 1.0),
    "mouth": (0.20, 0.52, 0.83),
    "eye": (0.40, -0.16, 0.90),
    "ear": (0.99, 0.02, -0.08),
}


@dataclass
class Bodies:
    """N posed bodies before they are placed: lengths in units of the standing height.

    `points` (N, P, 3) in the order of `POINTS`; `head` (N, 3, 3) rotation of the head and `trunk` (N, 3, 3)
    of the chest (columns: left, down, forward); `lengths`: name -> (N,).
    """

    points: np.ndarray
    head: np.ndarray
    trunk: np.ndarray
    lengths: dict[str, np.ndarray]


def _rotation(degrees: np.ndarray, axis: int) -> np.ndarray:
    """(..., 3, 3): about x turns down to forward, about y forward to the right, about z down to the right."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*np.shape(angle), 3, 3))
    i, j = ((1, 2), (2, 0), (1, 0))[axis]
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = c
    matrix[..., j, i], matrix[..., i, j] = s, -s
    return matrix


def _between(ranges: np.ndarray, u: np.ndarray) -> np.ndarray:
    return ranges[..., 0] + (ranges[..., 1] - ranges[..., 0]) * u


def _tables(style: Style) -> tuple[np.ndarray, ...]:
    """The style's families as arrays: cumulative weights (F,), legs (F, 2, 5, 2), lean and roll (F, 2, 2), nod and
    turn (F, 2)."""
    weights = np.cumsum([f.weight for f in style.families])
    legs = np.array([f.legs for f in style.families], float)
    body = np.array([(f.lean, f.roll) for f in style.families], float)
    return weights / weights[-1], legs, body, np.array([(f.nod, f.turn) for f in style.families], float)


_GESTURE_NAMES = list(GESTURES)
_GESTURE_TABLE = np.array(list(GESTURES.values()), float)
_TABLES = {name: _tables(style) for name, style in STYLES.items()}


def sample_poses(style: Style, rng: np.random.Generator, n: int) -> Bodies:
    """Draw N bodies of a style: build, pose family, joint angles within their limits, turn, kinematics."""
    build = rng.random((n, len(style.lengths)))
    length = {name: _between(np.array(r), build[:, i]) for i, (name, r) in enumerate(style.lengths.items())}

    u = rng.random((n, 8))
    weights, leg_table, body_table, head_table = _TABLES[style.name]
    family = np.minimum(np.searchsorted(weights, u[:, 0], side="right"), len(style.families) - 1)
    gesture = np.empty((n, 2), int)
    for i, f in enumerate(family):
        arms = style.families[f].arms
        first = int(u[i, 1] * len(arms))
        # Half of all people move both arms alike, which is how people wave, carry and rest.
        second = first if u[i, 2] < 0.5 else int(u[i, 3] * len(arms))
        gesture[i] = _GESTURE_NAMES.index(arms[first]), _GESTURE_NAMES.index(arms[second])
    left_first = np.where(u[:, 4:5] < 0.5, [[0, 1]], [[1, 0]])
    legs = np.take_along_axis(leg_table[family], left_first[:, :, None, None], axis=1)

    arm = np.clip(_between(_GESTURE_TABLE[gesture], rng.random((n, 2, 4))), ARM_LIMITS[:, 0], ARM_LIMITS[:, 1])
    leg = np.clip(_between(legs, rng.random((n, 2, 5))), LEG_LIMITS[:, 0], LEG_LIMITS[:, 1])
    v = rng.random((n, 8))
    centred = v - 0.5
    # Four in five look roughly at the viewer, the others anywhere.
    yaw = np.where(u[:, 5] < 0.8, 110.0 * (u[:, 6] - 0.5), 360.0 * u[:, 6])
    yaw = yaw + head_table[family, 1] * np.where(u[:, 4] < 0.5, 1, -1)
    lean = _between(body_table[family, 0], v[:, 0])
    turns = np.array([18, 30, 64, 36, 24]) * centred[:, 1:6] + [0, 0, 0, 6, 0]  # of the trunk and the head
    roll = _between(body_table[family, 1], v[:, 7]) * np.where(u[:, 7] < 0.5, 1, -1)
    trunk = np.column_stack([lean, turns, -6 + 26 * v[:, 6], roll])
    trunk = np.clip(trunk, TRUNK_LIMITS[:, 0], TRUNK_LIMITS[:, 1])
    trunk[:, 4] += head_table[family, 0]
    bodies, root = _kinematics(length, arm, leg, trunk, yaw)
    if "tail" in style.lengths:
        _grow_tail(bodies, root, rng.random((n, 4)))
    return bodies


def _grow_tail(bodies: Bodies, root: np.ndarray, u: np.ndarray) -> None:
    """Put the three ends of the tail's parts behind the pelvis, in place: raised or hanging, curling up or down."""
    rise, curl = np.deg2rad(-75 + 120 * u[:, 0]), np.deg2rad(70 * (u[:, 1] - 0.35))
    aside = np.deg2rad(70 * (u[:, 2] - 0.5))
    at = bodies.points[:, POINT["pelvis"]] - 0.04 * root[:, :, 2]
    for part in range(3):
        angle = rise + part * curl
        local = np.stack([np.cos(angle) * np.sin(aside), -np.sin(angle), -np.cos(angle) * np.cos(aside)], axis=-1)
        at = at + (root @ local[..., None])[..., 0] * bodies.lengths["tail"][:, None] / 3
        bodies.points[:, POINT[f"tail_{part + 1}"]] = at


def _kinematics(length, arm, leg, trunk, yaw) -> tuple[Bodies, np.ndarray]:
    """The bodies, and the frame of the pelvis (N, 3, 3)."""
    n = len(yaw)
    camera = _rotation(trunk[:, 7], 2) @ _rotation(-trunk[:, 6], 0)  # roll in the image after the view from above
    root = camera @ _rotation(yaw, 1)
    chest = root @ _rotation(trunk[:, 1], 2) @ _rotation(-trunk[:, 0], 0) @ _rotation(trunk[:, 2], 1)
    head = chest @ _rotation(trunk[:, 5], 2) @ _rotation(trunk[:, 3], 1) @ _rotation(-trunk[:, 4], 0)

    points = np.zeros((n, len(POINTS), 3))

    def put(name: str, value: np.ndarray) -> np.ndarray:
        points[:, POINT[name]] = value
        return value

    def put_sides(name: str, value: np.ndarray) -> np.ndarray:
        points[:, PAIR[name]] = value
        return value

    down, right = chest[:, :, 1], chest[:, :, 0]
    put("waist", -0.25 * length["torso"][:, None] * down)
    neck = put("neck", -length["torso"][:, None] * down)
    radius = length["head"][:, None]
    centre = put("head", neck - (length["neck"][:, None] * down * 0.75 + (radius * 0.9) * head[:, :, 1]))
    put("top_head", centre - 1.15 * radius * head[:, :, 1])
    for name, normal in FACE.items():
        if name == "nose":
            reach = 0.93 + length["muzzle"][:, None] if "muzzle" in length else 0.93
            put(name, centre + reach * radius * (head @ np.array(normal)))
        else:
            normals = np.array(normal) * np.stack([SIDE, np.ones(2), np.ones(2)], axis=-1)
            put_sides(name, centre[:, None] + 0.93 * radius[:, None] * (normals @ head.transpose(0, 2, 1)))

    def chain(frame, start, flexion, abduction, twist):
        rotation = frame[:, None] @ _rotation(flexion, 0) @ _rotation(abduction * SIDE, 2)
        return start, rotation @ _rotation(-twist * SIDE, 1)

    def along(start, rotation, size):
        return start + rotation[..., 1] * size[:, None, None]

    shoulder = neck[:, None] + right[:, None] * (length["shoulder"][:, None] * SIDE)[..., None] + 0.02 * down[:, None]
    start, upper = chain(chest, put_sides("shoulder", shoulder), arm[..., 0], arm[..., 1], arm[..., 2])
    elbow = put_sides("elbow", along(start, upper, length["upper_arm"]))
    lower = upper @ _rotation(arm[..., 3], 0)
    wrist = put_sides("wrist", along(elbow, lower, length["forearm"]))
    put_sides("hand", along(wrist, lower, length["hand"]))

    hip = root[:, None, :, 0] * (length["hip"][:, None] * SIDE)[..., None]
    start, upper = chain(root, put_sides("hip", hip), leg[..., 0], leg[..., 1], leg[..., 2])
    knee = put_sides("knee", along(start, upper, length["thigh"]))
    lower = upper @ _rotation(-leg[..., 3], 0)
    ankle = put_sides("ankle", along(knee, lower, length["shin"]))
    put_sides("toe", along(ankle, lower @ _rotation(78 - leg[..., 4], 0), length["foot"]))
    return Bodies(points, head, chest, length), root
