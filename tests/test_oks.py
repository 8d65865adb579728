"""Object keypoint similarity: Eq. 5 by hand, pycocotools to the last bit, pairing."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval

from posekit.evaluation import match_people, oks
from posekit.layouts import COCO

SIGMAS = COCO.sigmas


def theirs(dt, gt, visibility, areas, boxes, sigmas):
    """The table that pycocotools computes for one image."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations()
        annotations.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": 1}],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": areas[i],
                    "num_keypoints": 1,
                    "bbox": [*boxes[i, :2], *(boxes[i, 2:] - boxes[i, :2])],
                    "keypoints": np.column_stack([gt[i], visibility[i]]).ravel().tolist(),
                }
                for i in range(len(gt))
            ],
        }
        annotations.createIndex()
        rows = [
            {
                "image_id": 1,
                "category_id": 1,
                "score": 1 - i / 100,
                "keypoints": np.column_stack([points, np.ones(len(points))]).ravel().tolist(),
            }
            for i, points in enumerate(dt)
        ]
        scorer = COCOeval(annotations, annotations.loadRes(rows), "keypoints")
        scorer.params.kpt_oks_sigmas = np.asarray(sigmas)
        scorer._prepare()
        return np.asarray(scorer.computeOks(1, 1))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 8), st.sampled_from([1, 4, 9, 14, 17, 23]))
def test_equal_to_pycocotools_to_the_last_bit(seed, d, g, k):
    rng = np.random.default_rng(seed)
    gt = rng.random((g, k, 2)) * 300
    dt = gt[rng.integers(g, size=d)] + rng.normal(0, 8, (d, k, 2))
    visibility = rng.choice(3, (g, k)) * (rng.random((g, 1)) < 0.8)  # every fifth person has no labelled joint
    corner = rng.random((g, 2)) * 200
    boxes = np.concatenate([corner, corner + rng.integers(1, 200, (g, 2))], 1)
    areas, sigmas = rng.random(g) * 20000, rng.random(k) * 0.1 + 0.02
    expected = theirs(dt, gt, visibility, areas, boxes, sigmas)
    np.testing.assert_allclose(oks(dt, gt, visibility, areas, sigmas, boxes), expected, rtol=0, atol=1e-14)
    labelled = (visibility > 0).any(1)  # with joints no box takes part, so not a bit may differ
    ours = oks(dt, gt[labelled], visibility[labelled], areas[labelled], sigmas)
    np.testing.assert_array_equal(ours, expected[:, labelled])


def test_equation_5_by_hand():
    gt, dt = np.zeros((1, 3, 2)), np.array([[[0.0, 0.0], [3.0, 4.0], [90.0, 90.0]]])
    sigmas, area = np.array([0.1, 0.05, 0.1]), 1000.0
    expected = (1 + np.exp(-25 / (2 * area * 0.1**2))) / 2  # the third joint is not labelled
    assert oks(dt, gt, [[2, 1, 0]], [area], sigmas)[0, 0] == pytest.approx(expected, abs=1e-15)


def test_nobody_labelled_is_measured_from_the_doubled_box():
    gt, boxes = np.zeros((1, 2, 2)), [[100.0, 100.0, 140.0, 120.0]]
    inside = np.array([[[60.0, 80.0], [180.0, 140.0]]])  # corners of the box grown by its size on every side
    assert oks(inside, gt, np.zeros((1, 2)), [800.0], [0.1, 0.1], boxes)[0, 0] == 1
    assert oks(inside - (9, 0), gt, np.zeros((1, 2)), [800.0], [0.1, 0.1], boxes)[0, 0] < 1
    with pytest.raises(ValueError, match="person 0 has no labelled keypoint.*boxes_gt"):
        oks(inside, gt, np.zeros((1, 2)), [800.0], [0.1, 0.1])


def test_pairing_finds_a_permutation_and_prefers_the_surer_of_equals():
    rng = np.random.default_rng(1)
    gt = rng.random((5, 17, 2)) * 100 + 200 * np.arange(5)[:, None, None]
    order = rng.permutation(5)
    dt = np.concatenate([gt[order], gt[order]])
    scores = np.concatenate([np.full(5, 0.2), np.full(5, 0.7)])
    found, people, similarity = match_people(dt, gt, np.full((5, 17), 2), np.full(5, 5000.0), SIGMAS, scores=scores)
    assert people.tolist() == [0, 1, 2, 3, 4]
    assert order[found - 5].tolist() == [0, 1, 2, 3, 4]
    assert (similarity == 1).all()


def test_pairing_serves_everybody_where_greedy_would_not():
    gt = np.zeros((2, 1, 2))
    gt[1] = 10
    dt = np.array([[[4.0, 4.0]], [[-8.0, -8.0]]])  # the first is the best for both; the second reaches person 0 only
    found, people, _ = match_people(dt, gt, np.full((2, 1), 2), [900.0, 900.0], [0.2])
    assert (found.tolist(), people.tolist()) == ([1, 0], [0, 1])
    found, people, _ = match_people(dt, gt, np.full((2, 1), 2), [900.0, 900.0], [0.2], min_oks=0.7)
    assert len(found) == len(people) < 2


def test_pairing_without_predictions_or_people():
    some, none = np.zeros((2, 17, 2)), np.zeros((0, 17, 2))
    for dt, gt in ((some, none), (none, some), (none, none)):
        parts = match_people(dt, gt, np.full(gt.shape[:2], 2), np.full(len(gt), 9.0), SIGMAS)
        assert all(len(part) == 0 for part in parts)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sigmas": SIGMAS[:5]}, "5 sigmas need keypoints of shape"),
        ({"areas": [1.0, 2.0]}, "1 people need visibility"),
        ({"keypoints_dt": np.zeros((3, 14, 2))}, "17 sigmas need keypoints"),
    ],
)
def test_shapes_that_do_not_fit(change, sentence):
    fine = {
        "keypoints_dt": np.zeros((3, 17, 2)),
        "keypoints_gt": np.zeros((1, 17, 2)),
        "visibility_gt": np.ones((1, 17)),
        "areas": [5.0],
        "sigmas": SIGMAS,
    }
    assert oks(**fine).shape == (3, 1)
    with pytest.raises(ValueError, match=sentence):
        oks(**(fine | change))
