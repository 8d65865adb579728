"""The kinds of drawn creatures as tables of numbers: proportions, pose families, gestures, colours.

"people" (17 COCO joints), "crowd" (the same people, 14 CrowdPose joints, standing together) and "macaque" (17 COCO
joints: long trunk and arms, short legs, muzzle, tail, fur). Angles in degrees, limits in `skeleton`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from posekit.layouts import COCO, CROWDPOSE, Layout

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
    "ground": ((58, 108), (0, 10), (-10, 20), (0, 28)),
    "prop": ((20, 50), (0, 14), (-10, 25), (0, 20)),
    "feed": ((35, 70), (5, 25), (20, 60), (118, 145)),
}


@dataclass(frozen=True)
class Family:
    """One family of poses: ranges of the legs' and the trunk's angles, and the gestures of the arms.

    `legs`: (flexion, abduction, twist, knee, ankle) of one leg and of the other; which of them is the left
    one is drawn. `lean` forwards, `roll` of the whole body in the image, `nod` added to the head's, `turn` added to
    the yaw to either side, degrees.
    """

    name: str
    weight: float
    legs: tuple
    arms: tuple[str, ...]
    lean: tuple[float, float] = (-4, 9)
    roll: tuple[float, float] = (-5, 5)
    nod: float = 0.0
    turn: float = 0.0


_PEOPLE_LEGS = {  # pose family: (flexion, abduction, twist, knee, ankle) of one leg and of the other
    "stand": (((-6, 8), (1, 10), (-25, 5), (0, 10), (-4, 6)), ((-6, 10), (1, 12), (-25, 5), (0, 18), (-4, 8))),
    "walk": (((14, 34), (0, 6), (-12, 5), (2, 22), (-8, 8)), ((-28, -6), (0, 6), (-12, 5), (8, 42), (0, 25))),
    "run": (((32, 78), (0, 8), (-10, 8), (30, 95), (-5, 20)), ((-38, -10), (0, 8), (-10, 8), (15, 85), (5, 40))),
    "arms up": (((-8, 12), (2, 20), (-25, 5), (0, 14), (-4, 8)), ((-8, 12), (2, 20), (-25, 5), (0, 20), (-4, 8))),
    "sit": (((72, 98), (2, 18), (-15, 10), (68, 104), (-6, 10)), ((72, 98), (2, 18), (-15, 10), (60, 104), (-6, 10))),
    "squat": (((85, 118), (8, 30), (-25, 0), (95, 138), (-20, 0)), ((85, 118), (8, 30), (-25, 0), (95, 138), (-20, 0))),
    "sport": (((15, 75), (5, 38), (-25, 10), (10, 85), (-10, 30)), ((-35, 20), (5, 38), (-25, 10), (5, 60), (0, 40))),
    "lie": (((-8, 35), (0, 15), (-20, 5), (0, 50), (0, 40)), ((-8, 35), (0, 15), (-20, 5), (0, 70), (0, 40))),
}
_PEOPLE = (
    Family("stand", 0.34, _PEOPLE_LEGS["stand"], ("hang",) * 5 + ("back", "akimbo", "fold", "carry", "phone", "point")),
    Family("walk", 0.16, _PEOPLE_LEGS["walk"], ("hang", "hang", "back", "fore", "carry", "phone"), lean=(-2, 10)),
    Family("run", 0.12, _PEOPLE_LEGS["run"], ("back", "fore", "fore", "carry"), lean=(5, 25)),
    Family(
        "arms up",
        0.14,
        _PEOPLE_LEGS["arms up"],
        ("up", "up", "reach", "wave", "side", "throw"),
        lean=(-8, 8),
        roll=(-8, 8),
    ),
    Family("sit", 0.10, _PEOPLE_LEGS["sit"], ("lap", "lap", "carry", "fold", "phone", "wave"), lean=(-10, 22)),
    Family("squat", 0.04, _PEOPLE_LEGS["squat"], ("lap", "fore", "point", "guard"), lean=(15, 45)),
    Family(
        "sport",
        0.09,
        _PEOPLE_LEGS["sport"],
        ("throw", "side", "guard", "reach", "up", "point", "back"),
        lean=(-10, 30),
        roll=(-15, 15),
    ),
    Family("lie", 0.01, _PEOPLE_LEGS["lie"], ("hang", "fold", "up", "lap"), roll=(70, 95)),
)
_MACAQUE_LEGS = {  # as `_PEOPLE_LEGS`
    "sit": (
        ((92, 122), (6, 32), (-25, 5), (105, 142), (-20, 10)),
        ((85, 122), (6, 38), (-25, 5), (95, 142), (-20, 10)),
    ),
    "four legs": (((-4, 38), (0, 8), (-10, 5), (10, 50), (-5, 20)), ((-34, 10), (0, 8), (-10, 5), (5, 45), (0, 25))),
    "climb": (((45, 100), (10, 50), (-35, 0), (55, 120), (-20, 20)), ((0, 55), (5, 40), (-35, 0), (20, 90), (-20, 20))),
    "hang": (((5, 70), (0, 35), (-25, 5), (20, 110), (0, 40)), ((-10, 50), (0, 35), (-25, 5), (10, 90), (0, 40))),
    "stand": (((5, 35), (2, 15), (-25, 5), (15, 50), (-10, 10)), ((-5, 25), (2, 15), (-25, 5), (10, 50), (-10, 10))),
}
_MACAQUES = (
    Family(
        "sit",
        0.40,
        _MACAQUE_LEGS["sit"],
        ("prop", "prop", "lap", "fold", "feed", "feed", "hang"),
        lean=(2, 30),
        nod=-8,
        turn=30,
    ),
    Family("four legs", 0.34, _MACAQUE_LEGS["four legs"], ("ground",), lean=(62, 80), nod=-62, turn=72),
    Family(
        "climb",
        0.14,
        _MACAQUE_LEGS["climb"],
        ("reach", "reach", "up", "point"),
        lean=(-5, 25),
        roll=(-25, 25),
        nod=-15,
        turn=110,
    ),
    Family("hang", 0.06, _MACAQUE_LEGS["hang"], ("up", "up", "reach"), lean=(-10, 15), roll=(-20, 20), turn=20),
    Family("stand", 0.06, _MACAQUE_LEGS["stand"], ("hang", "fore", "reach", "feed"), lean=(5, 35), nod=-15, turn=30),
)


def _palette(colours: str) -> tuple[tuple[int, int, int], ...]:
    """Hexadecimal RGB colours, as in CSS, to numbers from 0 to 255."""
    return tuple((*bytes.fromhex(colour),) for colour in colours.split())


@dataclass(frozen=True)
class Style:
    """A kind of drawn creature as a table of numbers: what differs between people and their later relatives.

    `lengths`: ranges in units of the standing height. `heights`: the range of standing heights as a share of the canvas
    (drawn log-uniformly). `spread`: range of how far the group spreads over the canvas. `layouts`: of how many random
    arrangements the one with the least overlap is taken, a range. Colours are RGB 0-255. `version`: any change of what
    the style draws raises it; caches of other versions are not used. `people`: the usual range of people in a scene.
    `crowding` > 0: people stand together on purpose, except in this share of the scenes (`layouts[1]` arrangements are
    then tried). Unclothed creatures have fur in `hairs`, and `skins` in the face and on hands and feet. `grounds`:
    colours of the surroundings; none: any.
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
    grounds: tuple[tuple[int, int, int], ...] = ()


