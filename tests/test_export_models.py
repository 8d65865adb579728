"""Exported models of all families and fused copies against the models themselves."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_export import OPENVINO, needs_openvino, noise, normalised
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

import posekit
from posebook.benchmarks import poet_inference
from posekit import models
from posekit.data import open_dataset
from posekit.data.transforms import make_batch
from posekit.export import export, graph
from posekit.models.fusion import fused
from posekit.poses import Poses
from posekit.runners import BACKENDS, Exported

pytest.importorskip("onnx", reason="exporting needs the package onnx")
pytest.importorskip("onnxruntime", reason="running exports needs the package onnxruntime")
NAMES = [name for name in models.names() if name.endswith("_tiny") and name not in ("mae_tiny", "rtmo_tiny")]
PIXELS = ("boxes", "keypoints", "centers")


@functools.cache
def settled(name, **options):
    """A model with random weights whose batch norms know noise, so that its outputs depend on the image."""
    torch.manual_seed(0)
    model = models.build(name, **options)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.7  # not all: channels without variance would amplify rounding
        if isinstance(part, nn.ConvTranspose2d) or part is getattr(
            getattr(model, "keypoint_head", None), "final_layer", 0
        ):
            nn.init.normal_(part.weight, std=0.1)
    with torch.no_grad():
        model.train()(images_for(model, 4))
    return model.eval()


def images_for(model, count, size=(128, 128), seed=0):
    if model.input.fit == "crop":
        size = model.crop_size[::-1]
    coarse = noise(count, (160, 160), seed)
    return normalised(model, nn.functional.interpolate(coarse, size=size, mode="bilinear"))


@torch.inference_mode()
def raw(model, images, mask=None):
    outputs = model(images, mask)
    return model.people(outputs) if hasattr(model, "people") else outputs


def agree(found, expected, images):
    """Pixels to 1e-3, other numbers to 1e-4 of the largest."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        scale = max(images.shape[2:]) if name in PIXELS and value.abs().max() < 3 else 1.0  # POET's are relative
        tolerance = 1e-3 / scale if name in PIXELS else 1e-4 * float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_puts_out_what_the_model_does(name):
    model = settled(name)
    data, images = graph(model), images_for(model, 3, seed=1)
    mask = None
    if name.startswith("poet"):
        mask = torch.zeros_like(images[:, 0], dtype=torch.bool)
        mask[0, 80:], mask[1, :, 72:] = True, True
    expected = raw(model, images, mask)
    spread = max(float(value.std(-1).max()) for value in expected.values())
    assert spread > 1e-3, "the outputs must depend on the image"
    for backend in ("onnxruntime", "openvino") if OPENVINO else ("onnxruntime",):
        network = Exported(BACKENDS[backend](data, "f32", 1), model)
        agree(raw(network, images, mask), expected, images)
        first = raw(network, images[:1], None if mask is None else mask[:1])
        poses, wanted = (
            model.decode(outputs, torch.tensor([images.shape[:1:-1]]))[0]
            for outputs in (first, raw(model, images[:1], None if mask is None else mask[:1]))
        )
        if name in ("poet_tiny", "rtmpose_tiny", "simple_baseline_tiny"):  # others find nobody in noise, or everybody
            assert len(poses) == len(wanted) > 0
            np.testing.assert_allclose(poses.keypoints, wanted.keypoints, atol=1e-3)
            np.testing.assert_allclose(poses.scores, wanted.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["poet_tiny", "ae_tiny"])
def test_one_graph_takes_images_of_any_size(name):
    model = settled(name, input=replace(models.build(name).input, fit="shortest"))
    network = Exported(BACKENDS["onnxruntime"](graph(model), "f32", 1), model)
    for size in ((96, 160), (160, 64), (128, 128)):
        images = images_for(model, 2, size)
        agree(raw(network, images), raw(model, images), images)
    fixed = Exported(BACKENDS["onnxruntime"](graph(model, (96, 160)), "f32", 1), model)
    assert (fixed.input.fit, fixed.input.size) == ("letterbox", (96, 160))
    with pytest.raises(ValueError, match="sees 96 x 160 pixels"):
        fixed(images)


@functools.cache
def people():
    """Three drawn images of different shapes and their annotated people."""
    data = open_dataset("people", "val", count=3)
    images = [np.array(data.image(0)), np.array(data.image(1))[:100], np.array(data.image(2))[:, :90]]
    targets = [data.target(i) for i in range(3)]
    return images, [Poses(t["keypoints"], t["visibility"] > 0, np.ones(len(t["boxes"])), t["boxes"]) for t in targets]


