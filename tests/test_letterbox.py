"""Images fitted into a square or a rectangle, with padding where the alignment says."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_augment import make_target, random_people, seeds, turning

from posekit.data import transforms
from posekit.data.augment import (
    Augment,
)
from posekit.layouts import layout_for


def test_the_published_letterbox():
    """The numbers of RTMO's released code: whole and fractional borders, wide, tall and enlarged pictures."""
    for row in json.loads((Path(__file__).parent / "golden/rtmo/geometry.json").read_text())["letterbox"]:
        width, height = row["image_wh"]
        augment = Augment("none", size=tuple(row["input_wh"][::-1]), pad=114, align="centre")
        matrix, size, _ = augment.draw(width, height, np.random.default_rng(0))
        assert list(size) == row["input_wh"]
        assert np.abs(matrix - row["warp_2x3"]).max() < 1e-3
        inside = transforms.transform_points(matrix, np.array(row["points"]))
        assert np.abs(inside - row["points_in_input"]).max() < 1e-3
        assert np.abs(transforms.transform_points(transforms.invert(matrix), inside) - row["points"]).max() < 1e-3


@given(
    seed=seeds,
    align=st.sampled_from(["topleft", "centre"]),
    policy=st.sampled_from(["none", "scenes", "released"]),
    size=st.sampled_from([96, (64, 160), (160, 96)]),
)
@settings(max_examples=60, deadline=None)
def test_a_filled_letterbox_maps_back(seed, align, policy, size):
    rng = np.random.default_rng(seed)
    width, height = (int(value) for value in rng.integers(30, 400, 2))
    target = random_people(rng, 3, width, height)
    image = np.full((height, width, 3), 200, np.uint8)
    augment = Augment(policy, size=size, align=align, pad=114)
    filled, moved, back = augment(image, target, rng)
    frame = (size, size) if isinstance(size, int) else size
    assert filled.shape == (*frame, 3) and moved["size"].tolist() == [frame[1], frame[0]]
    labelled = moved["visibility"] > 0
    original = transforms.transform_points(back, moved["keypoints"])[labelled]
    distances = np.linalg.norm(original[:, None] - target["keypoints"].reshape(1, -1, 2), axis=2).min(1)
    assert (distances < 1e-3 * max(1, width / frame[1], height / frame[0])).all()
    assert (moved["keypoints"] >= 0).all() and (moved["keypoints"] <= moved["size"]).all()


def test_padding_is_filled_where_the_alignment_says():
    image, target = np.full((50, 100, 3), 200, np.uint8), make_target([[[50, 25]]], boxes=[[0, 0, 100, 50]])
    for align, top in (("topleft", 0), ("centre", 32)):
        augment = Augment("none", layout_for(["nose"]), size=128, pad=114, align=align)
        filled, moved, _ = augment(image, target, np.random.default_rng(0))
        inner = filled[:, 1:-1]
        assert (inner[top + 1 : top + 63] == 200).all()
        assert (inner[: max(top - 1, 0)] == 114).all() and (inner[top + 65 :] == 114).all()  # one row is blended
        assert moved["boxes"].tolist() == [[0, top, 128, top + 64]]
        assert moved["keypoints"].tolist() == [[[64, top + 32]]]
        assert moved["areas"].tolist() == pytest.approx([100 * 1.28**2])
    turned = Augment(turning("scenes", 25), size=128, pad=114, align="centre")(
        np.full((100, 100, 3), 200, np.uint8), make_target(np.zeros((0, 17, 2))), np.random.default_rng(2)
    )[0]
    assert turned.min() > 60  # no black corner


def test_without_padding_value_nothing_is_filled():
    image, target = np.full((50, 100, 3), 200, np.uint8), make_target(np.zeros((0, 17, 2)))
    picture, moved, _ = Augment("none", size=(64, 96))(image, target, np.random.default_rng(0))
    assert picture.shape == (48, 96, 3) and moved["size"].tolist() == [96, 48]
    picture, _, _ = Augment("none", size=(24, 96))(image, target, np.random.default_rng(0))
    assert picture.shape == (24, 48, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"align": "center"}, "aligned 'topleft' or in the 'centre', not 'center'"),
        ({"align": "centre", "size": 64}, "align='centre' needs a pad value"),
        ({"pad": 114}, "pad=114 fills a letterbox of a given size .*give size"),
        ({"pad": 256, "size": 64}, "pad=256 .* from 0 to 255"),
    ],
)
def test_wrong_letterboxes_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Augment("none", **options)
