"""Shapes of COCO files as other tools write them, the names of their keypoints, and the normaliser by itself."""

import copy
import json

import cv2
import numpy as np
import pytest
from coco_files import BOX, H, W, found, person, pose, said, truth, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_evaluation import problems, reference

from posekit.data.coco import CocoFolder
from posekit.data.coco_json import normalise
from posekit.data.images import DataError
from posekit.data.topdown import PersonCrops
from posekit.evaluation import evaluate
from posekit.layouts import layout_for

# D and I: names of left and right, skeletons


@pytest.mark.parametrize(
    "pair",
    [
        "left_eye right_eye",
        "Right-ankle Left-ankle",
        "L_Eye R_Eye",
        "leftEye rightEye",
        "eyeL eyeR",
        "eye_left eye_right",
        "l-paw r-paw",
        "LKnee RKnee",
        "lwrist rwrist",
        "lefteye righteye",
        "LEFT_EAR RIGHT_EAR",
        "eye.r eye.l",
    ],
)
def test_left_and_right_are_recognised(pair):
    layout = layout_for([*pair.split(), "nose"])
    assert layout.flip.tolist() == [1, 0, 2] and len({*layout.colours}) == 3
    assert layout_for(["left_eye", "nose"]).flip.tolist() == [0, 1]


def test_what_is_mirrored_is_told(tmp_path):
    names = ["left_eye", "right_eye", "paw_1", "paw_2"]
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, k=4)], names=names)))
    assert said(
        folder, "flips swap left_eye/right_eye; these have no partner by name and keep their place: paw_1, paw_2"
    )
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, k=2)], names=["paw_1", "paw_2"])))
    assert said(folder, "no left_/right_ pairs among the keypoint names (paw_1, paw_2): flips are left out")


@pytest.mark.parametrize(
    ("skeleton", "limbs", "told"),
    [
        (None, (), ""),
        ([[1, 2], [2, 3]], ((0, 1), (1, 2)), ""),
        ([[0, 1], [1, 2]], ((0, 1), (1, 2)), "from 0"),
        ([["head", "hip"]], ((0, 1),), ""),
        ([[1, 9]], (), "does not fit the 3 keypoints"),
        ("1-2", (), "does not fit"),
        ([[1, 2.5]], (), "does not fit"),
    ],
)
def test_skeletons(tmp_path, skeleton, limbs, told):
    data = truth([person(1, 1, k=3)], names=["head", "hip", "tail"])
    data["categories"][0]["skeleton"] = skeleton
    folder = CocoFolder(write(tmp_path, data))
    assert folder.layout.limbs == limbs and told in folder.note and len(folder.layout) == 3


# H and I: shapes of files


def test_nested_keypoints_are_read_as_the_flat_list(doors):
    nested = [pose()[i : i + 3] for i in range(0, 51, 3)]
    rows = [found(1, keypoints=[found(1)["keypoints"][i : i + 3] for i in range(0, 51, 3)]), found(2)]
    for first in (0, 1):
        data = truth([person(1, 1), person(2, 2)])
        data["annotations"][first]["keypoints"] = nested
        folder, result = doors(data, rows)
        assert said(folder, "1 row has nested keypoints") and said(
            result, "1 row of the detections has nested keypoints"
        )
        assert folder.target(first)["keypoints"][0].tolist() == np.float32(pose()).reshape(17, 3)[:, :2].tolist()
        assert result.stats == evaluate(truth([person(1, 1), person(2, 2)]), [found(1), found(2)]).stats
    data["annotations"][0]["keypoints"] = nested[:16]  # not the good row is blamed
    with pytest.raises(ValueError, match=r"annotation 1 \(image 1\) has 48 keypoint numbers; the 17 keypoints need 51"):
        evaluate(data | {"annotations": [*data["annotations"], person(2, 3)]}, [])


