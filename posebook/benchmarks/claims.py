"""The papers' sentences on speed, each judged by what was measured here.

Milliseconds of another machine decide nothing; shapes of lines, orders and ratios can. `lines`, `raw` and `rows` are
those of `timing`; a method is called as there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from posebook.benchmarks import timing
from posebook.benchmarks.poet_speed import (
    AE_HRNET,
    AE_R50,
    FIGURE_1,
    OPENPOSE,
    POET,
    TOP_DOWN_DETECTOR,
    TOP_DOWN_GT_BOXES,
)
from posebook.benchmarks.sizes import PUBLISHED
from posebook.figures.rtmo import BACKENDS, split
from posebook.figures.style import label
from posebook.verdicts import TOO_LITTLE, judged, not_run, slope

SLIGHTLY = 1.5  # times as fast: more is more than slightly
PROPORTIONAL = 0.1  # of the time at ten people may remain without people
AROUND_FOUR = (3.0, 5.0)
CLEARLY = 1.05  # times as fast: less is no difference


def is_shape(line: pd.Series, wanted: str) -> bool | None:
    """Is a line "flat", or does it "rise"? None: its interval does not tell."""
    found = slope(line)
    return None if found == TOO_LITTLE else found == wanted


def faster(ratio: float) -> bool | None:
    """Is what is `ratio` times as fast as another faster? None: hardly a difference."""
    return None if 1 / CLEARLY < ratio < CLEARLY else ratio > 1


def totals(rows: pd.DataFrame) -> pd.DataFrame:
    """Median ms of the whole image, people x method; NaN where a method has nothing to do."""
    table = rows[rows.part == "total"].pivot(index="people", columns="method", values="median_ms")
    return table.where(table > 0.05)


def poet_claims(lines: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """POET's Figure 1, its caption and the section on speed: rows of `verdicts.judged`."""
    line, ms, table = lines.set_index("method"), totals(rows), []
    grows = "what ten people add is not outside of 5 % of its time"
    stays = "ten people add more than 5 % of its time, or take it away"
    for claim, method, wanted, why in (
        ("poet-speed-flat", POET, "flat", stays),
        ("openpose-speed-flat", OPENPOSE, "flat", stays),
        ("top-down-rises", TOP_DOWN_DETECTOR, "rises", grows),
        ("ae-r50-rises", AE_R50, "rises", grows),
        ("ae-hrnet-rises", AE_HRNET, "rises", grows),
    ):
        if method in line.index:
            holds = is_shape(line.loc[method], wanted)
            table.append(judged(claim, holds, timing.formula(line.loc[method]), why))
        else:
            table.append(not_run(claim, label(method)))
    for claim, method in (("top-down-proportional", TOP_DOWN_DETECTOR), ("crops-proportional", TOP_DOWN_GT_BOXES)):
        if method in line.index:
            one = line.loc[method]
            share = one.a_ms / (one.a_ms + 10 * one.b_ms)
            rises, fixed = is_shape(one, "rises"), f"{one.a_ms:.0f} ms are spent whoever is in the image"
            holds = rises and bool(abs(share) < PROPORTIONAL)
            table.append(judged(claim, holds, f"{share:.0%} of the time at ten people is there without people", fixed))
        else:
            table.append(not_run(claim, label(method)))
    if OPENPOSE in ms:
        ratio = float((ms[OPENPOSE] / ms[POET]).median())
        slowest = ", the slowest of all" if (ms[OPENPOSE] >= ms.max(axis=1)).all() else ""
        work, other = PUBLISHED[OPENPOSE][1], PUBLISHED[AE_R50][1]
        why = f"OpenPose computes {work:.0f} GMAC an image and AE+R50 {other:.0f}, which a GPU hides and a CPU does not"
        measured = f"OpenPose takes {ratio:.1f} times as long{slowest}"
        table.append(judged("poet-slightly-faster", 1 < ratio < SLIGHTLY, measured, why))
    else:
        table.append(not_run("poet-slightly-faster", label(OPENPOSE)))
    others = [method for method in FIGURE_1 if method in ms and method != POET]
    ahead = {method: ms.index[ms[method] < ms[POET]].tolist() for method in others}
    ahead = {method: people for method, people in ahead.items() if people}
    told = [f"{label(method)} is faster with {', '.join(map(str, people))} people" for method, people in ahead.items()]
    why = "who is given boxes pays for crops alone" if set(ahead) == {TOP_DOWN_GT_BOXES} else "see the table of ratios"
    measured = "; ".join(told) or f"faster than {len(others)} methods at every number of people"
    table.append(judged("poet-fastest", not ahead, measured, why))
    return pd.DataFrame(table)


