"""An articulated body: proportions, joint angles with limits, and the pose families that drawn people take.

Forward kinematics over all N people of a scene at once; the length unit is the standing height of the body.

Body frame: x to the image's right, y down, z towards the viewer. A body at yaw 0 faces the viewer, so its
left side (+1 below) lies at +x. Every random choice is read from uniform numbers, so a pose is the same on
every machine.

Shapes: N people, 2 sides (left, right), P named points, R a stack of 3x3 rotations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from posekit.layouts import COCO, CROWDPOSE, Layout

# Degrees of one side: flexion forwards, abduction outwards, twist inwards, elbow or knee, ankle.
ARM_LIMITS = np.array([(-60, 180), (-20, 178), (-120, 100), (0, 148)], float)
LEG_LIMITS = np.array([(-45, 125), (-20, 70), (-35, 45), (0, 145), (-25, 60)], float)
# Angles of the trunk: lean forwards, lean sideways, twist; head: yaw, nod, tilt; then camera pitch and roll.
TRUNK_LIMITS = np.array(
    [(-25, 80), (-28, 28), (-35, 35), (-75, 75), (-35, 40), (-25, 25), (-15, 30), (-95, 95)], float
)

# gesture: (flexion, abduction, twist, elbow), each a range
GESTURES = {
    "hang": ((-14, 14), (4, 15), (-10, 40), (4, 32)),
    "back": ((-45, -10), (4, 14), (0, 30), (10, 60)),
    "fore": ((15, 50), (4, 14), (0, 30), (20, 90)),
    "akimbo": ((-32, -10), (35, 55), (60, 95), (85, 115)),
    "fold": ((15, 35), (5, 15), (50, 85), (85, 115)),
    "carry": ((10, 38), (5, 20), (0, 30), (65, 105)),
    "wave": ((0, 30), (70, 112), (-112, -60), (60, 120)),
    "up": ((-10, 20), (140, 175), (-30, 30), (0, 45)),
    "reach": ((115, 165), (0, 22), (-30, 30), (0, 60)),
    "point": ((65, 105), (-5, 38), (-30, 30), (0, 30)),
    "side": ((-10, 15), (68, 108), (-60, 30), (0, 50)),
    "throw": ((0, 40), (80, 130), (-100, -40), (50, 110)),
    "guard": ((40, 75), (0, 20), (0, 40), (98, 135)),
    "phone": ((40, 65), (18, 40), (20, 60), (122, 145)),
    "lap": ((15, 45), (5, 15), (0, 40), (30, 80)),
}


@dataclass(frozen=True)
class Family:
    """One family of poses: ranges of the legs' and the trunk's angles, and the gestures of the arms.

    `legs`: (flexion, abduction, twist, knee, ankle) of one leg and of the other; which of them is the left
    one is drawn. `lean` forwards, `roll` of the whole body in the picture, degrees.
    """

    name: str
    weight: float
    legs: tuple
    arms: tuple[str, ...]
    lean: tuple[float, float] = (-4, 9)
    roll: tuple[float, float] = (-5, 5)


PEOPLE = (
    Family(
        "stand", 0.34,
        legs=(
            ((-6, 8), (1, 10), (-25, 5), (0, 10), (-4, 6)),
            ((-6, 10), (1, 12), (-25, 5), (0, 18), (-4, 8)),
        ),
        arms=("hang",) * 5 + ("back", "akimbo", "fold", "carry", "phone", "point"),
    ),
    Family(
        "walk", 0.16,
        legs=(
            ((14, 34), (0, 6), (-12, 5), (2, 22), (-8, 8)),
            ((-28, -6), (0, 6), (-12, 5), (8, 42), (0, 25)),
        ),
        arms=("hang", "hang", "back", "fore", "carry", "phone"), lean=(-2, 10),
    ),
    Family(
        "run", 0.12,
        legs=(
            ((32, 78), (0, 8), (-10, 8), (30, 95), (-5, 20)),
            ((-38, -10), (0, 8), (-10, 8), (15, 85), (5, 40)),
        ),
        arms=("back", "fore", "fore", "carry"), lean=(5, 25),
    ),
    Family(
        "arms up", 0.14,
        legs=(
            ((-8, 12), (2, 20), (-25, 5), (0, 14), (-4, 8)),
            ((-8, 12), (2, 20), (-25, 5), (0, 20), (-4, 8)),
        ),
        arms=("up", "up", "reach", "wave", "side", "throw"), lean=(-8, 8), roll=(-8, 8),
    ),
    Family(
        "sit", 0.10,
        legs=(
            ((72, 98), (2, 18), (-15, 10), (68, 104), (-6, 10)),
            ((72, 98), (2, 18), (-15, 10), (60, 104), (-6, 10)),
        ),
        arms=("lap", "lap", "carry", "fold", "phone", "wave"), lean=(-10, 22),
    ),
    Family(
        "squat", 0.04,
        legs=(
            ((85, 118), (8, 30), (-25, 0), (95, 138), (-20, 0)),
            ((85, 118), (8, 30), (-25, 0), (95, 138), (-20, 0)),
        ),
        arms=("lap", "fore", "point", "guard"), lean=(15, 45),
    ),
    Family(
        "sport", 0.09,
        legs=(
            ((15, 75), (5, 38), (-25, 10), (10, 85), (-10, 30)),
            ((-35, 20), (5, 38), (-25, 10), (5, 60), (0, 40)),
        ),
        arms=("throw", "side", "guard", "reach", "up", "point", "back"), lean=(-10, 30), roll=(-15, 15),
    ),
    Family(
        "lie", 0.01,
        legs=(
            ((-8, 35), (0, 15), (-20, 5), (0, 50), (0, 40)),
            ((-8, 35), (0, 15), (-20, 5), (0, 70), (0, 40)),
        ),
        arms=("hang", "fold", "up", "lap"), roll=(70, 95),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """A kind of drawn creature as a table of numbers: what differs between people and their later relatives.

    `lengths`: ranges in units of the standing height. `heights`: the range of standing heights as a share of
    the canvas (drawn log-uniformly). `spread`: range of how far the group spreads over the canvas. `layouts`:
    of how many random arrangements the one with the least overlap is taken, a range. Colours are RGB 0-255.
    `version`: any change of what the style draws raises it; caches of other versions are not used. `people`: how many
    a scene has, unless told otherwise. `crowding` > 0: people stand together on purpose, except in this share of the
    scenes (`layouts[1]` arrangements are then tried).
    """

    name: str
    version: int
    layout: Layout
    families: tuple[Family, ...]
    lengths: dict[str, tuple[float, float]]
    skins: tuple[tuple[int, int, int], ...]
    hairs: tuple[tuple[int, int, int], ...]
    heights: tuple[float, float] = (0.28, 0.85)
    spread: tuple[float, float] = (0.8, 1.0)
    layouts: tuple[int, int] = (3, 16)
    people: tuple[int, int] = (1, 6)
    crowding: float = 0.0
    clothed: bool = True


STYLES = {
    "people": Style(
        name="people",
        version=4,
        layout=COCO,
        families=PEOPLE,
        lengths={
            "torso": (0.265, 0.30), "shoulder": (0.096, 0.122), "hip": (0.05, 0.066), "neck": (0.068, 0.085),
            "head": (0.06, 0.078), "upper_arm": (0.158, 0.185), "forearm": (0.132, 0.155),
            "hand": (0.05, 0.062), "thigh": (0.225, 0.255), "shin": (0.215, 0.245), "foot": (0.085, 0.105),
            "girth": (1.0, 1.55),
        },
        skins=(
            (255, 224, 196), (241, 194, 152), (224, 172, 130), (198, 134, 88), (160, 104, 66), (118, 74, 48),
            (84, 54, 38),
        ),
        hairs=(
            (28, 22, 20), (62, 40, 26), (104, 66, 36), (150, 104, 52), (214, 178, 104), (150, 58, 26),
            (176, 174, 172),
        ),
    ),
}  # fmt: skip

STYLES["crowd"] = replace(
    STYLES["people"],
    name="crowd",
    version=1,
    layout=CROWDPOSE,
    heights=(0.24, 0.75),
    spread=(0.15, 1.1),
    layouts=(64, 64),
    people=(2, 10),
    crowding=0.25,
)

SIDED = ("eye", "ear", "mouth", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toe")
POINTS = ("pelvis", "waist", "neck", "head", "top_head", "nose") + tuple(
    f"{side}_{name}" for name in SIDED for side in ("left", "right")
)
POINT = {name: i for i, name in enumerate(POINTS)}
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
    """The style's families as arrays: cumulative weights (F,), legs (F, 2, 5, 2), lean and roll (F, 2)."""
    weights = np.cumsum([f.weight for f in style.families])
    legs = np.array([f.legs for f in style.families], float)
    return weights / weights[-1], legs, np.array([(f.lean, f.roll) for f in style.families], float)


