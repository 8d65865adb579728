"""The masked autoencoder: what it sees, what it is judged by, how it is trained and what starts from it."""

import pytest
import torch
from safetensors.torch import load_file

from posekit import models, runs
from posekit.losses.reconstruction import ReconstructionCriterion, patch_loss
from posekit.models.masked_autoencoder import mae_tiny, patches_of, random_masking
from posekit.models.vit import sine_positions
from posekit.models.vitpose import vitpose_tiny
from posekit.training import loop
from posekit.training.build import prepare
from posekit.training.recipes import recipe
from posekit.training.weights import load

TINY = {"dim": 32, "heads": 2, "depth": 2}
DECODER = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def small(**changes):
    options = {"images": 12, "val_images": 4, "size": 128, "people": (1, 2), "batch_size": 8, "steps": 6, "warmup": 2}
    return recipe("mae_tiny", **(options | {"model_options": TINY | DECODER} | changes))


def model(**overrides):
    torch.manual_seed(0)
    return mae_tiny(**(TINY | DECODER | overrides))


def crops(count=3):
    return torch.randn(count, 3, 96, 72, generator=torch.Generator().manual_seed(1))


def test_three_quarters_are_hidden_uniformly():
    seen, masked = random_masking(2000, 48, 12, seed=0)
    assert (masked.sum(1) == 36).all() and not masked.gather(1, seen).any()
    assert (masked.float().mean(0) - 0.75).abs().max() < 0.05 and len({tuple(row) for row in masked.tolist()}) > 1900
    assert model().visible == 12 and model(masked=0.5).visible == 24


def test_the_transformer_sees_the_visible_patches_alone():
    mae, images = model().eval(), crops()
    counts = []
    mae.backbone.blocks[0].register_forward_pre_hook(lambda block, given: counts.append(given[0].shape[1]))
    outputs = mae(images)
    assert counts == [12] and outputs["patches"].shape == (3, 48, 3 * 12 * 12)
    masked = outputs["masked"].unflatten(1, (8, 6)).repeat_interleave(12, 1).repeat_interleave(12, 2)[:, None]
    other = mae(torch.where(masked, torch.randn_like(images), images))
    assert torch.equal(other["patches"], outputs["patches"]) and counts == [12, 12]
    assert not torch.equal(other["true_patches"], outputs["true_patches"])
    assert not torch.allclose(mae(torch.where(masked, images, -images))["patches"], outputs["patches"])


def test_hidden_places_are_drawn_in_training_and_fixed_in_evaluation():
    mae, images = model(), crops()
    first, second = (mae.train()(images)["masked"] for _ in range(2))
    assert not torch.equal(first, second)
    before = torch.get_rng_state()
    first, second = (mae.eval()(images)["masked"] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), before)


def test_patches_are_in_the_order_of_the_tokens_and_normalised():
    images = torch.zeros(1, 3, 96, 72)
    images[0, 1, 12:24, 24:36] = 1  # second row, third column of six
    plain = model()
    patches = patches_of(images, 12)[0][0]
    assert patches.sum(1).nonzero().flatten().tolist() == [6 + 2] and patches.sum() == 144
    moved = (plain.backbone.patch_embed(images) - plain.backbone.patch_embed(0 * images)).abs().sum(2)[0]
    assert moved.nonzero().flatten().tolist() == [6 + 2]
    patches = model().true_patches(crops())
    assert patches.mean(-1).abs().max() < 1e-5 and (patches.var(-1) - 1).abs().max() < 1e-3


def test_the_loss_is_of_hidden_patches():
    true, masked = torch.randn(2, 4, 6), torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]]).bool()
    predicted = torch.randn(2, 4, 6)
    wanted = (predicted - true)[masked].square().mean()
    assert patch_loss(predicted, true, masked).item() == pytest.approx(wanted.item())
    predicted[~masked] += 100
    terms = ReconstructionCriterion()({"patches": predicted, "true_patches": true, "masked": masked}, []).terms
    assert terms["loss_pixels"].item() == pytest.approx(wanted.item())
    assert patch_loss(predicted, true, masked & False).item() == 0


