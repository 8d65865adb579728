"""Layouts and the pose record."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data import transforms
from posekit.layouts import COCO, CROWDPOSE, LAYOUTS, Layout, layout_for
from posekit.poses import Poses, boxes_around


def poses(n=3, k=17, seed=0) -> Poses:
    rng = np.random.default_rng(seed)
    return Poses(
        rng.uniform(0, 100, (n, k, 2)).astype(np.float32),
        rng.random((n, k)).astype(np.float32),
        rng.random(n).astype(np.float32),
        centers=rng.uniform(0, 100, (n, 2)).astype(np.float32),
    )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_flipping_twice_changes_nothing_and_swaps_the_sides(layout):
    assert (layout.flip[layout.flip] == np.arange(len(layout))).all()
    for name, mirrored in zip(layout.keypoints, layout.flip, strict=True):
        if name.startswith("left_"):
            assert layout.keypoints[mirrored] == name.replace("left_", "right_")


def test_known_layouts_are_found_by_names_and_by_number():
    assert layout_for(17) is COCO and layout_for(CROWDPOSE.keypoints) is CROWDPOSE
    own = layout_for(["left_paw", "right_paw", "tail"])
    assert isinstance(own, Layout) and own.flip.tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match=r"no keypoint layout has 5 keypoints; known: coco \(17\)"):
        layout_for(5)


@settings(deadline=None)
@given(st.integers(0, 5), st.sampled_from([1, 14, 17]))
def test_coco_rows_and_back(n, k):
    people = poses(n, k)
    back = Poses.from_coco(people.to_coco(7), keypoints=k)
    assert len(back) == n
    np.testing.assert_allclose(back.keypoints, people.keypoints, atol=6e-4)
    np.testing.assert_allclose(back.visibility, people.visibility, atol=6e-4)
    np.testing.assert_allclose(back.scores, people.scores)


@settings(deadline=None)
@given(st.floats(-180, 180), st.floats(0.2, 3), st.integers(0, 9))
def test_moving_and_moving_back(angle, factor, seed):
    people = poses(seed=seed)
    matrix = transforms.compose(transforms.rotate(angle, 100, 80), transforms.scale(factor))
    back = people.transform(matrix).transform(transforms.invert(matrix))
    np.testing.assert_allclose(back.keypoints, people.keypoints, atol=1e-3)
    np.testing.assert_allclose(back.centers, people.centers, atol=1e-3)
    moved = people.transform(matrix)
    low, high = moved.keypoints.min(1), moved.keypoints.max(1)
    assert (moved.boxes[:, :2] <= low + 1e-2).all() and (moved.boxes[:, 2:] >= high - 1e-2).all()


def test_selecting_keeps_everything_together():
    people = poses(4)
    chosen = people.select(people.scores.argsort()[::-1])
    best = people.scores.argmax()
    for name in ("keypoints", "visibility", "scores", "boxes", "centers"):
        np.testing.assert_array_equal(getattr(chosen, name)[0], getattr(people, name)[best])


def test_a_box_around_no_joint_is_empty():
    where = np.array([[True, False, True], [False, False, False]])
    keypoints = np.array([[[1, 2], [50, 50], [3, 8]], [[1, 2], [3, 4], [5, 6]]], np.float32)
    assert boxes_around(keypoints, where).tolist() == [[1, 2, 3, 8], [0, 0, 0, 0]]
    assert boxes_around(np.full((1, 2, 2), np.nan)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((np.zeros((2, 17)), np.zeros((2, 17)), np.zeros(2)), r"shape \(N, K, 2\), not \(2, 17\)"),
        ((np.zeros((2, 17, 2)), np.zeros((2, 16)), np.zeros(2)), r"need visibility \(2, 17\).*not \(2, 16\)"),
    ],
)
def test_shapes_are_checked(arrays, words):
    with pytest.raises(ValueError, match=words):
        Poses(*arrays)
