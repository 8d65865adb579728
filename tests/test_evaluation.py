"""posekit.evaluation against pycocotools: the same numbers, bit for bit, on drawn and on awkward cases."""

import contextlib
import copy
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from coco_rows import folder, found, person, pose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval

from posekit.evaluation import STATS, evaluate, evaluate_by_people, per_joint_oks
from posekit.layouts import CROWDPOSE

GOLDEN = Path(__file__).parent / "golden" / "poet_evaluation.json"


def reference(ground_truth, detections, sigmas=None, area_scale=1.0, max_detections=20, image_ids=None):
    """What pycocotools says: its COCOeval after `accumulate`, and the ten numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotations, results = Annotations(), Annotations()
        annotations.dataset = copy.deepcopy(ground_truth)
        annotations.createIndex()
        if detections:
            results = annotations.loadRes(copy.deepcopy(detections))
        else:  # loadRes fails on an empty list
            results.dataset = {"annotations": [], "images": [], "categories": []}
            results.createIndex()
        scorer = COCOeval(annotations, results, "keypoints")
        limits = 32**2 * area_scale, 96**2 * area_scale
        scorer.params.areaRng = [[0, 1e10], list(limits), [limits[1], 1e10]]
        scorer.params.catIds, scorer.params.maxDets = [1], [max_detections]
        if sigmas is not None:
            scorer.params.kpt_oks_sigmas = np.asarray(sigmas)
        if image_ids is not None:
            scorer.params.imgIds = list(image_ids)
        scorer.evaluate()
        scorer.accumulate()
        if max_detections == 20:
            scorer.summarize()
    return scorer


def agree(ground_truth, detections, **options):
    """Score with both, compare everything, return ours."""
    theirs = reference(ground_truth, detections, **options)
    ours = evaluate(ground_truth, detections, **options)
    np.testing.assert_array_equal(ours.precision, theirs.eval["precision"][:, :, 0, :, 0])
    np.testing.assert_array_equal(ours.recall, theirs.eval["recall"][:, 0, :, 0])
    assert tuple(ours.stats) == STATS
    if len(theirs.stats):
        np.testing.assert_allclose(list(ours.stats.values()), theirs.stats, rtol=0, atol=1e-12)
    images = {e["image_id"]: e for e in theirs.evalImgs if e and e["aRng"][:2] == [0, 1e10]}
    detection_ids = {int(i): e for e in images.values() for i in e["dtIds"]}
    assert sorted(ours.detections.row + 1) == sorted(detection_ids)  # the same detections were kept
    matches = ours.matches(0.5)
    for row, annotation in zip(matches.row, matches.annotation, strict=True):
        image = detection_ids[row + 1]
        assert image["dtMatches"][0, image["dtIds"].index(row + 1)] == annotation
    return ours


@st.composite
def problems(draw, k=17):
    """Few images, few coarse values: ties of score and of OKS, duplicates, areas on the limits, crowds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True))
    areas = st.sampled_from([-1.0, 1023.5, 1024.0, 1024.5, 5000.0, 9216.0, 9216.1, 20000.0, 0.0])
    templates = [
        pose(rng.integers(1 << 30), k, rng.choice([20.0, 60.0, 150.0]), rng.integers(0, 300, 2)) for _ in range(3)
    ]
    people = []
    for number in range(draw(st.integers(0, 8))):
        seen = rng.choice(3, k, p=draw(st.sampled_from([(0.2, 0.3, 0.5), (1, 0, 0), (0, 0, 1), (0.9, 0.05, 0.05)])))
        row = person(
            int(number * 7 + 3),
            draw(st.sampled_from(images)),
            templates[rng.integers(3)] + rng.integers(0, 2) * 3,
            seen,
            draw(areas),
            int(draw(st.integers(0, 5)) == 0),
        )
        if draw(st.integers(0, 9)) == 0:
            row["ignore"] = 1
        if draw(st.integers(0, 9)) == 0:
            row["num_keypoints"] = draw(st.sampled_from([0, 5]))
        people.append(row)
    rows = []
    for _ in range(draw(st.integers(0, 45))):
        shift = rng.choice([0.0, 0.0, 1.0, 3.0, 10.0], 1) * rng.choice([-1, 1], (k, 2))
        score = draw(st.sampled_from([0.1, 0.5, 0.5, 0.9, 1]))
        category = 1 if draw(st.integers(0, 9)) else 0
        rows.append(found(draw(st.sampled_from(images)), templates[rng.integers(3)] + shift, score, category))
    if rows:
        rows[0]["category_id"] = 1  # a file of which nothing is scored is an error
    return folder(images, people), rows


common = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@common
@given(problems())
def test_equal_on_drawn_problems(problem):
    agree(*problem)


