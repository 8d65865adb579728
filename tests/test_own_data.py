"""Drawn people with labels of our own: the files, the keypoints, and what the readers make of them."""

import json

import numpy as np
import pytest

import posekit
from posebook import own_data
from posekit import layouts
from posekit.data import open_dataset
from posekit.export import export
from posekit.layouts import COCO, layout_of
from posekit.saving import Saver
from posekit.training.loop import train
from posekit.training.recipes import recipe


def truth(points):
    row = {"id": 1, "image_id": 0, "category_id": 1, "keypoints": np.ravel(points).tolist(), "num_keypoints": 17}
    return {"images": [], "annotations": [row], "categories": [{"id": 1, "name": "person"}]}


@pytest.mark.parametrize("count", [5, 26])
def test_a_keypoint_is_the_mean_of_its_joints_and_labelled_where_all_are(count):
    points = np.random.default_rng(0).uniform(0, 100, (17, 3))
    points[:, 2] = 2
    points[COCO.keypoints.index("left_shoulder")] = 0  # outside the image
    points[COCO.keypoints.index("right_wrist"), 2] = 1  # occluded
    made = own_data.relabelled(truth(points), count)
    names = made["categories"][0]["keypoints"]
    found = dict(zip(names, np.reshape(made["annotations"][0]["keypoints"], (-1, 3)), strict=True))
    place = COCO.keypoints.index
    assert len(names) == len(set(names)) == count
    if count == 5:
        assert (found["right_hand"] == [*points[place("right_wrist"), :2], 1]).all()
        assert (found["head"] == points[place("nose")]).all() and made["annotations"][0]["num_keypoints"] == 5
    else:
        forearm = (points[place("right_elbow"), :2] + points[place("right_wrist"), :2]) / 2
        np.testing.assert_allclose(found["right_forearm"], [*forearm, 1])
        for lost in ("neck", "left_upper_arm", "left_shoulder"):
            assert (found[lost] == 0).all()
        assert made["annotations"][0]["num_keypoints"] == 23


@pytest.mark.parametrize("count", [5, 26])
def test_the_folder_opens_as_it_is_with_its_names_sides_and_limbs(tmp_path, count):
    own_data.write_labelled(tmp_path, count, images=3, val_images=2, size=64)
    train, val = (open_dataset(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 2) and train.layout.keypoints == tuple(own_data.LABELS[count])
    assert train.layout.can_flip and len(train.layout.limbs) == len(own_data.LIMBS[count])
    mirrored = [train.layout.keypoints[i] for i in train.layout.flip]
    assert all(
        a.replace("left", "right") == b or "left" not in a
        for a, b in zip(train.layout.keypoints, mirrored, strict=True)
    )
    assert not (train.image(0) == val.image(0)).all()
    first = (tmp_path / "train" / "000000000000.jpg").stat().st_mtime_ns
    own_data.write_labelled(tmp_path, count, images=3, val_images=2, size=64)
    assert (tmp_path / "train" / "000000000000.jpg").stat().st_mtime_ns == first  # what is there is kept
    own_data.write_labelled(tmp_path, count, images=4, val_images=2, size=64)
    assert len(json.loads((tmp_path / "annotations" / "person_keypoints_train.json").read_text())["images"]) == 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An RTMO and a ViTPose of five keypoints, two steps each from the shipped weights."""
    home = tmp_path_factory.mktemp("own")
    folder = own_data.write_labelled(home / "figures", 5, images=4, val_images=2, size=64)
    for name in ("rtmo_tiny", "vitpose_tiny"):
        changes = {"images": 4, "val_images": 2, "batch_size": 2, "steps": 2, "warmup": 1, "ema": 0.0}
        one = recipe(name, dataset=str(folder), weights=f"data/weights/{name}", **changes)
        train(one, home / name, report=lambda line: None)
    return home


def test_a_trained_model_knows_its_keypoints_by_name(trained, tmp_path):
    model = posekit.load("rtmo_tiny", trained / "rtmo_tiny")
    assert model.num_keypoints == 5 and model.layout.keypoints == tuple(own_data.FIVE)
    assert model.layout.limbs == tuple(own_data.LIMBS[5]) and model.layout.can_flip
    image = open_dataset(trained / "figures", "val").image(0)
    poses = posekit.Predictor(model)(image)
    assert len(poses) and set(poses.to_frame().joint) == set(own_data.FIVE)
    assert poses.select(slice(0, 1)).layout is poses.layout
    saver = Saver(coco=tmp_path / "poses.json")
    saver.add(poses)
    saver.close()
    (category,) = json.loads((tmp_path / "poses.json").read_text())["categories"]
    assert category["keypoints"] == list(own_data.FIVE) and category["skeleton"][0] == [1, 2]
    assert (poses.draw() != poses.draw(layout=layout_of(5))).any(), "a layout without limbs draws none"


def test_an_exported_graph_carries_the_names(trained, tmp_path):
    path = export(posekit.load("rtmo_tiny", trained / "rtmo_tiny"), tmp_path / "five.onnx")
    for given in (path, trained / "rtmo_tiny"):
        runner = posekit.load("rtmo_tiny", given, backend="onnxruntime")
        assert runner.layout.keypoints == tuple(own_data.FIVE) and runner.layout.limbs == tuple(own_data.LIMBS[5])


def test_the_flip_test_of_own_keypoints_exchanges_their_sides(trained):
    image = open_dataset(trained / "figures", "val").image(0)
    finder = posekit.Predictor(posekit.load("rtmo_tiny", trained / "rtmo_tiny"))
    model = posekit.load("vitpose_tiny", trained / "vitpose_tiny")
    poses = posekit.Predictor(model, detector=finder, flip_test=True)(image)
    assert len(poses) and poses.layout.keypoints == tuple(own_data.FIVE)
    assert layouts.from_record(layouts.to_record(model.layout)).flip.tolist() == [0, 2, 1, 4, 3]


def test_another_number_of_keypoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keypoints is 7: drawn people are labelled with 5 or 26"):
        own_data.write_labelled(tmp_path, 7, 1, 1)
