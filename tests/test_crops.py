"""Boxes to crops: published values, geometry that comes back, bad boxes; people as a data set of crops."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data import open_dataset
from posekit.data.crop_augment import POLICIES, CropAugment, Policy, half_body, upper_body
from posekit.data.crops import box_matrices, crop_people, window_matrices, windows
from posekit.data.images import DataError
from posekit.data.loader import Loader
from posekit.data.topdown import ConcatDataset, PersonCrops
from posekit.data.transforms import invert, normalise, opencv_matrix
from posekit.input_spec import IMAGENET
from posekit.layouts import COCO, CROWDPOSE, LAYOUTS
from posekit.poses import Poses

ROOT = Path(__file__).parents[1]
BOX = np.array([[20.0, 30.0, 80.0, 110.0]])


@pytest.fixture(scope="module")
def scenes():
    return open_dataset("people", "val", count=6, cache=None)


finite = st.floats(-200, 600)


@settings(max_examples=50, deadline=None)
@given(finite, finite, st.floats(2, 400), st.floats(2, 400), st.floats(-180, 180), st.booleans(), st.booleans())
def test_every_window_comes_back(x, y, width, height, degrees, udp, mirror):
    centres, extents = windows(np.array([[x, y, x + width, y + height]]))
    matrix = window_matrices(centres, extents, degrees=degrees, udp=udp, mirror=mirror)
    points = np.random.default_rng(0).uniform(-100, 400, (20, 2))
    there = points @ matrix[0, :, :2].T + matrix[0, :, 2]
    back = invert(matrix)[0]
    assert np.abs(there @ back[:, :2].T + back[:, 2] - points).max() < 1e-2 * max(width, height) / 100 + 1e-2
    middle = centres[0] @ matrix[0, :, :2].T + matrix[0, :, 2]
    assert middle == pytest.approx([96, 128], abs=1e-6)
    assert (np.linalg.det(matrix[0, :, :2]) < 0) == mirror


def test_udp_puts_the_window_from_first_to_last_pixel_middle():
    centres, extents = windows(BOX)
    corners = np.stack([centres[0] - extents[0] / 2, centres[0] + extents[0] / 2])
    for udp, expected in ((True, [[0.5, 0.5], [191.5, 255.5]]), (False, [[0, 0], [192, 256]])):
        matrix = box_matrices(BOX, udp=udp)[0]
        assert corners @ matrix[:, :2].T + matrix[:, 2] == pytest.approx(np.array(expected))


@pytest.mark.parametrize("size", [(192, 256), (72, 96), (64, 64), (128, 96)])
def test_windows_have_the_crops_shape_and_hold_the_padded_box(size):
    centres, extents = windows(BOX, size)
    assert extents[0, 0] / extents[0, 1] == pytest.approx(size[0] / size[1])
    assert (extents[0] >= [60 * 1.25 - 1e-9, 80 * 1.25 - 1e-9]).all()
    assert np.isclose(extents[0], [75, 100]).any() and centres[0].tolist() == [50, 70]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("scale", [0.6, 3.4])
def test_the_crop_shows_what_the_matrix_says(scale, smooth):
    """A blob's centre of mass lands where its point does, also where the picture is averaged first."""
    rows, columns = np.mgrid[:400, :500] + 0.5
    blob = np.exp(-((columns - 213.3) ** 2 + (rows - 187.8) ** 2) / (2 * (7 * scale) ** 2))
    image = np.repeat((255 * blob)[..., None], 3, 2).round().astype(np.uint8)
    extent = np.array([[48.0, 64.0]]) * scale
    matrices = window_matrices(np.array([[210.0, 190.0]]), extent, (48, 64), degrees=20, udp=True)
    crop = crop_people(image, matrices, (48, 64), smooth=smooth)[0, ..., 0].astype(float)
    rows, columns = np.mgrid[:64, :48] + 0.5
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    expected = matrices[0, :, :2] @ [213.3, 187.8] + matrices[0, :, 2]
    assert np.abs(found - expected).max() < 0.1
    shifted = crop_people(image, matrices, (48, 64), pixel_centre=0.0, smooth=smooth)[0, ..., 0].astype(float)
    moved = np.array([(shifted * columns).sum(), (shifted * rows).sum()]) / shifted.sum()
    # the published frame sees the picture half a pixel further to the left and above
    assert np.abs(found - moved - matrices[0, :, :2] @ [0.5, 0.5]).max() < 0.1


def test_opencv_samples_with_the_index_matrix():
    image = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (90, 120, 3), dtype=np.uint8), (5, 5), 1)
    matrices = box_matrices(BOX, (48, 64), udp=True)
    by_hand = cv2.warpAffine(image, opencv_matrix(matrices)[0], (48, 64))
    assert (crop_people(image, matrices, (48, 64), smooth=False)[0] == by_hand).all()


