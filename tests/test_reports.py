"""What reports read: run folders, pictures worth looking into, the table of scores."""

import numpy as np
import pandas as pd
import pytest

from posebook import tables
from posebook.figures import poet_images, poet_matching, training
from posebook.reports import RunFiles
from posebook.selection import Subset, by_image, crowded
from posekit.data.drawn.scenes import Scenes
from posekit.evaluation import STATS as MEASURES
from posekit.files import read_json, save_tensors, write_json
from posekit.models import build
from posekit.poses import Poses
from posekit.provenance import provenance
from posekit.training.recipes import recipe
from posekit.training.summary import stride_of

STATS = dict.fromkeys(MEASURES, 0.25) | {"APM": -1.0}


@pytest.fixture
def folder(tmp_path):
    """A run folder as training leaves it, of a network that has learned nothing."""
    made = recipe("poet_tiny", steps=8, images=4, val_images=4, seed=3)
    folder = tmp_path / "run"
    facts = provenance(vars(made), seed=3, data={"name": "drawn people"})
    record = {
        "status": "done",
        "parameters": vars(made),
        "provenance": facts,
        "results": {"step": 8, "minutes": 0.5},
    }
    write_json(folder / "run.json", record)
    write_json(folder / "metrics.json", STATS)
    save_tensors(folder / "model.safetensors", build("poet_tiny").state_dict())
    return folder


def test_a_run_gives_its_row(folder):
    row = RunFiles(str(folder)).score_row()
    assert row["AP"] == 0.25 and np.isnan(row["APM"]) and row["seed"] == 3 and "seed" not in row["recipe"]
    assert row["scaled down"] == "8 steps of 16, 0.5 min" and "512" in row["data set"]
    assert row["command"] == "not recorded" and np.isnan(row["stride"]) and np.isnan(row["params_m"])
    record = read_json(folder / "run.json")
    record["summary"] = {"trainable": 1_200_000, "stride": 16, "command": "make it"}
    write_json(folder / "run.json", record)
    row = RunFiles(str(folder)).score_row()
    assert (row["params_m"], row["stride"], row["command"]) == (1.2, 16, "make it")


def test_every_model_has_a_stride():
    assert [stride_of(build(name)) for name in ("poet_tiny", "rtmo_tiny", "vitpose_tiny")] == [16, 8, 12]


def test_the_losses_of_any_model_are_drawn():
    rows = [{"epoch": n, "train_total": 3 / n, "val_total": 4 / n, "train_loss_oks": 1 / n} for n in (1, 2, 3)]
    rows[2] |= {"train_loss_bbox_aux": 0.5, "train_loss_oks_0": 1.0}
    fig = training.losses(pd.DataFrame(rows), "rtmo_tiny", "drawn people")
    titles = [ax.get_title(loc="left") for ax in fig.axes if ax.lines]
    assert len(titles) == 3 and "1 - OKS" in titles[0] and "weighted sum" in titles[-1]


def test_an_evaluation_knows_the_weights_that_it_scored(folder, tmp_path):
    scored = {"parameters": {"evaluated": str(folder), "dataset": "", "split": "val", "images": 2}}
    write_json(tmp_path / "scores" / "run.json", scored)
    files = RunFiles(str(tmp_path / "scores"))
    assert files.recipe.seed == 3 and len(files.data) == 2
    (picture, target, poses, outputs, batch), second = files.run_model([1, 0], attention=True)
    assert np.array_equal(picture, files.data.image(1)) and len(target["areas"]) == len(files.data.target(1)["areas"])
    assert len(poses) == 20 and np.isfinite(poses.centers).all() and "decoder_attention" in outputs
    np.testing.assert_allclose(batch["targets"][0]["keypoints"], target["keypoints"], atol=1e-4)


def test_what_is_missing_is_said_with_its_notebook(folder):
    with pytest.raises(FileNotFoundError, match=r"layers.csv is missing: notebooks/11_evaluate.ipynb"):
        RunFiles(str(folder)).table("layers")
    with pytest.raises(FileNotFoundError, match="no run was made there yet"):
        RunFiles("data/runs/nowhere")


