"""ViTPose in the training loop: parts that stay frozen, several data sets at once."""

import pytest
import torch
from safetensors.torch import load_file

from posekit import runs
from posekit.files import read_json
from posekit.models.vitpose import merge_experts
from posekit.provenance import seed_everything
from posekit.training import loop
from posekit.training.build import prepare
from posekit.training.datasets import names_of
from posekit.training.recipes import recipe
from posekit.training.weights import load

TINY = {"dim": 32, "heads": 2, "depth": 3, "filters": 8}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def quick(**changes):
    options = {"images": 12, "val_images": 4, "size": 128, "people": (1, 2), "batch_size": 8, "steps": 6, "warmup": 2}
    return recipe("vitpose_tiny", **(options | {"ema": 0.0, "model_options": TINY} | changes))


def run(options, folder):
    metrics = loop.train(options, folder, report=lambda line: None)
    return load_file(folder / "model.safetensors"), metrics


@pytest.mark.parametrize(
    ("freeze", "still", "moves"),
    [
        ({"attention": True}, ("attn.", "norm1."), ("mlp.", "norm2.", "pos_embed", "head")),
        ({"ffn": True}, ("mlp.", "norm2.", "patch_embed", "pos_embed"), ("attn.", "norm1.", "head")),
        ({"stages": 2}, ("patch_embed", "blocks.0.", "blocks.1."), ("blocks.2.", "pos_embed", "head")),
    ],
)
def test_frozen_parts_do_not_move_and_cost_no_optimiser_state(freeze, still, moves, tmp_path, monkeypatch):
    options, seen, finish = quick(ema=0.9, model_options=TINY | {"freeze": freeze}), {}, loop.Loop.finish

    def watched(loop):
        slots = loop.optimizer.state
        seen.update({name: parameter in slots for name, parameter in loop.plain.named_parameters()})
        return finish(loop)

    monkeypatch.setattr(loop.Loop, "finish", watched)
    seed_everything(options.seed)
    before = prepare(options).model.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    after, _ = run(options, tmp_path / "run")
    for name, kept in seen.items():
        frozen = any(part in name for part in still)
        assert kept is not frozen, name
        assert torch.equal(before[name], after[name]) is frozen or not frozen, name
    for part in moves:
        assert any(not torch.equal(before[name], after[name]) for name in seen if part in name), part
    assert load("vitpose_tiny", tmp_path / "run").num_keypoints == 17


def test_several_data_sets_train_a_head_and_an_expert_each(tmp_path, monkeypatch):
    options = quick(dataset="people+crowd+macaque", steps=12, model_options=TINY | {"experts": 3, "part": 8})
    asked, forward = [], loop.forward_kwargs
    monkeypatch.setattr(loop, "forward_kwargs", lambda targets: asked.append(forward(targets)) or asked[-1])
    seed_everything(options.seed)
    start = {name: value.clone() for name, value in prepare(options).model.state_dict().items()}
    after, metrics = run(options, tmp_path / "run")
    assert {int(one) for given in asked for one in given["dataset"]} == {0, 1, 2}
    for part in ("keypoint_head.final", "associate_keypoint_heads.0.final", "associate_keypoint_heads.1.final"):
        assert not torch.equal(start[f"{part}_layer.weight"], after[f"{part}_layer.weight"])
    for expert in range(3):
        name = f"backbone.blocks.0.mlp.experts.{expert}.weight"
        assert not torch.equal(start[name], after[name])
    heads = ["keypoint_head", "associate_keypoint_heads.0", "associate_keypoint_heads.1"]
    assert [len(after[f"{head}.final_layer.bias"]) for head in heads] == [17, 14, 17]

    row = runs.read_log(tmp_path / "run" / "log.csv")[-1]
    for term in ("train_loss_heatmap_0", "train_loss_heatmap_2", "val_loss_heatmap_0", "val_loss_heatmap_1"):
        assert row[term] > 0
    total = sum(row[f"val_loss_heatmap_{index}"] for index in range(3))
    assert row["val_total"] == pytest.approx(options.loss_options["weight"] * total, rel=1e-5)
    assert metrics["AP"] == metrics["AP_people"] and {"AP_crowd", "AP_macaque"} <= set(metrics)
    results = runs.load_run(tmp_path / "run")["results"]
    assert results["AP_crowd"] == metrics["AP_crowd"]
    files = ("predictions.json", "predictions_crowd.json", "predictions_macaque.json")
    rows = [read_json(tmp_path / "run" / name)[0] for name in files]
    assert [len(one["keypoints"]) for one in rows] == [3 * 17, 3 * 14, 3 * 17]
    whole = load("vitpose_tiny", tmp_path / "run", num_keypoints=(17, 14, 17))
    assert merge_experts(whole, 1).num_keypoints == 14


def gains_of_two_heads(folder, seed=0) -> list[float]:
    """By which share the loss of each head falls from steps 1-10 to 31-40."""
    few = {"images": 2, "val_images": 2, "people": (1, 1), "batch_size": 4, "augment": "none", "weight_decay": 0.0}
    options = quick(dataset="people+crowd", steps=40, lr=1e-2, warmup=5, seed=seed, **few)
    loop.train(options, folder, validate_every=10, report=lambda line: None)
    log = runs.read_log(folder / "log.csv")
    return [1 - log[-1][f"train_loss_heatmap_{index}"] / log[0][f"train_loss_heatmap_{index}"] for index in (0, 1)]


@pytest.mark.learning
def test_two_heads_learn_their_own_data_sets(tmp_path):
    assert min(gains_of_two_heads(tmp_path / "run")) > 0.1


def test_several_data_sets_resume_exactly(tmp_path, interrupt, moved):
    options = quick(dataset="people+crowd", ema=0.5)
    whole, _ = run(options, tmp_path / "whole")
    assert moved(options, tmp_path / "whole") > 0.9
    interrupt(4, lambda: run(options, tmp_path / "cut"))
    cut, _ = run(options, tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_which_data_sets_a_recipe_names(tmp_path):
    assert names_of("people") == {"people": "people"}
    assert names_of("people+macaque") == {"people": "people", "macaque": "macaque"}
    odd = tmp_path / "cats+dogs"
    odd.mkdir()
    assert names_of(str(odd)) == {"cats+dogs": str(odd)}
    with pytest.raises(ValueError, match="each data set can be in it once"):
        names_of("people+people")
    with pytest.raises(ValueError, match="poet_tiny learns from one data set at a time"):
        prepare(recipe("poet_tiny", dataset="people+crowd"))
    with pytest.raises(ValueError, match="unknown data set 'horses'"):
        prepare(quick(dataset="people+horses"))
