"""Categories and OKS sigmas: the same for a data folder and for the scorer, whoever wrote the file."""

import contextlib
import copy
import io

import numpy as np
import pytest
from coco_files import found, person, pose, said, truth, write
from test_evaluation import reference

from posekit.data.coco import CocoFolder
from posekit.data.images import DataError
from posekit.evaluation import evaluate
from posekit.evaluation.__main__ import main
from posekit.layouts import COCO

# A: categories


def two_categories(names=COCO.keypoints):
    people = [person(1, 1), person(2, 2, category_id=2), person(3, 3, category_id=2)]
    categories = [{"id": i, "name": name, "keypoints": list(names)} for i, name in ((1, "adult"), (2, "child"))]
    return truth(people, categories=categories)


def test_several_categories_of_one_layout_are_read_as_one_and_scored_as_pycocotools_does(doors):
    data = two_categories()
    rows = [found(1), found(2, 6.0, category_id=2), found(3, 9.0, category_id=2), found(3, 0.0, score=0.1)]
    folder, result = doors(data, rows)
    theirs = copy.deepcopy(data), copy.deepcopy(rows)
    scorer = reference_of_all_categories(*theirs)
    np.testing.assert_allclose(list(result.stats.values()), scorer.stats, rtol=0, atol=1e-12)
    assert 0.1 < result.stats["AP"] < 0.99 and "3 people that count" in str(result)
    assert "3 images, " in str(result) and "mean of the categories 1 'adult', 2 'child'" in str(result)
    assert said(folder, "categories 1 'adult', 2 'child' have the same keypoints and are read as one")
    own = folder.ground_truth
    assert [row["id"] for row in own["categories"]] == [folder.category_id] == [1]
    assert {row["category_id"] for row in own["annotations"]} == {1} and len(own["annotations"]) == 3
    only = evaluate(data, rows, category_id=2)
    assert only.stats == evaluate(data, rows[1:3], category_id=2).stats and len(only.people) == 2
    assert len(CocoFolder(folder.root, category="child").ground_truth["annotations"]) == 2