@settings(common, max_examples=20)
@given(problems(k=5), st.lists(st.floats(0.02, 0.3), min_size=5, max_size=5), st.sampled_from([0.0625, 1.0, 4.0]))
def test_equal_with_other_joints_sigmas_and_area_limits(problem, sigmas, area_scale):
    agree(*problem, sigmas=sigmas, area_scale=area_scale)


@settings(common, max_examples=20)
@given(problems(), st.integers(1, 6))
def test_equal_on_chosen_images_with_fewer_detections(problem, max_detections):
    ground_truth, rows = problem
    chosen = [image["id"] for image in ground_truth["images"]][::2]
    agree(ground_truth, rows, image_ids=chosen, max_detections=max_detections)


def test_equal_on_random_poses_of_a_crowded_scene():
    rng = np.random.default_rng(5)
    people, rows = [], []
    for number in range(300):
        points = pose(number, size=rng.choice([40, 100, 250]), at=rng.integers(0, 200, 2))
        people.append(person(number + 1, number % 12, points, rng.choice(3, 17, p=(0.3, 0.2, 0.5))))
        for _ in range(2):
            noise = rng.normal(0, rng.choice([1, 4, 10]), (17, 2))
            rows.append(found(number % 12, points + noise, float(rng.random())))
    result = agree(folder(range(14), people), rows)
    assert 0.05 < result.stats["AP"] < 0.95


def test_ties_of_score_and_of_similarity():
    points = pose()
    twins = [person(1, 1, points), person(2, 1, points), person(3, 2, points, area=9216)]
    rows = [found(1, points + shift, 0.5) for shift in (0, 0, 2)] + [
        found(2, points, 0.5),
        found(2, points, 0.5),
    ]
    result = agree(folder([1, 2], twins), rows)
    assert result.matches().annotation.tolist() == [2, 1, 3]  # of equals, the later annotation goes first


def missed(result):
    """Who counts and is matched by no detection at OKS 0.5."""
    return np.setdiff1d(np.flatnonzero(~result.ignored_people[0]), result.match[0, 0])


def false_positives(result):
    """(D,) bool: which detections count and match nobody at OKS 0.5."""
    return (result.match[0, 0] < 0) & ~result.ignored_detections[0, 0]


def test_crowds_stay_free_and_hide_false_positives():
    points = pose()
    people = [person(1, 1, points), person(2, 1, points + 5, crowd=1), person(3, 1, points + 300, 0)]
    rows = [found(1, points + shift, 0.9 - shift / 100) for shift in (0, 4, 5, 6)] + [found(1, points + 290, 0.95)]
    result = agree(folder([1], people), rows)
    assert result.stats["AP"] == pytest.approx(1)
    assert len(result.matches()) == 1 and not false_positives(result).any()


def test_no_detections_no_people_no_images():
    points = pose()
    nobody = agree(folder([1], []), [found(1, points, 0.5)])
    assert set(nobody.stats.values()) == {-1}
    nothing = agree(folder([1, 2], [person(1, 1, points)]), [])
    assert nothing.stats["AP"] == 0 and nothing.stats["APM"] == -1
    assert missed(nothing).tolist() == [0]
    assert set(evaluate(folder([], []), []).stats.values()) == {-1}


def test_people_without_keypoints_only():
    points = pose()
    people = [
        person(1, 1, points, 0),
        person(2, 2, points, 0, num_keypoints=3),
    ]  # 2: the field contradicts the joints
    agree(folder([1, 2], people), [found(1, points, 0.5), found(2, points, 0.4), found(2, points + 400, 0.9)])


def test_areas_at_the_limits_of_people_and_detections():
    square = np.zeros((17, 2))
    square[1] = 32, 32  # exactly 32^2: medium
    large = square * 3  # exactly 96^2: medium and large
    people = [person(1, 1, square + 10), person(2, 2, large + 10), person(3, 3, square * 0.99)]
    rows = [
        found(1, square + 200, 0.9),
        found(1, square + 10, 0.5),
        found(2, large + 300, 0.9),
        found(2, large + 10, 0.6),
    ]
    for scale in (1, 0.25, 9):
        agree(folder([1, 2, 3], people), rows + [found(3, square * 0.99, 0.3)], area_scale=scale)


def test_only_the_twenty_surest_count():
    points = pose()
    rows = [found(1, points + 200, 0.9) for _ in range(20)] + [found(1, points, 0.8)]
    assert agree(folder([1], [person(1, 1, points)]), rows).stats["AR"] == 0
    assert agree(folder([1], [person(1, 1, points)]), rows[1:]).stats["AR"] == 1


def test_detections_with_a_box_are_measured_by_it():
    points = pose(size=30)
    people = [person(1, 1, points, area=5000.0)]
    boxed = [
        found(1, points + 300, 0.9) | {"bbox": [0, 0, 50, 50]},
        found(1, points, 0.8) | {"bbox": [0, 0, 500, 500]},
    ]
    plain = agree(folder([1], people), [{k: v for k, v in row.items() if k != "bbox"} for row in boxed])
    assert agree(folder([1], people), boxed).stats["APM"] < plain.stats["APM"]