def test_an_image_listed_twice(tmp_path):
    data = truth([person(1, 1)])
    data["images"].append(data["images"][0] | {"file_name": "b.png"})
    with pytest.raises(DataError, match="two images have the same id 1: '1.png' and 'b.png'"):
        CocoFolder(write(tmp_path, data))
    result = evaluate(data, [found(1)])
    assert result.stats["AP"] == reference(data, [found(1)]).stats[0] and said(result, "1 image is listed with an id")


@pytest.mark.parametrize("val", ["valid", "val", "test"])
def test_train_and_valid_with_a_json_of_their_own(tmp_path, val):
    """As Roboflow writes them."""
    (tmp_path / "data.json").write_text('{"project": "poses"}')
    for part, numbers in (("train", (1, 2)), (val, (3,))):
        data = truth([person(i, i) for i in numbers])
        data["images"] = [row for row in data["images"] if row["id"] in numbers]
        write(tmp_path / part, data, "_annotations.coco.json", ".")
    train, other = CocoFolder(tmp_path, "train"), CocoFolder(tmp_path, "val")
    assert train.ids == [1, 2] and other.ids == [3] and train.note == other.note == ""
    assert train.image(0).shape == other.image(0).shape == (H, W, 3) and train.folder == tmp_path / "train"


def test_a_picture_outside_the_folder_needs_leave(tmp_path):
    root, secret = tmp_path / "data", tmp_path / "secret.png"
    cv2.imwrite(str(secret), np.zeros((H, W, 3), np.uint8))
    data = truth([person(1, 1)])
    write(root, data)
    (root / "images" / "link.png").symlink_to(secret)
    for name in (str(secret), "../../secret.png", "link.png"):
        data["images"][0]["file_name"] = name
        (root / "people.json").write_text(json.dumps(data))
        with pytest.raises(DataError, match="image 1: its file '.*' lies outside '.*data'.*outside=True"):
            CocoFolder(root)
        assert CocoFolder(root, outside=True).image(0).shape == (H, W, 3)
    for name in (str(root / "images" / "1.png"), "../images/1.png", "images\\1.png"):
        data["images"][0]["file_name"] = name
        (root / "people.json").write_text(json.dumps(data))
        assert CocoFolder(root).image(0).max() == 90


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path, encoding):
    data, rows = truth([person(1, 1)]), [found(1)]
    write(tmp_path, data)
    boxes = [{"image_id": "1", "category_id": 1, "bbox": list(BOX), "score": 0.9}]
    for name, content in (("people.json", data), ("rows.det", rows), ("boxes.det", boxes)):
        (tmp_path / name).write_bytes(json.dumps(content).encode(encoding))
    folder = CocoFolder(tmp_path)
    people = PersonCrops(folder, tmp_path / "boxes.det")
    assert evaluate(tmp_path / "people.json", tmp_path / "rows.det").stats["AP"] > 0.9
    assert people.boxes.tolist() == [[40, 10, 100, 110]] and said(people, "1 image id is of another type")


