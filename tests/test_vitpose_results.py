"""ViTPose's results: published numbers keep their marks, ours meet their costs, and nothing is made up."""

import numpy as np
import pandas as pd
import pytest

from posebook import tables
from posebook.figures import vitpose


def runs(*rows):
    table = pd.DataFrame(rows, columns=["variant", "seed", "AP", "steps", "params_m"])
    return table.assign(**{"data set": "drawn people", "command": "train", "scaled down": ""})


def words(fig):
    return " ".join(text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text")))


COSTS = pd.DataFrame({"variant": ["narrow", "tiny"], "per_s": [740.0, 390.0], "threads": [1, 1]})
RUNS = runs(
    ("narrow", 0, 0.2, 300, 0.19),
    ("narrow", 1, 0.3, 300, 0.19),
    ("tiny", 0, 0.4, 300, 0.67),
    ("tiny", 1, 0.9, 20, 0.67),
    ("wide", 0, 0.5, 300, 1.5),
)


def test_marks_follow_a_number_of_the_paper_into_any_column():
    known = tables.read_paper("vitpose_scaling")
    known["fps"] = tables.marked(known.fps, known.fps_source, ",.0f")
    assert known.fps.tolist()[1:] == ["944 ‡", "411 ?", "241 ‡"] and pd.isna(known.fps[0])
    table = tables.study_table(known, [], "tiny", {"fps": ("crops, per second", "")})
    assert table["paper: crops, per second"].tolist() == ["–", "944 ‡", "411 ?", "241 ‡"]
    shown = tables.page(table).to_html()
    assert tables.UNVERIFIED in shown and "quoted by a third party" in shown  # the marks are explained
    plain = tables.study_table(known.drop(columns="fps"), [], "tiny", {})
    assert tables.UNVERIFIED not in tables.page(plain).to_html()


def test_a_point_needs_a_run_and_a_cost_and_one_budget():
    points = vitpose.speed_points(RUNS, COSTS, "vitpose_tiny").set_index("label")
    assert points.index.tolist() == ["narrow", "tiny"]
    np.testing.assert_allclose(points.AP, [0.25, 0.4])  # the short run of tiny does not count
    assert points.seeds.tolist() == [2, 1] and points.per_s.tolist() == [740, 390]


@pytest.mark.parametrize(
    "ours, costs", [(RUNS, COSTS.head(0)), (RUNS.head(0), COSTS), (pd.DataFrame(), pd.DataFrame())]
)
def test_without_runs_or_costs_there_are_no_points(ours, costs):
    points = vitpose.speed_points(ours, costs, "vitpose_tiny")
    assert not len(points) and {"label", "per_s", "AP", "threads"} <= set(points)
    scaling = tables.read_paper("vitpose_scaling")
    fig = vitpose.fig_tradeoff(scaling, points, "drawn people", scaling, {})
    assert "not run" in [text.get_text() for text in fig.axes[1].texts]


def test_costs_are_joined_by_name_alone():
    joined = vitpose.with_costs(RUNS, COSTS, {"fps": "per_s"})
    assert joined.fps.tolist()[:4] == [740, 740, 390, 390] and np.isnan(joined.fps.iloc[4])
    assert vitpose.with_costs(RUNS, COSTS.head(0), {"fps": "per_s"}).fps.isna().all()
    assert not len(vitpose.with_costs(RUNS.head(0), COSTS, {"fps": "per_s"}))
    twice = pd.concat([COSTS, COSTS.assign(per_s=1.0)])
    assert vitpose.with_costs(RUNS, twice, {"fps": "per_s"}).fps.iloc[0] == 740


def test_some_pictures_are_a_data_set_that_can_be_scored():
    from posebook.figures.people import from_target
    from posebook.selection import Subset
    from posekit.data import open_dataset
    from posekit.training.evaluate import score

    whole = open_dataset("people", "val", count=6, cache=None)
    some = Subset(whole, [4, 1])
    truth = some.ground_truth
    assert {row["id"] for row in truth["images"]} == set(some.ids) == {row["image_id"] for row in truth["annotations"]}
    assert truth["categories"] == whole.ground_truth["categories"] and some.area_scale == whole.area_scale
    perfect = [from_target(some.target(i)) for i in range(2)]
    for poses, i in zip(perfect, range(2), strict=True):
        poses.keypoints[:] = some.target(i)["keypoints"]
    metrics, _ = score(some, [0, 1], [perfect])
    assert metrics["AP"] == pytest.approx(1) and metrics["images"] == 2