def test_annotation_id_zero_counts_as_in_pycocotools_and_is_said():
    points = pose()
    ground_truth = folder([1], [person(0, 1, points), person(1, 1, points + 200)])
    theirs, ours = (
        score(ground_truth, [found(1, points, 0.5), found(1, points + 200, 0.4)]) for score in (reference, evaluate)
    )
    assert len(ours.notes) == 1 and "id 0" in ours.notes[0]
    np.testing.assert_array_equal(list(ours.stats.values()), theirs.stats)


def test_ignore_field_has_no_effect_as_in_pycocotools():
    points = pose()
    agree(folder([1], [person(1, 1, points, ignore=1), person(2, 1, points + 300)]), [found(1, points, 0.5)])


def test_crowdpose_joints_get_their_sigmas():
    points = pose(k=14)
    rows = [found(1, points + 4, 0.5)]
    result = evaluate(folder([1], [person(1, 1, points)]), rows)
    assert result.sigmas_from == "crowdpose"
    assert result.stats == agree(folder([1], [person(1, 1, points)]), rows, sigmas=CROWDPOSE.sigmas).stats


def test_golden_numbers_from_disk_and_from_arrays(tmp_path):
    golden = json.loads(GOLDEN.read_text())
    paths = []
    for name in ("ground_truth", "detections"):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(golden[name]))
    rows = golden["detections"]
    arrays = {key: np.array([row[key] for row in rows]) for key in ("image_id", "category_id", "keypoints", "score")}
    assert golden["stats_names"] == list(STATS)
    for ground_truth in (golden["ground_truth"], str(paths[0])):
        for detections in (rows, paths[1], arrays):
            result = evaluate(ground_truth, detections)
            np.testing.assert_allclose(list(result.stats.values()), golden["stats"], rtol=0, atol=1e-12)
    assert f"{golden['stats'][0]:.3f}" in str(result)


def test_by_number_of_people():
    golden = json.loads(GOLDEN.read_text())
    ground_truth, rows = golden["ground_truth"], golden["detections"]
    table = evaluate_by_people(ground_truth, rows)
    assert sum(row["people"] for row in table.values()) == np.sum(~evaluate(ground_truth, rows).ignored_people[0])
    for n, numbers in table.items():
        chosen = [
            image["id"]
            for image in ground_truth["images"]
            if sum(a["image_id"] == image["id"] and not a["iscrowd"] for a in ground_truth["annotations"]) == n
        ]
        assert numbers["images"] == len(chosen)
        theirs = reference(ground_truth, rows, image_ids=chosen).stats
        np.testing.assert_allclose([numbers[name] for name in STATS], theirs, rtol=0, atol=1e-12)


def test_per_joint_similarity_averages_to_the_pairs():
    golden = json.loads(GOLDEN.read_text())
    result = evaluate(golden["ground_truth"], golden["detections"])
    joints = per_joint_oks(result)
    assert joints.shape == (17,) and np.nanmin(joints) > 0 and np.nanmax(joints) <= 1
    assert result.matches().oks.min() >= 0.5 and len(result.matches(0.95)) < len(result.matches(0.5))
    assert len(missed(result)) + len(result.matches()) == np.sum(~result.ignored_people[0])


def test_similarity_exactly_at_a_threshold_passes():
    points = pose(k=2, size=100)
    rows = [found(1, points + [[0, 0], [1e5, 1e5]], 0.5)]  # one joint right, one lost: OKS is exactly 0.5
    result = agree(folder([1], [person(1, 1, points)]), rows, sigmas=[0.05, 0.05])
    assert (result.matches().oks == 0.5).all() and result.stats["AR50"] == 1


def test_one_joint_at_every_distance():
    """With one joint the gap of the boxes decides OKS: whom that bound passes over must not matter."""
    people = [person(n + 1, n, [[100.0, 100.0]], area=2000.0, bbox=[80, 80, 40, 50]) for n in range(60)]
    for direction in ([1, 0], [0, -1], [-0.6, 0.8]):
        rows = [found(n, [100 + 0.3 * n * np.array(direction)], 1 - n / 100) for n in range(60)]
        result = agree(folder(range(60), people), rows, sigmas=[0.1])
        assert result.matches().oks.min() < 0.52 and len(missed(result)) > 10


@pytest.mark.skipif("POSEKIT_REAL" not in os.environ, reason="POSEKIT_REAL names no folder with real annotations")
def test_genuine_predictions_on_four_photographs():
    folder = Path(os.environ["POSEKIT_REAL"]) / "evaluation"
    ground_truth, rows = (json.loads((folder / f"example_coco_{name}.json").read_text()) for name in ("val", "preds"))
    assert f"{agree(ground_truth, rows).stats['AP']:.3f}" == "0.861"
