"""Validation never stops a run: what is not finite is said, logged and left out; and what a run ships has learned."""

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from posebook.figures import poet, training
from posekit import inference, models, runs
from posekit.files import read_json
from posekit.models.poet import POET
from posekit.models.rtmo import LOG_SIZE, RTMO, decode_boxes
from posekit.models.vitpose import ViTPose
from posekit.poses import Poses, drop_not_finite
from posekit.provenance import seed_everything
from posekit.training import loop
from posekit.training.build import prepare
from posekit.training.evaluate import evaluate_run
from posekit.training.recipes import recipe
from posekit.training.weights import load

TINY = {
    "poet_tiny": {"size": 64, "backbone_steps": 2},
    "rtmo_tiny": {"size": 64, "model_options": {"widths": [8, 8, 16, 16, 16], "bins": [12, 16]}},
    "vitpose_tiny": {"size": 128, "model_options": {"dim": 32, "heads": 2, "depth": 2, "filters": 8}},
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def small(model, **changes):
    options = {"images": 8, "val_images": 3, "batch_size": 4, "people": (1, 2), "steps": 3, "warmup": 1}
    return recipe(model, **(options | TINY[model] | changes))


def quiet(line):
    pass


def test_boxes_stay_finite_whatever_the_head_says():
    raw = torch.tensor([[0.5, -0.5, 0.0, 2.0], [0.0, 0.0, LOG_SIZE, -90.0], [0.0, 0.0, 115.0, 1e30]])
    boxes = decode_boxes(raw, torch.zeros(3, 2), torch.full((3, 1), 32.0))
    size = boxes[:, 2:] - boxes[:, :2]
    assert torch.equal(boxes[0], torch.tensor([16 - 16, -16 - 16 * math.e**2, 16 + 16, -16 + 16 * math.e**2]).float())
    assert size.prod(1).isfinite().all() and (size[2] == 32 * torch.tensor(LOG_SIZE).exp()).all()
    assert size[2].min() > 100 * 4000  # far above any picture


def poison(monkeypatch, model):
    """Outputs that are not finite while the model is evaluated; of the crops, only the first is lost."""
    kind = {"poet_tiny": POET, "rtmo_tiny": RTMO, "vitpose_tiny": ViTPose}[model]
    name = {"poet_tiny": "pose", "rtmo_tiny": "proxy_keypoints"}.get(model)
    forward = kind.forward

    def poisoned(self, *given, **asked):
        outputs = forward(self, *given, **asked)
        if self.training:
            return outputs
        if not name:
            outputs["heatmaps"] = outputs["heatmaps"].clone()
            outputs["heatmaps"][0, 2, 0, 0] = math.nan
            return outputs
        poisoned = {key: outputs[key] * math.nan for key in (name, "pose_features") if key in outputs}
        return {**outputs, **poisoned, **({"cls_logits": outputs["cls_logits"] + 9} if model == "rtmo_tiny" else {})}

    monkeypatch.setattr(kind, "forward", poisoned)


@pytest.mark.parametrize("model", TINY)
def test_a_validation_that_is_not_finite_is_said_and_training_goes_on(model, tmp_path, monkeypatch):
    poison(monkeypatch, model)
    lines = []
    metrics = loop.train(small(model), tmp_path / "run", validate_every=1, report=lines.append)
    told = [line for line in lines if "not finite" in line]
    assert "the validation loss of" in told[0] and "of 3 images" in told[0] or model == "vitpose_tiny"
    assert any("predicted poses are not finite and are left out of the AP" in line for line in told)
    log = runs.read_log(tmp_path / "run" / "log.csv")
    assert log[-1]["step"] == 3 and all(math.isnan(row["val_total"]) for row in log)
    assert all(math.isfinite(row["train_total"]) for row in log) and math.isnan(metrics["val_total"])
    assert runs.load_run(tmp_path / "run")["status"] == "done"
    for name in ("metrics.json", "run.json", "predictions.json"):

        def refuse(word, name=name):
            raise AssertionError(f"{name} holds {word}")

        told = json.loads((tmp_path / "run" / name).read_text(), parse_constant=refuse)
        assert name != "metrics.json" or told["val_total"] is None
    assert all(np.isfinite(row["keypoints"]).all() for row in told)
    table = pd.read_csv(tmp_path / "run" / "log.csv")
    for rows in (table, pd.DataFrame(log)):  # as reports and as 10_train read it
        assert rows.val_total.isna().all()
        training.ap_over_epochs(rows, model, "drawn")
        poet.fig03_losses(rows, model=model) if model == "poet_tiny" else training.losses(rows, model, "drawn")


@pytest.mark.parametrize("model", TINY)
def test_scoring_and_predicting_leave_out_poses_that_are_not_finite_and_count_them(model, tmp_path, monkeypatch):
    loop.train(small(model), tmp_path / "run", report=quiet)
    poison(monkeypatch, model)
    with pytest.warns(UserWarning, match=r"\d+ of \d+ poses hold NaN or infinity and are left out"):
        metrics = evaluate_run(tmp_path / "run", folder=tmp_path / "scores", report=quiet)
    assert metrics["images"] == 3 and 0 <= metrics["AP"] <= 1
    for row in read_json(tmp_path / "scores" / "predictions.json"):
        assert np.isfinite(row["keypoints"]).all() and math.isfinite(row["score"])
    picture = np.zeros((96, 96, 3), np.uint8)
    box = Poses(np.zeros((1, 17, 2)), np.zeros((1, 17)), np.ones(1), np.array([[10.0, 10, 60, 80]]))
    people = (lambda pictures: [box] * len(pictures)) if model == "vitpose_tiny" else None
    with pytest.warns(UserWarning, match="the weights or these images are damaged"):
        assert len(inference.Predictor(load(model, tmp_path / "run"), detector=people)(picture)) == 0


def test_a_whole_prediction_gives_no_warning(tmp_path):
    poses = Poses(np.zeros((2, 3, 2)), np.zeros((2, 3)), np.array([0.5, np.inf]))
    assert poses.finite().tolist() == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(one) for one in drop_not_finite([poses.select([0]), poses.select([])])] == [1, 0]


