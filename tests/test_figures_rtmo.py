"""RTMO's overview, heatmaps and ablation: honest numbers, repeatable figures, tables that keep paper and ours apart."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posebook import tables, verdicts
from posebook.analysis import heatmaps
from posebook.figures import rtmo_heatmaps, rtmo_overview, style
from posekit import models
from posekit.layouts import COCO
from posekit.poses import Poses

KEYS = ("decoding", "loss")


def bell(bins, place, width=3.0):
    """(..., B) heatmap around places (...,)."""
    heat = np.exp(-(((bins - np.asarray(place)[..., None]) / width) ** 2) / 2)
    return heat / heat.sum(-1, keepdims=True)


def person(rng, size=96, bins=(24, 32), truth=True):
    bins_x, bins_y = (np.linspace(10, size - 10, count) for count in bins)
    image = np.tile(np.linspace(40, 200, size)[:, None, None], (1, size, 3)).astype(np.uint8)
    joints = rng.uniform(0.3, 0.7, (17, 2)) * size
    pose = Poses(joints[None].astype(np.float32), rng.uniform(0, 1, (1, 17)), np.array([0.8]))
    heat = bell(bins_x, joints[:, 0]), bell(bins_y, joints[:, 1])
    return rtmo_heatmaps.Person(image, pose, *heat, bins_x, bins_y, joints + (1 if truth else np.nan), "score 0.80")


def every_figure():
    """(stem, figure, data, whether it says on what it was measured)."""
    rng = np.random.default_rng(0)
    crowd, two = [person(rng) for _ in range(3)], [5, 9]
    image, rows = crowd[0].image, rtmo_heatmaps.fig_data(crowd, two)
    y, x = np.mgrid[4:96:8, 4:96:8]
    priors = np.stack([x.ravel(), y.ravel(), np.full(x.size, 8)], -1).astype(float)
    coarse = np.stack([g.ravel() for g in np.meshgrid(np.arange(8, 96, 16), np.arange(8, 96, 16))], -1)
    priors = np.concatenate([priors, np.column_stack([coarse, np.full(len(coarse), 16)])])
    scores, owner = rng.random(len(priors)), rng.integers(-1, 2, len(priors))
    target = {"keypoints": np.zeros((2, 17, 2)), "boxes": np.array([[10, 10, 40, 60], [50, 20, 80, 90.0]])}
    poses = Poses(np.concatenate([p.pose.keypoints for p in crowd]), np.ones((3, 17)), np.array([0.9, 0.5, 0.2]))
    overview = rtmo_overview.fig02_overview(image, priors, scores, poses, crowd[0], two)
    yield "rtmo_fig02_overview", overview, rows, True
    yield "grid", rtmo_overview.dense_grid(image, priors, scores, np.array([3, 150]), poses), rows, False
    best = np.sort(rng.random((2, 10)))
    yield "simota", rtmo_overview.assignment(image, target, priors, owner, scores > 0.3, best, "OKS"), rows, False
    vectors = rng.normal(size=(24, 16))
    yield "encoding", rtmo_overview.encoding(crowd[0].bins_x, np.tanh(vectors), vectors), rows, False
    yield "rtmo_fig04_heatmaps", rtmo_heatmaps.fig04_heatmaps(crowd, two), rows, True
    yield "rtmo_fig05_bin_encoding", rtmo_heatmaps.fig05_bin_encoding([(crowd[0], crowd[1])] * 2, 9), rows, True
    learning = pd.DataFrame({"steps": [100, 1000], "seen": [0.2, 0.1], "hidden": [0.3, 0.2]})
    stages = list(zip((100, 1000), crowd, strict=False))
    yield "rtmo_ext_sharpening", rtmo_heatmaps.sharpening(stages, learning, 9), learning, True
    joints = pd.DataFrame({"joint": COCO.keypoints, "sigma": 0.02, "error": 0.05, "tolerance": COCO.sigmas})
    yield "rtmo_ext_sigma", rtmo_heatmaps.sigmas(joints), joints, True
    yield "joint", rtmo_heatmaps.joint_heatmaps(person(rng, truth=False), two), rows, False
    sigmas = np.logspace(-2, 0, 20)
    curves = {"hit": sigmas, "missed": 1 / sigmas}
    bins, heat = crowd[0].bins_x, crowd[0].heatmap_x[5]
    drawn = rtmo_heatmaps.likelihood(bins, heat, {"hit": 40.0, "missed": 60.0}, sigmas, curves, 30.0)
    yield "likelihood", drawn, rows, False


def words_of(fig):
    import matplotlib.text

    return " ".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def test_figures_can_be_saved_and_say_drawn_people(tmp_path):
    for stem, first, data, told in every_figure():
        assert "COCO" not in words_of(first), f"{stem} names COCO"
        assert ("drawn people" in words_of(first)) == told, stem
        if told:  # else it is for the page only
            paths = style.save(first, stem, data, tmp_path, "commit 0000000")
            assert [path.suffix for path in paths] == [".svg", ".png", ".csv"]


def test_figures_without_anybody_say_so():
    with pytest.raises(ValueError, match="at least one person"):
        rtmo_heatmaps.fig04_heatmaps([], [0])
    with pytest.raises(ValueError, match="both models"):
        rtmo_heatmaps.fig05_bin_encoding([], 0)


def test_curves_lie_under_the_picture_on_its_scale():
    fig = rtmo_heatmaps.joint_heatmaps(person(np.random.default_rng(1)), [5])
    fig.draw_without_rendering()
    (main,) = fig.axes
    below, beside = main.child_axes
    for mine, other, axis in ((main, below, 0), (main, beside, 1)):
        frames = [ax.get_window_extent() for ax in (mine, other)]
        limits = [ax.get_xlim() if axis == 0 else ax.get_ylim() for ax in (mine, other)]
        assert limits[0] == limits[1]
        edges = [(frame.x0, frame.x1) if axis == 0 else (frame.y0, frame.y1) for frame in frames]
        np.testing.assert_allclose(*edges, atol=0.5)


@given(st.integers(0, 30), st.integers(1, 4))
def test_hills_of_separate_peaks_are_their_number(place, number):
    heat = np.zeros(200)
    heat[place + 40 * np.arange(number) + 1] = 1 / number
    assert heatmaps.normalised_total_variation(heat) == pytest.approx(number)


def test_one_hill_counts_once_wherever_it_stands():
    bins = np.arange(40.0)
    assert heatmaps.normalised_total_variation(bell(bins, np.array([-5.0, 0.0, 20.0, 39.0]))) == pytest.approx(1)
    rough = bell(bins, 20.0) * (1 + 0.8 * (-1) ** np.arange(40))
    assert heatmaps.normalised_total_variation(rough) > 2


@given(st.floats(0.5, 20), st.floats(-50, 50))
def test_spread_is_that_of_two_equal_bins(apart, middle):
    bins = middle + np.array([[-apart, 0.0, apart]])
    assert heatmaps.spread(np.array([[[0.5, 0, 0.5]]]), bins)[0, 0] == pytest.approx(apart, rel=1e-6)


@pytest.fixture(scope="module")
def seen():
    """(model, outputs, batch) of a random network whose picture was halved and shifted for it."""
    torch.manual_seed(0)
    model = models.build("rtmo_tiny").eval()
    to_original = torch.tensor([[2.0, 0.0, -10.0], [0.0, 2.0, 4.0]])
    with torch.inference_mode():
        outputs = model(torch.randn(1, 3, 128, 128))
    return model, outputs, {"targets": [{"size": (128, 128), "to_original": to_original}]}


def test_heatmaps_come_back_in_pixels_of_the_picture(seen):
    model, outputs, batch = seen
    found = heatmaps.read_heatmaps(model, outputs, batch, threshold=0.9)
    assert found.threshold == 0 and len(found)  # nobody is that sure: the best cells instead
    x = (found.heatmap_x * found.bins_x[:, None]).sum(-1)
    y = (found.heatmap_y * found.bins_y[:, None]).sum(-1)
    np.testing.assert_allclose(np.stack([x, y], -1), found.poses.keypoints, atol=1e-2)
    (poses,) = model.decode(outputs, torch.tensor([[128, 128]]), score_threshold=0.0)
    np.testing.assert_allclose(found.poses.keypoints, 2 * poses.keypoints + [-10, 4], atol=1e-2)


def test_rows_are_relative_to_the_person(seen):
    found = heatmaps.read_heatmaps(*seen)
    truth = found.poses.keypoints[2] + [3.0, -1.0]
    visibility = np.zeros((1, 17), np.uint8)
    visibility[0, [4, 7]] = 2, 1
    target = {
        "keypoints": truth[None],
        "visibility": visibility,
        "areas": np.array([400.0]),
        "boxes": np.array([[0, 0, 20, 20.0]]),
    }
    rows = heatmaps.joint_rows(found, target, COCO.sigmas)
    assert rows.joint.tolist() == [4, 7] and rows.visibility.tolist() == [2, 1]
    pairs, who, oks = heatmaps.match_to_annotation(found, target, COCO.sigmas)
    assert who.tolist() == [0] and len(pairs) == 1 and rows.oks.tolist() == [oks[0]] * 2
    off = np.abs(pairs.poses.keypoints[0, [4, 7]] - truth[[4, 7]]).mean(-1) / 20
    np.testing.assert_allclose(rows.error, off, rtol=1e-5)


def test_a_model_that_regresses_has_no_heatmaps(seen):
    _, _, batch = seen
    model = models.build("rtmo_tiny", decoding="regression").eval()
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="no heatmaps"):
        heatmaps.read_heatmaps(model, outputs, batch)


def test_the_person_shown_is_chosen_by_the_annotation():
    visibility = np.zeros((3, 17), np.uint8)
    visibility[:, 9] = 2, 2, 1
    target = {"visibility": visibility, "areas": np.array([10.0, 20.0, 99.0])}
    assert heatmaps.most_visible(target, [9]) == 1 and heatmaps.most_visible(target, [3]) == 2


def run(decoding, loss, seed, ap, **more):
    told = {"data set": "drawn people, 128 px", "scaled down": "500 steps of 16", "command": f"train {decoding} {loss}"}
    told |= {"recipe": f"{decoding} {loss}"}
    return {"decoding": decoding, "loss": loss, "seed": seed, "AP": ap, "AR": ap + 0.1, **told, **more}


def test_ours_stand_in_a_block_of_their_own_and_what_is_missing_is_not_run():
    paper = tables.read_paper("rtmo_table3")
    ours = [run("CC", "MLE", 0, 0.10), run("CC", "MLE", 1, 0.14), run("CC+DBA+DBE", "MLE", 0, 0.2)]
    table = tables.ablation(paper, ours, KEYS)
    mine = table[table.by == "ours"].set_index(["decoding", "loss"])
    assert table[table.by == "paper"].AP.tolist() == [f"{ap:.1f}" for ap in paper.AP]
    assert mine.AP.tolist() == ["not run", "not run", "12.0 ± 2.8", "not run", "20.0"]
    assert mine.data.eq("drawn people, 128 px").all() and mine.loc[("CC", "MLE"), "seeds"] == "0, 1"
    shown = tables.page(table, "Table 3").to_html()
    assert "drawn people, 128 px" in shown and "not run" in shown
    none = tables.ablation(paper, [], KEYS)
    assert none[none.by == "ours"].AP.eq("not run").all()


def test_a_verdict_needs_seeds_that_stay_apart():
    proposed = ("CC+DBA+DBE", "MLE")
    one = pd.DataFrame([run(*proposed, 0, 0.2), run("CC", "MLE", 0, 0.1)])
    sentence, rows = verdicts.against_proposed(one, KEYS, proposed)
    assert "no verdict" in sentence and rows.verdict.tolist() == ["–"] and rows.difference.tolist() == ["-10.0"]
    two = [
        run(*proposed, 1, 0.24),
        run("CC", "MLE", 1, 0.21),
        run("Regression", "OKS", 0, 0.1),
        run("Regression", "OKS", 1, 0.15),
        run("CC+DBA", "MLE", 0, 0.3),
        run("CC+DBA", "MLE", 1, 0.31),
    ]
    sentence, rows = verdicts.against_proposed(pd.concat([one, pd.DataFrame(two)]), KEYS, proposed)
    words = rows.set_index("decoding").verdict
    assert words["CC"] == "within the spread"
    assert words["Regression"] == "below on every seed" and words["CC+DBA"] == "above on every seed"
    assert "1 of 3 alternatives are below" in sentence and "1 above, 1 within" in sentence
    assert "was not run" in verdicts.against_proposed(one.tail(1), KEYS, proposed)[0]


def test_tables_3_and_4_as_printed():
    three = tables.read_paper("rtmo_table3").set_index(["data", *KEYS])
    assert len(three) == 10 and three.source.eq("Table 3").all()
    assert three.loc[("COCO val2017", "CC+DBA+DBE", "MLE"), ["AP", "AR"]].tolist() == [67.7, 71.5]
    assert three.loc[("CrowdPose", "CC+DBA+DBE", "KLD"), ["AP", "AR"]].tolist() == [62.5, 67.5]
    assert three.AP.loc["COCO val2017"].tolist() == [65.6, 64.4, 66.7, 65.6, 67.7]
    assert three.AP.loc["CrowdPose"].tolist() == [66.1, 62.5, 65.8, 65.2, 67.3]
    four = tables.read_paper("rtmo_table4").set_index(["method", "features"])
    assert len(four) == 6 and four.source.eq("Table 4").all() and (four.AP < four.AR).all()
    assert four.loc[("RTMO-l", "P4 P5"), ["cpu_ms", "gpu_ms", "AP", "AR"]].tolist() == [125.4, 19.09, 72.4, 76.2]
    assert four.cpu_ms.tolist() == [65.3, 48.7, 108.6, 80.2, 186.3, 125.4]
    assert four.gpu_ms.tolist() == [8.96, 8.91, 16.87, 12.40, 22.01, 19.09]