def reference_of_all_categories(data, rows):
    from pycocotools.coco import COCO as Annotations
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations()
        annotations.dataset = data
        annotations.createIndex()
        scorer = COCOeval(annotations, annotations.loadRes(rows), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def test_images_of_several_categories_count_once_by_number_of_people():
    from posekit.evaluation import evaluate_by_people

    data = two_categories()
    data["annotations"].append(person(1, 4, category_id=2, keypoints=pose((90, 10, 50, 90))))
    table = evaluate_by_people(data, [found(i, category_id=c) for i, c in ((1, 1), (2, 2), (3, 2))])
    assert {n: (row["images"], row["people"]) for n, row in table.items()} == {1: (2, 2), 2: (1, 2)}


@pytest.mark.parametrize("listing", [[{"id": 5, "name": "person"}], None, []])
def test_a_category_without_keypoint_names_keeps_its_number(doors, listing):
    data = truth([person(1, 1, category_id=5), person(2, 2, category_id=5)], categories=listing)
    folder, result = doors(data, [found(1, category_id=5)])
    assert folder.category_id == 5 and len(folder.ground_truth["annotations"]) == 2
    assert len(result.people) == 2 and result.stats["AP"] == pytest.approx(
        reference_ap(data, [found(1, category_id=5)])
    )


def reference_ap(data, rows):
    """pycocotools' AP; the file's only category becomes 1, which `reference` scores."""
    data, rows = copy.deepcopy((data, rows))
    data["categories"] = [{"id": 1, "name": "person"}]
    for row in data["annotations"] + rows:
        row["category_id"] = 1
    return reference(data, rows).stats[0]


def test_other_categories_are_counted_and_named(doors, tmp_path, capsys):
    kite = {"id": 8, "image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    data = truth([person(1, 1), kite, person(1, 9, category_id=33)])
    data["categories"].append({"id": 7, "name": "kite"})
    folder, result = doors(data, [found(1), found(1, category_id=7), found(1, category_id=0)])
    assert said(folder, "left out: annotations, 1 of category 7 'kite', 1 of category 33 (kept: 1 'person')")
    assert said(result, "1 of category 33", "left out: detections, 1 of category 7 'kite', 1 of category 0")
    assert len(result.people) == 1 and result.stats["AP"] == reference(data_of_one(data), [found(1)]).stats[0]
    assert main([str(tmp_path / "people.json"), str(tmp_path / "found" / "dt.json")]) == 0
    told = capsys.readouterr()
    assert "note: left out: detections" in told.err and len(told.out.splitlines()) == 3


def data_of_one(data):
    return data | {"annotations": [row for row in data["annotations"] if row["category_id"] == 1]}


def test_if_everything_is_of_other_categories_the_error_names_both(tmp_path):
    data = truth([person(1, 1, category_id=5), person(1, 2, category_id=6)])
    sentence = r"no annotation has category 1 'person', which was looked for; they are 1 of category 5, 1 of category 6"
    with pytest.raises(ValueError, match=sentence):
        evaluate(data, [])
    with pytest.raises(DataError, match=sentence):
        CocoFolder(write(tmp_path, data))
    with pytest.raises(ValueError, match=r"no row has category 1 'person', .* they are 2 of category 0"):
        evaluate(truth([person(1, 1)]), [found(1, category_id=0)] * 2)


def test_categories_of_different_keypoints_are_not_mixed(tmp_path):
    data = truth([person(1, 1), person(1, 2, category_id=2, k=3)])
    data["categories"].append({"id": 2, "name": "hand", "keypoints": ["a", "b", "c"]})
    sentence = r"different keypoints \(1 'person': 17, 2 'hand': 3\).*say which one with "
    with pytest.raises(ValueError, match=sentence + "category_id .on the command line --category"):
        evaluate(data, [])
    with pytest.raises(DataError, match=sentence + "category="):
        CocoFolder(write(tmp_path, data))
    assert len(CocoFolder(tmp_path, category="hand").layout) == 3 and len(evaluate(data, [], category_id=2).people) == 1


def test_without_category_the_only_one_is_taken(doors):
    data = truth([person(1, 1, category_id=...), person(2, 2, category_id=None)])
    folder, result = doors(data, [found(1, category_id=...), found(2, category_id=None)])
    assert said(folder, "2 annotations have no category: the only one is taken")
    assert said(result, "2 rows of the detections have no category: the only one is taken")
    assert len(folder.ground_truth["annotations"]) == 2 and result.stats["AP"] > 0.9
    with pytest.raises(ValueError, match="row 1 has no 'category_id', and there are several categories: 1 'adult'"):
        evaluate(two_categories(), [found(1), found(2, category_id=...)])


# E: one rule for the sigmas


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (COCO.keypoints, "coco"),
        ([f"point_{i}" for i in range(17)], "coco, as in pycocotools"),
        ([f"point_{i}" for i in range(5)], "0.079 for every joint"),
        ([f"point_{i}" for i in range(14)], "0.079 for every joint"),
    ],
)
def test_training_and_both_doors_have_the_same_sigmas(doors, names, told):
    k = len(names)
    data, rows = truth([person(i, i, k=k) for i in (1, 2)], names=names), [found(1, 4.0, k), found(2, 8.0, k)]
    folder, result = doors(data, rows)
    assert folder.sigmas_from == result.sigmas_from and result.sigmas_from.startswith(told)
    np.testing.assert_array_equal(folder.layout.sigmas, result.sigmas)
    assert result.sigmas_from in str(result)
    inside = evaluate(folder.ground_truth, rows, sigmas=folder.layout.sigmas, category_id=folder.category_id)
    assert inside.stats == result.stats and 0 < result.stats["AP"] < 1
    if k == 17:
        assert result.stats["AP"] == pytest.approx(reference(data, rows).stats[0], abs=1e-12)