@pytest.mark.parametrize(
    "name, backend",
    [
        ("rtmo_tiny", "onnxruntime"),
        ("poet_tiny", "onnxruntime"),
        pytest.param("poet_tiny", "openvino", marks=needs_openvino),
        pytest.param("vitpose_tiny", "openvino", marks=needs_openvino),
    ],
)
def test_one_runner_serves_all_families(name, backend):
    images, annotated = people()
    detector = {"detector": lambda _: annotated} if name.startswith("vitpose") else {}
    wanted, poses = (
        posekit.Predictor(posekit.load(name, "scenes", **options), threshold=0.05, **detector)(images)
        for options in ({}, {"backend": backend})
    )
    assert sum(map(len, wanted)) > 3
    for ours, theirs in zip(poses, wanted, strict=True):
        np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


@needs_openvino
def test_bf16_ends_before_poets_pixels():
    images, _ = people()
    exact, rounded = (posekit.load("poet_tiny", "scenes", backend="openvino", precision=p) for p in ("f32", "bf16"))
    assert len(exact.session.facts["seam"]) == 1
    batch = make_batch(images, exact.input)
    one, other = (raw(each, batch["images"], batch["padding_mask"])["keypoints"] * 128 for each in (exact, rounded))
    assert 0 < (one - other).abs().median() < 0.5


def test_a_file_knows_its_keypoints_and_its_input(tmp_path):
    model = settled("poet_tiny", num_keypoints=5, num_queries=7)
    path = export(model, tmp_path / "poet.onnx", (96, 160))
    network = posekit.load("poet_tiny", path, backend="onnxruntime")
    assert network.num_keypoints == 5 and network.input == replace(model.input, size=(96, 160))
    picture = people()[0][0]
    ours, theirs = (posekit.Predictor(each, size=(96, 160))(picture) for each in (network, model))
    np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
    assert ours.keypoints.shape == (7, 5, 2)
    with pytest.raises(ValueError, match=r"sees crops of \(height, width\) = \(96, 72\), not of 128"):
        graph(settled("vitpose_tiny"), 128)
    with pytest.raises(TypeError, match="max_people"):
        graph(model, max_people=3)


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_copy_has_no_batch_norm_and_computes_the_same(name):
    model = settled(name)
    copy, images = model.fuse(), images_for(model, 2, seed=1)
    before = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    assert before and not any(isinstance(part, nn.BatchNorm2d) for part in copy.modules())
    agree(raw(copy, images), raw(model, images), images)


def test_frozen_transposed_and_activating_batch_norms_are_folded():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.ConvTranspose2d(8, 6, 4, 2, bias=False), BatchNormAct2d(6)
    )
    for norm in (layers[1], layers[3]):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(value, 0.5, 2)
    images = torch.randn(2, 3, 9, 9)
    assert isinstance(fused(layers)[3], nn.ReLU)
    torch.testing.assert_close(fused(layers)(images), layers.eval()(images))


def test_folding_is_asked_for():
    plain, again, folded = (posekit.load("poet_tiny", "scenes", **options) for options in ({}, {}, {"fuse": True}))
    images = images_for(plain, 1)
    assert torch.equal(raw(plain, images)["keypoints"], raw(again, images)["keypoints"])
    agree(raw(folded, images), raw(plain, images), images)
    low = raw(posekit.load("poet_tiny", "scenes", fuse=True, precision="bf16"), images)["keypoints"]
    assert low.dtype == torch.float32 and 0 < 128 * (low - raw(plain, images)["keypoints"]).abs().median() < 0.5


@needs_openvino
def test_the_benchmark_compares_equal_networks(monkeypatch, capsys):
    monkeypatch.setattr(poet_inference, "bf16_distances", lambda name: (3, 3, np.ones(5)))
    monkeypatch.setattr(poet_inference, "WITHOUT", {"eager at best": 0.0, "exported": 1e9})
    monkeypatch.setattr(poet_inference, "bf16_here", lambda: False)
    (missed,) = poet_inference.poet_inference("poet_tiny", 64, rounds=1)
    assert "poet_tiny, exported: " in missed and "less than 1000000000.0" in missed
    printed = capsys.readouterr().out
    assert printed.count("not run: this CPU has no bf16 instructions") == 3
    for line in printed.splitlines():
        if " x; at most" in line:
            assert float(line.split("at most ")[1].split(" px")[0]) < 1e-3
    assert poet_inference.training_ratio("poet_tiny", 64, rounds=1) > 0