def test_a_reconstruction_keeps_what_was_seen(monkeypatch):
    mae, images = model().eval(), crops()
    made = mae.reconstruct(images)
    seen = ~made["masked"].repeat_interleave(12, 1).repeat_interleave(12, 2)[:, None].expand_as(images)
    assert made["masked"].shape == (3, 8, 6) and torch.equal(made["reconstructed"][seen], images[seen])
    assert not torch.allclose(made["reconstructed"], images)
    monkeypatch.setattr(mae, "decode_patches", lambda features, places, grid: mae.true_patches(images))
    assert torch.allclose(mae.reconstruct(images)["reconstructed"], images, atol=1e-4)


def test_places_differ_and_start_the_table():
    table = sine_positions((8, 6), 32)
    assert table.shape == (1, 48, 32) and torch.cdist(table[0], table[0]).add(torch.eye(48)).min() > 0.1
    backbone = model().backbone
    assert torch.equal(backbone.pos_embed[:, 1:], table) and backbone.pos_embed[:, 0].abs().sum() == 0
    assert backbone.pos_embed.requires_grad


def gains(folder, seed=0):
    """(metrics, by which share the loss falls, how much better than the mean of every patch it paints at last)."""
    metrics = loop.train(small(steps=100, lr=4e-3, batch_size=4, seed=seed), folder, report=lambda line: None)
    log = runs.read_log(folder / "log.csv")
    fall = 1 - log[-1]["train_loss_pixels"] / log[0]["train_loss_pixels"]
    return metrics, fall, 1 - log[-1]["val_loss_pixels"]


@pytest.mark.learning
def test_the_loss_falls_and_nothing_claims_an_ap(tmp_path):
    metrics, fall, better = gains(tmp_path / "mae")
    log = runs.read_log(tmp_path / "mae" / "log.csv")
    assert fall > 0.03 and better > 0.01
    assert not [name for name in [*metrics, *log[-1], *runs.load_run(tmp_path / "mae")["results"]] if "AP" in name]
    assert not (tmp_path / "mae" / "predictions.json").exists()
    loaded = load("mae_tiny", tmp_path / "mae")
    assert loaded(crops())["patches"].shape == (3, 48, 432)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, interrupt, moved):
    loop.train(small(), tmp_path / "whole", report=lambda line: None)
    interrupt(4, lambda: loop.train(small(), tmp_path / "cut", report=lambda line: None))
    lines = []
    loop.train(small(), tmp_path / "cut", report=lines.append)
    assert "resumed at step 4 of 6" in lines[0]
    assert moved(small(), tmp_path / "whole") > 0.9
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_vitpose_starts_from_it(tmp_path):
    loop.train(small(steps=2), tmp_path / "mae", report=lambda line: None)
    state = load_file(tmp_path / "mae" / "model.safetensors")
    options = recipe(
        "vitpose_tiny", weights=str(tmp_path / "mae"), images=4, val_images=2, size=128, model_options=TINY
    )
    own = prepare(options).model.state_dict()
    body = [name for name in own if name.startswith("backbone.")]
    assert body and all(torch.equal(own[name], state[name]) for name in body)
    fresh = vitpose_tiny(**TINY).state_dict()
    assert own.keys() == fresh.keys() and not any(name.startswith("decoder") for name in own)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: model(patch=12, ratio=2, padding=3), "overlap.*ratio=1"),
        (lambda: model(attention="window"), "attention='full'"),
        (lambda: model(masked=1.0), "masked is 1.0: of 48 patches, some must be visible"),
        (lambda: model(decoder_dim=30, decoder_heads=2), "30 channels cannot hold"),
        (lambda: model()(torch.zeros(1, 3, 120, 72)), r"crops of 72 x 120 pixels: pre-trained are \(72, 96\)"),
        (lambda: models.build("mae_tiny", crop_size=(70, 96)), "do not divide by the stride of 12"),
        (lambda: prepare(small(backbone_steps=3)), "only POET"),
        (lambda: prepare(small(loss_options={"w": 1})), "names 'w', which ReconstructionCriterion does not know"),
    ],
)
def test_what_does_not_fit_gives_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
