"""Heatmaps: targets and decoding undo one another, the frames meet once, and bad maps are named."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data.heatmaps import STYLES, heatmap_targets
from posekit.layouts import COCO
from posekit.models.heatmap_decoding import METHODS, crop_poses, flip_merge, locate, to_crop, unit

SIZE, HEATMAP = (192, 256), (48, 64)
ONE = np.ones((1, 1), np.float32)


def maps_of(x, y, style="udp", sigma=2.0, size=SIZE, heatmap=HEATMAP):
    return heatmap_targets(np.array([[[x, y]]], float), ONE, size, heatmap, style, sigma)[0]


@settings(max_examples=40, deadline=None)
@given(st.floats(2, 190), st.floats(2, 254), st.sampled_from([("udp", True), ("unbiased", False)]))
def test_dark_finds_the_joint_that_made_the_map(x, y, case):
    style, udp = case
    (poses,) = crop_poses(maps_of(x, y, style), SIZE, udp=udp)
    heat = (np.array([x, y]) - 0.5) / unit(HEATMAP, SIZE, udp)
    edge = min(heat.min(), (np.array(HEATMAP) - 1 - heat).min())
    # the published blur mirrors the map at its border, so a peak near it is moved by more than a cell
    assert np.abs(poses.keypoints[0, 0] - (x, y)).max() < (0.1 if edge > 8 else 8.2)


@pytest.mark.parametrize("size, heatmap", [((192, 256), (48, 64)), ((72, 96), (24, 32)), ((256, 256), (64, 64))])
def test_targets_speak_cocos_frame(size, heatmap):
    """The middle of the crop's first pixel is the first cell with UDP; its mirror image is the last."""
    first = maps_of(0.5, 0.5, size=size, heatmap=heatmap)[0, 0]
    last = maps_of(size[0] - 0.5, size[1] - 0.5, size=size, heatmap=heatmap)[0, 0]
    assert first[0, 0] == 1 and last[-1, -1] == 1
    assert np.abs(first[::-1, ::-1] - last).max() < 1e-6
    assert to_crop(np.zeros(2), heatmap, size).tolist() == [0.5, 0.5]
    assert to_crop(np.array(heatmap) - 1, heatmap, size) == pytest.approx(np.array(size) - 0.5)
    assert to_crop(np.ones(2), heatmap, size, udp=False)[0] == pytest.approx(size[0] / heatmap[0] + 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(STYLES))
def test_all_people_at_once_are_as_one_by_one(seed, style):
    rng = np.random.default_rng(seed)
    joints, weights = rng.uniform(-40, 300, (4, 5, 2)), rng.choice([0, 0.4, 1.0], (4, 5))
    maps, kept = heatmap_targets(joints, weights, SIZE, HEATMAP, style)
    for i in range(4):
        alone, weight = heatmap_targets(joints[i : i + 1], weights[i : i + 1], SIZE, HEATMAP, style)
        assert (maps[i] == alone[0]).all() and (kept[i] == weight[0]).all()
    assert (kept[weights == 0] == 0).all() and maps.dtype == np.float32
    per_joint = maps.reshape(4, 5, -1)
    assert (per_joint[weights <= 0.5] == 0).all()


def test_a_joint_far_outside_weighs_nothing():
    joints = np.array([[[-60.0, 50], [50, 300], [96, 128], [-10, 50]]])
    maps, weights = heatmap_targets(joints, np.ones((1, 4)), SIZE, HEATMAP)
    assert weights.tolist() == [[0, 0, 1, 1]]
    assert maps[0, 3].max() > 0.1  # it lies outside, its map reaches in


def test_no_people_give_empty_targets_and_bad_joints_a_sentence():
    maps, weights = heatmap_targets(np.zeros((0, 17, 2)), np.zeros((0, 17)), SIZE, HEATMAP)
    assert maps.shape == (0, 17, 64, 48) and weights.shape == (0, 17)
    joints = np.full((1, 2, 2), np.nan)
    assert heatmap_targets(joints, np.zeros((1, 2)), SIZE, HEATMAP)[0].max() == 0  # not labelled, not looked at
    with pytest.raises(ValueError, match="joint 1 of person 0 is labelled but not finite"):
        heatmap_targets(joints, np.array([[0, 1]]), SIZE, HEATMAP)
    with pytest.raises(ValueError, match="style is 'gauss'; choose one of udp, msra"):
        heatmap_targets(joints, np.zeros((1, 2)), SIZE, HEATMAP, "gauss")


