"""RTMO's network: published values, shapes under every switch, decoding, deployment, and published weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import rtmo_forward
from golden.replay import replay
from torch import nn

import posekit
from posekit import models
from posekit.models import checkpoints
from posekit.models.checkpoints_rtmo import CONSTANTS, published_name, swap_colours
from posekit.models.coordinate_classifier import DECODINGS, CoordinateClassifier, classifier
from posekit.models.rtmo import grid_priors, rtmo, survivors
from posekit.models.rtmo_pyramid import CSPDarknet, Focus

GOLDEN = Path(__file__).parent / "golden" / "rtmo"


@pytest.fixture(scope="module")
def tiny():
    """A tiny RTMO whose weights and running statistics are all different, so that mistakes show."""
    torch.manual_seed(0)
    model = models.build("rtmo_tiny", num_keypoints=5).eval()
    checkpoints.load_weights(model, rtmo_forward.published(model))
    return model


def test_a_changed_golden_value_is_noticed(tmp_path):
    arrays = dict(np.load(GOLDEN / "components.npz"))
    changed = {"spe1d.out", "spe2d.out", "gau.out", "priors.out", "nms.keep_thr0.65"}
    for name in changed:
        arrays[name].flat[-1] += 1 if arrays[name].dtype.kind == "i" else 0.1 * np.abs(arrays[name]).max()
    np.savez(tmp_path / "components.npz", **arrays)
    assert {row.check for row in replay(tmp_path).rows if not row.passed} == changed


@pytest.mark.parametrize(
    "name, trained, paper",
    [("t", 6.83, None), ("s", 9.87, 9.9), ("m", 22.53, 22.6), ("l", 44.69, 44.8), ("r50", 41.58, 41.7)],
)
def test_parameter_counts_are_the_papers(name, trained, paper):
    with torch.device("meta"):
        model = models.build(f"rtmo_{name}")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(trained, abs=0.005)
    if paper:  # which counts the running statistics of the batch norms
        assert round(sum(value.numel() for value in model.state_dict().values()) / 1e6, 1) == paper


def test_tiny_is_tiny():
    assert sum(p.numel() for p in models.build("rtmo_tiny").parameters()) < 1e6


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize(
    "features, keypoints, cells",
    [((4, 5), 17, 4 * 6 + 2 * 3), ((3, 4, 5), 1, 8 * 12 + 4 * 6 + 2 * 3), ((3, 4), 14, 120)],
)
def test_outputs_have_the_documented_shapes(decoding, features, keypoints, cells):
    model = models.build("rtmo_tiny", num_keypoints=keypoints, features=features, decoding=decoding)
    outputs = model(torch.rand(2, 3, 64, 96))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "cls_logits": (2, cells),
        "boxes": (2, cells, 4),
        "box_raw": (2, cells, 4),
        "priors": (cells, 3),
        "vis_logits": (2, cells, keypoints),
        "pose_features": (2, cells, 128),
        "proxy_keypoints": (2, cells, keypoints, 2),
    }
    people = model.classifier(outputs["pose_features"][0], outputs["boxes"][0], outputs["priors"][:, :2])
    shapes = {name: tuple(value.shape) for name, value in people.items()}
    expected = {"keypoints": (cells, keypoints, 2)}
    if decoding != "regression":
        expected |= {"heatmap_x": (cells, keypoints, 32), "heatmap_y": (cells, keypoints, 48)}
        expected |= {"bins_x": (cells, 32), "bins_y": (cells, 48), "sigmas": (cells, keypoints)}
        assert torch.allclose(people["heatmap_x"].sum(-1), torch.ones(()), atol=1e-5)
    assert shapes == expected
    assert "proxy_keypoints" not in model.eval()(torch.rand(1, 3, 64, 96))


def test_priors_are_the_middles_of_the_cells():
    priors = grid_priors([(2, 3), (1, 1)], [16, 32])
    assert priors[:, 2].tolist() == [16] * 6 + [32]
    assert priors[[0, 1, 3, 6], :2].tolist() == [[7.5, 7.5], [23.5, 7.5], [7.5, 23.5], [15.5, 15.5]]


def test_dynamic_bins_follow_the_box_and_fixed_ones_the_grid():
    features, grids = torch.randn(2, 8), torch.tensor([[40.0, 40.0], [40.0, 40.0]])
    boxes = torch.tensor([[0.0, 0.0, 20.0, 40.0], [10.0, 20.0, 110.0, 60.0]])
    for decoding in ("dcc", "cc+dba"):
        people = classifier(8, 3, decoding, dim=16, bins=(6, 8)).eval()(features, boxes, grids)
        assert torch.allclose(people["bins_x"][:, [0, -1]], torch.tensor([[-2.5, 22.5], [-2.5, 122.5]]))
        assert torch.allclose(people["bins_y"][:, [0, -1]], torch.tensor([[-5.0, 45.0], [15.0, 65.0]]))
    fixed = classifier(8, 3, "cc", reach=64, dim=16, bins=(6, 8)).eval()(features, boxes, grids)
    assert fixed["bins_x"][:, [0, -1]].tolist() == [[-24, 104]] * 2


def test_bin_encoding_sees_the_place_of_a_bin_and_static_vectors_do_not():
    features, grids = torch.randn(1, 8).repeat(2, 1), torch.full((2, 2), 40.0)
    boxes = torch.tensor([[20.0, 20.0, 60.0, 60.0], [50.0, 50.0, 60.0, 60.0]])
    heatmaps = {}
    for decoding in ("dcc", "cc+dba"):
        module = classifier(8, 3, decoding, dim=16, bins=(6, 8)).eval()
        heatmaps[decoding] = module(features, boxes, grids)["heatmap_x"]
    assert torch.equal(heatmaps["cc+dba"][0], heatmaps["cc+dba"][1])
    assert not torch.allclose(heatmaps["dcc"][0], heatmaps["dcc"][1], atol=1e-3)


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("people", [0, 1, 2])
def test_the_classifier_trains_with_few_people_and_none(decoding, people):
    module = classifier(8, 3, decoding).train()
    out = module(torch.randn(people, 8), torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(people, 1), torch.zeros(people, 2))
    assert out["keypoints"].shape == (people, 3, 2)
    sum(value.sum() for value in out.values() if value.requires_grad).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_boxes_receive_a_gradient_from_the_keypoints():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 40.0]], requires_grad=True)
    module = CoordinateClassifier(8, 3).eval()
    module(torch.randn(1, 8), boxes, torch.zeros(1, 2))["keypoints"].sum().backward()
    assert boxes.grad.abs().min() > 0


def scene(model, size=64):
    """Outputs in which only the cells named in a test have a score."""
    outputs = model(torch.rand(2, 3, size, size))
    outputs["cls_logits"] = torch.full_like(outputs["cls_logits"], -9.0)
    return outputs


def test_decode_returns_cocos_frame_best_first(tiny):
    with torch.inference_mode():
        outputs = scene(tiny)
        outputs["cls_logits"][1, 3], outputs["cls_logits"][1, 40], outputs["cls_logits"][0, 7] = 1.0, 2.0, 0.0
        outputs["boxes"] = outputs["boxes"].clone()
        outputs["boxes"][1, 3] = torch.tensor([-9.0, 3.0, 20.0, 90.0])
        outputs["boxes"][1, 40] = torch.tensor([30.0, 30.0, 40.0, 50.0])
        first, second = tiny.decode(outputs, torch.tensor([[64, 64], [60, 64]]))
        cells = torch.tensor([40, 3])
        expected = tiny.classifier(
            outputs["pose_features"][1, cells], outputs["boxes"][1, cells], outputs["priors"][cells, :2]
        )
    assert (len(first), len(second)) == (1, 2)
    np.testing.assert_allclose(second.scores, torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-6)
    np.testing.assert_allclose(second.boxes, [[30.5, 30.5, 40.5, 50.5], [0, 3.5, 20.5, 64]])
    np.testing.assert_allclose(second.keypoints, expected["keypoints"] + 0.5, atol=1e-4)
    np.testing.assert_allclose(second.visibility, outputs["vis_logits"][1, cells].sigmoid(), atol=1e-6)


def test_decode_gives_heatmaps_on_request(tiny):
    with torch.inference_mode():
        outputs = scene(tiny)
        outputs["cls_logits"][1, 3] = 1.0
        poses, maps = tiny.decode(outputs, [(64, 64)] * 2, heatmaps=True)
    assert [m["heatmap_x"].shape for m in maps] == [(0, 5, 32), (1, 5, 32)]
    mean = (maps[1]["heatmap_y"] * maps[1]["bins_y"][:, None]).sum(-1)
    np.testing.assert_allclose(mean, poses[1].keypoints[..., 1], atol=1e-4)
    assert maps[1]["sigmas"].shape == (1, 5)


def test_decode_without_anybody(tiny):
    with torch.inference_mode():
        for poses in tiny.decode(scene(tiny), [(64, 64)] * 2):
            assert poses.keypoints.shape == (0, 5, 2) and poses.boxes.shape == (0, 4) and len(poses) == 0


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_picture_decodes_alike_alone_and_in_a_batch(decoding):
    torch.manual_seed(1)
    model = models.build("rtmo_tiny", decoding=decoding).eval()
    images = torch.rand(3, 3, 64, 96)
    with torch.inference_mode():
        together = model.decode(model(images), [(96, 64)] * 3, score_threshold=0.0, max_people=9)
        (alone,) = model.decode(model(images[1:2]), [(96, 64)], score_threshold=0.0, max_people=9)
    assert len(alone) == 9
    np.testing.assert_allclose(together[1].keypoints, alone.keypoints, atol=1e-3)


def test_survivors_pass_the_threshold_and_do_not_overlap():
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 1], [50, 50, 60, 60]]]).repeat(2, 1, 1)
    scores = torch.tensor([[0.5, 0.9, 0.4, 0.25], [0.05, 0.05, 0.05, 0.05]])
    picture, cell = survivors(scores, boxes, 0.25, 0.45, 100)
    assert (picture.tolist(), cell.tolist()) == ([0, 0], [1, 2])  # 0.25 is not above 0.25
    assert survivors(scores, boxes, 0.25, 0.5, 100)[1].tolist() == [1, 0, 2]  # an overlap of 0.5 is not above 0.5
    assert survivors(scores, boxes, 0.01, 0.65, 1)[0].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["rtmo_tiny", "rtmo_s"])
def test_the_fused_copy_computes_the_same(name):
    model = models.build(name, num_keypoints=3).eval()
    checkpoints.load_weights(model, rtmo_forward.published(model))
    fused, sizes = model.fuse(), [(64, 96)] * 2
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    images = (images - torch.tensor(model.input.mean).view(3, 1, 1)) / torch.tensor(model.input.std).view(3, 1, 1)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in fused.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules()), "the model itself must stay as it was"
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in model.parameters())
    with torch.inference_mode():
        pairs = zip(model.decode(model(images), sizes), fused.decode(fused(images), sizes), strict=True)
    for expected, ours in pairs:
        assert len(expected) > 3
        np.testing.assert_allclose(ours.boxes, expected.boxes, atol=1e-4)
        np.testing.assert_allclose(ours.keypoints, expected.keypoints, atol=1e-4)


def test_focus_and_colours():
    stem, images = Focus(3, 8).eval(), torch.rand(1, 3, 6, 4)
    mirrored = Focus(3, 8).eval()
    mirrored.load_state_dict(stem.state_dict() | {"conv.conv.weight": swap_colours(stem.conv.conv.weight)})
    assert torch.allclose(stem(images), mirrored(images.flip(1)), atol=1e-6)
    assert not torch.allclose(stem(images), mirrored(images), atol=1e-3)


def published(model):
    """The state dict that mmpose would have saved of the model, constants and all."""
    state = {published_name(name): value.clone() for name, value in model.state_dict().items()}
    state["backbone.stem.conv.conv.weight"] = swap_colours(state["backbone.stem.conv.conv.weight"])
    return {name: torch.zeros(3) for name in CONSTANTS} | state  # bins that are no constants are in the state


@pytest.mark.parametrize("legacy", [False, True])
def test_published_files_load(tiny, tmp_path, legacy):
    path = tmp_path / "rtmo.pth"
    meta = {"dataset_meta": {"sigmas": np.ones(5, np.float32), "CLASSES": ("person",)}, "epoch": 600}
    torch.save({"meta": meta, "state_dict": published(tiny)}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:  # as NumPy 1 wrote it
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    model = posekit.load("rtmo_tiny", path, num_keypoints=5)
    expected = tiny.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_our_own_files_keep_their_colours(tiny):
    model = models.build("rtmo_tiny", num_keypoints=5)
    checkpoints.load_weights(model, tiny.state_dict())
    assert torch.equal(model.backbone.stem.conv.conv.weight, tiny.backbone.stem.conv.conv.weight)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_keypoints": 5, "features": (3, 4, 5)}, r"so build rtmo_tiny with features=\(3, 4, 5\)"),
        ({"num_keypoints": 14}, "so build rtmo_tiny with num_keypoints=14"),
        ({"num_keypoints": 5, "decoding": "cc"}, "so build rtmo_tiny with decoding='cc'"),
        ({"num_keypoints": 5, "decoding": "regression"}, "decoding='regression'"),
    ],
)
def test_weights_of_another_rtmo_say_which(tiny, options, words):
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        checkpoints.load_weights(tiny, published(models.build("rtmo_tiny", **options)))
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_weights_of_another_size_say_which(tiny):
    rows = json.loads((GOLDEN / "keys" / "rtmo_t_keys.json").read_text())
    with pytest.raises(ValueError, match="it holds rtmo_t with 17 keypoints.*so build rtmo_t with num_keypoints=17"):
        checkpoints.load_weights(tiny, {name: torch.zeros(shape) for name, shape in rows})


def test_starts_from_another_number_of_keypoints(tiny):
    model = models.build("rtmo_tiny", num_keypoints=14)
    fresh = checkpoints.start_from(model, published(tiny))
    after, source = model.state_dict(), tiny.state_dict()
    assert {name.split(".")[-2] for name in fresh} >= {"sigma_fc", "classifier", "0", "1"}
    assert all(torch.equal(after[name], source[name]) for name in after if name not in fresh)
    assert "head.out_bbox.0.weight" not in fresh and "classifier.x_fc.weight" not in fresh
    assert checkpoints.start_from(models.build("rtmo_tiny", num_keypoints=5), tiny.state_dict()) == []


def test_starts_from_the_backbone_of_a_detector(tiny):
    state = {name: value for name, value in published(tiny).items() if name.startswith("backbone.")}
    model = models.build("rtmo_tiny")
    fresh = checkpoints.start_from(model, state | {"bbox_head.conv.weight": torch.zeros(3)})
    assert not any(name.startswith("backbone.") for name in fresh) and "neck.projector.0.conv.weight" in fresh
    assert torch.equal(model.backbone.stem.conv.conv.weight, tiny.backbone.stem.conv.conv.weight)
    with pytest.raises(ValueError, match="is not of an RTMO or a YOLOX of the model's size"):
        checkpoints.start_from(model, {"backbone.stem.conv.conv.weight": torch.zeros(32, 12, 3, 3)})


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: models.build("rtmo_tiny")(torch.zeros(1, 3, 100, 64)), "multiples of 32, not 100 x 64"),
        (lambda: models.build("rtmo_tiny", decoding="heatmap"), "decoding is 'heatmap'; choose one of dcc, cc"),
        (lambda: models.build("rtmo_tiny", features=(5, 4)), r"features is \(5, 4\); name levels out of"),
        (lambda: models.build("rtmo_tiny", features=(2,)), "name levels out of"),
        (lambda: models.build("rtmo_tiny", dim=50), "50 channels: the position code needs a multiple of 4"),
        (lambda: rtmo("x"), "there is no RTMO-x; sizes are t, s, m, l"),
        (lambda: CSPDarknet((16, 32)), "give 5 widths and 4 depths"),
        (
            lambda: models.build("rtmo_tiny", decoding="regression").decode({}, [], heatmaps=True),
            "'regression' has no heatmaps",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
