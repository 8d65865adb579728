"""The papers' sentences on speed, judged by lines of known slope."""

import numpy as np
import pandas as pd
import pytest

from posebook.benchmarks import claims, timing
from posebook.verdicts import AGREES, DISAGREES, NOT_RUN, TOO_LITTLE, slope


def line(a, b, spread=0.0, runs=5):
    return pd.Series({"a_ms": a, "b_ms": b, "b_low": b - spread, "b_high": b + spread, "runs": runs})


def test_slopes_are_named_by_their_whole_interval():
    assert slope(line(100, 0.1, 0.3)) == "flat"
    assert slope(line(100, 0.3, 0.3)) == TOO_LITTLE  # from nothing to more than 5 % at ten people
    assert slope(line(100, 9, 2)) == "rises" and slope(line(100, -4, 1)) == "falls"
    assert slope(line(100, 0.1, 0.3, runs=2)) == slope(line(100, 0.1, np.nan)) == TOO_LITTLE
    assert slope(line(100, 9, 2).drop("runs")) == "rises"  # older studies


def lines_of(**known):
    """Method -> (a, b): lines with narrow intervals, and the rows that they go through."""
    lines = pd.DataFrame([line(a, b, 0.01).rename(name) for name, (a, b) in known.items()]).rename_axis("method")
    rows = [(name, n, "total", a + b * n) for name, (a, b) in known.items() for n in (0, 1, 5, 13)]
    return lines.reset_index(), pd.DataFrame(rows, columns=["method", "people", "part", "median_ms"])


def test_sentences_of_poet_are_judged_by_the_numbers():
    known = {"poet_r50": (700, 0), "openpose_coco": (5600, 0), "simple_baseline_r50": (0, 170)}
    table = claims.poet_claims(*lines_of(**known)).set_index("claim").here
    assert table["poet-speed-flat"] == AGREES and table["crops-proportional"] == AGREES
    assert table["ae-hrnet-rises"] == NOT_RUN and table["top-down-proportional"] == NOT_RUN
    assert table["poet-slightly-faster"] == table["poet-fastest"] == DISAGREES
    text = claims.poet_claims(*lines_of(**known)).to_string()
    assert "8.0 times as long, the slowest of all" in text and "263 GMAC" in text and "faster with 1 people" in text
    slow = known | {"openpose_coco": (950, 0), "poet_r50": (700, 10), "simple_baseline_r50": (3000, 170)}
    table = claims.poet_claims(*lines_of(**slow)).set_index("claim").here
    assert table["poet-speed-flat"] == table["crops-proportional"] == DISAGREES
    assert table["poet-slightly-faster"] == table["poet-fastest"] == AGREES


def test_sentences_of_rtmo_are_judged_by_the_numbers():
    published = pd.Series({"rtmo_s": 67.7, "yolox_pose_s": 64.1})
    known = {"rtmo_s_eager": (200, 0.1), "rtmpose_s_eager": (20, 45), "yolox_pose_s_eager": (230, 0)}
    lines, rows = lines_of(**known)
    twice = pd.concat([timing.from_medians(rows)] * 2)  # of single runs no crossing has an interval
    meet = claims.crossings(twice, claims.pairs("eager"))
    assert meet.people.tolist() == pytest.approx([4.0], abs=0.1)
    here = claims.rtmo_claims(lines, rows, meet, published, "rtmo_s", "eager").set_index("claim").here
    known = ["rtmpose-rises", "rtmo-marginal", "rtmo-meets-s", "rtmo-faster-s", "rtmo-light"]
    assert (here[known] == AGREES).all() and (here.drop(known) == NOT_RUN).all()
    alone = claims.rtmo_claims(*lines_of(rtmo_s_eager=(200, 4)), meet[:0], published, "rtmo_s", "eager")
    here = alone.set_index("claim").here
    assert here["rtmo-marginal"] == DISAGREES and (here.drop("rtmo-marginal") == NOT_RUN).all()
