"""ViTPose's weights from the authors, from Hugging Face and from masked autoencoders, and what is said when they do not
fit."""

import pytest
import torch

from posekit.models import checkpoints
from posekit.models.checkpoints_vitpose import load_vitpose, size
from posekit.models.vit import resample_positions
from posekit.models.vitpose import merge_experts, vitpose

SMALL = {"dim": 24, "depth": 2, "heads": 2, "crop_size": (48, 64), "filters": 8}


def small(seed=0, **options):
    torch.manual_seed(seed)
    return vitpose("s", **(SMALL | options)).eval()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("decoder", ["classic", "simple"])
def test_loads_the_authors_files(tmp_path, decoder):
    source, target = small(1, decoder=decoder).state_dict(), small(decoder=decoder)
    path = tmp_path / "vitpose.pth"
    torch.save({"state_dict": source | {"backbone.cls_token": torch.zeros(1, 1, 24)}, "meta": {"epoch": 210}}, path)
    checkpoints.load_weights(target, path)
    assert same(source, target.state_dict())


@pytest.mark.parametrize(("simple", "experts"), [(False, 1), (True, 1), (False, 6)])
def test_agrees_with_transformers(simple, experts):
    transformers = pytest.importorskip("transformers", reason="the dev extra's transformers is not installed")
    shape = {"image_size": (128, 96), "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    backbone = transformers.VitPoseBackboneConfig(**shape, patch_size=(16, 16), num_experts=experts, part_features=16)
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=simple)
    torch.manual_seed(0)
    theirs = transformers.VitPoseForPoseEstimation(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = vitpose(
        "s",
        dim=48,
        depth=2,
        heads=3,
        crop_size=(96, 128),
        decoder="simple" if simple else "classic",
        experts=experts if experts > 1 else 0,
        part=16,
    ).eval()
    checkpoints.load_weights(ours, theirs.state_dict())
    images, dataset = torch.randn(3, 3, 128, 96), torch.tensor([0, 5, 3])
    with torch.inference_mode():
        expected = theirs(images, dataset_index=dataset if experts > 1 else None).heatmaps
        heatmaps = ours(images, dataset=dataset if experts > 1 else 0)["heatmaps"]
    assert expected.abs().max() > 0.5
    assert (heatmaps - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_keypoints": 14}, "14 keypoints .the model has 17., so build the model with num_keypoints=14, or start"),
        ({"num_keypoints": (17, 14)}, r"num_keypoints=\(17, 14\)"),
        ({"dim": 48}, "48 channels .the model has 24., so build the model with dim=48"),
        ({"depth": 4}, "4 blocks .the model has 2., so build the model with depth=4"),
        ({"decoder": "simple"}, "has the simple decoder and the model the classic: build it with decoder='simple'"),
        ({"decoder": "minimal"}, "has the minimal decoder"),
        ({"experts": 3, "part": 8}, "has experts .ViTPose.. and the model has none"),
        ({"crop_size": (96, 128)}, "position table of 48 cells and the model one of 4 x 3: .*resample=True"),
        ({"knowledge_token": True}, "1 are unknown .backbone.knowledge_token."),
        ({"mlp_ratio": 2.0}, "have another shape .backbone.blocks.0.mlp.fc1.weight"),
    ],
)
def test_what_does_not_fit_is_named_with_the_remedy(options, words):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        checkpoints.load_weights(model, small(1, **options).state_dict())
    assert same(before, model.state_dict())


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="another kind of model"):
        checkpoints.load_weights(small(), {"fc.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="no plain vision transformer"):
        checkpoints.start_from(small(), {"fc.weight": torch.zeros(3)})


def test_a_table_for_other_crops_is_resampled_when_asked():
    source, target = small(1, crop_size=(96, 128)).state_dict(), small()
    load_vitpose(target, source, resample=True)
    expected = resample_positions(source["backbone.pos_embed"], (8, 6), (4, 3))
    assert torch.equal(target.state_dict()["backbone.pos_embed"], expected)
    with pytest.raises(ValueError, match="22 rows is neither .* so it cannot be resampled"):
        load_vitpose(target, source | {"backbone.pos_embed": torch.zeros(1, 22, 24)}, resample=True)


def autoencoder(dim=24, depth=2, patch=16, cells=49):
    """The state dict of a masked autoencoder, as its authors name it."""
    torch.manual_seed(2)
    source = small(3, dim=dim, depth=depth).backbone.state_dict()
    state = {name: torch.randn(value.shape) for name, value in source.items() if not name.startswith("last_norm")}
    state |= {"pos_embed": torch.randn(1, cells + 1, dim), "patch_embed.proj.weight": torch.randn(dim, 3, patch, patch)}
    extra = ("cls_token", "mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.norm1.weight")
    return state | {name: torch.zeros(1, 1, dim) for name in (*extra, "norm.weight", "norm.bias")}


@pytest.mark.parametrize("patch", [16, 14])
def test_starts_from_a_masked_autoencoder(patch):
    state, model = autoencoder(patch=patch), small()
    fresh = checkpoints.start_from(model, state)
    assert {name.split(".")[0] for name in fresh if "last_norm" not in name} == {"keypoint_head"}
    assert {name for name in fresh if "backbone" in name} == {"backbone.last_norm.weight", "backbone.last_norm.bias"}
    after = model.state_dict()
    assert torch.equal(after["backbone.blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])
    assert torch.equal(after["backbone.pos_embed"], resample_positions(state["pos_embed"], (7, 7), (4, 3)))
    if patch == 16:
        assert torch.equal(after["backbone.patch_embed.proj.weight"], state["patch_embed.proj.weight"])


def test_an_autoencoder_of_another_size_is_refused():
    with pytest.raises(ValueError, match="48 channels .the model has 24."):
        checkpoints.start_from(small(), autoencoder(dim=48))
    with pytest.raises(ValueError, match="3 blocks .the model has 2."):
        checkpoints.start_from(small(), autoencoder(depth=3))


def test_other_keypoints_keep_the_trunk_and_what_fits_of_the_decoder():
    source, model = small(1, num_keypoints=14).state_dict(), small(knowledge_token=True)
    fresh = checkpoints.start_from(model, source)
    final = ["keypoint_head.final_layer.weight", "keypoint_head.final_layer.bias"]
    assert sorted(fresh) == sorted(["backbone.knowledge_token", *final])
    assert torch.equal(
        model.state_dict()["keypoint_head.deconv_layers.0.weight"], source["keypoint_head.deconv_layers.0.weight"]
    )


def test_experts_start_as_the_plain_layer():
    plain, model = small(1), small(experts=3, part=8)
    assert checkpoints.start_from(model, plain.state_dict()) == []
    images = torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        for index in range(3):
            assert torch.equal(merge_experts(model, index)(images)["heatmaps"], plain(images)["heatmaps"])


@pytest.mark.parametrize("options", [{}, {"num_keypoints": (5, 7), "experts": 2, "part": 8}, {"decoder": "minimal"}])
def test_the_size_is_read_from_the_weights(options):
    read = size(small(**options).state_dict())
    rebuilt = small(heads=2, **({"filters": 8} | read))
    assert {n: v.shape for n, v in rebuilt.state_dict().items()} == {
        n: v.shape for n, v in small(**options).state_dict().items()
    }