def pairs(backend: str) -> list[tuple[str, str]]:
    """RTMO and RTMPose of the same size by one backend."""
    return [(f"rtmo_{size}_{backend}", f"rtmpose_{size}_{backend}") for size in "sm"]


def crossings(raw: pd.DataFrame, pairs, clock: str = "wall") -> pd.DataFrame:
    """People at which two methods of each pair take equally long: one, other, people, low, high."""
    known = set(raw.method)
    found = [(*pair, *timing.crossing(raw, *pair, clock)) for pair in pairs if known.issuperset(pair)]
    return pd.DataFrame(found, columns=["one", "other", "people", "low", "high"])


def rtmo_claims(
    lines: pd.DataFrame, rows: pd.DataFrame, meet: pd.DataFrame, published: pd.Series, model: str, backend: str
) -> pd.DataFrame:
    """RTMO's Figure 3 and its text: columns as of `poet_claims`.

    meet: `crossings` of RTMO with RTMPose of the same size by `backend`; published: AP by model.
    """
    line, ms, table = lines.set_index("method"), totals(rows), []
    two_stage = [name for name in line.index if name.startswith("rtmpose") and name.endswith(f"_{backend}")]
    if two_stage:
        shapes = [is_shape(line.loc[name], "rises") for name in two_stage]
        holds = None if None in shapes else all(shapes)
        measured = "; ".join(
            f"{label(name.removesuffix(f'_{backend}'))} {timing.formula(line.loc[name])}" for name in two_stage
        )
        table.append(judged("rtmpose-rises", holds, measured, "the interval of a slope does not exclude 0"))
    else:
        table.append(not_run("rtmpose-rises", "RTMPose behind RTMDet-nano"))
    own = [name for name in line.index if name.startswith(f"{model}_")]
    shapes = [is_shape(line.loc[name], "flat") for name in own]
    shares = [f"{BACKENDS[split(name)[1]][0]} {13 * line.b_ms[name] / line.a_ms[name]:+.1%}" for name in own]
    holds = False if False in shapes else None if None in shapes else True
    why = "ten people add more than 5 % in one of the backends"
    table.append(judged("rtmo-marginal", holds, "13 people add: " + ", ".join(shares), why))
    named = f" ({BACKENDS[backend][0]})" if backend != "onnxruntime" else ""
    found = {row.one: row for row in meet.itertuples()}
    for one, other in pairs(backend):
        claim = f"rtmo-meets-{one.split('_')[1]}"
        if one not in found:
            table.append(not_run(claim, "RTMPose behind RTMDet-nano"))
            continue
        row, (low, high) = found[one], AROUND_FOUR
        names = " and ".join(label(name.removesuffix(f"_{backend}")) for name in (one, other))
        measured = f"{names} at {row.people:.1f} people{timing.between(row.low, row.high, '.1f')}{named}"
        holds = low <= row.people <= high if np.isfinite(row.low) else None
        why = f"beside RTMO, detector and crops cost {'less' if row.people > high else 'more'} here than there"
        table.append(judged(claim, holds, measured, why))
    table.append(not_run("rtmo-tensorrt", "no GPU"))
    for size in "sml":
        one, other, claim = f"rtmo_{size}_{backend}", f"rtmpose_{size}_{backend}", f"rtmo-faster-{size}"
        if one in ms and other in ms:
            most = ms.index.max()
            ratio = ms[other][most] / ms[one][most]
            measured = f"{most} people: {ratio:.2f} times as fast"
            table.append(judged(claim, faster(ratio), measured, "see where they meet"))
        else:
            table.append(not_run(claim, f"RTMO-{size} and RTMPose-{size} with as many people"))
    one, other = f"rtmo_s_{backend}", f"yolox_pose_s_{backend}"
    if one in ms and other in ms:
        ratio, gain = float((ms[other] / ms[one]).median()), published["rtmo_s"] - published["yolox_pose_s"]
        measured = f"{gain:+.1f} AP as published; YOLOX-Pose-s takes {ratio:.2f} times as long"
        why = "RTMO's neck and classifier cost more here than YOLOX-Pose's"
        table.append(judged("rtmo-light", faster(ratio) and gain > 0, measured, why))
    else:
        table.append(not_run("rtmo-light", "RTMO-s and YOLOX-Pose-s"))
    return pd.DataFrame(table)