def test_pixels_are_normalised():
    crops = np.random.default_rng(0).integers(0, 255, (3, 16, 12, 3), dtype=np.uint8)
    images = normalise(crops, *IMAGENET)
    assert images.shape == (3, 3, 16, 12)
    expected = (crops / 255 - IMAGENET[0]) / IMAGENET[1]
    assert np.abs(images.permute(0, 2, 3, 1).numpy() - expected).max() < 1e-5
    assert normalise(crops[:0], *IMAGENET).shape == (0, 3, 16, 12)


def test_no_boxes_give_no_crops_and_bad_ones_are_named():
    image = np.zeros((90, 120, 3), np.uint8)
    assert crop_people(image, box_matrices(np.zeros((0, 4)))).shape == (0, 256, 192, 3)
    for box, why in (([np.nan, 10, 50, 60], "not finite"), ([40, 10, 40, 60], "no area")):
        with pytest.raises(ValueError, match=f"box 1, .*{why}; give x0 < x1"):
            box_matrices(np.array([[10, 10, 50, 60], box]))
    with pytest.raises(ValueError, match="unknown augmentation policy of crops 'wild'; there are none, scenes"):
        CropAugment("wild")


# --- augmentation ------------------------------------------------------------------------------------------------


def test_the_upper_body_by_name():
    assert np.flatnonzero(upper_body(COCO)).tolist() == list(range(11))
    assert np.flatnonzero(upper_body(CROWDPOSE)).tolist() == [0, 1, 2, 3, 4, 5, 12, 13]


def test_half_bodies_need_joints_with_some_distance():
    points = np.random.default_rng(2).uniform(0, 100, (17, 2))
    upper, labelled = upper_body(COCO), np.zeros(17, bool)
    assert half_body(points, labelled, upper, True) is None
    labelled[[0, 5]] = True
    centre, extent = half_body(points, labelled, upper, False)  # the lower body has no joint
    assert centre == pytest.approx(points[[0, 5]].mean(0)) and extent[0] / extent[1] == pytest.approx(0.75)
    labelled[11:17] = True
    centre, _ = half_body(points, labelled, upper, True)  # two upper joints are too few beside six
    assert centre == pytest.approx(points[11:17].mean(0))
    assert half_body(np.ones((17, 2)), labelled, upper, True) is None


@pytest.mark.parametrize("policy", [*POLICIES, Policy(flip=1.0), Policy(half_body=1.0, half_body_joints=3)])
def test_joints_come_back_from_every_augmented_crop(scenes, policy):
    people, augment = PersonCrops(scenes), CropAugment(policy, crop_size=(72, 96), stride=3)
    order = COCO.flip if isinstance(policy, Policy) and policy.flip == 1 else np.arange(17)
    for i in range(len(people)):
        target = people.target(i)
        crop, made, back = augment(people.image(i), target, np.random.default_rng((3, i)))
        assert crop.shape == (96, 72, 3) and made["heatmaps"].shape == (17, 32, 24)
        seen = made["visibility"][0] > 0
        original = made["keypoints"][0] @ back[:, :2].astype(float).T + back[:, 2]
        distances = np.linalg.norm(original[:, None] - target["keypoints"], axis=-1)
        if policy in ("none", *([policy] if isinstance(policy, Policy) else [])):
            assert distances[np.arange(17), order][seen].max(initial=0) < 1e-3
        assert distances[seen].min(1).max(initial=0) < 1e-3
        rows, columns = np.divmod(made["heatmaps"].reshape(17, -1).argmax(1), 24)
        cell = np.stack([columns * 71 / 23, rows * 95 / 31], 1) + 0.5
        assert np.abs(cell - made["keypoints"][0])[seen].max(initial=0) < 1.6


# --- people as a data set ----------------------------------------------------------------------------------------


def test_batches_of_people_resume_exactly(scenes):
    people = PersonCrops(scenes)
    augment = CropAugment("vitpose", crop_size=(72, 96), stride=3)
    assert len(people) == sum(len(scenes.target(i)["areas"]) for i in range(6)) and people.skipped == []
    whole = list(Loader(people, augment, 4, seed=3).epoch(2))
    part = list(Loader(PersonCrops(scenes), augment, 4, seed=3).epoch(2, start=2))
    assert len(whole) - 2 == len(part) > 0
    for one, two in zip(whole[2:], part, strict=True):
        assert torch.equal(one["images"], two["images"]) and one["padding_mask"] is None
        for a, b in zip(one["targets"], two["targets"], strict=True):
            assert a["image_id"] == b["image_id"] and torch.equal(a["heatmaps"], b["heatmaps"])
    target = whole[0]["targets"][0]
    assert target["weights"].shape == (17,) and target["keypoints"].shape == (1, 17, 2)
    assert {"to_original", "box", "window", "box_score", "size"} <= target.keys()
    assert people.fingerprint == PersonCrops(scenes).fingerprint != PersonCrops(scenes, _poses(scenes)).fingerprint
    assert people.ground_truth is scenes.ground_truth


def _poses(scenes):
    """What a one-stage model might have found: the first person of every picture but the last."""
    found = []
    for i in range(len(scenes)):
        target = scenes.target(i)
        n = int(i < len(scenes) - 1)
        scores = np.full(n, 0.7, np.float32)
        found.append(Poses(target["keypoints"][:n], np.ones((n, 17)), scores, target["boxes"][:n]))
    return found


