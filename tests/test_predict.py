"""Prediction: any kind of picture in, poses in its own pixels out."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from posekit import models
from posekit.data import open_dataset
from posekit.data.transforms import decode
from posekit.files import save_tensors, write_json
from posekit.inference import Predictor
from posekit.poses import Poses
from posekit.training.pretrain import heatmaps
from posekit.training.weights import load


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return Predictor(models.build("poet_tiny", num_queries=5))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)


def test_paths_folders_arrays_and_pil_pictures_give_the_same(predictor, picture, tmp_path):
    from PIL import Image

    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    expected = predictor(picture)
    assert len(expected) == 5 and expected.keypoints.shape == (5, 17, 2)
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture)):
        np.testing.assert_allclose(predictor(given).keypoints, expected.keypoints, atol=1e-3)
    listed = predictor(tmp_path)
    assert len(listed) == 1
    np.testing.assert_allclose(listed[0].keypoints, expected.keypoints, atol=1e-3)


def test_poses_are_in_the_pictures_own_pixels(predictor, picture):
    """The network sees 128 pixels; a picture twice as large gives keypoints twice as far from the corner."""
    small = predictor(picture)
    large = predictor(np.repeat(np.repeat(picture, 2, 0), 2, 1))
    np.testing.assert_allclose(large.keypoints, 2 * small.keypoints, atol=3)


def test_batches_do_not_matter_and_streams_keep_the_order(predictor, picture):
    pictures = [picture, picture[::-1], picture[:, ::-1].copy()]
    one, many = predictor(pictures, batch_size=1), predictor(pictures, batch_size=3)
    streamed = list(predictor.stream(iter(pictures), batch_size=2))
    for a, b, c in zip(one, many, streamed, strict=True):
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-2)
        np.testing.assert_allclose(a.keypoints, c.keypoints, atol=1e-2)


def test_a_threshold_leaves_people_out(predictor, picture):
    middle = float(np.median(predictor(picture).scores))
    assert 0 < len(Predictor(predictor.model, threshold=middle)(picture)) < 5


def test_a_truncated_photograph_gives_a_sentence(predictor, picture, tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), picture)
    raw = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="is truncated"):
        predictor(tmp_path / "a.jpg")


def test_weights_are_found_in_a_run_folder_with_its_number_of_queries(tmp_path):
    model = models.build("poet_tiny", num_queries=9).eval()
    save_tensors(tmp_path / "model.safetensors", model.state_dict())
    write_json(tmp_path / "run.json", {"parameters": {"model": "poet_tiny", "num_queries": 9}})
    loaded = load("poet_tiny", tmp_path)
    pairs = zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_models_options_come_from_its_record(tmp_path):
    model = models.build("rtmo_tiny", bins=(6, 8), decoding="cc").eval()
    save_tensors(tmp_path / "model.safetensors", model.state_dict())
    options = {"bins": [6, 8], "decoding": "cc"}
    write_json(tmp_path / "run.json", {"parameters": {"model": "rtmo_tiny", "model_options": options}})
    loaded = load("rtmo_tiny", tmp_path)
    assert loaded.decoding == "cc" and loaded.classifier.x_bins.shape == (6,)


def test_rtmo_weights_without_a_record_number_pixels_by_their_middles(tmp_path):
    weights = Path(__file__).parents[1] / "data/weights/rtmo_tiny/model.safetensors"
    shutil.copy(weights, tmp_path)
    model, published = load("rtmo_tiny", "scenes"), load("rtmo_tiny", tmp_path)
    assert (model.input.pixel_centre, published.input.pixel_centre) == (0.5, 0.0)
    scene = np.repeat(np.repeat(open_dataset("people", "val", count=1).image(0), 2, 0), 2, 1)
    ours, theirs = (Predictor(each, threshold=0.3)(scene) for each in (model, published))
    assert len(ours)  # the same pixels seen, half a pixel of the picture less said
    np.testing.assert_allclose(theirs.keypoints, ours.keypoints - 0.5, atol=1e-4)


def test_vitpose_weights_without_a_record_see_pixels_by_their_middles(picture, tmp_path):
    torch.manual_seed(0)
    model = load("vitpose_tiny")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    published = load("vitpose_tiny", tmp_path)
    assert published.input.pixel_centre == 0.0
    box = np.float32([[20, 10, 90, 70]])
    whole = Poses(np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32), np.ones(1, np.float32), box)

    def seen(model, image, box):
        people = replace(whole, boxes=np.float32(box))
        return Predictor(model, detector=lambda pictures: [people])(image).keypoints

    larger = np.pad(picture, ((4, 4), (4, 4), (0, 0)))
    moved = seen(model, larger, box + 4.5)  # the window half a pixel further on, in the frame of corners
    np.testing.assert_allclose(seen(published, picture, box), moved - 4.5, atol=1e-3)
    batch = {
        "sizes": torch.tensor([[72, 96]]),
        "to_original": torch.eye(3)[None, :2],
    }
    outputs = {"heatmaps": torch.rand(1, 17, 32, 24)}
    ours, theirs = (decode(each, outputs, batch)[0] for each in (model, published))
    np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)  # the half pixel is not taken twice


def test_a_top_down_model_asks_another_one_where_people_are(picture):
    torch.manual_seed(0)
    boxes = np.array([[10, 10, 40, 80], [90, 20, 130, 85]], np.float32)

    def two_people(arrays):
        keypoints = np.zeros((2, 17, 2), np.float32)
        both = Poses(keypoints, np.ones((2, 17), np.float32), np.array([0.9, 0.5], np.float32), boxes)
        return [both, *(both.select(slice(0, 0)) for _ in arrays[1:])]

    predictor = Predictor(models.build("vitpose_tiny"), detector=two_people)
    first, second = predictor([picture, picture[::-1].copy()])
    assert len(first) == 2 and len(second) == 0 and second.keypoints.shape == (0, 17, 2)
    order = np.argsort(first.boxes[:, 0])
    np.testing.assert_allclose(first.boxes[order], boxes, atol=1e-4)
    inside = (first.keypoints[order] > boxes[:, None, :2] - 20) & (first.keypoints[order] < boxes[:, None, 2:] + 20)
    assert inside.all()
    with pytest.raises(ValueError, match="looks at one person at a time and needs their boxes"):
        Predictor(models.build("vitpose_tiny"))


def test_importing_posekit_is_light_and_the_doors_are_there():
    code = "import sys, posekit; assert 'torch' not in sys.modules; print(posekit.load.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "posekit.runners"
    # torchvision's operators bring torch's compiler with them, which takes longer to import than all the rest
    code = "import sys; from posekit import models; models.build('vitpose_tiny'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_missing_weights_give_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no weights at"):
        load("poet_tiny", tmp_path / "nothing")


def test_heatmaps_peak_at_labelled_joints_only():
    keypoints = torch.tensor([[[10.0, 22.0], [30.0, 30.0]]])
    maps = heatmaps(keypoints, torch.tensor([[1, 0]]), (16, 16), 4.0)
    assert maps[0].argmax() == 5 * 16 + 2  # the cell [8, 12] x [20, 24]
    assert maps[0].max() == pytest.approx(1.0) and maps[1].max() == 0


def test_the_readme_tells_the_truth(tmp_path, monkeypatch):
    text = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    picture = open_dataset("people", "val", count=1).image(0)
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture[..., ::-1])
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, picture.shape[1::-1])
    film.write(picture[..., ::-1])
    film.release()
    monkeypatch.chdir(tmp_path)
    said = {}
    exec(code, said)
    assert len(said["poses"]) and said["poses"].keypoints.shape[1:] == (17, 2)
    assert cv2.imread(str(tmp_path / "photo.png")).shape == picture.shape
    np.testing.assert_allclose(said["first"].keypoints, said["second"].keypoints, atol=1e-3)
    assert len(said["first"]) and np.isfinite(said["first"].keypoints).all()