def test_an_axis_of_one_cell_is_no_division_by_zero():
    maps, _ = heatmap_targets(np.full((1, 1, 2), 0.5), ONE, (8, 8), (1, 1))
    assert maps.shape == (1, 1, 1, 1) and locate(maps)[0].tolist() == [[[0, 0]]]


# --- decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("style", ["published", "transformers"])
def test_crops_are_decoded_independently(method, udp, style):
    maps = np.random.default_rng(0).uniform(-0.2, 1, (3, 4, 16, 12)).astype(np.float32)
    points, values = locate(maps, method, udp, 5, style)
    for i in range(3):
        alone, value = locate(torch.from_numpy(maps[i : i + 1]), method, udp, 5, style)
        assert points[i] == pytest.approx(alone[0], abs=1e-4) and (values[i] == value[0]).all()
    assert np.isfinite(points).all()


@pytest.mark.parametrize("corner", [(0, 0), (0, 11), (15, 0), (15, 11), (7, 0), (0, 5)])
@pytest.mark.parametrize("shape", [(16, 12), (3, 3), (2, 5)])
def test_peaks_on_the_border_stay_on_it_or_near(corner, shape):
    maps = np.full((1, 1, *shape), 0.01, np.float32)
    row, column = min(corner[0], shape[0] - 1), min(corner[1], shape[1] - 1)
    maps[0, 0, row, column] = 1
    for method in METHODS:
        for udp in (True, False):
            point = locate(maps, method, udp)[0][0, 0]
            assert np.abs(point - (column, row)).max() <= 1.0


def test_a_quarter_towards_the_larger_neighbour():
    maps = np.zeros((1, 1, 9, 9), np.float32)
    maps[0, 0, 4, 4], maps[0, 0, 4, 5], maps[0, 0, 3, 4] = 1, 0.5, 0.5
    assert locate(maps, "quarter")[0][0, 0].tolist() == [4.25, 3.75]
    assert locate(maps, "argmax")[0][0, 0].tolist() == [4, 4]


def test_maps_without_a_positive_value_have_a_defined_result():
    maps = np.full((2, 3, 16, 12), -0.5, np.float32)
    maps[1] = 0
    for method in METHODS:
        points, values = locate(maps, method)
        assert (points == -1).all() and values[:, 0].tolist() == [-0.5, 0]
    poses = crop_poses(maps, (48, 64))
    assert len(poses) == 2 and poses[0].visibility.max() == 0 and poses[0].scores.tolist() == [0]


def test_damaged_heatmaps_are_named():
    maps = np.zeros((2, 3, 4, 4), np.float32)
    maps[1, 2, 0, 0] = np.nan
    with pytest.raises(ValueError, match="keypoint 2 of crop 1 holds NaN"):
        locate(maps)
    for arguments, sentence in (
        ({"method": "best"}, "method is 'best'"),
        ({"style": "other"}, "style is 'other'"),
        ({"kernel": 4}, "4 cells"),
    ):
        with pytest.raises(ValueError, match=sentence):
            locate(np.zeros((1, 1, 4, 4)), **arguments)
    with pytest.raises(ValueError, match="not \\(3, 4, 4\\)"):
        locate(np.zeros((3, 4, 4)))


def test_zero_crops_give_no_poses():
    assert crop_poses(torch.zeros(0, 17, 64, 48), np.zeros((0, 2))) == []


def test_a_flip_test_of_a_mirrored_crop_changes_nothing():
    maps = torch.rand(2, 17, 8, 6)
    mirrored = maps[:, COCO.flip.tolist()].flip(-1)
    assert torch.allclose(flip_merge(maps, mirrored, COCO.flip), maps)
    moved = flip_merge(torch.zeros(1, 17, 1, 3), torch.arange(3.0).expand(1, 17, 1, 3), COCO.flip, shift=True)
    assert moved[0, 0, 0].tolist() == [1.0, 1.0, 0.5]