_PERSON = Style(
    name="people",
    version=4,
    layout=COCO,
    families=_PEOPLE,
    lengths={
        "torso": (0.265, 0.3),
        "shoulder": (0.096, 0.122),
        "hip": (0.05, 0.066),
        "neck": (0.068, 0.085),
        "head": (0.06, 0.078),
        "upper_arm": (0.158, 0.185),
        "forearm": (0.132, 0.155),
        "hand": (0.05, 0.062),
        "thigh": (0.225, 0.255),
        "shin": (0.215, 0.245),
        "foot": (0.085, 0.105),
        "girth": (1.0, 1.55),
    },
    skins=_palette("ffe0c4 f1c298 e0ac82 c68658 a06842 764a30 543626"),
    hairs=_palette("1c1614 3e281a 684224 966834 d6b268 963a1a b0aeac"),
)
_CROWD = replace(
    _PERSON,
    name="crowd",
    version=1,
    layout=CROWDPOSE,
    heights=(0.24, 0.75),
    spread=(0.15, 1.1),
    layouts=(64, 64),
    people=(2, 10),
    crowding=0.25,
)
_MACAQUE = Style(
    name="macaque",
    version=1,
    layout=COCO,
    families=_MACAQUES,
    lengths={
        "torso": (0.36, 0.41),
        "shoulder": (0.075, 0.095),
        "hip": (0.055, 0.07),
        "neck": (0.03, 0.05),
        "head": (0.088, 0.108),
        "upper_arm": (0.17, 0.2),
        "forearm": (0.17, 0.2),
        "hand": (0.065, 0.08),
        "thigh": (0.165, 0.19),
        "shin": (0.155, 0.18),
        "foot": (0.11, 0.135),
        "girth": (1.2, 1.75),
        "tail": (0.35, 0.75),
        "muzzle": (0.25, 0.5),
    },
    skins=_palette("e8b09c d68c7a be6e5c 966858 5c463e"),
    hairs=_palette("604e3a 846c4c a88c62 968474 68625c 3e342c c4b290"),
    heights=(0.38, 0.85),
    spread=(0.5, 0.9),
    people=(1, 3),
    clothed=False,
    grounds=_palette("4a6834 6e8646 344e2e 8c7e5c 746046 a6987c 80807a 96acbe"),
)
STYLES = {style.name: style for style in (_PERSON, _CROWD, _MACAQUE)}
