"""CrowdPose's scoring against a slow scorer written from its rules, and the Crowd Index by hand."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from coco_rows import folder, found, person, pose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posekit.evaluation import BANDS, CROWD_STATS, STATS, band_of, crowd_index, evaluate, evaluate_by_people
from posekit.evaluation.__main__ import main
from posekit.layouts import COCO, CROWDPOSE

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def slow_oks(row, annotation):
    x, y, w, h = annotation["bbox"]
    d, g = (np.reshape(r["keypoints"], (-1, 3)) for r in (row, annotation))
    labelled = [k for k in range(14) if g[k, 2] > 0]
    terms = []
    for k in labelled or range(14):
        dx, dy = d[k, :2] - g[k, :2]
        if not labelled:  # outside of the box, grown by its own size on every side
            dx = max(0, x - w - d[k, 0]) + max(0, d[k, 0] - x - 2 * w)
            dy = max(0, y - h - d[k, 1]) + max(0, d[k, 1] - y - 2 * h)
        spread = (h * w * 0.53 + np.spacing(1)) * 2 * (2 * CROWDPOSE.sigmas[k]) ** 2
        terms.append(math.exp(-(dx * dx + dy * dy) / spread))
    return sum(terms) / len(terms)


def slow_image(annotations, rows, threshold, low, high):
    """[(score, found, counts)] of one image, and how many people count."""
    rows = sorted(rows, key=lambda row: -row["score"])[:20]
    ignored = []
    for a in annotations:
        area = a["bbox"][2] * a["bbox"][3] * 0.53
        nobody = not any(v > 0 for v in a["keypoints"][2::3])
        ignored.append(bool(a["iscrowd"]) or nobody or not low <= area <= high)
    order = sorted(range(len(annotations)), key=lambda i: ignored[i])
    taken, result = set(), []
    for row in rows:
        best, best_oks = None, min(threshold, 1 - 1e-10)
        for i in order:
            if i in taken and not annotations[i]["iscrowd"]:
                continue
            if best is not None and not ignored[best] and ignored[i]:
                break
            similarity = slow_oks(row, annotations[i])
            if similarity >= best_oks:
                best, best_oks = i, similarity
        if best is None:
            xy = np.reshape(row["keypoints"], (-1, 3))[:, :2]
            size = np.ptp(xy, axis=0).prod()
            result.append((row["score"], False, low <= size <= high))
        else:
            taken.add(best)
            result.append((row["score"], True, not ignored[best]))
    return result, ignored.count(False)


def slow_ap(ground_truth, rows, images, low=0, high=1e10):
    """(AP, AP50, AP75, AR): precision where recall reaches each of 101 levels, at each of ten thresholds."""
    precisions, recalls = [], []
    for threshold in THRESHOLDS:
        results, people = [], 0
        for image in sorted(images):
            here = [a for a in ground_truth["annotations"] if a["image_id"] == image]
            result, count = slow_image(here, [r for r in rows if r["image_id"] == image], threshold, low, high)
            results += result
            people += count
        if not people:
            return -1, -1, -1, -1
        hits = [hit for _, hit, counts in sorted(results, key=lambda r: -r[0]) if counts]
        done = np.cumsum(hits)
        curve = [(done[i] / people, done[i] / (i + 1)) for i in range(len(hits))]
        levels = [max([p for r, p in curve if r >= level], default=0.0) for level in np.linspace(0, 1, 101)]
        precisions.append(np.mean(levels))
        recalls.append(curve[-1][0] if curve else 0.0)
    return np.mean(precisions), precisions[0], precisions[5], np.mean(recalls)


def slow_index(people):
    """The Crowd Index, joint by joint."""
    ratios = []
    for a in people:
        x, y, w, h = a["bbox"]
        own = [v > 0 for v in a["keypoints"][2::3]]
        if sum(own[:12]) < 4:
            continue
        strangers = 0
        for b in people:
            for px, py, v in np.reshape(b["keypoints"], (-1, 3)):
                strangers += b is not a and v > 0 and x <= px <= x + w and y <= py <= y + h
        ratios.append(strangers / sum(own))
    return sum(ratios) / len(ratios) if ratios else 0.0


def agree(ground_truth, rows, borders=(0.2, 0.8)):
    ours = evaluate(ground_truth, rows, borders=borders, convention="crowdpose").stats
    index = {}
    for image in ground_truth["images"]:
        here = [a for a in ground_truth["annotations"] if a["image_id"] == image["id"]]
        index[image["id"]] = image["crowdIndex"] if "crowdIndex" in image else slow_index(here)
    low, high = borders
    bands = (
        [i for i, c in index.items() if c < low],
        [i for i, c in index.items() if low <= c < high],
        [i for i, c in index.items() if c >= high],
    )
    whole = slow_ap(ground_truth, rows, list(index))
    medium, large = (slow_ap(ground_truth, rows, list(index), *limits) for limits in ((32**2, 96**2), (96**2, 1e10)))
    names = ("AP", "AP50", "AP75", "AR", "APM", "APL", "ARM", "ARL", *CROWD_STATS)
    theirs = (*whole, medium[0], large[0], medium[3], large[3], *(slow_ap(ground_truth, rows, b)[0] for b in bands))
    np.testing.assert_allclose([ours[name] for name in names], theirs, rtol=0, atol=1e-9)
    return ours


def perturbed(ground_truth, seed, share=1.0):
    """Result rows from the truth: shifted joints, people missed, found twice, found where nobody is."""
    rng = np.random.default_rng(seed)
    rows = []
    for a in ground_truth["annotations"]:
        points = np.reshape(a["keypoints"], (-1, 3))[:, :2].astype(float)
        size = max(a["bbox"][2:])
        for _ in range(rng.choice(3, p=(0.15, 0.7, 0.15))):
            noise = rng.normal(0, size * rng.choice([0.005, 0.03, 0.08]), points.shape)
            rows.append(found(a["image_id"], np.round(points + noise, 1), round(float(rng.random()), 2)))
        if rng.random() < 0.1 * share:
            rows.append(found(a["image_id"], points + 3 * size, round(float(rng.random()), 2)))
    return rows


@st.composite
def problems(draw):
    """Few images, people on top of each other, crowds, people without labels, boxes on the area limits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4, unique=True))
    people = []
    for number in range(draw(st.integers(0, 8))):
        points = pose(number, 14, rng.choice([20.0, 43.0, 140.0]), rng.integers(0, 60, 2))
        seen = rng.choice(3, 14, p=draw(st.sampled_from([(0.2, 0.3, 0.5), (1, 0, 0), (0.9, 0.05, 0.05)])))
        row = person(number * 3 + 2, draw(st.sampled_from(images)), points, seen, crowd=int(rng.random() < 0.15))
        row["num_keypoints"] = int((seen[:12] > 0).sum())  # CrowdPose's field: without head and neck
        if draw(st.booleans()):
            row["bbox"][2:] = [32.0 / 0.53, 32.0]  # 32^2, up to rounding
        row.pop("area")
        people.append(row)
    ground_truth = folder(images, people)
    if draw(st.booleans()):
        for image in ground_truth["images"]:
            image["crowdIndex"] = draw(st.sampled_from([0.0, 0.1, 0.19, 0.2, 0.5, 0.8, 1.3]))
    return ground_truth, perturbed(ground_truth, rng.integers(1 << 30))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), st.sampled_from([(0.2, 0.8), (0.1, 0.8)]))
