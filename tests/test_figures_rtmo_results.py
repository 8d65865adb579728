"""RTMO's figures and tables of results, and the pinned people of its timing."""

import numpy as np
import pandas as pd
import pytest
import torch

from posebook import tables
from posebook.figures import rtmo, style, training


@pytest.fixture
def paper1():
    return tables.read_paper("rtmo_table1")


def our_row(seed=0, **changes):
    row = {"method": "rtmo_tiny", "data set": "drawn people, 128 px", "scaled down": "3,000 steps of 8", "seed": seed}
    row |= {
        "command": "ci/execute.py notebooks/10_train.ipynb",
        "recipe": "{}",
        "params_m": 0.7,
        "AP": 0.2 + 0.02 * seed,
    }
    return row | dict.fromkeys(("AP50", "AP75", "APM", "APL", "AR"), 0.3) | changes


def latencies(model="rtmo_s", each=0.4):
    rows = []
    for backend, fixed in {"eager": 360, "onnxruntime": 260, "openvino": 180, "openvino_bf16": 90}.items():
        for n in (0, 1, 5, 13):
            value = fixed + each * n
            rows.append((f"{model}_{backend}", n, "total", value, 0.97 * value, 1.04 * value))
    return pd.DataFrame(rows, columns=["method", "people", "part", "median_ms", "q25", "q75"])


def systems():
    """RTMO in every backend, and two systems more by PyTorch."""
    more = [
        (f"{name}_eager", n, "total", *(ms + each * n,) * 3)
        for name, ms, each in (("rtmpose_s", 20, 30), ("yolox_pose_s", 200, 0.1))
        for n in (0, 1, 5, 13)
    ]
    return pd.concat([latencies(), pd.DataFrame(more, columns=latencies().columns)])


def published():
    return tables.read_paper("rtmo_fig03").set_index("model").AP


def log(last, minutes, rows=8):
    return pd.DataFrame({"minutes": np.linspace(minutes / rows, minutes, rows), "AP": np.linspace(0, last, rows)})


def points():
    rows = [("rtmo_tiny, 3,000 steps", "rtmo_tiny", "eager", 8.0, 0.2)]
    rows += [("rtmo_tiny, 3,000 steps", "rtmo_tiny", "onnxruntime", 2.0, 0.2)]
    rows += [("poet_tiny, 3,000 steps", "poet_tiny", "eager", 6.0, 0.19)]
    return pd.DataFrame(rows, columns=["label", "model", "backend", "ms", "AP"])


