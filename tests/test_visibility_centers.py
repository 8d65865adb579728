"""Visibility and centres: known answers, exact statistics, pairing of whole data sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.evaluation import (
    calibration,
    compare_centers,
    compare_visibility,
    pair_people,
    roc,
    true_centers,
)
from posekit.poses import Poses


def test_shares_on_the_right_side_of_the_threshold():
    predicted = np.array([[0.1, 0.49, 0.5, 0.9], [0.2, 0.51, 0.5, 0.99]])
    truth = np.array([[0, 1, 0, 1], [2, 2, 2, 2]])
    result = compare_visibility(predicted, truth)
    assert (result.hidden, result.visible) == (4, 4)
    assert (result.hidden_correct, result.visible_correct) == (0.5, 0.5)
    assert {flag: len(values) for flag, values in result.by_flag.items()} == {0: 2, 1: 2, 2: 4}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40))
def test_area_under_the_curve_is_the_share_of_ordered_pairs(rows):
    p, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    false_rate, true_rate, area = roc(p, positive)
    if positive.all() or not positive.any():
        assert np.isnan(area)
        return
    up, down = p[positive][:, None], p[~positive]
    assert area == pytest.approx(((up > down) + 0.5 * (up == down)).mean())
    assert (np.diff(false_rate) >= 0).all() and (np.diff(true_rate) >= 0).all()
    assert (false_rate[0], true_rate[0], false_rate[-1], true_rate[-1]) == (0, 0, 1, 1)


def test_calibration_of_an_honest_and_of_a_boasting_model():
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    seen = rng.random(20000) < p
    honest, boasting = calibration(p, seen), calibration(np.where(p > 0.5, 1, 0), seen)
    assert honest.error < 0.02 < 0.2 < boasting.error
    assert honest.count.sum() == 20000 and (np.abs(honest.predicted - honest.observed) < 0.05).all()
    assert boasting.count[0] + boasting.count[-1] == 20000 and np.isnan(boasting.observed[4])


@pytest.mark.parametrize(
    ("predicted", "truth", "sentence"),
    [
        ([0.5, 1.2], [0, 2], r"\[0, 1\], not 1.2"),
        ([0.5, np.nan], [0, 2], r"\[0, 1\], not nan"),
        ([0.5, 0.2], [0, 3], "0, 1 or 2, not 3"),
        ([0.5], [0, 2], "must be alike"),
    ],
)
def test_visibility_that_cannot_be(predicted, truth, sentence):
    with pytest.raises(ValueError, match=sentence):
        compare_visibility(predicted, truth)


def test_centre_is_the_mean_of_seen_joints_only():
    keypoints = np.array([[[0, 0], [10, 20], [90, 90]], [[1, 1], [2, 2], [3, 3]]], float)
    np.testing.assert_array_equal(true_centers(keypoints, [[2, 2, 1], [0, 1, 1]]), [[5, 10], [np.nan, np.nan]])


def test_centre_is_the_mean_of_labelled_joints_where_the_model_learned_so():
    keypoints, flags = np.array([[[0, 0], [10, 20], [80, 70]], [[1, 1], [2, 2], [4, 6]]], float), [[2, 2, 1], [0, 1, 1]]
    np.testing.assert_array_equal(true_centers(keypoints, flags, "labelled"), [[30, 30], [3, 4]])
    boxes, predicted = np.array([[0, 0, 100, 100]] * 2, float), np.array([[30, 30], [3, 4]], float)
    assert compare_centers(predicted, keypoints, flags, boxes, "labelled").pixels.tolist() == [0, 0]
    assert compare_centers(predicted, keypoints, flags, boxes).person.tolist() == [0]
    with pytest.raises(ValueError, match="visible is 'all'; choose one of released, labelled"):
        true_centers(keypoints, flags, "all")


def test_offsets_are_in_units_of_the_box():
    keypoints = np.array([[[40, 40], [60, 60]]] * 4, float)
    boxes = np.array([[0, 0, 100, 200], [0, 0, 100, 200], [0, 0, 100, 200], [50, 50, 50, 80]], float)
    centres = np.array([[60, 30], [150, 50], [50, 50], [50, 50]], float)
    result = compare_centers(centres, keypoints, [[2, 2], [2, 2], [1, 0], [2, 2]], boxes)
    assert result.person.tolist() == [0, 1]  # the third has no seen joint, the last an empty box
    np.testing.assert_allclose(result.offset, [[0.1, -0.1], [1, 0]])
    assert result.inside.tolist() == [True, False]
    summary = result.summary()
    assert summary["median_pixels"] == pytest.approx((np.hypot(10, 20) + 100) / 2)
    assert summary["inside"] == 0.5 and summary["mean"] == pytest.approx((np.hypot(0.1, 0.1) + 1) / 2)
    nobody = compare_centers(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros((0, 2)), np.zeros((0, 4))).summary()
    assert nobody["people"] == 0 and np.isnan(nobody["mean"])
    with pytest.raises(ValueError, match="must be"):
        compare_centers(centres[:2], keypoints, np.ones((4, 2)), boxes)


def scene(rng, people, predictions, k=17):
    """A target and poses in which prediction i is person order[i], moved a little; further ones are noise."""
    keypoints = (rng.random((people, k, 2)) * 60 + rng.random((people, 1, 2)) * 400).astype(np.float32)
    boxes = np.concatenate([keypoints.min(1), keypoints.max(1)], 1)
    target = {
        "keypoints": keypoints,
        "visibility": rng.choice(3, (people, k)).astype(np.uint8),
        "boxes": boxes,
        "areas": np.full(people, 3600, np.float32),
        "ignore": np.zeros((0, 4), np.float32),
    }
    order = rng.permutation(people)
    points = (rng.random((predictions, k, 2)) * 20 + 1000).astype(np.float32)
    points[: len(order)] = keypoints[order][:predictions] + 0.5
    seen = rng.random((predictions, k)).astype(np.float32)
    return (
        target,
        Poses(points, seen, rng.random(predictions).astype(np.float32), centers=points.mean(1)),
        order,
    )


def test_a_data_set_is_paired_person_by_person():
    rng = np.random.default_rng(3)
    scenes = [scene(rng, n, 8) for n in (3, 0, 5, 1)]
    targets, poses, orders = zip(*scenes, strict=True)
    targets[2]["visibility"][2] = 0  # nobody is left out, not even without a labelled joint
    pairs = pair_people(poses, targets)
    assert len(pairs) == 9 and pairs.unpaired == 0
    assert pairs.image.tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 3]
    labelled = (pairs.true_visibility > 0).any(1)
    for image, prediction, person in zip(
        pairs.image[labelled], pairs.prediction[labelled], pairs.person[labelled], strict=True
    ):
        assert orders[image][prediction] == person
    assert pairs.oks[labelled].min() > 0.9
    assert compare_visibility(pairs.visibility, pairs.true_visibility).hidden > 0
    assert len(compare_centers(pairs.centers, pairs.true_keypoints, pairs.true_visibility, pairs.boxes)) > 5


def test_too_few_predictions_and_bad_ones_are_counted():
    rng = np.random.default_rng(4)
    target, poses, _ = scene(rng, 4, 2)
    assert pair_people([poses], [target]).unpaired == 2
    target, poses, _ = scene(rng, 2, 2)
    poses.keypoints += 500
    target["visibility"][:] = 2
    assert (len(pair_people([poses], [target])), len(pair_people([poses], [target], min_oks=0.5))) == (2, 0)
    with pytest.raises(ValueError, match="2 predictions for 1 images"):
        pair_people([poses, poses], [target])


def test_poses_too_many_are_told_apart():
    from posekit.data.drawn.scenes import Scenes
    from posekit.evaluation.pairing import surplus
    from posekit.poses import Poses

    scenes = Scenes(seed=5, count=1, people=(2, 2))
    target = scenes.target(0)
    points = np.concatenate([target["keypoints"], target["keypoints"][1:], target["keypoints"][:1] + 500])
    scores = np.array([0.9, 0.6, 0.8, 0.7], np.float32)
    poses = Poses(points.astype(np.float32), np.ones((4, 17), np.float32), scores)
    pose, person, same = surplus(poses, target, scenes.layout.sigmas)
    assert pose.tolist() == [1, 3] and person[0] == 1  # of two equal ones the surer is the person's
    np.testing.assert_allclose(same, [1.0, 0.0], atol=1e-6)
    assert [len(part) for part in surplus(poses.select([0, 2]), target, scenes.layout.sigmas)] == [0, 0, 0]
    nobody = {name: target[name][:0] for name in ("keypoints", "visibility", "areas", "boxes")}
    pose, person, same = surplus(poses, nobody, scenes.layout.sigmas)
    assert pose.tolist() == [0, 1, 2, 3] and set(person) == {-1} and not same.any()
