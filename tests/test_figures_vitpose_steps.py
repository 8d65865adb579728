"""The figures of ViTPose's annotated paper: what stands where, in whose frame, and what happens at the borders."""

import numpy as np
import pandas as pd
import pytest
import torch

from posebook.analysis import tokens
from posebook.figures import drawing, style, vitpose_overview, vitpose_steps
from posekit import models
from posekit.layouts import COCO
from posekit.models import heatmap_decoding as decoding
from posekit.poses import Poses

IMAGE = np.random.default_rng(0).integers(0, 255, (96, 72, 3)).astype(np.uint8)
PICTURE = np.full((128, 128, 3), 90, np.uint8)


def peak(x, y, shape=(32, 24)):
    lines, columns = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((columns - x) ** 2 + (lines - y) ** 2) / 8).astype(np.float32)


def words(fig):
    return " ".join(text.get_text() for text in fig.findobj(lambda part: hasattr(part, "get_text")))


def whole(fig, stem, folder):
    """Nothing leaves the page, and the figure can be saved."""
    assert [path.suffix for path in style.save(fig, stem, pd.DataFrame({"x": [1]}), folder, "footer")] == [
        ".svg",
        ".png",
        ".csv",
    ]
    fig.draw_without_rendering()
    drawn, page = fig.get_tightbbox(), fig.get_size_inches()
    assert drawn.min.min() >= -0.02 and (drawn.max <= page + 0.02).all()


def test_a_heatmap_lies_where_its_joints_are_decoded_to():
    """The middle of a drawn cell is the place that `to_crop` gives it."""
    left, right, bottom, top = drawing.udp_extent((32, 24), (96, 72))
    middles_x = left + (np.arange(24) + 0.5) * (right - left) / 24
    middles_y = top + (np.arange(32) + 0.5) * (bottom - top) / 32
    cells = np.stack([np.arange(24), np.arange(24)], -1)
    np.testing.assert_allclose(decoding.to_crop(cells, (24, 32), (72, 96))[:, 0], middles_x, atol=1e-4)
    np.testing.assert_allclose(decoding.to_crop(cells, (24, 32), (72, 96))[:, 1], middles_y[:24], atol=1e-4)
    assert drawing.udp_extent((1, 1), (10, 10)) == (-4, 14, 14, -4)


def test_windows_that_leave_the_picture_are_shown_whole(tmp_path):
    boxes = np.array([[5.0, 10, 40, 100], [60, 5, 120, 120], [50, 50, 70, 90]])
    windows = boxes + np.array([-30, -20, 30, 20])
    fig = vitpose_steps.fig_windows(PICTURE, boxes, windows, [IMAGE] * 3, 1, "drawn people, 128 px")
    ax = fig.axes[0]
    assert ax.get_xlim()[0] <= windows[:, 0].min() and ax.get_xlim()[1] >= windows[:, 2].max()
    assert "person 2, followed" in words(fig) and "drawn people, 128 px" in words(fig)
    whole(fig, "windows", tmp_path)


@pytest.mark.parametrize("count", [1, 6])
def test_the_followed_person_is_among_the_crops(count, tmp_path):
    boxes = np.tile([10.0, 10, 50, 90], (count, 1))
    fig = vitpose_steps.fig_windows(PICTURE, boxes, boxes, [IMAGE] * count, count - 1)
    assert f"person {count}, followed" in words(fig)
    assert len(fig.axes) == 1 + min(count, vitpose_steps.MOST)
    whole(fig, "windows", tmp_path)


def test_targets_print_their_highest_value(tmp_path):
    maps = np.stack([peak(5.0, 6.0), 0.25 * peak(10.0, 20.0), np.zeros((32, 24), np.float32)])
    truth = np.array([[16.0, 20.0], [np.nan, np.nan], [3.0, 3.0]])
    fig = vitpose_steps.fig_targets(IMAGE, maps, maps / 2, [0, 1, 2], COCO, truth)
    assert all(value in words(fig) for value in ("1.00", "0.25", "0.50", "0.12", "0.00"))
    whole(fig, "targets", tmp_path)


@pytest.mark.parametrize("place", [(12.3, 15.6), (0.2, 31.0), (22.9, 0.1)])
def test_decodings_are_shown_in_heatmap_index(place, tmp_path):
    heatmap = peak(*place)
    places = {name: decoding.locate(heatmap[None, None], name)[0][0, 0] for name in decoding.METHODS}
    fig = vitpose_steps.fig_decodings(heatmap, places, np.array(place), "wrist")
    assert all(f"{places[name][0]:.2f}  {vitpose_steps.NAMES[name]}" in words(fig) for name in places)
    assert f"{place[0]:.2f}  annotation" in words(fig)
    whole(fig, "decodings", tmp_path)


def test_an_annotation_far_away_or_missing_is_not_drawn_as_near():
    heatmap = peak(12, 15)
    places = {"argmax": np.array([12.0, 15.0])}
    assert "outside of the view" in words(vitpose_steps.fig_decodings(heatmap, places, np.array([13.0, 28.0]), "wrist"))
    assert "annotation" not in words(vitpose_steps.fig_decodings(heatmap, places, np.full(2, np.nan), "wrist"))


def test_the_flip_test_tells_how_far_each_answer_is_off(tmp_path):
    maps = {"straight": peak(5, 6), "mirrored": peak(8, 6)}
    places = {"straight": np.array([15.0, 20.0]), "mirrored": np.array([18.0, 24.0])}
    fig = vitpose_steps.fig_flip(IMAGE, maps, places, np.array([15.0, 20.0]))
    assert "straight\n0.0 px off" in words(fig) and "mirrored\n5.0 px off" in words(fig)
    assert "off" not in words(vitpose_steps.fig_flip(IMAGE, maps, places, np.full(2, np.nan)))
    whole(fig, "flip", tmp_path)


def test_pictures_with_and_without_people(tmp_path):
    keypoints = np.random.default_rng(0).uniform(10, 100, (2, 17, 2)).astype(np.float32)
    some = Poses(keypoints, np.ones((2, 17), np.float32), np.ones(2, np.float32))
    nobody = some.select(slice(0))
    fig = vitpose_steps.fig_boxes(PICTURE, {"one-stage": some, "nobody": nobody})
    assert [len(ax.patches) for ax in fig.axes] == [2, 0]
    whole(fig, "boxes", tmp_path)


def test_a_token_is_followed_block_by_block(tmp_path):
    torch.manual_seed(0)
    seen = tokens.follow(models.build("vitpose_tiny"), IMAGE, (40.0, 50.0))
    fig = vitpose_overview.fig_blocks(seen, [0, 3], dataset="drawn people, 96 px")
    assert "block 1" in words(fig) and "block 4" in words(fig) and "8 x 6" in words(fig)
    whole(fig, "blocks", tmp_path)