def test_given_boxes_come_from_poses_arrays_or_a_detections_file(scenes, tmp_path):
    poses = _poses(scenes)
    from_poses = PersonCrops(scenes, poses)
    assert len(from_poses) == 5 and from_poses.scores == pytest.approx(0.7) and (from_poses.persons == -1).all()
    target = CropAugment("none")(from_poses.image(0), from_poses.target(0), np.random.default_rng(0))[1]
    assert target["keypoints"].shape == (0, 17, 2) and not target["weights"].any() and not target["heatmaps"].any()
    assert len(PersonCrops(scenes, [p.boxes for p in poses])) == 5
    rows = [
        {"image_id": i, "category_id": 1, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": 0.5}
        for i, p in enumerate(poses)
        for b in p.boxes.tolist()
    ]
    extra = [
        {"image_id": 999, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 1},
        {"image_id": 0, "category_id": 2, "bbox": [0, 0, 5, 5], "score": 1},
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(rows + extra))
    from_file = PersonCrops(scenes, path)
    assert from_file.boxes == pytest.approx(from_poses.boxes, abs=1e-3)
    with pytest.raises(ValueError, match="6 images need as many entries of boxes, not 5"):
        PersonCrops(scenes, poses[:5])
    path.write_text('[{"image_id": 0}]')
    with pytest.raises(DataError, match="row 0 has no 'score'"):
        PersonCrops(scenes, str(path))
    path.write_text("{}")
    with pytest.raises(DataError, match="must be a list of rows .*not one dict"):
        PersonCrops(scenes, path)
    with pytest.raises(DataError, match="is not a COCO detections file"):
        PersonCrops(scenes, tmp_path / "missing.json")


def test_bad_boxes_of_a_data_set_are_counted_or_stop(scenes):
    boxes = [np.zeros((0, 4))] * 5 + [np.array([[5, 5, 60, 90], [np.nan, 0, 1, 1], [9, 9, 9, 20], [500, 0, 600, 9]])]
    people = PersonCrops(scenes, boxes)
    assert (
        len(people) == 1
        and len(people.skipped) == 3
        and "image 5: box 1, [nan, 0.0, 1.0, 1.0], holds" in people.skipped[0]
    )
    nobody = PersonCrops(scenes, [np.zeros((0, 4))] * 6)
    assert len(nobody) == 0 and list(Loader(nobody, CropAugment()).epoch(0)) == []


@pytest.mark.parametrize("score", ["NaN", "Infinity"])
def test_a_box_whose_score_is_not_finite_is_counted(scenes, tmp_path, score):
    path = tmp_path / "boxes.json"
    row = '{"image_id": 0, "category_id": 1, "bbox": [5, 5, 55, 85], "score": %s}'
    path.write_text(f"[{row % 0.9}, {row % score}]")
    people = PersonCrops(scenes, path)
    assert people.scores.tolist() == [0.9] and len(people.skipped) == 1
    assert "image 0: box 1, [5.0, 5.0, 60.0, 90.0], has the score" in people.skipped[0]


def test_data_sets_with_other_keypoints_train_together(scenes):
    class Crowd:
        name, layout, ids, fingerprint = "crowd", LAYOUTS["crowdpose"], [70, 71], "abc"

        def __len__(self):
            return 2

        def image(self, i):
            return np.full((64, 64, 3), 90, np.uint8)

        def target(self, i):
            points = np.random.default_rng(i).uniform(10, 50, (1, 14, 2)).astype(np.float32)
            box = np.float32([[5, 5, 55, 60]])
            return {
                "keypoints": points,
                "visibility": np.full((1, 14), 2, np.uint8),
                "boxes": box,
                "areas": np.float32([900]),
                "ignore": np.zeros((0, 4), np.float32),
            }

    both = ConcatDataset([PersonCrops(scenes), PersonCrops(Crowd())])
    augment = CropAugment("vitpose", crop_size=(48, 64), others=(CROWDPOSE,))
    targets = [t for batch in Loader(both, augment, 8, seed=1).epoch(0) for t in batch["targets"]]
    assert len(targets) == len(both) and sum(int(t["dataset"]) for t in targets) == 2
    for target in targets:
        assert len(target["weights"]) == (14 if target["image_id"] >= 70 else 17)


def test_our_decoding_is_nearer_to_the_published_one_than_transformers():
    transformers = pytest.importorskip("transformers")
    from posebook.benchmarks import data

    processor = transformers.VitPoseImageProcessor()
    distances = data.decoding_errors(processor)
    assert distances["ours"].max() < 1e-3 < 0.1 < distances["transformers"].mean()
    calls = data.crop_calls(*data.crop_case(2), processor)
    made = {name: call() for name, call in calls.items()}
    assert made["ours", "crop"].shape == made["transformers", "crop"].shape == (2, 3, 256, 192)
    found = np.stack([person["keypoints"].numpy() for person in made["transformers", "decode"][0]])
    assert np.abs(made["ours", "decode"].keypoints - found).max() < 1.0
