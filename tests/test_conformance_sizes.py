"""A directory in ViTPose's format of other sizes, from reference code of this file: 288 x 384 crops, 133 keypoints, an
image of 150 x 200, file names of its own, some arrays left out."""

import json

import conformance
import cv2
import numpy as np
import pytest
import torch
from golden.replay import replay
from golden.rules import plain_tensor
from scipy.ndimage import map_coordinates

CROP, MAPS, K, IMAGE = (288, 384), (72, 96), 133, (200, 150)  # (width, height)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, *range(17, K)]
BOXES = np.array([[20.0, 30.0, 60.0, 70.0], [90.5, 10.0, 80.0, 120.0], [-10.0, 50.0, 90.0, 60.0]])


def center_scale(boxes):
    """x, y, width, height -> the centre and the padded size in units of 200 px, in the crop's aspect ratio."""
    rows = []
    for x, y, w, h in boxes:
        w, h = max(w, h * CROP[0] / CROP[1]), max(h, w * CROP[1] / CROP[0])
        rows.append([x + (boxes[len(rows), 2]) / 2, y + (boxes[len(rows), 3]) / 2, w * 1.25 / 200, h * 1.25 / 200])
    return np.array(rows)


def udp_matrix(center, scale, degrees=0.0, size=CROP):
    """UDP's matrix (Huang et al. 2020): first to last pixel centre of the crop."""
    theta, (w, h) = np.deg2rad(degrees), np.array(scale) * 200
    sx, sy, (cx, cy) = (size[0] - 1) / w, (size[1] - 1) / h, center
    cos, sin = np.cos(theta), np.sin(theta)
    first = [cos * sx, -sin * sx, sx * (-cx * cos + cy * sin + w / 2)]
    return np.array([first, [sin * sy, cos * sy, sy * (-cx * sin - cy * cos + h / 2)]])