@pytest.mark.parametrize("model", TINY)
def test_a_run_shorter_than_its_warm_up_ships_what_it_learned(model, tmp_path):
    """Also what the backbone learned before; averaging that has not begun ships the weights as they are."""
    options = small(model, warmup=50, ema=0.995, ema_ramp=0.0)
    seed_everything(options.seed)
    start = {name: value.clone() for name, value in prepare(options).model.state_dict().items()}
    loop.train(options, tmp_path / "averaged", report=quiet)
    loop.train(small(model, warmup=50, ema=0.0, ema_ramp=0.0), tmp_path / "plain", report=quiet)
    averaged, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("averaged", "plain"))
    assert all(torch.equal(averaged[name], plain[name]) for name in plain)
    trained = [name for name, value in start.items() if value.is_floating_point() and value.numel() > 1]
    same = [name for name in trained if torch.equal(averaged[name], start[name])]
    assert len(same) < 0.1 * len(trained), same
    assert not any("running" in name or "weight" in name for name in same), same


def test_statistics_of_short_runs_follow_the_weights_and_published_ones_are_the_published_code_s():
    def momenta(name, **options):
        with torch.device("meta"):
            model = models.build(name, **options)
        return {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)}

    assert momenta("rtmo_tiny") == momenta("rtmo_tiny", decoding="regression", features=(4, 5)) == {0.1}
    assert momenta("rtmo_s") == {0.03, 0.1}  # backbone and head as YOLOX's, the neck as torch's


def test_another_data_set_is_scored_and_not_learned(tmp_path):
    """The first epoch of a run on macaques that is watched on people: the same weights, and one number more."""
    options = {"dataset": "macaque", "steps": 2, "backbone_steps": 0}
    alone = loop.train(small("poet_tiny", **options), tmp_path / "alone", report=quiet)
    metrics = loop.train(small("poet_tiny", **options, val_also="people"), tmp_path / "both", report=quiet)
    assert {name: metrics[name] for name in alone if name != "minutes"} == {
        name: value for name, value in alone.items() if name != "minutes"
    }
    assert set(metrics) - set(alone) == {"AP_macaque", "AP_people"} and metrics["AP_macaque"] == metrics["AP"]
    people = load_file(tmp_path / "both" / "model.safetensors")
    for name, value in load_file(tmp_path / "alone" / "model.safetensors").items():
        assert torch.equal(value, people[name])
    assert read_json(tmp_path / "both" / "predictions_people.json") is not None


@pytest.mark.parametrize(
    ("also", "why"),
    [("crowd", "crowd has 14 keypoints, macaque 17"), ("macaque", "val_also names macaque, which the run learns from")],
)
def test_a_data_set_that_cannot_be_watched_is_a_sentence(also, why):
    with pytest.raises(ValueError, match=why):
        prepare(small("poet_tiny", dataset="macaque", val_also=also))
