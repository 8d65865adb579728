"""MacaquePose's own file in COCO's format: boxes of the masks, a split by a seed, sentences for what is wrong."""

import csv
import json

import cv2
import numpy as np
import pytest

from posekit.data import open_dataset
from posekit.data.images import DataError
from posekit.data.macaque import convert
from posekit.layouts import COCO

SQUARE = [{"name": "", "segment": [[10, 20], [50, 20], [50, 80], [10, 80]]}]


def animal(missing=()):
    places = {name: None if name in missing else [20 + i, 30 + i] for i, name in enumerate(COCO.keypoints)}
    return [{"name": name.replace("_", " "), "position": place} for name, place in places.items()]


def write(folder, rows):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with open(folder / "annotations.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image file name", "keypoints", "segmentation"])
        for name, animals, masks in rows:
            writer.writerow([name, json.dumps(animals), json.dumps(masks)])
            cv2.imwrite(str(folder / "images" / name), np.zeros((90, 100, 3), np.uint8))


def test_boxes_are_those_of_the_masks_and_the_split_is_the_seeds(tmp_path, capsys):
    rows = [(f"{i:02d}.jpg", [animal(missing=["nose"])], [SQUARE]) for i in range(20)]
    rows[3] = ("03.jpg", [animal(), animal(), animal(COCO.keypoints)], [SQUARE, [], SQUARE])
    write(tmp_path, rows)
    train, val = convert(tmp_path)
    assert "2 animals without a labelled keypoint or without a mask are left out" in capsys.readouterr().out
    images = [{one["file_name"] for one in json.loads(path.read_text())["images"]} for path in (train, val)]
    assert [len(names) for names in images] == [16, 4] and not images[0] & images[1]
    row = json.loads(val.read_text())["annotations"][0]
    assert row["bbox"] == [10, 20, 40, 60] and row["area"] == 2400
    again = {one["file_name"] for one in json.loads(convert(tmp_path, seed=1)[1].read_text())["images"]}
    assert again != images[1]


def test_the_result_is_a_data_set(tmp_path):
    write(tmp_path, [(f"{i}.jpg", [animal(missing=["nose"])], [SQUARE]) for i in range(5)])
    convert(tmp_path)
    data = open_dataset(tmp_path, "train")
    assert len(data) == 4 and data.layout is COCO
    target = data.target(0)
    assert target["visibility"][0].tolist() == [0] + [2] * 16 and target["areas"].tolist() == [2400]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [("a.jpg", [[{"name": "tail", "position": [1, 2]}]], [SQUARE])],
            "row 1: not as published .unknown keypoints tail",
        ),
        ([("a.jpg", [animal()], [])], "row 1: not as published"),
        ([("a.jpg", [animal()], [SQUARE]), ("b.jpg", 3, 4)], "row 2: not as published"),
    ],
)
def test_a_row_of_another_form_is_named(rows, words, tmp_path):
    write(tmp_path, rows)
    with pytest.raises(DataError, match=words):
        convert(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="annotations.csv cannot be read"):
        convert(tmp_path)
    write(tmp_path, [("a.jpg", [animal()], [SQUARE])])
    (tmp_path / "images/a.jpg").unlink()
    with pytest.raises(DataError, match=r"row 1: there is no image '.*a.jpg'"):
        convert(tmp_path)
