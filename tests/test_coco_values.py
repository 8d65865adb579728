"""Ids and numbers of other types, and values that cannot be meant: read, filled in or told, in both doors."""

import copy
import re

import numpy as np
import pytest
from coco_files import BOX, H, W, found, person, pose, said, truth, write
from test_evaluation import reference

from posekit.data.coco import CocoFolder
from posekit.data.images import DataError
from posekit.data.topdown import PersonCrops
from posekit.evaluation import evaluate

# B: ids and numbers by type


@pytest.mark.parametrize("change", [str, float, lambda number: f"{number:03d}"])
def test_ids_of_another_type_mean_the_same_image(doors, change):
    data = truth([person(i, i) for i in (1, 2)])
    wanted = evaluate(data, [found(1), found(2, 7.0)]).stats
    for place in ("annotations", "detections"):
        odd = copy.deepcopy(data)
        rows = [found(1), found(2, 7.0)]
        for row in odd["annotations"] if place == "annotations" else rows:
            row["image_id"] = change(row["image_id"])
        folder, result = doors(odd, rows)
        assert result.stats == wanted and said(result, "2 image ids are of another type")
        assert len(folder.target(0)["boxes"]) == 1


def test_images_named_by_text_are_scored_and_refused_as_training_data(tmp_path):
    data, rows = truth([person(1, 1), person(2, 2)]), [found(1), found(2)]
    wanted = evaluate(data, rows).stats
    for row in data["annotations"] + rows:
        row["image_id"] = f"street_{row['image_id']}"
    for row in data["images"]:
        row["id"] = f"street_{row['id']}"
    result = evaluate(data, rows)
    assert result.stats == wanted and result.notes == [] and set(result.matches().image_id) == {"street_1", "street_2"}
    with pytest.raises(
        DataError, match=r'people.json: image street_1 has the id "street_1" \(text\), not a whole number'
    ):
        CocoFolder(write(tmp_path, data))


def test_numbers_written_as_text_are_read_with_a_note(doors):
    data = truth(
        [person(1, "1", iscrowd="0", area="3600", bbox=[str(v) for v in BOX], num_keypoints="17"), person(2, 2.0)]
    )
    plain = truth([person(1, 1), person(2, 2)])
    for row in data["images"]:
        row |= {"width": str(W), "height": f"{H}.0"}
    rows = [found(1, score="0.9", category_id="1"), found(2, keypoints=[str(v) for v in found(2)["keypoints"]])]
    folder, result = doors(data, rows)
    assert result.stats == evaluate(plain, [found(1), found(2)]).stats and result.stats["AP"] > 0.9
    assert not result.people.crowd.any() and result.people.ids.tolist() == [1, 2]
    assert said(
        result, "'iscrowd' is written 1 time as text", "numbers in 'area'", "numbers in 'score'", "'category_id'"
    )
    assert said(
        folder, "'width' is written 2 times as text", "'iscrowd'", 'first: "0" (text) of annotation 1 (image 1)'
    )
    assert folder.target(0)["boxes"].tolist() == [[40, 10, 100, 110]] and folder.target(0)["ignore"].size == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"iscrowd": [1]}, r"annotation 1 \(image 1\) has the iscrowd \[1\] \(a list\), not a whole number"),
        ({"image_id": {"a": 1}}, r"annotation 1 .*has the image_id .*\(an object\), not a number or text"),
        (
            {"area": "large"},
            r"""annotation 1 \(image 1\) holds something other than numbers in 'area': "large" \(text\)""",
        ),
        ({"bbox": [1, 2, None, "x", 5]}, r"annotation 1 \(image 1\) has the bbox .* \(a list\); it needs x, y, width"),
        ({"keypoints": {"nose": 1}}, r"annotation 1 \(image 1\) has the keypoints .*\(an object\), not a flat list"),
        ({"keypoints": [1e400 if i == 4 else 2 for i in range(51)]}, r"annotation 1 .*not finite .*keypoint 2"),
    ],
)
def test_what_cannot_be_read_is_told_with_value_type_file_and_row(tmp_path, change, sentence):
    data = truth([person(1, 1, **change), person(2, 2)])
    write(tmp_path, data)
    with pytest.raises(DataError, match="people.json: " + sentence) as folder:
        CocoFolder(tmp_path)
    with pytest.raises(ValueError, match="people.json: " + sentence) as score:
        evaluate(tmp_path / "people.json", [])
    assert "\n" not in str(folder.value) + str(score.value)
    assert len(CocoFolder(tmp_path, on_error="skip").skipped) == 1


