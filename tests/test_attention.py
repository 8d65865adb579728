"""Attention maps brought to the picture: which token, which query, how much of it lies on a person."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posebook.analysis import attention
from posekit.layouts import COCO
from posekit.models import build
from posekit.poses import Poses

H, W = 4, 6  # tokens
LOGITS = torch.tensor([[0.0, 1, 0], [0, 3, 0], [0, 2, 0], [0, 0, 9], [0, 0, 5]])  # "person" is the middle one


def maps(size=(96, 64), scale=1.0, input_size=(96, 64)):
    """Every token attends to itself alone; query q to token q."""
    eye = torch.eye(H * W)
    outputs = {
        "encoder_attention": eye.expand(2, 1, 3, -1, -1),
        "decoder_attention": eye[:5].expand(2, 1, 3, -1, -1),
        "logits": LOGITS.expand(2, 1, -1, -1),
        "feature_size": torch.tensor([H, W]),
    }
    to_original = torch.tensor([[scale, 0, 0], [0, scale, 0]])
    return attention.Maps(outputs, {"size": torch.tensor(size), "to_original": to_original}, input_size)


@given(x=st.floats(0, 95.9), y=st.floats(0, 63.9))
def test_a_point_meets_its_own_token(x, y):
    seen = maps().encoder((x, y))
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    assert seen.shape == (H, W) and (row, column) == (int(y // 16), int(x // 16))


def test_points_are_of_the_original_picture_not_of_the_input():
    small, large = maps(scale=1.0), maps(scale=10.0)  # a picture ten times as large, reduced for the network
    assert small.token((50, 40)) == large.token((500, 400))
    assert small.token((-5, 999)) == (H - 1) * W  # outside: the nearest


def test_padding_is_cut_off():
    assert maps(size=(48, 64)).encoder((1, 1)).shape == (H, 3)
    assert maps(size=(96, 33)).decoder(0).shape == (2, W)


def test_queries_in_the_order_of_decode():
    model = build("poet_tiny").eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 128, 128), attention=True)
    target = {"size": torch.tensor([128, 128]), "to_original": torch.eye(3)[:2]}
    order = attention.Maps(outputs, target, (128, 128)).queries()
    poses = model.decode(outputs, torch.tensor([[128, 128]]))[0]
    pose = outputs["pose"][-1, 0][order[0]]
    np.testing.assert_allclose(poses.centers[0], 128 * pose[:2].numpy(), rtol=1e-5)


def target_of(*points):
    """Two seen torso joints at each point, a box of 20 x 20 around it."""
    n = len(points)
    keypoints, visibility = np.zeros((n, 17, 2), np.float32), np.zeros((n, 17), np.uint8)
    for i, point in enumerate(points):
        keypoints[i, [5, 11]], visibility[i, [5, 11]] = point, 2
    boxes = np.array([(x - 10, y - 10, x + 10, y + 10) for x, y in points], np.float32).reshape(-1, 4)
    areas = np.arange(n, dtype=np.float32) * 100 + 400
    return {"keypoints": keypoints, "visibility": visibility, "boxes": boxes, "areas": areas}


def test_reference_points_one_per_person_and_the_background():
    target = target_of((20, 20), (70, 40))
    points = attention.reference_points(target, (96, 64), COCO)
    assert [p["person"] for p in points] == [1, 0, None]  # the larger first
    np.testing.assert_allclose(points[0]["point"], (70, 40))
    x, y = points[-1]["point"]
    assert all(not (x0 <= x <= x1 and y0 <= y <= y1) for x0, y0, x1, y1 in target["boxes"])
    assert len(attention.reference_points(target, (96, 64), COCO, count=2)) == 2


def test_someone_of_whom_nothing_is_seen_has_no_point():
    target = target_of((20, 20))
    target["visibility"][:] = 1
    assert [p["person"] for p in attention.reference_points(target, (96, 64), COCO)] == [None]


def test_finders_pair_one_to_one_and_only_the_sure():
    target = target_of((20, 20), (70, 40))
    seen = maps()
    keypoints = np.zeros((5, 17, 2), np.float32)
    keypoints[:3] = target["keypoints"][[1, 0, 0]]  # two predictions of person 0: one is left over
    poses = Poses(keypoints, np.ones((5, 17)), np.array([0.9, 0.8, 0.7, 0.6, 0.1], np.float32))
    found = attention.detecting_queries(poses, target, seen, COCO.sigmas)
    assert [(f["person"], f["pose"]) for f in found][0] == (1, 0) and len(found) == 2
    assert found[0]["query"] == seen.queries()[0] == 1
    assert attention.detecting_queries(poses, target, seen, COCO.sigmas, threshold=0.95) == []


@given(st.floats(0, 60), st.floats(0, 40), st.floats(1, 36), st.floats(1, 24))
def test_even_attention_has_no_preference(x, y, w, h):
    inside, covered = attention.focus(np.full((H, W), 0.3), (x, y, x + w, y + h), (96, 64))
    assert inside == pytest.approx(covered) and covered == pytest.approx(w * h / (96 * 64))


def test_focus_of_attention_within_the_box():
    weights = np.zeros((H, W))
    weights[1, 2] = 1
    assert attention.focus(weights, (32, 16, 48, 32), (96, 64)) == (1.0, pytest.approx(1 / 24))
    assert attention.focus(weights, (0, 0, 16, 16), (96, 64))[0] == 0


def test_rows_for_every_layer_and_joint():
    target, seen = target_of((20, 20), (70, 40)), maps()
    found = [{"query": 1, "pose": 0, "person": 0, "oks": 1.0}]
    rows = attention.focus_rows(seen, target, found, (96, 64), COCO)
    assert {(r["part"], r["layer"]) for r in rows} == {(p, i) for p in ("encoder", "decoder") for i in (1, 2)}
    own_token = next(r for r in rows if r["part"] == "encoder")
    assert own_token["inside"] == (14 / 16) ** 2  # the part of it that the box covers
    joints = attention.region_rows(seen, target, found, (96, 64), COCO)
    assert [(r["joint"], r["region"]) for r in joints] == [("left_shoulder", "torso"), ("left_hip", "torso")]
    assert "other" not in {attention._region(name) for name in COCO.keypoints}