def test_equal_to_the_slow_scorer(problem, borders):
    agree(*problem, borders)


def test_a_larger_case_has_all_bands():
    rng = np.random.default_rng(3)
    people = []
    for number in range(60):
        at = (number // 15 * (400, 70, 20)[number % 3], rng.integers(0, 20))  # apart, in touch, on top of each other
        points = pose(number, 14, rng.choice([60, 150]), at)
        people.append(person(number + 1, number % 15, points, rng.choice(3, 14, p=(0.2, 0.3, 0.5))))
    ground_truth = folder(range(15), people)
    stats = agree(ground_truth, perturbed(ground_truth, 4))
    assert tuple(stats) == STATS + CROWD_STATS
    assert all(0.05 < stats[name] < 0.95 for name in CROWD_STATS)


def test_truth_scores_one_whatever_its_area_field_says():
    people = [person(i + 1, i % 3, pose(i, 14, at=(150 * i, 20)), area=1.0) for i in range(6)]
    ground_truth = folder(range(3), people)
    for image, index in zip(ground_truth["images"], (0.0, 0.2, 0.9), strict=True):
        image["crowdIndex"] = index
    rows = [found(a["image_id"], np.reshape(a["keypoints"], (-1, 3))[:, :2], 0.9) for a in people]
    result = evaluate(ground_truth, rows)
    assert [result.stats[name] for name in ("AP", "AR", *CROWD_STATS)] == pytest.approx([1] * 5)
    assert result.sigmas_from == "crowdpose" and "APeasy" in str(result) and "0.53 of the box" in str(result)
    assert len(evaluate(ground_truth, rows, convention="coco").stats) == len(STATS)
    assert set(evaluate_by_people(ground_truth, rows)) == {2}


def test_images_without_an_index_get_theirs_computed():
    people = [person(i + 1, i // 2, pose(i, 14, at=(10 * i, 20))) for i in range(4)]
    ground_truth = folder(range(3), people)
    ground_truth["images"][0]["crowdIndex"] = 0.77
    rows = [found(0, pose(14, 14), 0.5)]
    indices = evaluate(ground_truth, rows).people.crowd_index
    assert indices.tolist() == [0.77, pytest.approx(slow_index(people[2:])), 0.0]


def test_two_people_counted_by_hand():
    points = np.zeros((2, 14, 2))
    points[0] = np.arange(14)[:, None] * [1, 1]  # 0 .. 13
    points[1] = points[0] + 10  # 10 .. 23: four joints in the box of the first, and the other way round
    boxes = np.array([[0, 0, 13, 13], [10, 10, 23, 23]], float)
    everybody = np.ones((2, 14))
    assert crowd_index(points, everybody, boxes) == pytest.approx(4 / 14)
    hidden = everybody.copy()
    hidden[1, :2] = 0  # two of the four strangers are not labelled; the second person has twelve joints left
    assert crowd_index(points, hidden, boxes) == pytest.approx((2 / 14 + 4 / 12) / 2)
    hidden[1, 3:12] = 0  # one body joint, head and neck: no person to average over, but still a stranger
    assert crowd_index(points, hidden, boxes) == pytest.approx(1 / 14)
    assert crowd_index(points, np.zeros((2, 14)), boxes) == 0.0
    assert crowd_index(points[:0], everybody[:0], boxes[:0]) == 0.0
    both = crowd_index(np.zeros((2, 17, 2)), np.ones((2, 17)), np.zeros((2, 4)))
    assert both == 1.0 == crowd_index(np.zeros((2, 17, 2)), np.ones((2, 17)), np.zeros((2, 4)), COCO)


def test_borders_belong_to_the_more_crowded_band():
    bands = [BANDS[i] for i in band_of(np.array([0, 0.199, 0.2, 0.79, 0.8, 3.0]))]
    assert bands == ["easy", "easy", "medium", "medium", "hard", "hard"]
    with pytest.raises(ValueError, match="two rising numbers above 0"):
        band_of(np.zeros(1), (0.8, 0.2))


def test_faults_are_named():
    people = [person(1, 1, pose(k=14))]
    with pytest.raises(ValueError, match="convention is 'coco' or 'crowdpose', not 'crowd'"):
        evaluate(folder([1], people), [], convention="crowd")
    del people[0]["bbox"]
    with pytest.raises(ValueError, match="annotation 1 .image 1. has no 'bbox'"):
        evaluate(folder([1], people), [], convention="crowdpose")
    with pytest.raises(ValueError, match="2 boxes need keypoints"):
        crowd_index(np.zeros((1, 14, 2)), np.zeros((1, 14)), np.zeros((2, 4)))


def test_file_and_command_line_without_areas(tmp_path, capsys):
    people = [person(i + 1, 1, pose(i, 14, at=(40 * i, 20))) for i in range(3)]
    ground_truth = folder([1], [{k: v for k, v in row.items() if k != "area"} for row in people])
    ground_truth["images"][0]["crowdIndex"] = 0.5
    (tmp_path / "gt.json").write_text(json.dumps(ground_truth))
    (tmp_path / "dt.json").write_text(json.dumps(perturbed(ground_truth, 1)))
    paths = [str(tmp_path / name) for name in ("gt.json", "dt.json")]
    assert main(paths) == 0
    assert f"{evaluate(*paths).stats['APmedium']:.3f}" in capsys.readouterr().out
    assert main([*paths, "--convention", "coco"]) == 1
    assert "annotation 1 (image 1) has no 'area'" in capsys.readouterr().err


@pytest.mark.skipif("POSEKIT_REAL" not in os.environ, reason="POSEKIT_REAL names no folder with real annotations")
def test_genuine_predictions_and_crowd_indices():
    root = Path(os.environ["POSEKIT_REAL"])
    example = (json.loads((root / f"evaluation/example_crowdpose_{n}.json").read_text()) for n in ("val", "preds"))
    assert f"{agree(*example)['AP']:.3f}" == "0.788"
    data = json.loads((root / "crowdpose/crowdpose_val.json").read_text())
    given_index = {image["id"]: image.pop("crowdIndex") for image in data["images"]}
    people = evaluate(data, [], convention="crowdpose").people
    difference = people.crowd_index - [given_index[i] for i in people.image_ids]
    assert np.abs(difference).max() < 0.0100001
