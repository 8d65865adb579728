"""The command line: what it prints, writes and returns; most calls in this process."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit import inference
from posekit.cli import main
from posekit.data import open_dataset
from posekit.evaluation import evaluate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    scenes = open_dataset("people", "val", count=3)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), scenes.image(i)[..., ::-1])
    return folder


def test_help_and_an_unknown_command_in_a_process_of_their_own():
    done = subprocess.run([sys.executable, "-m", "posekit", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "predict" in done.stdout and "download" in done.stdout
    done = subprocess.run([sys.executable, "-m", "posekit", "prodict"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "prodict" in done.stderr


def test_the_command_line_imports_no_torch():
    words = "import sys, posekit.cli; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words]).returncode == 0


def test_predict_writes_images_rows_and_a_table(photographs, tmp_path, capsys):
    out = ["--save", str(tmp_path / "out"), "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")]
    assert main(["predict", str(photographs), *out]) == 0
    printed = capsys.readouterr().out
    assert "people in 3 images" in printed and str(tmp_path / "a.json") in printed
    content = json.loads((tmp_path / "a.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert content["annotations"] and {one["image_id"] for one in content["annotations"]} <= {0, 1, 2}
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_predict_writes_results_as_a_scorer_wants_them(photographs, tmp_path, capsys, monkeypatch):
    """Everybody, whatever the score, under the ids that the files are called by; each file is read once."""
    path, tried = tmp_path / "results.json", []
    real = inference.as_array
    monkeypatch.setattr(inference, "as_array", lambda image: tried.append(image) or real(image))
    out = ["--results", str(path), "--json", str(tmp_path / "a.json"), "--save", str(tmp_path / "out")]
    assert main(["predict", str(photographs), *out, "--threshold", "0.5"]) == 0 and len(tried) == 3
    rows, shown = json.loads(path.read_text()), json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert min(row["score"] for row in rows) < 0.5 <= min(row["score"] for row in shown)
    truth = open_dataset("people", "val", count=3).ground_truth
    assert evaluate(truth, rows, area_scale=(128 / 512) ** 2).stats["AP"] > 0.2
    (photographs / "1.jpg").rename(tmp_path / "one.jpg")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "one.jpg"), "--results", str(path)]) == 1
    assert "one.jpg is called by none" in capsys.readouterr().err
    (tmp_path / "one.jpg").rename(photographs / "1.jpg")


def test_predict_top_down_and_by_a_pattern(photographs, capsys):
    words = ["--model", "vitpose_tiny", "--detector", "rtmo_tiny", "--flip-test", "--device", "auto"]
    assert main(["predict", f"{photographs}/[01].jpg", *words]) == 0
    assert "people in 2 images" in capsys.readouterr().out
    assert main(["predict", str(photographs / "0.jpg"), "--model", "vitpose_tiny"]) == 1
    assert "needs their boxes" in capsys.readouterr().err


def test_predict_reads_and_writes_videos(photographs, tmp_path, capsys):
    frames = [cv2.imread(str(photographs / "0.jpg"))] * 5
    film = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, frames[0].shape[1::-1])
    for frame in frames:
        film.write(frame)
    film.release()
    assert main(["predict", str(tmp_path / "a.avi"), "--video", str(tmp_path / "b.avi"), "--batch", "2"]) == 0
    assert "in 5 images" in capsys.readouterr().out
    read = cv2.VideoCapture(str(tmp_path / "b.avi"))
    assert read.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and read.get(cv2.CAP_PROP_FPS) == 10


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["predict", "nothing.jpg"], 1, "error: image: there is no image 'nothing.jpg'"),
        (["predict", "a.jpg", "--model", "rtmo_x"], 1, "error: no model is called 'rtmo_x'"),
        (["predict", "a.jpg", "--batch", "0"], 2, "--batch"),
        (["predict"], 2, "Missing argument"),
        (["train", "no_recipe"], 1, "error: no recipe is called 'no_recipe'"),
        (["train", "rtmo_tiny", "--set", "lr"], 1, "--set lr names no value"),
        (["evaluate", "data/runs/nowhere"], 1, "error: "),
        (["export", "mae_tiny", "a.onnx", "--weights", "scenes"], 1, "error: "),
        (["download", "imagenet"], 1, "no weights of 'imagenet' are published here"),
        (["data", "check", "nowhere"], 1, "unknown data set 'nowhere'"),
    ],
)
def test_what_is_wrong_is_one_sentence(words, status, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    printed = capsys.readouterr()
    assert sentence in printed.err + printed.out and "Traceback" not in printed.err


def test_train_evaluate_and_export(tmp_path, capsys):
    run = str(tmp_path / "run")
    few = ["--set", "images=16", "--set", "val_images=4", "--set", "batch_size=4"]
    assert main(["train", "rtmo_tiny", "--run", run, "--steps", "4", *few]) == 0
    assert "AP" in capsys.readouterr().out
    assert main(["evaluate", run, "--images", "4", "--out", str(tmp_path / "scores")]) == 0
    assert str(tmp_path / "scores") in capsys.readouterr().out and (tmp_path / "scores/metrics.json").is_file()
    assert main(["export", "rtmo_tiny", str(tmp_path / "a.onnx"), "--weights", run]) == 0
    assert (tmp_path / "a.onnx").stat().st_size > 1e5


def test_models_as_json(capsys, monkeypatch):
    monkeypatch.setattr("posekit.models.names", lambda: ["rtmo_s", "rtmo_tiny"])
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert any(row["model"] == "rtmo_s" and row["weights"] == "published" and row["AP"] == 67.7 for row in rows)


def test_interrupted_it_keeps_what_it_has(photographs, tmp_path, capsys, monkeypatch):
    from posekit import inference

    whole, calls = inference.Predictor.whole_images, []

    def two_batches(self, arrays):
        calls.append(len(arrays))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return whole(self, arrays)

    monkeypatch.setattr(inference.Predictor, "whole_images", two_batches)
    assert main(["predict", str(photographs), "--batch", "1", "--json", str(tmp_path / "a.json")]) == 130
    assert len(json.loads((tmp_path / "a.json").read_text())["images"]) == 2
    assert "interrupted" in capsys.readouterr().err


def test_check_lists_every_fault(photographs, tmp_path, capsys):
    from shutil import copytree

    copytree(photographs, tmp_path / "data/images")
    height, width = cv2.imread(str(tmp_path / "data/images/0.jpg")).shape[:2]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": width, "height": height} for i in range(4)]
    joints = np.tile([5.0, 6.0, 2.0], 17).tolist()
    row = {"image_id": 0, "category_id": 1, "keypoints": joints, "num_keypoints": 17, "iscrowd": 0, "area": 50.0}
    row["bbox"] = [1.0, 2.0, 30.0, 40.0]
    rows = [row | {"id": 1}, row | {"id": 2, "image_id": 1, "keypoints": joints[:-1]}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "data/people.json").write_text(json.dumps(content))
    assert main(["data", "check", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr().out
    assert "3 images" in printed and "17 keypoints" in printed and "OKS sigmas: coco" in printed
    assert "fault: train: image 3: there is no image" in printed and "annotation 2" in printed
    assert "2 faults" in printed and "val: the same file" in printed
    content["images"], content["annotations"] = images[:3], rows[:1]
    (tmp_path / "data/people.json").write_text(json.dumps(content))
    assert main(["data", "check", str(tmp_path / "data")]) == 0
    assert "no fault" in capsys.readouterr().out