@pytest.mark.parametrize(
    ("ids", "why"), [((7, 7), "id 7 is used more than once"), (("a", "b"), '"a" .text.'), ((None, 3), "null")]
)
def test_annotation_ids_that_name_nobody_are_numbered_anew(doors, ids, why):
    data, rows = truth([person(1, ids[0]), person(2, ids[1])]), [found(1), found(2, 7.0)]
    folder, result = doors(data, rows)
    for owner in (folder, result):
        assert said(owner, "the annotations are numbered anew, 1, 2, 3") and re.search(why, owner.notes[-1])
    assert [row["id"] for row in folder.ground_truth["annotations"]] == [1, 2]
    assert list(result.stats.values()) == reference(truth([person(1, 1), person(2, 2)]), rows).stats.tolist()


# C: degenerate values


@pytest.mark.parametrize("box", [[60, 20, 0, 80], [0, 0, 0, 0], [100, 110, -60, -100], None, [], ...])
@pytest.mark.parametrize("area", [0, -5.0, None, ...])
def test_boxes_and_areas_without_size_are_filled_in(tmp_path, box, area):
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, bbox=box, area=area), person(2, 2)])))
    target, points = folder.target(0), np.float32(pose()).reshape(17, 3)[:, :2]
    around = [*points.min(0), *points.max(0)]
    assert target["boxes"][0] == pytest.approx(around)
    assert target["areas"][0] == pytest.approx(0.53 * np.prod(np.ptp(points, axis=0)))
    none = "no box" if box in (None, [], ...) else "a box without width or height"
    assert said(
        folder, f"1 annotation has {none}", f"has {'no area' if area in (None, ...) else 'an area of 0 or less'}"
    )
    assert len(PersonCrops(folder)) == 2 and CocoFolder(tmp_path, with_people=True).ids == [1, 2]


def test_a_single_joint_has_a_box_too(tmp_path):
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, k=1, bbox=..., area=...)], names=["marker"])))
    x, y = pose(k=1)[:2]
    assert folder.target(0)["boxes"][0] == pytest.approx([x - 16, y - 16, x + 16, y + 16])
    line = [value for i in range(3) for value in (10 + 10 * i, 50, 2)]
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, keypoints=line, bbox=...)], names=["a", "b", "c"])))
    assert folder.target(0)["boxes"][0] == pytest.approx([10, 40, 30, 60])


@pytest.mark.parametrize("area", [0, -3.0])
def test_an_area_without_size_is_scored_as_pycocotools_does_and_told(area):
    data, rows = truth([person(1, 1, area=area), person(2, 2)]), [found(1), found(2)]
    result = evaluate(data, rows)
    np.testing.assert_allclose(list(result.stats.values()), reference(data, rows).stats, rtol=0, atol=1e-12)
    assert said(result, "1 people that count have no area above 0 (the first is annotation 1)")


@pytest.mark.parametrize("nothing", [None, [], ...])
def test_somebody_who_was_only_boxed(doors, nothing):
    boxed = person(1, 3, keypoints=nothing, num_keypoints=None)
    data, rows = truth([boxed, person(1, 1), person(2, 2)]), [found(1), found(2)]
    folder, result = doors(data, rows)
    zeros = data | {"annotations": [person(1, 3, v=0, keypoints=[0] * 51), *data["annotations"][1:]]}
    assert list(result.stats.values()) == reference(zeros, rows).stats.tolist() and result.stats["AP"] > 0.9
    assert said(folder, "1 annotation has no keypoints") and said(result, "first: annotation 3 (image 1)")
    assert folder.target(0)["visibility"].max(1).tolist() == [0, 2]


def test_without_joints_and_box_a_row_says_nothing(doors):
    empty = person(1, 3, v=0, bbox=...)
    folder, result = doors(truth([person(1, 1), empty]), [found(1)])
    for owner in (folder, result):
        assert said(
            owner, "1 annotation has neither a labelled joint nor a box: left out (first: annotation 3 (image 1))"
        )
    assert len(folder.target(0)["boxes"]) == len(result.people) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_where_an_unlabelled_joint_lies_does_not_matter(doors, value):
    keypoints = pose()
    keypoints[6:9] = value, value, 0
    data, rows = truth([person(1, 1, keypoints=keypoints, num_keypoints=16), person(2, 2)]), [found(1), found(2, 5.0)]
    folder, result = doors(data, rows)
    data["annotations"][0]["keypoints"] = [0 if i in (6, 7) else one for i, one in enumerate(keypoints)]
    assert list(result.stats.values()) == reference(data, rows).stats.tolist()
    assert folder.target(0)["keypoints"][0, 2].tolist() == [0, 0] and np.isfinite(folder.target(0)["keypoints"]).all()
