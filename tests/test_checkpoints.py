"""Published weights into our models, and what is said when they do not fit."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from posekit import models
from posekit.models import checkpoints

KEYS = json.loads((Path(__file__).parent / "golden" / "poet" / "keys_r50.json").read_text())
SMALL = {"dim": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "feedforward": 96}


def tiny(**options):
    return models.build("poet_tiny", **(SMALL | {"num_queries": 9} | options))


@pytest.fixture(scope="module")
def r50():
    """POET-R50 with a short transformer: the whole backbone, little else."""
    return models.build("poet_r50", **(SMALL | {"num_queries": 9}))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_model_has_the_published_names_and_shapes_in_order():
    state = models.build("poet_dc5_r50").state_dict()  # POET-R50 itself is replayed in test_conformance
    assert [[key, list(value.shape)] for key, value in state.items()] == KEYS


@pytest.mark.parametrize("wrapping", ["plain", "model", "state_dict", "parallel", "safetensors"])
def test_loads_files_as_they_are_published(tmp_path, wrapping):
    source, target = tiny().state_dict(), tiny()
    path = tmp_path / ("a.safetensors" if wrapping == "safetensors" else "a.pth")
    if wrapping == "safetensors":
        save_file(source, path)
    elif wrapping == "plain":
        torch.save(source, path)
    elif wrapping == "parallel":
        torch.save({"model": {f"module.{name}": value for name, value in source.items()}}, path)
    else:
        arguments = argparse.Namespace(lr=1e-4, num_queries=9)  # the published files keep them
        torch.save({wrapping: source, "epoch": 249, "args": arguments}, path)
    assert not same(source, target.state_dict())
    checkpoints.load_weights(target, path)
    assert same(source, target.state_dict())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_queries": 50}, "50 queries (the model has 9), so build the model with num_queries=50"),
        ({"num_keypoints": 14}, "14 keypoints (the model has 17), so build the model with num_keypoints=14"),
        ({"decoder_layers": 3}, "3 decoder layers (the model has 2)"),
        ({"dim": 32, "num_queries": 5}, "num_queries=5, dim=32"),
    ],
)
def test_another_size_is_named_with_the_remedy(options, words):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError) as error:
        checkpoints.load_weights(model, tiny(**options).state_dict())
    assert words in str(error.value)
    assert same(before, model.state_dict())


def test_what_differs_is_listed():
    state = tiny().state_dict()
    with pytest.raises(ValueError, match=r"query_embed.weight: \(50, 64\), the model has \(9, 64\)"):
        checkpoints.load_weights(tiny(), tiny(num_queries=50).state_dict())
    del state["class_embed.bias"]
    state["head.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"1 entries are missing \(class_embed.bias\); 1 are unknown \(head.bias\)"):
        checkpoints.load_weights(tiny(), state)


def test_another_model_is_said_to_be_one(r50):
    with pytest.raises(ValueError, match="is of another model"):
        checkpoints.load_weights(tiny(), models.build("poet_tiny_proposals", **SMALL).state_dict())
    with pytest.raises(ValueError, match="is of another model"):
        checkpoints.load_weights(r50, tiny().state_dict())
    with pytest.raises(ValueError, match="shares no name"):
        checkpoints.load_weights(tiny(), {"features.0.weight": torch.zeros(3)})


def detr_of(model):
    """The state dict of a DETR with the same backbone and transformer."""
    state = {name: torch.randn(value.shape) for name, value in model.state_dict().items() if "kpt_embed" not in name}
    dim = state["query_embed.weight"].shape[1]
    state |= {"query_embed.weight": torch.zeros(100, dim), "class_embed.weight": torch.zeros(92, dim)}
    return state | {"class_embed.bias": torch.zeros(92), "bbox_embed.layers.0.weight": torch.zeros(dim, dim)}


def test_starts_from_detr(r50):
    state = detr_of(r50)
    heads = {name: value.clone() for name, value in r50.state_dict().items() if "_embed" in name}
    fresh = checkpoints.start_from(r50, state)
    assert sorted(fresh) == sorted(heads)
    after = r50.state_dict()
    assert all(torch.equal(after[name], value) for name, value in heads.items())
    assert all(torch.equal(after[name], value) for name, value in state.items() if "_embed" not in name)


def test_detr_is_not_taken_for_poet(r50):
    with pytest.raises(ValueError, match="is of DETR, which predicts boxes"):
        checkpoints.load_weights(r50, detr_of(r50))
    short = {name: value for name, value in detr_of(r50).items() if "decoder.layers.1" not in name}
    with pytest.raises(ValueError, match="is not of a DETR with the model's backbone"):
        checkpoints.start_from(r50, short)


@pytest.mark.parametrize("prefix", ["backbone.", ""])
def test_starts_from_a_backbone(r50, prefix):
    own = {name: value for name, value in r50.state_dict().items() if name.startswith("backbone.0.body.")}
    state = {name.replace("backbone.0.body.", prefix): torch.rand(value.shape) for name, value in own.items()}
    expected = dict(state)
    state[f"{prefix}bn1.num_batches_tracked"] = torch.tensor(7)
    state |= {
        "fc.weight": torch.zeros(1000, 2048),
        "keypoint_head.final_layer.weight": torch.zeros(17, 256, 1, 1),
    }
    fresh = checkpoints.start_from(r50, state)
    after = r50.state_dict()
    assert not any(name.startswith("backbone.") for name in fresh) and "class_embed.bias" in fresh
    assert all(torch.equal(after[f"backbone.0.body.{name.removeprefix(prefix)}"], v) for name, v in expected.items())


def test_a_backbone_of_another_network_is_refused(r50):
    with pytest.raises(ValueError, match="ResNet-50 models take ResNet-50 weights"):
        checkpoints.start_from(r50, {"backbone.conv1.weight": torch.zeros(32, 3, 3, 3)})


def test_start_from_a_whole_poet_loads_everything():
    source, target = tiny().state_dict(), tiny()
    assert checkpoints.start_from(target, source) == []
    assert same(source, target.state_dict())


def test_start_from_a_poet_of_other_keypoints_keeps_all_but_the_last_layer():
    source, target = tiny().state_dict(), tiny(num_keypoints=5)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    fresh = checkpoints.start_from(target, source)
    assert fresh == ["kpt_embed.layers.2.weight", "kpt_embed.layers.2.bias"]
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in fresh else source[name]), name
    with pytest.raises(ValueError, match="with other keypoints, and not only these differ"):
        checkpoints.start_from(tiny(num_keypoints=5, dim=32), source)
    del source["kpt_embed.layers.2.weight"]
    with pytest.raises(ValueError, match="kpt_embed.layers.2.weight"):
        checkpoints.start_from(target, source)


class Stranger:
    """An object that a checkpoint has no business to hold."""


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_damaged_and_empty_files_are_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        checkpoints.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\x01 not a checkpoint")
    with pytest.raises(ValueError, match=name):
        checkpoints.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=name):
        checkpoints.read(tmp_path / name)


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="a.pth"):
        checkpoints.load_weights(tiny(), path)


def test_files_without_weights_or_with_code_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(ValueError, match="holds no weights"):
        checkpoints.read(path)
    torch.save({"model": Stranger()}, path)
    with pytest.raises(ValueError, match="which are not loaded"):
        checkpoints.read(path)