_GESTURE_NAMES = list(GESTURES)
_GESTURE_TABLE = np.array(list(GESTURES.values()), float)
_TABLES = {name: _tables(style) for name, style in STYLES.items()}


def pose(style: Style, rng: np.random.Generator, n: int) -> Bodies:
    """Draw N bodies of a style: build, pose family, joint angles within their limits, turn, kinematics."""
    build = rng.random((n, len(style.lengths)))
    length = {name: _between(np.array(r), build[:, i]) for i, (name, r) in enumerate(style.lengths.items())}

    u = rng.random((n, 8))
    weights, leg_table, body_table = _TABLES[style.name]
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

    arm = np.clip(
        _between(_GESTURE_TABLE[gesture], rng.random((n, 2, 4))), ARM_LIMITS[:, 0], ARM_LIMITS[:, 1]
    )
    leg = np.clip(_between(legs, rng.random((n, 2, 5))), LEG_LIMITS[:, 0], LEG_LIMITS[:, 1])
    v = rng.random((n, 8))
    centred = v - 0.5
    # Four in five look roughly at the viewer, the others anywhere.
    yaw = np.where(u[:, 5] < 0.8, 110.0 * (u[:, 6] - 0.5), 360.0 * u[:, 6])
    trunk = np.stack(
        [_between(body_table[family, 0], v[:, 0]), 18 * centred[:, 1], 30 * centred[:, 2], 64 * centred[:, 3],
         6 + 36 * centred[:, 4], 24 * centred[:, 5], -6 + 26 * v[:, 6],
         _between(body_table[family, 1], v[:, 7]) * np.where(u[:, 7] < 0.5, 1, -1)], axis=-1
    )  # fmt: skip
    trunk = np.clip(trunk, TRUNK_LIMITS[:, 0], TRUNK_LIMITS[:, 1])
    return _kinematics(length, arm, leg, trunk, yaw)