def words(fig):
    return [text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text"))]


def test_the_papers_tables_agree_with_each_other_and_with_the_text(paper1):
    said = tables.read_paper("rtmo_statements").set_index("quantity").value
    own = paper1[(paper1.extra_data == "no") & paper1.method.str.startswith("RTMO")].set_index("method")
    features = tables.read_paper("rtmo_table4").query("features == 'P4 P5'").set_index("method")
    assert (own.loc[features.index].time_ms - features.gpu_ms).abs().max() < 0.05
    same = paper1[paper1.backbone == "ResNet-50"].set_index("method")
    gain = same.AP["RTMO-r50"] - same.AP["ED-Pose"]
    assert gain == pytest.approx(said["AP above the best one-stage rival with the same backbone"])
    crowds = tables.read_paper("rtmo_table2").query("extra_data == 'no'").set_index("method")
    share = 100 * crowds.params_m["RTMO-s"] / crowds.params_m["DEKR"]
    assert round(share) == said["parameters of RTMO-s as a share of DEKR's"]
    proposed = tables.read_paper("rtmo_table4").query("features == 'P4 P5'").set_index("method").AP
    assert [published()[f"rtmo_{size}"] for size in "sml"] == [proposed[f"RTMO-{size}"] for size in "sml"]
    bands = tables.read_paper("rtmo_table2")
    assert (bands.APeasy > bands.APmedium).all() and (bands.APmedium > bands.APhard).all()


@pytest.mark.parametrize("name", ["fig01", "fig03", "fig03_systems", "minutes"])
def test_figures_can_be_saved_and_nothing_leaves_the_page(name, paper1, tmp_path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    def draw():
        if name == "fig01":
            return rtmo.fig01_tradeoff(paper1, points(), "drawn people")
        if name == "fig03_systems":
            return rtmo.fig03_latency(systems(), "rtmo_s", "1 thread", 0.5, published())
        if name == "fig03":
            return rtmo.fig03_latency(latencies(), "rtmo_s", "1 thread", 0.5)
        return training.ap_against_minutes({"rtmo_tiny": log(0.2, 4), "poet_tiny": log(0.02, 5)})

    data = pd.DataFrame({"x": [1]})
    fig = draw()
    style.save(fig, "page", data, tmp_path, "footer")
    FigureCanvasAgg(fig).draw()
    drawn, page = fig.get_tightbbox(), fig.get_size_inches()
    assert drawn.min.min() >= -0.02 and (drawn.max <= page + 0.02).all()


def test_data_sets_never_share_a_block_and_seeds_are_averaged(paper1):
    waiting = [{"method": "rtmo_s", "data set": "COCO val2017", "command": "make"}]
    facts = {"params_m": ("params, M", ".1f")}
    table = tables.comparison(paper1, [our_row(0), our_row(1), our_row(1)], tables.COCO_MEASURES, facts, waiting)
    blocks = [data for (_, data), _ in table.groupby(["by", "data set"], sort=False)]
    assert blocks == ["COCO test-dev", "COCO val2017", "drawn people, 128 px"]
    ours = table[table["data set"] == "drawn people, 128 px"]
    assert ours.AP.tolist() == ["21.0 ± 1.4"] and ours.seeds.tolist() == ["0, 1"]
    assert set(table[table["data set"] == "COCO val2017"][list(tables.COCO_MEASURES.values())].iloc[0]) == {"not run"}
    assert table.method.str.endswith("†").sum() == 3
    assert table[table.method == "DirectPose"].AR.tolist() == ["–", "–"]


def test_medium_area_and_medium_crowds_have_headings_that_differ():
    assert tables.COCO_MEASURES["APM"] == "AP, area M" and tables.CROWD_MEASURES["APmedium"] == "AP, crowd medium"
    shared = set(tables.COCO_MEASURES.values()) & set(tables.CROWD_MEASURES.values())
    assert shared == {"AP"}


def test_what_was_not_run_says_so(paper1):
    assert "not run" in words(rtmo.fig01_tradeoff(paper1, points().head(0), "drawn people"))
    assert "not run" in words(training.ap_against_minutes({}))


def test_figure_3_tells_what_people_add():
    shown = words(rtmo.fig03_latency(latencies(each=1.8), "rtmo_s", "1 thread", 0.5))
    assert "+6.5 %" in shown and "+26.0 %" in shown  # 13 x 1.8 ms on 360 and on 90
    assert len(rtmo.fig03_latency(latencies(), "rtmo_s", "", 0.5).axes) == 2
    shown = words(rtmo.fig03_latency(systems(), "rtmo_s", "", 0.5, published()))
    assert {"RTMPose-s +\nRTMDet-nano", "YOLOX-Pose-s", "RTMO-s", "13"} <= set(shown)
    assert any("no AP is published" in text for text in words(rtmo.fig03_latency(systems(), "rtmo_s", "", 0.5)))
    assert rtmo.split("rtmo_s_openvino_bf16") == ("rtmo_s", "openvino_bf16")


def test_equal_minutes_are_those_of_the_shorter_run():
    minutes, one, other = training.at_equal_minutes(log(0.2, 4, rows=5), log(0.1, 8, rows=9))
    assert minutes == 4 and one == pytest.approx(0.2)
    long = log(0.1, 8, rows=9)
    assert other == pytest.approx(np.interp(4, long.minutes, long.AP))
    gaps = pd.concat([long, pd.DataFrame({"minutes": [9.0], "AP": [np.nan]})])
    assert training.at_equal_minutes(gaps, long)[0] == 8


@pytest.mark.parametrize(("size", "features"), [(640, (4, 5)), (640, (3, 4, 5)), (128, (3, 4)), (128, (4, 5))])
@pytest.mark.parametrize("people", [0, 1, 4])
def test_pinned_people_survive_and_their_neighbours_do_not(size, features, people):
    from posebook.benchmarks.rtmo_speed import count_cells, pins
    from posekit.models.rtmo import grid_priors, survivors

    strides = [2**level for level in features]
    priors = grid_priors([(size // stride, size // stride) for stride in strides], strides)
    scores, boxes = map(torch.from_numpy, pins(size, features, people))
    assert len(scores) == count_cells(size, features) == len(priors)
    assert (scores > 0).sum() > 4 * people or people == 0
    half = priors[:, 2:] / 2  # what random weights predict: a box about as large as its cell
    cells = torch.cat([priors[:, :2] - half, priors[:, :2] + half], 1)
    assert len(survivors(scores[None], (cells + boxes)[None], 0.1, 0.65, 50)[0]) == people


def test_every_backend_finds_the_pinned_people(tmp_path):
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    from posebook.benchmarks import rtmo_speed
    from posebook.benchmarks.timing import Scene, run_through

    network = rtmo_speed.built("rtmo_tiny", 0)
    methods = rtmo_speed.backends(network, "rtmo_tiny", tmp_path, 1)
    assert {"rtmo_tiny_eager", "rtmo_tiny_onnxruntime", "rtmo_tiny_openvino"} <= set(methods)
    image = np.full((128, 128, 3), 114, np.uint8)
    with torch.inference_mode():
        for method in methods.values():
            for people in (0, 3):
                given = run_through(method, Scene(image, np.zeros((people, 4))))  # raises when others come out
                assert set(given) in ({"F", "P"}, {"G"})
    boxes = np.array([[10.0, 20, 60, 90]] * 3)
    with torch.inference_mode():
        for backend in ("eager", "onnxruntime"):
            names = ("rtmpose_tiny", "yolox_pose_tiny", "rtmo_tiny")
            for name, method in rtmo_speed.baseline_methods(names, backend, tmp_path).items():
                whole = {"G"} if name == "rtmo_tiny_onnxruntime" else {"F", "P"}
                for people in (0, 3):
                    top_down = {"D", "C", "T", "P"} if people else {"D"}
                    given = run_through(method, Scene(image, boxes[:people]))
                    assert set(given) == (top_down if "rtmpose" in name else whole)
    with pytest.raises(RuntimeError, match="3 people were pinned and 2 came out"):
        rtmo_speed.same_number(2, 3)
