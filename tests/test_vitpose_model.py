"""ViTPose's network: reference values, sizes, positions, freezing, tokens, decoders, experts, data sets, decoding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from posekit import models
from posekit.layouts import COCO
from posekit.models.vit import ViT, grid_of, resample_positions
from posekit.models.vitpose import flip_test, merge_experts, vitpose, vitpose_tiny
from posekit.models.vitpose_heads import decoder_for

GOLDEN = Path(__file__).parent / "golden" / "vitpose"
SMALL = {"dim": 24, "depth": 3, "heads": 2, "crop_size": (48, 64), "filters": 8}


def small(**options):
    torch.manual_seed(0)
    model = vitpose("s", **(SMALL | options)).eval()
    for parameter in model.parameters():  # as released, heatmaps would start near zero
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("decoder", ["classic", "simple", "minimal"])
def test_heatmaps_have_stride_four_whatever_the_ratio_and_decoder(ratio, decoder):
    model = small(ratio=ratio, decoder=decoder, num_keypoints=5)
    assert model.backbone.grid == (4 * ratio, 3 * ratio)
    for height, width in ((64, 48), (96, 80)):  # the second has its positions resampled
        assert model(torch.randn(2, 3, height, width))["heatmaps"].shape == (2, 5, height // 4, width // 4)


def test_a_size_that_the_stride_does_not_divide_is_named():
    with pytest.raises(ValueError, match=r"crops of 70 x 48 pixels .* stride of 16: cut them 64 x 48"):
        small()(torch.zeros(1, 3, 70, 48))
    with pytest.raises(ValueError, match="do not divide by the stride of 16"):
        small(crop_size=(50, 64))


def test_slot_zero_of_the_table_is_added_to_every_token():
    backbone, images = small().backbone, torch.randn(1, 3, 64, 48)
    before, grid = backbone.embed(images)
    with torch.no_grad():
        backbone.pos_embed[:, 0] += 1
    assert grid == (4, 3)
    assert torch.allclose(backbone.embed(images)[0], before + 1, atol=1e-5)


def test_resampled_positions_keep_slot_zero_and_smooth_tables():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(6.0), indexing="ij")
    plane = (0.3 * rows - 0.2 * columns).flatten()
    table = torch.cat([torch.tensor([7.0]), plane])[None, :, None]
    larger = resample_positions(table, (8, 6), (16, 12))
    assert larger[0, 0, 0] == 7
    rows, columns = torch.meshgrid((torch.arange(16.0) - 0.5) / 2, (torch.arange(12.0) - 0.5) / 2, indexing="ij")
    expected = 0.3 * rows - 0.2 * columns
    # bicubic interpolation has the slope of a plane, up to its kernel's error, away from the border
    assert torch.allclose(larger[0, 1:, 0].view(16, 12)[4:-4, 4:-4], expected[4:-4, 4:-4], atol=0.03)
    assert torch.equal(resample_positions(table, (8, 6), (8, 6)), table)


def test_the_grid_of_a_table_is_square_or_upright():
    assert [grid_of(rows) for rows in (193, 197, 257, 49, 769)] == [(16, 12), (14, 14), (16, 16), (8, 6), (32, 24)]
    with pytest.raises(ValueError, match="21 rows"):
        grid_of(21)


def test_drop_path_grows_with_depth_and_rests_in_evaluation():
    model = vitpose("s", **(SMALL | {"drop_path": 0.6}))
    assert [block.drop_path for block in model.backbone.blocks] == pytest.approx([0, 0.3, 0.6])
    images = torch.randn(4, 3, 64, 48)
    model.eval()
    assert torch.equal(model.backbone(images), model.backbone(images))
    model.backbone.train()
    assert not torch.equal(model.backbone(images), model.backbone(images))


@pytest.mark.parametrize("attention", ["full", "shift+pool"])
def test_checkpointed_blocks_keep_less_and_learn_the_same(attention):
    gradients, kept = [], []
    for recompute in (False, True):
        model = small(attention=attention, window=(2, 2), checkpoint_blocks=recompute, ratio=2).train()
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        )
        torch.manual_seed(1)
        with hooks:
            heatmaps = model(torch.randn(2, 3, 64, 48))["heatmaps"]
        kept.append(sum(sizes))
        heatmaps.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert kept[1] < 0.5 * kept[0]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*gradients, strict=True))


def trained(model):
    return {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}


def test_freezing_leaves_the_named_parts_to_train():
    everything = trained(small())
    free = trained(small(freeze={"attention": True}))
    assert free and not any(".attn." in name or ".norm1." in name for name in free)
    assert everything - free == {name for name in everything if ".attn." in name or ".norm1." in name}
    free = trained(small(freeze={"ffn": True}))
    assert everything - free == {
        name for name in everything if ".mlp." in name or ".norm2." in name or name.startswith(("patch_", "pos_"))
    }
    frozen = everything - trained(small(freeze={"stages": 2}))
    assert {name.split(".")[1] for name in frozen if name.startswith("blocks.")} == {"0", "1"}
    released = everything - trained(small(freeze={"stages": 2, "released": True}))
    assert {name.split(".")[1] for name in released if name.startswith("blocks.")} == {"1", "2"}
    assert everything - trained(small(freeze={"stages": 0})) == {"patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_frozen_stages_stay_in_evaluation_mode_and_can_be_freed():
    backbone = small(freeze={"stages": 1}).backbone
    assert backbone.train() is backbone
    assert [block.training for block in backbone.blocks] == [False, True, True]
    backbone.freeze()
    assert all(block.training for block in backbone.blocks) and all(p.requires_grad for p in backbone.parameters())
    with pytest.raises(ValueError, match="4 stages to freeze, but the transformer has 3 blocks"):
        backbone.freeze(stages=4)


@pytest.mark.parametrize("attention", ["full", "window", "pool"])
def test_a_knowledge_token_is_seen_and_learned_but_no_part_of_the_map(attention):
    model = small(knowledge_token=True, attention=attention, window=(2, 2))
    images = torch.randn(2, 3, 64, 48)
    heatmaps = model(images)["heatmaps"]
    assert heatmaps.shape == (2, 17, 16, 12)
    heatmaps.square().sum().backward()
    assert model.backbone.knowledge_token.grad.abs().max() > 0
    with torch.no_grad():
        model.backbone.knowledge_token.mul_(3)
        assert not torch.allclose(model(images)["heatmaps"], heatmaps)


def test_the_minimal_decoder_lays_channels_out_as_pixels():
    decoder = decoder_for("minimal", 6, 2, doublings=1)
    features = torch.randn(1, 6, 3, 2)
    flat = decoder.final_layer(features)
    assert torch.equal(decoder(features)[0, 1, 2:4, 2:4].flatten(), flat[0, 4:8, 1, 1])


def test_decoders_start_near_zero():
    for kind in ("classic", "simple", "minimal"):
        decoder = decoder_for(kind, 32, 17, doublings=2)
        assert decoder.final_layer.weight.detach().std() == pytest.approx(0.001, rel=0.2)
        assert not decoder.final_layer.bias.any()


EXPERTS = {"experts": 3, "part": 6, "num_keypoints": (5, 4, 7)}


def test_each_sample_passes_its_own_expert_and_decoder():
    model, images = small(**EXPERTS), torch.randn(4, 3, 64, 48)
    dataset = torch.tensor([2, 0, 2, 1])
    mixed = model(images, dataset=dataset)["heatmaps"]
    assert mixed.shape == (4, 7, 16, 12)
    for row, index in enumerate(dataset.tolist()):
        alone = model(images[row : row + 1], dataset=index)["heatmaps"][0]
        assert len(alone) == EXPERTS["num_keypoints"][index]
        assert torch.allclose(mixed[row, : len(alone)], alone, atol=1e-5)
        assert mixed[row, len(alone) :].abs().sum() == 0


def test_only_the_experts_that_were_asked_learn():
    model = small(**EXPERTS).train()
    model(torch.randn(2, 3, 64, 48), dataset=torch.tensor([1, 1]))["heatmaps"].square().mean().backward()
    experts = model.backbone.blocks[0].mlp.experts
    assert [expert.weight.grad is not None and expert.weight.grad.abs().max() > 0 for expert in experts] == [0, 1, 0]


@pytest.mark.parametrize("keypoints", [(5, 4, 7), 5])
def test_merged_experts_are_a_plain_model_that_does_the_same(keypoints):
    model, images = small(**(EXPERTS | {"num_keypoints": keypoints})), torch.randn(2, 3, 64, 48)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for index in range(3):
        plain = merge_experts(model, index)
        count = keypoints[index] if isinstance(keypoints, tuple) else keypoints
        assert plain.num_keypoints == count
        assert torch.allclose(plain(images)["heatmaps"], model(images, dataset=index)["heatmaps"], atol=1e-5)
        names = {name: value.shape for name, value in small(num_keypoints=count).state_dict().items()}
        assert {name: value.shape for name, value in plain.state_dict().items()} == names
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_data_sets_that_are_not_there_are_named():
    model, images = small(**EXPERTS), torch.zeros(2, 3, 64, 48)
    for dataset in (3, -1, torch.tensor([0, 3])):
        with pytest.raises(ValueError, match=r"there is no data set (3|-1); the model has 3"):
            model(images, dataset=dataset)
    with pytest.raises(ValueError, match=r"shape \(3,\); 2 crops need \(2,\)"):
        model(images, dataset=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="no data set 5"):
        merge_experts(model, 5)


def test_no_crops_give_no_heatmaps():
    for options in ({}, EXPERTS, {"attention": "shift+pool", "window": (2, 2)}):
        model = small(**options)
        count = len(model.heads)
        dataset = torch.zeros(0, dtype=torch.long) if count > 1 else 0
        outputs = model(torch.zeros(0, 3, 64, 48), dataset=dataset)
        assert outputs["heatmaps"].shape[0] == 0
        assert model.decode(outputs, torch.zeros(0, 2)) == []


def test_the_flip_test_does_not_mind_which_side_came_first():
    model, images = small(), torch.randn(2, 3, 64, 48)
    tested = flip_test(model, images, COCO.flip)["heatmaps"]
    mirrored = flip_test(model, images.flip(-1), COCO.flip)["heatmaps"]
    assert torch.allclose(mirrored[:, COCO.flip.tolist()].flip(-1), tested, atol=1e-5)
    assert not torch.allclose(tested, model(images)["heatmaps"])
    with pytest.raises(ValueError, match="flip has 14 keypoints and the heatmaps have 17"):
        flip_test(model, images, range(14))


@pytest.mark.parametrize(("udp", "expected"), [(True, (5 * 47 / 11 + 0.5, 9 * 63 / 15 + 0.5)), (False, (20.5, 36.5))])
def test_decode_gives_pixels_of_the_crop_in_cocos_frame(udp, expected):
    heatmaps = torch.zeros(2, 17, 16, 12)
    heatmaps[1, 3, 9, 5] = 0.7
    poses = small().decode({"heatmaps": heatmaps}, torch.tensor([[48, 64], [48, 64]]), method="argmax", udp=udp)
    assert len(poses) == 2 and len(poses[1]) == 1
    np.testing.assert_allclose(poses[1].keypoints[0, 3], expected, rtol=1e-5)
    assert poses[1].visibility[0, 3] == pytest.approx(0.7)


def gain_of_a_batch(seed=0) -> float:
    """By which share the error on eight crops of noise falls in 80 steps."""
    torch.manual_seed(seed)
    model = vitpose_tiny()
    assert sum(parameter.numel() for parameter in model.parameters()) < 3e6
    width, height = model.crop_size
    images = torch.randn(8, 3, height, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shape = model(images)["heatmaps"].shape
    assert counter.get_total_flops() / 8 < 150e6  # two per multiply-add: a few milliseconds with the backward pass
    assert shape == (8, 17, height // model.stride, width // model.stride)
    rows, columns = torch.meshgrid(torch.arange(shape[2]), torch.arange(shape[3]), indexing="ij")
    at = torch.rand(8, 17, 2) * torch.tensor([shape[3], shape[2]])
    distance = (columns - at[..., :1, None]) ** 2 + (rows - at[..., 1:, None]) ** 2
    target = torch.exp(-distance / 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(80):
        loss = (model(images)["heatmaps"] - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return 1 - losses[-1] / losses[0]


@pytest.mark.learning
def test_tiny_learns_a_batch_and_is_cheap():
    assert gain_of_a_batch() > 0.4


def test_published_sizes_by_name():
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in models.build(f"vitpose_{name}").parameters()) for name in "sblh"}
        plus = models.build("vitpose_plus_s")
    assert counts == {"s": 24_290_577, "b": 89_994_513, "l": 308_544_785, "h": 637_208_849}
    assert len(plus.heads) == 6 and plus.backbone.blocks[0].mlp.experts[5].out_features == 192


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vitpose("g"), "no ViTPose of size 'g'; choose one of s, b, l, h"),
        (lambda: small(decoder="fancy"), "decoder is 'fancy'; choose one of classic, simple, minimal"),
        (lambda: small(attention="local"), "attention is 'local'; choose one of"),
        (lambda: small(ratio=3), "ratio is 3; choose 1"),
        (lambda: small(heatmap_stride=5), "heatmaps of stride 5 do not come from features of stride 16"),
        (lambda: small(experts=2, part=24), "experts of 24 channels: choose between 1 and 23"),
        (lambda: ViT(24, 1, 2, patch=8, ratio=2), "4 px of padding give patches of 8 px at stride 4 another grid"),
    ],
)
def test_wrong_options_give_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