def test_predictions_by_picture_surest_first(folder):
    poses = Poses(np.zeros((2, 17, 2), np.float32), np.ones((2, 17), np.float32), np.array([0.2, 0.9], np.float32))
    write_json(folder / "predictions.json", poses.to_coco(7))
    found = RunFiles(str(folder)).predictions
    assert list(found) == [7] and found[7].scores.tolist() == pytest.approx([0.9, 0.2])


def test_pictures_are_ranked_by_the_people_that_count():
    table = pd.DataFrame({"image_id": [1, 1, 2, 3], "oks": [0.2, 0.4, 0.9, 0.0], "labelled": [5, 5, 3, 0]})
    assert by_image(table).to_dict("list") == {
        "image_id": [2, 1],
        "oks": [0.9, pytest.approx(0.3)],
        "people": [1, 2],
    }


def test_a_picture_with_so_many_people():
    scenes = Scenes(seed=5, count=12)
    first = crowded(scenes, 3)
    assert len(scenes.target(first)["areas"]) == 3
    assert crowded(scenes, 3, first + 1) > first or crowded(scenes, 3, first + 1) == first
    assert len(scenes.target(crowded(scenes, 99))["areas"]) == max(len(scenes.target(i)["areas"]) for i in range(12))
    view = Subset(scenes, [4, 2])
    assert view.ids == [4, 2] and np.array_equal(view.image(1), scenes.image(2))


PAPER = pd.DataFrame(
    [
        {
            "method": "POET-R50",
            "stride": 32,
            "params_m": 41.3,
            "data": "COCO test-dev",
            "AP": 53.6,
            "AR": np.nan,
        }
    ]
).reindex(columns=["method", "stride", "params_m", "data", *MEASURES])
OURS = {
    "method": "poet_tiny",
    "stride": 16,
    "params_m": 1.2,
    "data set": "drawn people",
    "scaled down": "8 steps",
}
NETWORK = {"stride": ("stride", ".0f"), "params_m": ("params", ".1f", " M")}
OURS |= {"command": "make", "recipe": "{}", **dict.fromkeys(MEASURES, 0.25)}


def test_seeds_are_averaged_and_what_was_not_run_says_so():
    waiting = [{"method": "POET-R50", "data set": "COCO", "command": "make it"}]
    runs_ = [OURS | {"seed": 0}, OURS | {"seed": 1, "AP": 0.35}]
    table = tables.comparison(PAPER, runs_, MEASURES, NETWORK, waiting)
    assert table.by.tolist() == ["paper", "ours", "ours"]
    assert table.AP.tolist() == ["53.6", "not run", "30.0 ± 7.1"] and table.AR.tolist()[0] == "–"
    assert table.seeds.tolist() == ["", "", "0, 1"] and table.params.tolist() == ["41.3 M", "–", "1.2 M"]
    assert table["data set"].tolist() == ["COCO test-dev", "COCO", "drawn people"]


def test_a_page_has_our_numbers_after_the_papers_and_folds_commands():
    table = tables.comparison(PAPER, [OURS | {"seed": 0, "command": "make <x>"}], MEASURES, NETWORK)
    shown = tables.page(table, "Table 1").to_html()
    assert shown.index("53.6") < shown.index("drawn people") and shown.index("53.6") < shown.index("25.0")
    assert "Table 1" in shown and "<details><summary>command</summary><code>make &lt;x&gt;</code></details>" in shown
    assert shown.count("<details>") == 1


def test_matching_and_reliability_are_drawn():
    from posekit.evaluation.visibility import compare_visibility

    scenes = Scenes(seed=5, count=1, people=(2, 2))
    target = scenes.target(0)
    poses = Poses(np.repeat(target["keypoints"], 2, 0), np.ones((4, 17), np.float32), np.ones(4, np.float32))
    cost = np.arange(8.0).reshape(4, 2)
    fig = poet_matching.matching(scenes.image(0), target, poses, cost, [(0, 0), (3, 1)])
    assert len(fig.axes[1].patches) == 2
    curve = compare_visibility(np.linspace(0, 1, 50), np.repeat([0, 1, 2], [10, 10, 30]))
    assert f"{curve.auc:.3f}" in poet_images.reliability(curve).axes[0].get_title(loc="left")
