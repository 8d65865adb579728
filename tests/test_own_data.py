"""Drawn people with labels of our own: the files, the keypoints, and what the readers make of them."""

import json

import numpy as np
import pytest

from posebook import own_data
from posekit.data import open_dataset
from posekit.layouts import COCO


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


def test_another_number_of_keypoints_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keypoints is 7: drawn people are labelled with 5 or 26"):
        own_data.write_labelled(tmp_path, 7, 1, 1)
