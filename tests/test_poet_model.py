"""POET's network: shapes, names, attention, padding, and what `decode` returns."""

import numpy as np
import pytest
import torch

from posekit import models
from posekit.models.poet import split_pose
from posekit.models.transformer import Attention, image_position, sine_position


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return models.build("poet_tiny", num_keypoints=5, num_queries=7).eval()


@pytest.mark.parametrize("name", ["poet_tiny", "poet_tiny_proposals"])
@pytest.mark.parametrize("keypoints", [1, 14, 17])
def test_outputs_have_the_documented_shapes_for_any_number_of_keypoints(name, keypoints):
    model = models.build(name, num_keypoints=keypoints, num_queries=6).eval()
    outputs = model(torch.randn(2, 3, 96, 128), attention=True)
    assert outputs["logits"].shape == (3, 2, 6, 3)
    assert outputs["pose"].shape == (3, 2, 6, 2 + 3 * keypoints)
    assert 0 < outputs["pose"].min() and outputs["pose"].max() < 1
    assert outputs["encoder_attention"].shape == (2, 2, 8, 48, 48)
    assert outputs["decoder_attention"].shape == (3, 2, 8, 6, 48)
    assert outputs["feature_size"].tolist() == [6, 8]


@pytest.mark.parametrize("name", ["poet_tiny", "poet_tiny_proposals"])
def test_asking_for_attention_does_not_change_the_result(name):
    model = models.build(name).eval()
    images = torch.randn(2, 3, 128, 128)
    mask = torch.zeros(2, 128, 128, dtype=torch.bool)
    mask[1, 96:] = True
    plain, shown = model(images, mask), model(images, mask, attention=True)
    assert torch.allclose(plain["pose"], shown["pose"], atol=1e-5)
    assert torch.allclose(shown["decoder_attention"].sum(-1), torch.ones(()), atol=1e-5)
    hidden = shown["decoder_attention"][:, 1, :, :, 48:]
    assert hidden.abs().max() == 0, "padded tokens must get no attention"


def test_padding_changes_nothing_where_the_backbone_sees_none(tiny):
    """A position code and mask that ignore padding: the transformer's result for the real tokens is the same."""
    tokens, dim = torch.randn(1, 4 * 5, 128), 128
    small, large = torch.zeros(1, 4, 5, dtype=torch.bool), torch.ones(1, 6, 8, dtype=torch.bool)
    large[:, :4, :5] = False
    padded = torch.randn(1, 6, 8, dim)
    padded[:, :4, :5] = tokens.view(1, 4, 5, dim)
    memory = tiny.transformer.encode(tokens, image_position(small, dim))
    mask = ~large.flatten(1)[:, None, None]
    memory_padded = tiny.transformer.encode(padded.flatten(1, 2), image_position(large, dim), mask)
    assert torch.allclose(memory_padded.view(1, 6, 8, dim)[:, :4, :5].flatten(1, 2), memory, atol=1e-5)


def test_decode_gives_pixels_of_the_picture_best_first(tiny):
    outputs = tiny(torch.randn(2, 3, 128, 128))
    poses = tiny.decode(outputs, torch.tensor([[640, 480], [100, 200]]))
    assert [len(p) for p in poses] == [7, 7]
    assert (np.diff(poses[0].scores) <= 0).all()
    best = int(outputs["logits"][-1, 1].softmax(-1)[:, 1].argmax())
    center, keypoints, visibility = split_pose(outputs["pose"][-1, 1, best])
    np.testing.assert_allclose(poses[1].keypoints[0], keypoints.detach() * torch.tensor([100, 200]), rtol=1e-5)
    np.testing.assert_allclose(poses[1].centers[0], center.detach() * torch.tensor([100, 200]), rtol=1e-5)
    np.testing.assert_allclose(poses[1].visibility[0], visibility.detach(), rtol=1e-6)


def test_split_pose_undoes_the_stored_offset():
    pose = torch.tensor([0.25, 0.5, 0.5 + 0.1 / 2, 0.5 - 0.2 / 2, 0.9])
    center, keypoints, visibility = split_pose(pose)
    assert torch.allclose(center, torch.tensor([0.25, 0.5]))
    assert torch.allclose(keypoints, torch.tensor([[0.35, 0.3]]))
    assert visibility.item() == pytest.approx(0.9)


def test_resnet_has_the_papers_number_of_trained_parameters():
    model = models.build("poet_r50")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 41_272_888  # the paper says 41.3M
    assert sum(p.numel() for p in model.parameters()) == 41_495_288
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".conv1.weight" in n and "layer" not in n)


def test_dc5_halves_the_stride():
    images = torch.randn(1, 3, 64, 96)
    for name, size in (("poet_r50", [2, 3]), ("poet_dc5_r50", [4, 6])):
        model = models.build(name, encoder_layers=1, decoder_layers=1).eval()
        with torch.inference_mode():
            assert model(images, attention=True)["feature_size"].tolist() == size


def test_tiny_is_tiny():
    for name in ("poet_tiny", "poet_tiny_proposals"):
        assert sum(p.numel() for p in models.build(name).parameters()) < 3e6


def test_attention_equals_torchs_own():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    q, k, v = torch.randn(2, 5, 32), torch.randn(2, 9, 32), torch.randn(2, 9, 32)
    hidden = torch.zeros(2, 9, dtype=torch.bool)
    hidden[1, 6:] = True
    expected, maps = theirs(q, k, v, key_padding_mask=hidden, average_attn_weights=False)
    for attention in (None, []):
        assert torch.allclose(ours(q, k, v, ~hidden[:, None, None], attention), expected, atol=1e-6)
    assert torch.allclose(attention[0], maps, atol=1e-6)


def test_position_code_tells_places_apart():
    x = torch.linspace(0.05, 0.95, 12)
    code = sine_position(*torch.meshgrid(x, x, indexing="xy"), 64).flatten(0, 1)
    assert torch.pdist(code).min() > 0.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: models.build("poet_r51"), "no model is called 'poet_r51'; known: .*poet_r50"),
        (lambda: models.build("poet_tiny", wiring="loose"), "choose 'released' or 'paper'"),
        (lambda: models.build("poet_tiny", heads=7), "do not split into 7 heads"),
    ],
)
def test_wrong_names_give_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