def test_boxes_of_other_images_and_categories_are_told(tmp_path):
    folder = CocoFolder(write(tmp_path, truth([person(1, 1, category_id=5)], categories=[{"id": 5, "name": "dog"}])))
    path = tmp_path / "boxes.det"

    def people(*rows):
        rows = [{"image_id": 1, "bbox": list(BOX), "score": 1} | row for row in rows]
        path.write_text(json.dumps(rows))
        return PersonCrops(folder, path)

    some = people({}, {"category_id": 1}, {"image_id": 7, "category_id": 5})
    assert len(some) == 1 and said(
        some, "1 of category 1 (looked for: 5 'dog')", "1 detections of images that are not in use"
    )
    with pytest.raises(
        DataError, match="boxes.det': no row has category 5 'dog', which was looked for; they are 1 of categ"
    ):
        people({"category_id": 0})
    with pytest.raises(DataError, match="boxes.det': none of its images is in .*; the first is 7"):
        people({"image_id": 7, "category_id": 5})
    with pytest.raises(DataError, match=r"boxes.det': row 1 has the bbox \[1\] \(a list\); it needs"):
        people({}, {"bbox": [1]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [], "annotations": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"images": {}, "annotations": []}', "must hold 'images' and 'annotations'.*both are lists"),
        ('{"images": [1], "annotations": []}', r"image number 1 of the file is 1 \(a number\), not an object"),
        ('{"images": [{"id": [1]}], "annotations": []}', r"image .* has the id \[1\] \(a list\), not a whole number"),
        (
            '{"images": [{"id": 1}], "annotations": [3]}',
            r"annotation number 1 of the file is 3 \(a number\), not an object",
        ),
        ('{"images": [], "annotations": [], "categories": 3}', "'categories' must be a list"),
    ],
)
def test_files_that_are_no_annotations_end_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(ValueError, match=f"gt.json.*({sentence})") as caught:
        evaluate(tmp_path / "gt.json", [])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        CocoFolder(tmp_path)


# The normaliser by itself


def plain(data):
    """A normalised file as a file again."""
    listing = [{"id": one.id, "name": one.name, "keypoints": list(one.keypoints)} for one in data.categories]
    columns = {
        "id": data.ids,
        "image_id": np.array([row["id"] for row in data.images], object)[data.image],
        "category_id": np.array([one.id for one in data.categories])[data.kind],
        "iscrowd": data.crowd.astype(int),
        "num_keypoints": data.counted,
        "keypoints": data.joints.reshape(len(data.ids), 3 * data.k),
        "bbox": data.boxes,
        "area": data.areas,
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    for row in rows:  # -1 and NaN stand for what the file does not give
        absent = {
            "num_keypoints": row["num_keypoints"] < 0,
            "bbox": np.isnan(row["bbox"]).any(),
            "area": np.isnan(row["area"]),
        }
        for name in absent:
            if absent[name]:
                del row[name]
    return {"images": data.images, "annotations": rows, "categories": listing}


MUTATIONS = {
    "image_id": (str, float),
    "category_id": (str, float, lambda value: None),
    "iscrowd": (str, bool, lambda value: None),
    "id": (str, lambda value: "x", lambda value: 3),
    "bbox": (lambda value: None, lambda value: [0, 0, 0, 0]),
    "keypoints": (lambda value: [value[i : i + 3] for i in range(0, len(value), 3)], lambda value: None),
}


@settings(max_examples=40, deadline=None)
@given(
    problems(),
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(sorted(MUTATIONS)), st.integers(0, 2)), max_size=6),
)
def test_normalising_twice_is_normalising_once(problem, changes):
    data = copy.deepcopy(problem[0])
    for image in data["images"]:
        image["file_name"] = f"{image['id']}.png"
    for number, field, which in changes if data["annotations"] else ():
        row = data["annotations"][number % len(data["annotations"])]
        row[field] = MUTATIONS[field][which % len(MUTATIONS[field])](row[field]) if row[field] is not None else None
    before = copy.deepcopy(data)
    for complete in (True, False):
        try:
            once = normalise(data, "x.json", complete)
        except ValueError as error:
            assert "\n" not in str(error)
            continue
        assert data == before  # nothing of the caller's is changed
        twice = normalise(plain(once), "x.json", complete)
        assert plain(twice) == plain(once) and twice.faults == [] and twice.notes.lines() == []


@settings(max_examples=40, deadline=None)
@given(problems())
def test_a_normalised_file_scores_as_pycocotools_scores_the_file(problem):
    data, rows = problem
    tidy = normalise(data, "x.json")
    assert tidy.faults == [] and tidy.notes.lines() == []
    ours = evaluate(plain(tidy), rows).stats
    np.testing.assert_allclose(list(ours.values()), reference(data, rows).stats, rtol=0, atol=1e-12)
