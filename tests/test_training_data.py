"""Other people's folders on their way into a training: notes shown and kept, nobody to learn from, nobody to score."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from posekit import runs
from posekit.data import notes, open_dataset
from posekit.data.images import DataError
from posekit.files import read_json
from posekit.layouts import COCO
from posekit.training.build import prepare
from posekit.training.datasets import folder_options, open_data
from posekit.training.evaluate import evaluate_run
from posekit.training.loop import train
from posekit.training.recipes import Recipe, recipe

BOX = [20, 10, 40, 70]
FAMILIES = ("poet", "rtmo", "vitpose", "mae")


def person(number: int, v=2, **changes) -> dict:
    """An annotation of a person in image `number`; v: the flag of every joint."""
    x, y, width, height = BOX
    joints = np.column_stack([np.linspace(x, x + width, 17), np.linspace(y, y + height, 17), np.full(17, v)])
    row = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": BOX, "area": 1500.0}
    row |= {"keypoints": joints.ravel().tolist(), "num_keypoints": 17 if v else 0}
    return {name: value for name, value in (row | changes).items() if value is not ...}


def write(folder, annotations: list[dict], images: int = 3, name: str = "people.json", category: int = 1):
    """A folder in COCO's format of grey images, 80 x 96."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 96} for i in range(1, images + 1)]
    for row in rows:
        cv2.imwrite(str(folder / "images" / row["file_name"]), np.full((96, 80, 3), 40 * row["id"] % 256, np.uint8))
    categories = [{"id": category, "name": "person", "keypoints": list(COCO.keypoints)}]
    (folder / name).write_text(json.dumps({"images": rows, "annotations": annotations, "categories": categories}))
    return folder


def small(family: str, folder, **changes) -> Recipe:
    options = {"dataset": str(folder), "steps": 2, "batch_size": 2, "warmup": 1, "backbone_steps": 0, "ema": 0.0}
    options |= {"size": 64} if family in ("poet", "rtmo") else {"size": 0}
    return recipe(f"{family}_tiny", **(options | changes))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


NOBODY = {
    "no annotation at all": [],
    "no labelled joint": [person(1, v=0), person(2, v=0)],
    "crowds alone": [person(1, iscrowd=1), person(2, iscrowd=1)],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("what", NOBODY)
def test_a_training_set_of_nobody_is_a_sentence_before_the_first_step(tmp_path, family, what):
    rows = NOBODY[what] or [person(1, v=0, keypoints=[0] * 51)]
    folder = write(tmp_path / "photos", rows)
    with pytest.raises(ValueError, match="labelled|nobody|lacks 'keypoints'"):
        train(small(family, folder), tmp_path / "run", report=print)
    assert not (tmp_path / "run").exists()


def test_what_counts_as_somebody_depends_on_the_model(tmp_path):
    """People are a pixel large: RTMO cannot match them at its size, the others can learn."""
    rows = [person(i, bbox=[10, 10, 1, 1]) for i in (1, 2)]
    folder = write(tmp_path / "photos", rows)
    with pytest.raises(ValueError, match="nobody to learn from in photos: none of its 2 images shows .* a pixel"):
        prepare(small("rtmo", folder))
    for family in ("poet", "vitpose"):
        assert len(prepare(small(family, folder)).train.dataset) == 2


def test_seen_joints_alone_where_none_is_seen(tmp_path):
    folder = write(tmp_path / "photos", [person(1, v=1), person(2, v=1)])
    with pytest.raises(ValueError, match=r"a joint with v = 2 \(visible\), .* choose visible = 'labelled'"):
        prepare(small("poet", folder, loss_options={"visible": "released"}))
    lines, run = [], tmp_path / "run"
    train(small("poet", folder, loss_options={"visible": "labelled"}), run, report=lines.append)
    assert any(line.startswith("note: training and validation: ") and "v = 2" in line for line in lines)
    assert runs.load_run(run)["notes"] and runs.load_run(run)["sigmas"] == "coco"
    assert "OKS sigmas: coco" in lines


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_nobody_to_score_is_null_and_a_dash(tmp_path, family):
    """People to train on, nobody in the validation images: no number is made up."""
    folder = write(tmp_path / "photos", [person(1), person(2), person(3)], name="train.json")
    write(folder, [person(1, v=0)], name="val.json")
    lines, run = [], tmp_path / "run"
    metrics = train(small(family, folder), run, report=lines.append)
    assert metrics["AP"] is None and json.loads((run / "metrics.json").read_text())["AP"] is None
    assert runs.load_run(run)["results"]["AP"] is None
    told = next(line for line in lines if line.startswith("epoch"))
    assert "AP –" in told and "-1" not in told and "nan" not in told
    scores = evaluate_run(run, folder=tmp_path / "scores", report=print, device="cpu")
    assert scores["AP"] is None and scores["people"] == 0 and scores["sigmas"] == "coco"
    assert "-1" not in (tmp_path / "scores" / "layers.csv").read_text()
    assert runs.footer(tmp_path / "scores").startswith(f"photos · {family}_tiny seed 0 (2 steps) · ")


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_images_than_a_batch(tmp_path, family):
    folder = write(tmp_path / "photos", [person(1)], images=1)
    train(small(family, folder, batch_size=16), tmp_path / "run", report=print)
    assert runs.load_run(tmp_path / "run")["results"]["step"] == 2


def test_entries_that_cannot_be_used_are_left_out_counted_and_kept(tmp_path):
    folder = write(tmp_path / "photos", [person(i) for i in (1, 2, 3)])
    (folder / "images" / "2.png").unlink()
    with pytest.raises(DataError, match="image 2.*on_error='skip'"):
        train(small("rtmo", folder), tmp_path / "run", report=print)
    lines, run = [], tmp_path / "run"
    train(small("rtmo", folder, on_error="skip"), run, report=lines.append)
    assert "left out: 1" in lines and any("image 2" in line for line in lines)
    assert len(runs.load_run(run)["left_out"]) == 1
    assert len(open_data(small("rtmo", folder, on_error="skip"))) == 2  # its own data are opened as it was trained
    assert evaluate_run(run, folder=tmp_path / "scores", report=print, device="cpu")["skipped"] == 1


@pytest.mark.parametrize("family", ["poet", "vitpose"])
def test_images_of_which_none_can_be_decoded_end_in_a_sentence(tmp_path, family):
    folder = write(tmp_path / "photos", [person(1), person(2)])
    for path in (folder / "images").iterdir():
        data = bytearray(path.read_bytes())
        data[45:60] = bytes(15)  # the header says what it should
        path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="no image of .*photos could be read|none of the images"):
        train(small(family, folder, on_error="skip"), tmp_path / "run", report=print)


