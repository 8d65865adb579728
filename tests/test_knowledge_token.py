"""What a knowledge token changes: with it and without it, attention to it, and the picture of both."""

import numpy as np
import pytest
import torch

from posebook.analysis import tokens
from posebook.figures import vitpose_training
from posekit import models
from posekit.data.drawn.scenes import Scenes
from posekit.data.transforms import normalise

SMALL = {"dim": 32, "depth": 2, "heads": 2, "filters": 8}


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = models.build("vitpose_tiny", knowledge_token=True, **SMALL).eval()
    for block in network.backbone.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.2)
    torch.nn.init.normal_(network.backbone.knowledge_token, std=2)
    for weight in network.keypoint_head.parameters():
        if weight.ndim > 1:  # it starts with maps of nearly nothing
            torch.nn.init.normal_(weight, std=0.1)
    return network


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 255, (5, 96, 72, 3)).astype(np.uint8)


def test_without_its_token_a_model_is_the_one_that_never_had_one(model, crops):
    plain = models.build("vitpose_tiny", **SMALL).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "knowledge" not in k})
    token = model.backbone.knowledge_token
    maps, without = tokens.token_heatmaps(model, crops)
    with torch.no_grad():
        pixels = normalise(crops, model.input.mean, model.input.std)
        np.testing.assert_allclose(without, plain(pixels)["heatmaps"].numpy(), atol=1e-5)
        np.testing.assert_allclose(maps, model(pixels)["heatmaps"].numpy(), atol=1e-5)
    assert np.abs(maps - without).max() > 1e-4 and model.backbone.knowledge_token is token
    with pytest.raises(RuntimeError), tokens.token_removed(model):
        raise RuntimeError
    assert model.backbone.knowledge_token is token
    for ask in (tokens.token_heatmaps, tokens.token_attention):
        with pytest.raises(ValueError, match="no knowledge token to remove"):
            ask(plain, crops)


def test_attention_to_the_token_by_hand(model, crops):
    given = tokens.token_attention(model, crops)
    backbone = model.backbone
    with torch.no_grad():
        x, grid = backbone.embed(normalise(crops, model.input.mean, model.input.std))
        x = torch.cat([x, backbone.knowledge_token.expand(5, -1, -1)], 1)
        for block, share in zip(backbone.blocks, given, strict=True):
            q, k, _ = block.attn.qkv(block.norm1(x)).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-1, -2) / 4).softmax(-1)
            assert share == pytest.approx(weights[:, :, :-1, -1].mean().item(), abs=1e-5)
            x = block(x, grid)
        for block in backbone.blocks:  # whoever asks nothing attends to all alike
            block.attn.qkv.weight.zero_()
    np.testing.assert_allclose(tokens.token_attention(model, crops), 1 / 49, atol=1e-6)


def test_in_numbers(model, crops):
    data = Scenes("people", seed=1, count=3, size=128, people=(1, 2))
    measured = tokens.token_effect(model, data, crops)
    assert list(measured) == ["AP with", "AP without", "heatmaps changed", "peaks moved", "attention"]
    assert measured["heatmaps changed"] > 1e-3 and 0 < measured["peaks moved"] <= 1 and 0 < measured["attention"] < 1
    with torch.no_grad():
        for block in model.backbone.blocks:  # a token that nobody listens to
            block.attn.proj.weight.zero_()
    deaf = tokens.token_effect(model, data, crops)
    assert deaf["heatmaps changed"] == deaf["peaks moved"] == 0 and deaf["AP with"] == deaf["AP without"]


def test_its_picture_stays_on_the_page(crops):
    rng = np.random.default_rng(0)
    place, share = np.array([30.0, 40]), np.array([0.05, 0.01])
    maps = rng.random((2, 2, 32, 24))
    names = ("teacher", "student")
    rows = [vitpose_training.TokenEffect(name, crops[0], place, *maps[i], share) for i, name in enumerate(names)]
    fig = vitpose_training.fig_token(rows, "left_wrist", 48)
    words = " ".join(text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text")))
    assert "left wrist" in words and "equal shares" in words and "drawn people" in words
    fig.draw_without_rendering()
    drawn, page = fig.get_tightbbox(), fig.get_size_inches()
    assert drawn.min.min() >= -0.02 and (drawn.max <= page + 0.02).all()
    table = vitpose_training.token_rows(rows)
    assert table.groupby(["model", "part"]).size().to_dict()["teacher", "with"] == 32 * 24
    assert table[table.part == "attention"].value.tolist() == [0.05, 0.01] * 2
    with pytest.raises(ValueError, match="at least one"):
        vitpose_training.fig_token([], "nose", 48)