def crop_file(image, boxes):
    rows = center_scale(boxes)
    matrices = np.stack([udp_matrix(row[:2], row[2:]) for row in rows])
    crops = np.stack([cv2.warpAffine(image, m, CROP, flags=cv2.INTER_LINEAR) for m in matrices])
    normal = ((crops / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    x, y = np.meshgrid(np.arange(CROP[0]), np.arange(CROP[1]))
    smooth = np.empty_like(normal)
    for n, matrix in enumerate(matrices):
        back = cv2.invertAffineTransform(matrix)
        source = back @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        for c in range(3):
            plane = map_coordinates(image[..., c].astype(float), source[::-1], order=1, mode="grid-constant")
            smooth[n, c] = (plane.reshape(x.shape) / 255 - MEAN[c]) / STD[c]
    index = np.random.default_rng(0).choice(normal.size, 4000, replace=False)
    degrees = np.array([-30.0, 0.0, 45.0])
    return {
        "boxes": boxes,
        "center_scale": rows,
        "warp": matrices,
        "index": index,
        "cv2_value": normal.ravel()[index],
        "scipy_value": smooth.ravel()[index],
        "cv2_uint8_thumb": crops[:, ::8, ::8],
        "rot_deg": degrees,
        "udp_matrix": np.stack([udp_matrix((100, 60), (0.6, 0.8), d, (192, 256)) for d in degrees]),
    }


def decode_file(rng):
    """Maps with a Gaussian per keypoint, decoded one at a time: the highest cell, and UDP's refinement of it (DARK)."""
    (w, h), boxes = MAPS, BOXES[:2]
    true = rng.uniform(8, [w - 8, h - 8], (2, K, 2))
    y, x = np.mgrid[:h, :w]
    squares = (x - true[..., 0, None, None]) ** 2 + (y - true[..., 1, None, None]) ** 2
    maps = (0.9 * np.exp(-squares / 8) + 1e-3 * rng.random(squares.shape)).astype(np.float16)
    coarse, fine, scores = np.empty((2, K, 2)), np.empty((2, K, 2)), np.empty((2, K, 1), np.float32)
    for n, k in np.ndindex(2, K):
        one = maps[n, k].astype(np.float32)
        row, column = np.unravel_index(one.argmax(), one.shape)
        scores[n, k], coarse[n, k] = one.max(), (column, row)
        log = np.log(np.clip(cv2.GaussianBlur(one, (11, 11), 0), 1e-3, 50)).astype(np.float64)
        near = log[row - 1 : row + 2, column - 1 : column + 2]
        gradient = np.array([near[1, 2] - near[1, 0], near[2, 1] - near[0, 1]]) / 2
        dxx, dyy = near[1, 2] - 2 * near[1, 1] + near[1, 0], near[2, 1] - 2 * near[1, 1] + near[0, 1]
        dxy = (near[2, 2] - near[1, 2] - near[2, 1] + 2 * near[1, 1] - near[1, 0] - near[0, 1] + near[0, 0]) / 2
        fine[n, k] = coarse[n, k] - np.linalg.solve([[dxx, dxy], [dxy, dyy]], gradient)
    rows = center_scale(boxes)
    center, size = rows[:, None, :2], rows[:, None, 2:] * 200
    return {
        "heatmaps": maps,
        "true_xy_heatmap": true,
        "boxes": boxes,
        "pub_udp11": fine * size / (np.array(MAPS) - 1) + center - size / 2,
        "pub_none": coarse * size / np.array(MAPS) + center - size / 2,
        "pub_score": scores,
    }


def targets_file(rng, maps):
    """UDP's target: a Gaussian around the joint, cut to the square of three sigma around its cell."""
    joints = np.concatenate([rng.uniform(-5, [CROP[0] + 5, CROP[1] + 5], (K, 2)), np.zeros((K, 1))], 1).astype(
        np.float32
    )
    visible = (rng.random((K, 1)) < 0.8).astype(np.float32).repeat(3, 1)
    target, weight = np.zeros((K, MAPS[1], MAPS[0])), visible[:, :1].copy()
    for k in range(K):
        middle = joints[k, :2].astype(float) / (np.array(CROP) - 1) * (np.array(MAPS) - 1)
        cell = (middle + 0.5).astype(int)
        if (cell - 6 >= MAPS).any() or (cell + 7 < 0).any():
            weight[k] = 0
        for row in range(max(0, cell[1] - 6), min(MAPS[1], cell[1] + 7)) if weight[k] else ():
            for column in range(max(0, cell[0] - 6), min(MAPS[0], cell[0] + 7)):
                target[k, row, column] = np.exp(-((column - middle[0]) ** 2 + (row - middle[1]) ** 2) / 8)
    squares = (maps.astype(np.float32) - target) ** 2
    losses = {"loss_weighted": (squares * weight[:, :, None] ** 2).mean(), "loss_unweighted": squares.mean()}
    return {"joints": joints, "visible": visible, "udp_target": target, "udp_weight": weight} | losses


def summary(value):
    flat = value.reshape(*value.shape[:2], -1)
    index = np.random.default_rng(1).choice(value.size, 3000, replace=False)
    return {
        "shape": np.array(value.shape),
        "index": index,
        "value": value.ravel()[index],
        "channel_mean": flat.mean(-1),
        "channel_std": flat.std(-1),
        "channel_max": flat.max(-1),
        "channel_argmax": flat.argmax(-1),
    }


def network_files(folder):
    """Heatmaps of transformers' ViTPose at this size, alone and with the flip test."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[384, 288], hidden_size=96, num_hidden_layers=2, num_attention_heads=3
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=K, use_simple_decoder=False)
    model = transformers.VitPoseForPoseEstimation(config).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.tensor(plain_tensor(name, shape)) for name, shape in shapes.items()})
    pixels = np.random.Generator(np.random.PCG64(7)).standard_normal((1, 3, 384, 288), dtype=np.float32)
    with torch.inference_mode():
        straight, mirrored = (model(torch.tensor(x.copy())).heatmaps.numpy() for x in (pixels, pixels[..., ::-1]))
    np.savez(folder / "hf_wholebody_tall.npz", **summary(straight))
    np.savez(folder / "hf_wholebody_tall_flipmerge.npz", **summary((straight + mirrored[:, FLIP, :, ::-1]) / 2))
    case = {"hidden": 96, "layers": 2, "heads": 3, "simple": False, "labels": K, "size": [288, 384], "input_seed": 7}
    case |= {"input_shape": [1, 3, 384, 288], "layer_norm_eps": backbone.layer_norm_eps}
    (folder / "manifest.json").write_text(json.dumps({"hf_wholebody_tall": case}))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("sizes"), np.random.default_rng(3)
    y, x = np.mgrid[: IMAGE[1], : IMAGE[0]]
    waves = (127.5 + 127.5 * np.sin(x / 17 + y / 29), 127.5 + 127.5 * np.cos(x / 23 - y / 11), (3 * x + 5 * y) % 256)
    image = np.floor(np.stack(waves, -1)).astype(np.uint8)
    decoded = decode_file(rng)
    maps = decoded["heatmaps"].astype(np.float32)
    np.savez(folder / "crop.npz", **crop_file(image, BOXES))
    np.savez(folder / "decode.npz", **decoded)
    np.savez(folder / "targets.npz", **targets_file(rng, decoded["heatmaps"]))
    merged = (maps[:1] + maps[1:, FLIP, :, ::-1]) / 2
    np.savez(folder / "flip.npz", merged_0_with_flipped_1=merged, pairs=[[i, j] for i, j in enumerate(FLIP) if i < j])
    network_files(folder)
    return folder


def test_a_directory_of_other_sizes_passes(directory, capsys):
    assert conformance.main([str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    absent = {tuple(line.split()[:2]) for line in lines if "not in this directory" in line}
    assert ("targets.npz", "udp_combined_target") in absent and ("decode.npz", "hf_keypoints") in absent
    assert ("crop.npz", "plain_matrix") in absent and len(absent) < 20 and "0 failed" in lines[-1]


def test_an_unknown_option_of_a_manifest_is_named(directory, tmp_path):
    cases = json.loads((directory / "manifest.json").read_text())
    cases["hf_wholebody_tall"]["rotary"] = True
    (tmp_path / "manifest.json").write_text(json.dumps(cases))
    for path in directory.glob("hf_*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    failed = [row for row in replay(tmp_path).rows if not row.passed]
    assert {row.file for row in failed} == {"manifest.json", *(path.name for path in directory.glob("hf_*.npz"))}
    assert all("rotary" in row.error for row in failed)


@pytest.mark.parametrize("option, value", [("size", [192, 256]), ("labels", 17)])
def test_the_manifest_says_the_size_and_the_number_of_keypoints(directory, tmp_path, option, value):
    cases = json.loads((directory / "manifest.json").read_text())
    cases["hf_wholebody_tall"][option] = value
    (tmp_path / "manifest.json").write_text(json.dumps(cases))
    (tmp_path / "hf_wholebody_tall.npz").write_bytes((directory / "hf_wholebody_tall.npz").read_bytes())
    assert conformance.main([str(tmp_path)]) == 1


def test_a_directory_without_one_value_to_compare_fails(directory, tmp_path):
    arrays = dict(np.load(directory / "decode.npz"))
    np.savez(tmp_path / "decode.npz", **{name: arrays[name] for name in ("heatmaps", "boxes")})
    assert conformance.main([str(tmp_path)]) == 1