def test_several_annotation_files_are_told_apart_by_data_options(tmp_path):
    folder = write(tmp_path / "photos", [person(1), person(2)], name="one.json")
    write(folder, [person(3)], name="two.json")
    with pytest.raises(DataError, match=r"several annotation files .*data_options = \{\"annotations\": \"...\"\}"):
        prepare(small("rtmo", folder))
    options = {"annotations": {"train": "one.json", "val": "two.json"}}
    parts = prepare(small("rtmo", folder, data_options=options))
    assert parts.train.dataset.file.name == "one.json" and len(parts.train.dataset) == 2
    assert parts.val["photos"].dataset.file.name == "two.json"
    assert open_data(Recipe("rtmo_tiny"), str(folder), data_options={"annotations": "two.json"}).file.name == "two.json"
    with pytest.raises(ValueError, match="data_options names annotations for train, and not for val"):
        folder_options({"annotations": {"train": "one.json"}}, "val")


def test_the_category_of_the_folder_is_trained_and_scored(tmp_path):
    """COCO's person has id 1, this one 5: predictions bear the data set's own category."""
    folder = write(tmp_path / "photos", [person(i, category_id=5) for i in (1, 2)], category=5)
    run = tmp_path / "run"
    metrics = train(small("vitpose", folder), run, report=print)
    data = open_dataset(folder, "val")
    assert metrics["AP"] is not None
    assert {row["category_id"] for row in read_json(run / "predictions.json")} == {data.category_id}
    assert evaluate_run(run, folder=tmp_path / "scores", report=print, device="cpu")["people"] == 2


def test_weights_of_other_keypoints_say_both_numbers(tmp_path):
    folder = write(tmp_path / "photos", [person(i) for i in (1, 2)])
    run = tmp_path / "run"
    train(small("poet", folder), run, report=print)
    data = json.loads((folder / "people.json").read_text())
    data["categories"][0]["keypoints"] = [f"point_{i}" for i in range(5)]
    for row in data["annotations"]:
        row["keypoints"] = row["keypoints"][:15]
    (write(tmp_path / "five", []) / "people.json").write_text(json.dumps(data))
    words = r"finds 17 keypoints and five has 5: evaluate it on data with 17 keypoints, or train a model for these 5"
    with pytest.raises(ValueError, match=words):
        evaluate_run(run, str(tmp_path / "five"), folder=tmp_path / "scores", report=print)
    assert prepare(small("vitpose", tmp_path / "five")).model.num_keypoints == 5
    told = []
    train(small("poet", tmp_path / "five", weights=str(run)), tmp_path / "other", report=told.append)
    words = f"{run} lacks 2 of .* weights of the model, which start at random .kpt_embed.layers.2.weight, kpt_embed"
    (said,) = [sentence for sentence in told if re.search(words, sentence)]
    assert said.removeprefix("note: ") in runs.load_run(tmp_path / "other")["notes"]


def test_notes_of_several_data_sets_are_said_once():
    class Data:
        def __init__(self, *told):
            self.notes, self.skipped = list(told), [*told, *told]

    data = {"training": Data("a", "b"), "validation": Data("b")}
    assert notes.merged(data, notes.notes_of) == ["training: a", "training and validation: b"]
    assert notes.merged(data, notes.left_out_of) == ["training: a", "training and validation: b"]
    assert notes.summary([]) == [] and notes.summary(list("abcdefg"))[0] == "left out: 7"
    assert notes.summary(list("abcdefg"))[-1] == "  and 2 more"
