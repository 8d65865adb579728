"""Exported RTMO, in the form of published files, against the model itself: people, nobody, batches, any size."""

import functools
import json
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from posekit.export import export
from posekit.export.rtmo import expected, rows
from posekit.inference import Predictor
from posekit.models.coordinate_classifier import classifier
from posekit.models.masked_autoencoder import mae_tiny
from posekit.models.rtmo import rtmo_tiny
from posekit.runners import Exported, Session, load

onnx = pytest.importorskip("onnx", reason="exporting needs the package onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="running exports needs the package onnxruntime")


def noise(count, size, seed=0):
    """Smooth noise float32 (count, 3, H, W) from 0 to 255, RGB."""
    coarse = torch.rand(count, 3, size[0] // 16, size[1] // 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(255 * coarse, size=size, mode="bilinear")


def normalised(model, images):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (model.input.mean, model.input.std))
    return (images / 255 - mean) / std


@functools.cache
@torch.no_grad()
def lively(size, seed=0, **options):
    """A small model with random weights that finds some people in noise, in boxes of a person's size, none in grey."""
    torch.manual_seed(seed)
    model, images = rtmo_tiny((8, 16, 24, 32, 48), **options), noise(4, size)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()(normalised(model, images), proxies=False)
    for layer in model.head.out_bbox:
        layer.weight *= 0.05
        layer.bias[2:] += 1.2
    if options.get("decoding", "dcc") != "regression":
        # Random heatmaps have peaks far apart, between which rounding decides, in torch too: make them broad
        for layer in (model.classifier.gau.o, model.classifier.x_fc, model.classifier.y_fc):
            layer.weight *= 0.2
    logits = model.eval()(normalised(model, images), proxies=False)["cls_logits"]
    for layer in model.head.out_cls:
        layer.weight *= 2 / logits.std()
        layer.bias.fill_(0)
    logits = model(normalised(model, images), proxies=False)["cls_logits"]
    for layer in model.head.out_cls:
        layer.bias -= logits.quantile(0.95) + 2.2
    return model


@torch.no_grad()
def found(model, images, **options):
    """What the model itself decodes, in the frame of exported files: boxes are not compared where they are cut."""
    size = torch.tensor([[images.shape[3], images.shape[2]]]).repeat(len(images), 1)
    return model.decode(model(normalised(model, images), proxies=False), size, max_people=50, **options)


def bgr(images):
    return np.ascontiguousarray(images.flip(1).numpy())


def onnx_run(path, images):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": bgr(images)})


def openvino_run(path, images):
    return load("rtmo_tiny", path, backend="openvino").session.run([bgr(images)])


def opened(path, backend="onnxruntime", threshold=0.0, **options):
    return Predictor(load("rtmo_tiny", path, backend=backend, **options), threshold=threshold)


def agree(poses, dets, keypoints, tolerance=1e-3):
    """The same people in the same order, rows of zeros behind them."""
    assert dets.shape[:2] == keypoints.shape[:2] == (len(poses), max(map(len, poses)))
    for ours, box, person in zip(poses, dets, keypoints, strict=True):
        n = len(ours)
        assert (box[n:] == 0).all() and (person[n:] == 0).all() and (box[:n, 4] > 0).all()
        np.testing.assert_allclose(box[:n, 4], ours.scores, atol=1e-4)
        np.testing.assert_allclose(person[:n, :, :2] + 0.5, ours.keypoints, atol=tolerance)
        np.testing.assert_allclose(person[:n, :, 2], ours.visibility, atol=1e-4)


CASES = {
    "square": ((128, 128), {}),
    "wide": ((96, 160), {"num_keypoints": 5, "features": (3, 4, 5)}),
    "tall, bins of the picture": ((128, 64), {"decoding": "cc"}),
    "a vector per bin": ((64, 96), {"decoding": "cc+dba", "num_keypoints": 14}),
    "regression": ((96, 128), {"decoding": "regression", "features": (4,)}),
    "odd bins": ((64, 96), {"bins": (31, 47)}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_graph_finds_what_the_model_finds(case, tmp_path):
    size, options = CASES[case]
    model = lively(size, **options)
    path = str(export(model, tmp_path / "model.onnx", size))
    images = noise(3, size, seed=1)
    images[1] = 114  # nobody
    poses = found(model, images)
    assert sum(map(len, poses)) > 2 and len({len(p) for p in poses}) > 1
    agree(poses, *onnx_run(path, images))
    if case == "wide":
        pytest.importorskip("openvino", reason="the comparison with OpenVINO needs the package openvino")
        agree(poses[:1], *onnx_run(path, images[:1]))
        session = load("rtmo_tiny", path, backend="openvino").session
        for count in (3, 1):
            agree(poses[:count], *session.run([bgr(images[:count])]))


def test_nobody_anywhere(tmp_path):
    size = (64, 96)
    path = str(export(lively(size), tmp_path / "model.onnx", size, score_threshold=0.9999))
    for run in (onnx_run, openvino_run) if OPENVINO else (onnx_run,):
        dets, keypoints = run(path, noise(2, size))
        assert dets.shape == (2, 0, 5) and keypoints.shape == (2, 0, 17, 3)


def test_limits_are_those_of_decode(tmp_path):
    size = (64, 96)
    model, images = lively(size), noise(2, size, seed=3)
    limits = {"score_threshold": 0.05, "nms_iou": 0.3}
    path = export(model, tmp_path / "model.onnx", size, max_people=3, **limits)
    poses = [p.select(slice(3)) for p in found(model, images, **limits)]
    assert max(map(len, found(model, images, **limits))) > 3
    agree(poses, *onnx_run(path, images))


def test_one_picture_at_a_time(tmp_path):
    size = (64, 96)
    model, images = lively(size), noise(2, size, seed=1)
    path = export(model, tmp_path / "model.onnx", size, dynamic_batch=False)
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    agree(found(model, images[:1]), *onnx_run(path, images[:1]))
    pictures = [x.permute(1, 2, 0).to(torch.uint8).numpy() for x in images]
    assert [len(p) for p in opened(path)(pictures)] == [len(p) for p in found(model, images.floor())]


def test_the_contract_of_published_files(tmp_path):
    size = (64, 96)
    graph = onnx.load(export(lively(size), tmp_path / "model.onnx", size))
    onnx.checker.check_model(graph, full_check=True)

    def shapes(values):
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    assert shapes(graph.graph.input) == {"input": ["batch", 3, 64, 96]}
    assert shapes(graph.graph.output) == {"dets": ["batch", "people", 5], "keypoints": ["batch", "people", 17, 3]}
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("NonMaxSuppression") == 1 and "BatchNormalization" not in kinds
    assert graph.opset_import[0].version == 17


def test_bins_in_groups_give_the_same_mean():
    torch.manual_seed(0)
    for count in (192, 48, 12, 10):
        layer = classifier(8, 3, bins=(count, count)).double()
        bins = torch.linspace(-0.5, 0.5, count, dtype=torch.float64) * torch.tensor([[90.0], [300.0]]).double() + 7
        features = torch.randn(2, 3, 128, dtype=torch.float64)
        with torch.no_grad():
            whole = (layer.logits(features, bins, layer.x_fc).softmax(-1) * bins[:, None]).sum(-1)
            torch.testing.assert_close(expected(features @ layer.x_fc.weight, bins, layer.dim_t), whole)


def test_rows_of_pictures_with_different_numbers_of_people():
    table = rows(torch.tensor([0, 0, 2, 2, 2, -1]), torch.arange(4))
    assert table.tolist() == [[0, 1, -1], [-1, -1, -1], [2, 3, 4], [-1, -1, -1]]
    assert rows(torch.tensor([-1]), torch.arange(2)).shape == (2, 0)


PICTURES = [x.permute(1, 2, 0).to(torch.uint8).numpy() for x in noise(3, (96, 160), seed=5)]
PICTURES = [PICTURES[0], PICTURES[1][:70], PICTURES[2][:, :90]]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    model = lively((96, 160))
    return model, export(model, tmp_path_factory.mktemp("export") / "model.onnx", (96, 160))


try:
    import openvino  # noqa: F401

    OPENVINO = True
except ModuleNotFoundError:
    OPENVINO = False
needs_openvino = pytest.mark.skipif(not OPENVINO, reason="the package openvino is missing")


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_a_predictor_takes_a_graph(backend, wide):
    model, path = wide
    wanted = Predictor(model, size=(96, 160))(PICTURES)
    assert sum(map(len, wanted)) > 5
    predictor = opened(path, backend)
    for poses in (predictor(PICTURES), predictor(PICTURES, 1), [predictor(picture) for picture in PICTURES]):
        for ours, theirs in zip(poses, wanted, strict=True):
            np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)
            np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    strict = opened(path, backend, threshold=0.3)(PICTURES)
    assert [len(p) for p in strict] == [(p.scores >= 0.3).sum() for p in wanted]


@needs_openvino
def test_bf16_keeps_pixels_out_of_its_arithmetic(wide):
    model, path = wide
    wanted, poses = Predictor(model, size=(96, 160))(PICTURES), opened(path, "openvino", precision="bf16")(PICTURES)
    assert abs(sum(map(len, poses)) - sum(map(len, wanted))) <= 3
    for ours, theirs in zip(poses, wanted, strict=True):
        nearest = np.abs(ours.boxes[:, None] - theirs.boxes).max(-1).min(0)
        assert np.median(nearest) < 0.5  # a pixel number in bf16 would be off by up to 0.5 at 128


def test_files_of_others_are_read_as_published_ones(wide, tmp_path):
    model, path = wide
    graph = onnx.load(path)
    assert json.loads(graph.metadata_props[0].value)["input"]["pad"] == 114
    del graph.metadata_props[:]
    other = tmp_path / "other.onnx"
    onnx.save(graph, other)
    theirs, ours = (opened(each)(PICTURES[1]) for each in (other, path))
    assert len(ours)  # others number pixels by their middles: what they find lies half a pixel of the picture lower
    np.testing.assert_allclose(theirs.keypoints, ours.keypoints - 0.5, atol=1e-4)
    np.testing.assert_allclose(theirs.boxes, ours.boxes - 0.5, atol=1e-4)
    if OPENVINO:
        with pytest.raises(ValueError, match="use f32"):
            opened(other, "openvino", precision="bf16")


def test_rows_of_zeros_are_nobody_and_boxes_end_at_the_border():
    dets = np.zeros((1, 3, 5), np.float32)
    dets[0, 0] = -9, 2, 500, 40, 0.7
    found, outputs = [dets, np.zeros((1, 3, 17, 3), np.float32)], {"dets": [], "keypoints": [None, None, 17, 3]}
    network = Exported(Session(lambda arrays: found, {"input": [None, 3, 64, 96]}, outputs, None), rtmo_tiny())
    (poses,) = network.decode(network(torch.zeros(1, 3, 64, 96)), torch.tensor([[96, 64]]))
    assert poses.boxes.tolist() == [[0, 2.5, 96, 40.5]] and (poses.keypoints == 0.5).all()


def test_bad_input_is_told_in_a_sentence(wide, tmp_path, monkeypatch):
    model, path = wide
    with pytest.raises(ValueError, match="multiples of 32, not 100 x 96"):
        export(model, tmp_path / "model.onnx", (100, 96))
    with pytest.raises(ValueError, match="MaskedAutoencoder finds no poses"):
        export(mae_tiny(), tmp_path / "model.onnx")
    with pytest.raises(FileNotFoundError, match="no exported model at .*nothing.onnx"):
        opened(tmp_path / "nothing.onnx")
    for options, sentence in (
        ({"backend": "openvino", "precision": "f16"}, "'f16'; choose one of f32, bf16"),
        ({"precision": "bf16"}, "bf16 needs backend='openvino'"),
        ({"backend": "tensorrt"}, "'tensorrt'; choose one of torch, onnxruntime, openvino"),
        ({"backend": "torch"}, "an exported graph; give backend='onnxruntime'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            opened(path, **options)
    with pytest.raises(ValueError, match="exported RTMO and poet_tiny is a POET"):
        load("poet_tiny", path, backend="onnxruntime")
    with pytest.raises(ValueError, match="sees 96 x 160 pixels .* not 64 x 64: export one of that size"):
        Predictor(load("rtmo_tiny", path, backend="onnxruntime"), size=64)(PICTURES)
    for name, use in {
        "onnx": lambda: export(model, tmp_path / "model.onnx"),
        "onnxruntime": lambda: opened(path),
        "openvino": lambda: opened(path, "openvino"),
    }.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ModuleNotFoundError, match=rf"package {name}: pip install 'posekit\[export\]'"):
            use()
    assert not (tmp_path / "model.onnx").exists()
