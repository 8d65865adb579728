"""OKS-NMS against a plain loop, and crops gathered to the poses of pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.evaluation.oks import oks
from posekit.layouts import COCO
from posekit.models.heatmap_decoding import rescore
from posekit.poses import Poses, join
from posekit.topdown import merge_crops, oks_nms

SIGMAS = COCO.sigmas


def crowd(seed, n=12, spread=4.0):
    """People in three heaps."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 100, (3, 17, 2))[rng.integers(0, 3, n)] + rng.normal(0, spread, (n, 17, 2))
    scores = rng.permutation(np.linspace(0.1, 0.9, n)).astype(np.float32)
    return Poses(base.astype(np.float32), np.ones((n, 17), np.float32), scores)


def areas_of(poses):
    return np.prod(poses.boxes[:, 2:] - poses.boxes[:, :2], axis=1).astype(float)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.3, 0.95), st.floats(0.5, 8))
def test_hard_suppression_is_the_greedy_loop(seed, threshold, spread):
    poses = crowd(seed, spread=spread)
    areas = areas_of(poses)
    order, kept = list(np.argsort(-poses.scores)), []
    while order:
        best = order.pop(0)
        kept.append(best)
        scale = [(areas[best] + areas[i]) / 2 for i in order]
        alike = [
            oks(poses.keypoints[i : i + 1], poses.keypoints[best : best + 1], np.ones((1, 17)), [s], SIGMAS)[0, 0]
            for i, s in zip(order, scale, strict=True)
        ]
        order = [i for i, value in zip(order, alike, strict=True) if value <= threshold]
    assert oks_nms(poses, SIGMAS, threshold).tolist() == kept


def test_the_area_decides_what_is_alike():
    poses = crowd(2, n=2, spread=0)
    poses.keypoints[1] = poses.keypoints[0] + 2
    assert len(oks_nms(poses, SIGMAS, 0.9, areas=np.array([1e6, 1e6]))) == 1
    assert len(oks_nms(poses, SIGMAS, 0.9, areas=np.array([10.0, 10.0]))) == 2


def test_nobody_and_damaged_poses():
    nobody = crowd(0).select(slice(0, 0))
    assert len(oks_nms(nobody, SIGMAS)) == 0
    broken = crowd(0)
    broken.keypoints[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        oks_nms(broken, SIGMAS)
    with pytest.raises(ValueError, match="14 sigmas do not fit poses of 17 keypoints"):
        oks_nms(crowd(0), SIGMAS[:14])
    with pytest.raises(ValueError, match="no poses to join"):
        join([])


def test_a_score_is_the_boxs_times_the_mean_of_the_sure_joints():
    values = np.array([[0.9, 0.5, 0.2, 0.1], [0.1, 0.2, 0.0, 0.15]], np.float32)
    assert rescore(values, np.array([0.5, 1.0])) == pytest.approx([0.35, 0.0])
    assert rescore(values, threshold=0.0)[0] == pytest.approx(0.425)


def test_crops_become_the_poses_of_an_image():
    one = crowd(3, n=1)
    shift, box_scores = np.array([0, 0, 300]), np.array([0.5, 0.9, 0.8])
    back = np.array([[[2.0, 0, x], [0, 2.0, 0]] for x in shift])
    boxes = np.stack([shift, 0 * shift, shift + 90, 0 * shift + 90], 1)
    crops = (join([one] * 3), back, boxes, box_scores, np.full(3, 100.0 * 120.0), SIGMAS)
    found = merge_crops(*crops)  # the first two are duplicates
    assert found.scores == pytest.approx(one.scores[0] * np.array([0.9, 0.8]))
    assert found.keypoints[1] == pytest.approx(2 * one.keypoints[0] + (300, 0), rel=1e-5)
    assert found.boxes[:, 0].tolist() == [0, 300]
    every = merge_crops(*crops, threshold=None)
    assert len(every) == 3 and (np.diff(every.scores) <= 0).all()
