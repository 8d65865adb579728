"""CocoFolder: what it finds, what it makes of annotations, one sentence for everything that can be wrong."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.data import open_dataset
from posekit.data.coco import CocoFolder
from posekit.data.images import DataError
from posekit.layouts import COCO

W, H = 60, 40


def person(image_id, number, k=17, v=2, **changes):
    points = [value for i in range(k) for value in (10 + i, 5 + i, v)]
    row = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": points,
        "iscrowd": 0,
        "bbox": [10, 5, 20, 22],
        "area": 300,
        "num_keypoints": k if v else 0,
        "segmentation": [[1, 2, 3, 4, 5, 6]],
    }
    return {**row, **changes}


def content(names=COCO.keypoints):
    """Image 1: two people and a crowd; image 2: a person without labelled joints; image 3: nobody."""
    crowd = person(1, 13, iscrowd=1, v=0, bbox=[30, 0, 30, 20], k=len(names))
    k = len(names)
    return {
        "images": [{"id": i, "file_name": f"{i:04}.jpg", "width": W, "height": H} for i in (1, 2, 3)],
        "annotations": [person(1, 11, k), person(1, 12, k, v=1), crowd, person(2, 14, k, v=0)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(names)}],
    }


def write(root, data, split="train", folder="train2017", name=None):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / folder).mkdir(parents=True, exist_ok=True)
    file = root / "annotations" / (name or f"person_keypoints_{split}2017.json")
    file.write_text(data if isinstance(data, str) else json.dumps(data))
    pixels = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    for i in (1, 2, 3):
        cv2.imwrite(str(root / folder / f"{i:04}.jpg"), pixels)
    return file


def test_a_folder_laid_out_like_coco(tmp_path):
    write(tmp_path, content())
    data = CocoFolder(tmp_path)
    assert (len(data), data.ids, data.layout.name, data.note, data.area_scale) == (
        3,
        [1, 2, 3],
        "coco",
        "",
        1.0,
    )
    target = data.target(0)
    assert target["keypoints"].shape == (2, 17, 2) and target["keypoints"].dtype == np.float32
    assert target["keypoints"][0, 1].tolist() == [11, 6]
    assert target["visibility"].tolist() == [[2] * 17, [1] * 17] and target["visibility"].dtype == np.uint8
    assert target["boxes"].tolist() == [[10, 5, 30, 27]] * 2
    assert target["areas"].tolist() == [300, 300]
    assert target["ignore"].tolist() == [[30, 0, 60, 20]]
    assert data.target(1)["visibility"].tolist() == [[0] * 17]
    assert data.target(2)["keypoints"].shape == (0, 17, 2)
    assert data.image(0).shape == (H, W, 3) and data.image(0).dtype == np.uint8
    truth = data.ground_truth
    assert [row["id"] for row in truth["annotations"]] == [11, 12, 13, 14] and len(truth["images"]) == 3


def test_training_leaves_out_images_without_labelled_people(tmp_path):
    write(tmp_path, content())
    data = open_dataset(tmp_path, "train")
    assert data.ids == [1]
    assert [row["image_id"] for row in data.ground_truth["annotations"]] == [1, 1, 1]
    assert open_dataset(tmp_path, "train", with_people=False).ids == [1, 2, 3]
    write(tmp_path, content(), "val", "val2017")
    assert open_dataset(tmp_path, "val").ids == [1, 2, 3]
    assert open_dataset(tmp_path, "val", count=2).ids == [1, 2]
    assert open_dataset(str(tmp_path), "val").fingerprint != open_dataset(tmp_path, "val", count=2).fingerprint


@pytest.mark.parametrize("folder", ["images", "."])
def test_a_folder_that_somebody_made(tmp_path, folder):
    file = write(tmp_path, content(), folder=folder, name="my_people.json")
    (tmp_path / "annotations" / "detections.json").write_text("[1, 2]")
    train, val = CocoFolder(tmp_path, "train"), CocoFolder(tmp_path, "val")
    assert train.ids == val.ids == [1, 2, 3] and train.file == file
    assert "my_people.json serves as train and as val" in val.note
    assert CocoFolder(file).ids == [1, 2, 3]
    assert CocoFolder(os.path.relpath(tmp_path)).image(2).shape == (H, W, 3)


def test_files_of_its_own_for_each_split(tmp_path):
    write(tmp_path, content(), folder="images", name="monkeys_train.json")
    data = content()
    data["images"] = data["images"][:2]
    write(tmp_path, data, folder="images", name="monkeys_val.json")
    assert len(CocoFolder(tmp_path, "train")) == 3 and len(CocoFolder(tmp_path, "val")) == 2
    assert CocoFolder(tmp_path, "val").note == ""


def test_other_keypoints(tmp_path):
    names = ["left_paw", "right_paw", "tail"]
    data = content(names)
    data["categories"][0]["skeleton"] = [[1, 3], [2, 3]]
    write(tmp_path, data)
    folder = CocoFolder(tmp_path)
    assert folder.layout.keypoints == tuple(names) and folder.layout.flip.tolist() == [1, 0, 2]
    assert folder.layout.limbs == ((0, 2), (1, 2)) and "equal OKS sigmas" in folder.note
    assert folder.target(0)["keypoints"].shape == (2, 3, 2)
    write(tmp_path, content(["a", "b"]))
    assert "flips are left out" in CocoFolder(tmp_path).note
    write(tmp_path, content(["left_paw", "tail"]))  # one side only: nothing to swap it with
    assert CocoFolder(tmp_path).layout.flip.tolist() == [0, 1]
    write(tmp_path, content(["paw", "paw"]))
    with pytest.raises(DataError, match="name a keypoint twice"):
        CocoFolder(tmp_path)


def test_number_of_keypoints_without_names(tmp_path):
    data = content()
    del data["categories"]
    write(tmp_path, data)
    assert CocoFolder(tmp_path).layout is COCO and "layout 'coco' is assumed" in CocoFolder(tmp_path).note
    data = content(["x"] * 5)
    del data["categories"]
    write(tmp_path, data)
    assert len(CocoFolder(tmp_path).layout) == 5


def test_crowdpose_spells_one_name_differently(tmp_path):
    from posekit.layouts import CROWDPOSE

    write(tmp_path, content([{"top_head": "head"}.get(name, name) for name in CROWDPOSE.keypoints]))
    assert CocoFolder(tmp_path).layout is CROWDPOSE


def test_crowdpose_as_it_unpacks(tmp_path):
    """No licences, no areas, a crowdIndex per image, and file names that contain one another."""
    from posekit.evaluation import evaluate
    from posekit.layouts import CROWDPOSE

    data = content([{"top_head": "head"}.get(name, name) for name in CROWDPOSE.keypoints])
    for row in data["annotations"]:
        row.pop("area")
    for number, image in enumerate(data["images"]):
        image["crowdIndex"] = 0.3 + 0.4 * number
    write(tmp_path, data, folder="images", name="crowdpose_train.json")
    (tmp_path / "json").mkdir()
    source = next(tmp_path.rglob("crowdpose_train.json"))
    for name in ("crowdpose_train.json", "crowdpose_val.json", "crowdpose_trainval.json"):
        (tmp_path / "json" / name).write_text(source.read_text())
    source.unlink()
    for split in ("train", "val"):
        assert CocoFolder(tmp_path, split).file.name == f"crowdpose_{split}.json"
    folder = CocoFolder(tmp_path, "val")
    width, height = np.diff(folder.target(0)["boxes"][0].reshape(2, 2), axis=0)[0]
    assert folder.layout is CROWDPOSE and folder.target(0)["areas"][0] == pytest.approx(0.53 * width * height)
    truth = folder.ground_truth
    assert [image["crowdIndex"] for image in truth["images"]] == [i["crowdIndex"] for i in data["images"]]
    rows = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in truth["annotations"]
    ]
    stats = evaluate(truth, rows).stats
    assert stats["AP"] == pytest.approx(1) and "APhard" in stats


def test_missing_areas_boxes_and_flags_are_filled_in(tmp_path):
    data = content()
    for row in data["annotations"]:
        for name in ("area", "iscrowd", "num_keypoints"):
            row.pop(name)
    data["annotations"][0].pop("bbox")
    write(tmp_path, data)
    folder = CocoFolder(tmp_path)
    assert folder.target(0)["boxes"][0].tolist() == [10, 5, 26, 21]
    assert folder.target(0)["areas"][0] == pytest.approx(0.53 * 16 * 16)
    assert "4 annotations have no area" in folder.note


def test_annotations_of_other_categories_are_not_people(tmp_path):
    data = content()
    data["annotations"].append({"id": 99, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 1]})
    data["categories"].append({"id": 7, "name": "kite"})
    write(tmp_path, data)
    assert len(CocoFolder(tmp_path).target(0)["keypoints"]) == 2


def test_pycocotools_reads_the_ground_truth(tmp_path):
    from pycocotools.coco import COCO as Reference

    write(tmp_path, content())
    reference = Reference()
    reference.dataset = CocoFolder(tmp_path).ground_truth
    reference.createIndex()
    assert reference.getImgIds() == [1, 2, 3] and len(reference.getAnnIds(imgIds=1)) == 3


def change_first(**changes):
    def apply(data):
        data["annotations"][0].update(changes)
        return data

    return apply


NAN = [float("nan"), *([1] * 50)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: "{nonsense", r"person_keypoints_train2017.json is not a JSON file"),
        (
            lambda data: "[1, 2]",
            r"train2017.json is not a COCO annotation file: .*'images' and 'annotations'",
        ),
        (
            lambda data: {**data, "annotations": [{"id": 1, "image_id": 1}]},
            r"train2017.json lacks 'keypoints'",
        ),
        (
            change_first(keypoints=[1] * 42),
            r"annotation 11 \(image 1\) has 42 keypoint numbers.*17 keypoints.*need 51",
        ),
        (change_first(keypoints=NAN), r"annotation 11 \(image 1\) holds a number that is not finite"),
        (change_first(area=float("inf")), r"annotation 11 \(image 1\) holds a number that is not finite"),
        (change_first(keypoints=["a"] * 51), r"annotation 11 \(image 1\) holds something other than numbers"),
        (change_first(keypoints=[1, 1, 3] * 17), r"annotation 11 \(image 1\) has visibility flags \[3\]"),
        (
            change_first(bbox=[1, 2]),
            r"annotation 11 \(image 1\) has the bbox \[1.*2.*\] \(a list\); it needs x, y, width",
        ),
        (
            change_first(image_id=77),
            r"annotation 11 \(image 77\) belongs to an image that the file does not list",
        ),
        (lambda data: {**data, "images": [*data["images"], {"id": 4}]}, r"image 4 lacks 'file_name'"),
        (
            lambda data: {**data, "images": [data["images"][1], {**data["images"][0], "id": 2}]},
            r"two images have the same id 2: '0002.jpg' and '0001.jpg'",
        ),
    ],
)
def test_bad_annotation_files(tmp_path, change, sentence):
    write(tmp_path, change(content()))
    with pytest.raises(DataError, match=sentence) as caught:
        CocoFolder(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_annotations_can_be_skipped_and_are_counted(tmp_path):
    data = change_first(keypoints=NAN)(content())
    data["annotations"].append(person(55, 15))
    data["images"].append({"id": 4, "file_name": "0004.jpg"})
    data["annotations"].append(person(4, 16))
    write(tmp_path, data)
    folder = CocoFolder(tmp_path, on_error="skip")
    assert len(folder.skipped) == 3 and folder.ids == [1, 2, 3]
    assert "image 4" in folder.skipped[0] and "annotation 11" in folder.skipped[1] and "55" in folder.skipped[2]
    assert len(folder.target(0)["keypoints"]) == 1
    assert [row["id"] for row in folder.ground_truth["annotations"]] == [12, 13, 14]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def resize(path):
    cv2.imwrite(str(path), np.zeros((H, W + 1, 3), np.uint8))


def test_nothing_to_find(tmp_path):
    with pytest.raises(DataError, match="there is no annotation file in .*person_keypoints_val2017.json"):
        CocoFolder(tmp_path, "val")
    with pytest.raises(DataError, match="there is no folder"):
        CocoFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no annotation file 'mine.json'"):
        CocoFolder(tmp_path, annotations="mine.json")
    with pytest.raises(ValueError, match="'train' and 'val', not 'test'"):
        CocoFolder(tmp_path, "test")
    with pytest.raises(ValueError, match="on_error is 'raise' or 'skip', not 'ignore'"):
        CocoFolder(tmp_path, on_error="ignore")


def test_two_candidates_are_named(tmp_path):
    write(tmp_path, content(), folder="images", name="one.json")
    write(tmp_path, content(), folder="images", name="two.json")
    with pytest.raises(DataError, match=r"several annotation files \(one.json, two.json\)"):
        CocoFolder(tmp_path)
    assert CocoFolder(tmp_path, annotations="two.json").file.name == "two.json"


def test_layout_given_by_the_caller(tmp_path):
    write(tmp_path, content())
    with pytest.raises(DataError, match=r"annotation 11 .* 51 keypoint numbers.* 14 keypoints of layout 'crowdpose'"):
        CocoFolder(tmp_path, layout="crowdpose")
    with pytest.raises(ValueError, match="unknown layout 'coc'; there are coco, crowdpose"):
        CocoFolder(tmp_path, layout="coc")


def test_unknown_data_sets_are_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'poeple': give 'people'.*folder in COCO format"):
        open_dataset("poeple")
    with pytest.raises(ValueError, match="'train' and 'val', not 'test'"):
        open_dataset("people", "test")


@pytest.mark.skipif("POSEKIT_REAL" not in os.environ, reason="POSEKIT_REAL names no folder of real photographs")
def test_real_photographs():
    root = Path(os.environ["POSEKIT_REAL"])
    data = CocoFolder(root / "coco_mini")
    people = [data.target(i) for i in range(len(data))]
    assert len(data) == 7 and sum(len(target["ignore"]) for target in people) == 3
    assert sum(int((target["visibility"] > 0).any(1).sum()) for target in people) == 27
    assert all(data.image(i).ndim == 3 for i in range(7))
    assert len(CocoFolder(root / "macaque")) == 2
    assert CocoFolder(root / "crowdpose", annotations="test_crowdpose.json").layout.name == "crowdpose"