def _kinematics(length, arm, leg, trunk, yaw) -> Bodies:
    n = len(yaw)
    camera = _rotation(trunk[:, 7], 2) @ _rotation(
        -trunk[:, 6], 0
    )  # roll in the picture after the view from above
    root = camera @ _rotation(yaw, 1)
    chest = root @ _rotation(trunk[:, 1], 2) @ _rotation(-trunk[:, 0], 0) @ _rotation(trunk[:, 2], 1)
    head = chest @ _rotation(trunk[:, 5], 2) @ _rotation(trunk[:, 3], 1) @ _rotation(-trunk[:, 4], 0)

    points = np.zeros((n, len(POINTS), 3))

    def put(name: str, value: np.ndarray) -> np.ndarray:
        points[:, POINT[name]] = value
        return value

    def put_sides(name: str, value: np.ndarray) -> np.ndarray:
        points[:, POINT[f"left_{name}"] : POINT[f"left_{name}"] + 2] = value
        return value

    down, right = chest[:, :, 1], chest[:, :, 0]
    put("waist", -0.25 * length["torso"][:, None] * down)
    neck = put("neck", -length["torso"][:, None] * down)
    radius = length["head"][:, None]
    centre = put("head", neck - (length["neck"][:, None] * down * 0.75 + (radius * 0.9) * head[:, :, 1]))
    put("top_head", centre - 1.15 * radius * head[:, :, 1])
    for name, normal in FACE.items():
        if name == "nose":
            put(name, centre + 0.93 * radius * (head @ np.array(normal)))
        else:
            normals = np.array(normal) * np.stack([SIDE, np.ones(2), np.ones(2)], axis=-1)
            put_sides(name, centre[:, None] + 0.93 * radius[:, None] * (normals @ head.transpose(0, 2, 1)))

    def chain(frame, start, flexion, abduction, twist):
        rotation = frame[:, None] @ _rotation(flexion, 0) @ _rotation(abduction * SIDE, 2)
        return start, rotation @ _rotation(-twist * SIDE, 1)

    def along(start, rotation, size):
        return start + rotation[..., 1] * size[:, None, None]

    shoulder = (
        neck[:, None]
        + right[:, None] * (length["shoulder"][:, None] * SIDE)[..., None]
        + 0.02 * down[:, None]
    )
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
    return Bodies(points, head, chest, length)
