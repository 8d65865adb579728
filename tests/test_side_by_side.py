"""All shipped systems on the same images: who is compared, what is called, and who is unbeaten."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posebook.benchmarks import side_by_side
from posebook.benchmarks.side_by_side import System, caller, compared, sides
from posebook.benchmarks.systems import drawn_scenes
from posebook.benchmarks.weights import ANNOTATED, DETECTOR, shipped_runs
from posebook.figures import side_by_side as figures
from posebook.reports import RunFiles


@pytest.fixture(scope="module")
def images():
    return drawn_scenes((2,), 3, side_by_side.SIZE, seed=0)[2]


def test_only_models_of_the_same_people_are_compared():
    kept = [run.rpartition("/")[2] for run in shipped_runs() if compared(RunFiles(run))]
    assert {"poet_tiny", "rtmo_tiny", "vitpose_tiny"} <= set(kept) and "rtmo_tiny_crowd" not in kept


def test_a_top_down_model_gets_the_boxes_and_another_one_the_image(images):
    found = caller(System("data/weights/vitpose_tiny", ANNOTATED))(images)
    assert [len(poses) for poses in found] == [2, 2, 2]
    for scene, poses in zip(images, found, strict=True):
        assert (np.sort(poses.boxes, 0) == np.sort(scene.boxes, 0)).all()
    whole = caller(System("data/weights/rtmo_tiny"))(images)
    assert len(whole) == 3 and all(len(poses) for poses in whole)
    assert sides(RunFiles("data/weights/vitpose_tiny").model) == (96, 72)


def test_memory_is_what_a_system_adds_however_large_the_process_that_asks(images):
    mine = np.ones(50_000_000)  # 400 MB, which a child must not be charged with
    assert 1 < side_by_side.memory(System("data/weights/rtmo_tiny"), images) < 200 and len(mine)


def test_the_name_says_whose_boxes():
    assert System("data/weights/rtmo_tiny").name == "rtmo_tiny"
    assert System("data/weights/vitpose_tiny", ANNOTATED).name == "vitpose_tiny, boxes given"
    assert DETECTOR in System("data/weights/vitpose_tiny", DETECTOR).name


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_unbeaten_are_those_that_no_other_one_beats(points):
    values = pd.DataFrame(points, columns=["AP", "ms"]).assign(system=range(len(points)))
    front = figures.best(values, "ms")
    assert front.AP.is_monotonic_increasing and front.ms.is_monotonic_increasing
    for one in values.itertuples():
        beaten = ((values.AP >= one.AP) & (values.ms <= one.ms) & ((values.AP > one.AP) | (values.ms < one.ms))).any()
        same = ((front.AP == one.AP) & (front.ms == one.ms)).any()
        assert beaten != same


def table():
    names = ["rtmo_tiny", "vitpose_tiny, boxes given", f"vitpose_tiny behind {DETECTOR}"]
    costs = {"AP": [0.5, 0.7, 0.6], "ms": [3.0, 9.0, 12.0], "gmac": [0.1, 0.2, 0.3], "params_m": [0.7, 0.7, 1.0]}
    systems = pd.DataFrame(costs).assign(system=names, model=["rtmo_tiny"] + 2 * ["vitpose_tiny"], peak_mb=20.0)
    systems["boxes"] = ["", ANNOTATED, DETECTOR]
    times = [
        (f"{name}_{backend}", ms, 0.9 * ms, 1.1 * ms, 0.1, 0.0, 0.2)
        for name, ms in zip(names, costs["ms"], strict=True)
        for backend in ("torch", "onnxruntime")
    ]
    return systems, pd.DataFrame(times, columns=["method", "median_ms", "q25", "q75", "b_ms", "b_low", "b_high"])


def test_every_system_stands_in_both_figures_and_nothing_leaves_the_page():
    systems, times = table()
    for fig in (figures.all_speed(systems, times, 4, "1 thread"), figures.all_tradeoff(systems)):
        words = " ".join(text.get_text() for text in fig.findobj(match=lambda part: hasattr(part, "get_text")))
        assert all(name in words for name in systems.system)
        fig.draw_without_rendering()
        assert fig.get_tightbbox().x0 > -0.05 and fig.get_tightbbox().x1 < fig.get_figwidth() + 0.05


def test_a_methods_name_comes_apart_at_the_last_underscore():
    assert figures.split("poet_tiny_onnxruntime") == ("poet_tiny", "onnxruntime")
    shown = figures.by_system(table()[1])
    assert set(shown.backend) == {"torch", "onnxruntime"} and shown.system.nunique() == 3
