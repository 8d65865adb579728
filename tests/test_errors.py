"""Kinds of errors on poses whose errors are known, and what mending them brings."""

import numpy as np
import pytest

from posekit.evaluation.errors import KINDS, find_errors
from posekit.evaluation.oks import oks
from posekit.layouts import COCO
from posekit.poses import Poses

AREA = 10_000.0
LEFT, RIGHT = COCO.keypoints.index("left_wrist"), COCO.keypoints.index("right_wrist")
NOSE = 0


def scene(people=2, seed=0):
    """People far apart, so that nobody is near to another one's joints unless the test puts it there."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 300, (people, 17, 2)) + np.arange(people)[:, None, None] * 1000
    boxes = np.concatenate([keypoints.min(1), keypoints.max(1)], 1)
    target = {"keypoints": keypoints, "visibility": np.full((people, 17), 2), "boxes": boxes}
    return target | {"areas": np.full(people, AREA)}


def poses_of(target):
    n = len(target["keypoints"])
    return Poses(target["keypoints"].astype(np.float32), np.ones((n, 17), np.float32), np.ones(n, np.float32))


def at_ks(ks, joint):
    """Pixels from a joint's place at which its term of OKS is ks."""
    return np.sqrt(-2 * np.log(ks) * AREA) * 2 * COCO.sigmas[joint]


def kinds_of(poses, target):
    return find_errors([poses], [target], COCO)


def test_each_kind_is_recognised():
    target = scene()
    poses = poses_of(target)
    poses.keypoints[0, NOSE, 0] += at_ks(0.7, NOSE)
    poses.keypoints[0, LEFT] = target["keypoints"][0, RIGHT] + (at_ks(0.9, RIGHT), 0)
    poses.keypoints[0, RIGHT] = target["keypoints"][1, RIGHT]
    poses.keypoints[1, LEFT] = target["keypoints"][0, RIGHT]
    poses.keypoints[1, NOSE] += 5000
    found = kinds_of(poses, target)
    kind = found.kind[np.argsort(found.pairs.person)]
    named = {(0, NOSE): "jitter", (0, LEFT): "inversion", (0, RIGHT): "swap", (1, LEFT): "swap", (1, NOSE): "miss"}
    for (person, joint), word in named.items():
        assert KINDS[kind[person, joint]] == word
    assert (kind == 0).sum() == 34 - len(named) and found.missed == 0


def test_a_joint_within_what_annotators_differ_by_is_good_and_an_unlabelled_one_is_not_judged():
    target = scene(1)
    poses = poses_of(target)
    poses.keypoints[0, NOSE, 0] += at_ks(0.86, NOSE)
    target["visibility"][0, LEFT] = 0
    found = kinds_of(poses, target)
    assert found.kind[0, NOSE] == 0 and found.kind[0, LEFT] == -1
    shares = found.shares()
    assert shares[NOSE].tolist() == [1, 0, 0, 0, 0] and np.isnan(shares[LEFT]).all()


def test_mending_moves_joints_to_their_place_and_leaves_the_others():
    target = scene()
    poses = poses_of(target)
    wrong = target["keypoints"][0, RIGHT] + (at_ks(0.9, RIGHT), 0)
    poses.keypoints[0, LEFT], poses.keypoints[0, NOSE] = wrong, target["keypoints"][0, NOSE] + 5000
    found = kinds_of(poses, target)
    (inverted,) = found.mend([poses], ["inversion"])
    np.testing.assert_allclose(
        inverted.keypoints[0, LEFT] - target["keypoints"][0, LEFT], (at_ks(0.9, RIGHT), 0), atol=0.01
    )
    assert (inverted.keypoints[0, NOSE] == poses.keypoints[0, NOSE]).all()
    (whole,) = found.mend([poses], KINDS[1:])
    arguments = (target["visibility"], target["areas"], COCO.sigmas)
    before, after = (np.diag(oks(one.keypoints, target["keypoints"], *arguments)) for one in (poses, whole))
    assert before[0] < 0.9 and after.min() > 0.98 and (poses.keypoints[0, LEFT] == np.float32(wrong)).all()


@pytest.mark.parametrize("seed", range(5))
def test_mended_poses_are_never_worse(seed):
    rng, target = np.random.default_rng(seed), scene(3, seed)
    target["visibility"] = rng.integers(0, 3, (3, 17))
    poses = poses_of(target)
    poses.keypoints += rng.normal(0, 20, poses.keypoints.shape).astype(np.float32)
    found = kinds_of(poses, target)
    (mended,) = found.mend([poses], KINDS[1:])
    arguments = (target["keypoints"], target["visibility"], target["areas"], COCO.sigmas, target["boxes"])
    before, after = (
        oks(one.keypoints, *arguments)[found.pairs.prediction, found.pairs.person] for one in (poses, mended)
    )
    assert (after >= before - 1e-9).all()


def test_nobody_and_poses_on_nobody():
    target = scene(1)
    far = poses_of(target)
    far.keypoints += 10_000
    found = kinds_of(far, target)
    assert len(found.pairs) == 0 and found.missed == 1 and np.isnan(found.shares()).all()
    empty = {name: value[:0] for name, value in target.items()}
    assert find_errors([far, Poses.nobody(17)], [empty, target], COCO).missed == 1
