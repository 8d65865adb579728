"""evaluate_run: files that agree with one another, honest counts, refusals that name the remedy."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from posebook.reports import RunFiles
from posebook.selection import examples
from posekit import models, runs
from posekit.data import open_dataset
from posekit.data.drawn.scenes import Scenes
from posekit.data.images import DataError
from posekit.evaluation import evaluate
from posekit.evaluation.centers import true_centers
from posekit.files import relative, save_tensors, write_json
from posekit.poses import Poses
from posekit.provenance import provenance
from posekit.training.evaluate import evaluate_run, forward, score
from posekit.training.found_boxes import boxes_of
from posekit.training.recipes import Recipe

QUIET = {"report": lambda line: None, "device": "cpu"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder in COCO's format: six drawn scenes of 96 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    Scenes(seed=3, count=6, people=(2, 3)).write_coco(folder, size=96)
    return folder


@pytest.fixture
def run(tmp_path, photos):
    """A run folder as training leaves it, with random weights of its own."""
    torch.manual_seed(0)
    model, folder = models.build("poet_tiny"), tmp_path / "run"
    recipe = Recipe(model="poet_tiny", dataset=str(photos), val_images=0, images=0)
    save_tensors(folder / "model.safetensors", model.state_dict())
    record = provenance(vars(recipe), seed=7, data={"name": "photos", "images": 6})
    parameters = record.pop("parameters") | {"dataset": str(photos)}
    head = {"folder": "run", "status": "done", "results": {}, "sessions": 1, "reason": None}
    write_json(folder / "run.json", head | {"parameters": parameters, "provenance": record})
    write_json(folder / "metrics.json", {"AP": 0.9, "train_total": 1.5})
    return folder


def test_the_files_agree(run, photos, tmp_path):
    out = tmp_path / "scores"
    metrics = evaluate_run(run, folder=out, **QUIET)
    truth = json.loads((photos / "annotations" / "person_keypoints.json").read_text())
    again = evaluate(truth, str(out / "predictions.json"))
    assert again.known == {name: metrics[name] for name in again.known}
    layers, matches = pd.read_csv(out / "layers.csv"), pd.read_csv(out / "matches.csv")
    assert layers.layer.tolist() == [1, 2, 3]
    assert layers.AP.iloc[-1] == pytest.approx(metrics["AP"], abs=1e-12)
    assert metrics["images"] == 6 and metrics["skipped"] == 0
    assert len(matches) == len(truth["annotations"]) and metrics["unpaired"] == 0
    assert sorted(matches.annotation_id) == sorted(row["id"] for row in truth["annotations"])
    by_id = {row["id"]: row for row in truth["annotations"]}
    first = by_id[matches.annotation_id[0]]
    assert matches.image_id[0] == first["image_id"] and matches.area[0] == pytest.approx(first["area"], rel=1e-5)
    joints = pd.read_csv(out / "visibility.csv")
    assert len(joints) == 17 * len(matches)
    assert joints.truth[:17].tolist() == first["keypoints"][2::3]
    assert json.loads((out / "metrics.json").read_text()) == metrics
    record = runs.load_run(out)
    assert record["parameters"]["model"] == "poet_tiny" and record["provenance"]["seed"] == 7
    assert "photos" in runs.footer(out)


def test_in_its_own_folder_the_training_record_stays(run):
    before = runs.load_run(run)
    metrics = evaluate_run(run, **QUIET)
    after = runs.load_run(run)
    assert {key: after[key] for key in before} == before
    assert after["evaluation"]["parameters"]["split"] == "val"
    kept = json.loads((run / "metrics.json").read_text())
    assert kept["train_total"] == 1.5 and kept["AP"] == metrics["AP"]
    assert evaluate_run(run, **QUIET) == metrics  # and a second time the same comes out


def other_run(folder, name, photos, model, **fields):
    """A run folder of another model with random weights."""
    recipe = Recipe(model=name, dataset=str(photos), val_images=0, images=0, **fields)
    save_tensors(folder / "model.safetensors", model.state_dict())
    record = provenance(vars(recipe), seed=0, data={"name": "photos", "images": 6})
    parameters = record.pop("parameters") | {"dataset": str(photos)}
    write_json(folder / "run.json", {"status": "done", "parameters": parameters, "provenance": record})
    return folder


@pytest.mark.parametrize("bias", [-5.0, 1.0])
def test_a_model_that_finds_nobody_or_too_many(photos, tmp_path, bias):
    torch.manual_seed(0)
    model = models.build("rtmo_tiny", bins=(12, 16))
    for layer in model.head.out_cls:
        torch.nn.init.constant_(layer.bias, bias)
    options = {"model_options": {"bins": [12, 16]}, "groups": "rtmo"}
    run = other_run(tmp_path / "rtmo", "rtmo_tiny", photos, model, **options)
    metrics = evaluate_run(run, folder=tmp_path / "out", **QUIET)
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    layers, found = (pd.read_csv(tmp_path / "out" / name) for name in ("layers.csv", "matches.csv"))
    assert layers.layer.tolist() == [1] and "centers" not in metrics
    if bias < 0:
        assert rows == [] and metrics["AP"] == 0 and metrics["unpaired"] == metrics["people"] and found.empty
    else:
        assert len(rows) > 6 and len({row["image_id"] for row in rows}) == 6 and "boxes" not in json.dumps(metrics)
        assert len(found) + metrics["unpaired"] >= metrics["people"] and found.dx.isna().all()
        assert 0 <= metrics["visibility"]["accuracy"] <= 1


def test_a_top_down_model_sees_the_annotated_or_the_found_people(photos, tmp_path):
    torch.manual_seed(0)
    folder = other_run(tmp_path / "run", "vitpose_tiny", photos, models.build("vitpose_tiny"), groups="layers")
    data = open_dataset(photos, "val")
    labelled = sum(int((data.target(i)["visibility"] > 0).any(1).sum()) for i in range(6))
    metrics = evaluate_run(folder, folder=tmp_path / "truth", **QUIET)
    rows = json.loads((tmp_path / "truth" / "predictions.json").read_text())
    assert len(rows) == labelled and metrics["unpaired"] == 0
    assert runs.load_run(tmp_path / "truth")["parameters"]["boxes"] == "truth"
    first = next(row for row in rows if row["image_id"] == data.ids[0])
    write_json(tmp_path / "truth" / "predictions.json", [first])
    metrics = evaluate_run(folder, folder=tmp_path / "found", boxes=str(tmp_path / "truth"), **QUIET)
    rows = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert [row["image_id"] for row in rows] == [data.ids[0]] and metrics["images"] == 6
    asked, again = runs.load_run(tmp_path / "found")["parameters"], RunFiles(str(tmp_path / "found")).data
    assert asked["boxes"] == str(relative(tmp_path / "truth")) or asked["boxes"] == str(tmp_path / "truth")
    assert len(again) == 6


def test_boxes_of_another_run_are_brought_to_the_size_of_these_images(tmp_path):
    """Drawn people of 128 pixels, where rtmo_tiny finds them, are those of 256 pixels that vitpose_tiny sees."""
    small = tmp_path / "rtmo"
    evaluate_run("data/weights/rtmo_tiny", images=3, folder=small, **QUIET)
    large = open_dataset("people", "val", count=3, size=256)
    rows = json.loads((small / "predictions.json").read_text())
    for image, poses in zip(large.ids, boxes_of(str(small), large), strict=True):
        theirs = Poses.from_coco([row for row in rows if row["image_id"] == image])
        np.testing.assert_allclose(poses.boxes, 2 * theirs.boxes, rtol=1e-5)
        np.testing.assert_allclose(poses.scores, theirs.scores)
    with pytest.raises(ValueError, match="has not looked at image 3 of drawn people"):
        boxes_of(str(small), open_dataset("people", "val", count=4, size=256))
    with pytest.raises(ValueError, match="image 0 shows other people than that of drawn people"):
        boxes_of(str(small), open_dataset("people", "val", count=3, size=256, people=(4, 6)))
    with pytest.raises(FileNotFoundError, match="or a run with predictions.json"):
        boxes_of(str(tmp_path / "nowhere"), large)


def perfect(data):
    """The annotated people as poses, and their centres."""
    found = []
    for i in range(len(data)):
        t = data.target(i)
        seen = (t["visibility"] == 2).astype(np.float32)
        centers = true_centers(t["keypoints"], t["visibility"]).astype(np.float32)
        found.append(Poses(t["keypoints"], seen, np.linspace(0.9, 0.5, len(seen)), t["boxes"], centers))
    return found


def test_perfect_poses_score_one_and_empty_ones_nothing():
    data = Scenes(seed=5, count=5, size=128, people=(1, 4))
    nobody = [poses.select(slice(0, 0)) for poses in perfect(data)]
    metrics, tables = score(data, list(range(5)), [nobody, perfect(data)])
    assert metrics["AP"] == pytest.approx(1) and metrics["area_scale"] == (128 / 512) ** 2
    assert tables["layers.csv"].AP.tolist() == pytest.approx([0, 1])
    assert metrics["visibility"]["accuracy"] == 1 and metrics["centers"]["mean"] < 1e-6
    assert np.allclose(tables["matches.csv"][["dx", "dy"]].dropna(), 0, atol=1e-5)
    assert (tables["matches.csv"].oks > 0.999).all()
    metrics, tables = score(data, list(range(5)), [nobody])
    assert metrics["AP"] == 0 and "centers" not in metrics and "visibility" not in metrics
    assert metrics["unpaired"] == metrics["people"] and not len(tables["matches.csv"])


@pytest.mark.parametrize(("visible", "words"), [("released", "visible joints"), ("labelled", "labelled joints")])
def test_centres_are_compared_as_the_model_was_trained(visible, words):
    """A model that puts its centres where its training had them is right by its own definition alone."""
    data, other = Scenes(seed=5, count=5, size=128, people=(2, 4)), {"released": "labelled", "labelled": "released"}
    poses = perfect(data)
    for i, one in enumerate(poses):
        target = data.target(i)
        one.centers = true_centers(target["keypoints"], target["visibility"], visible).astype(np.float32)
    metrics, tables = score(data, list(range(5)), [poses], visible)
    assert metrics["centers"]["mean"] < 1e-6 and metrics["centers"]["of"] == words
    assert np.allclose(tables["matches.csv"][["dx", "dy"]].dropna(), 0, atol=1e-5)
    assert score(data, list(range(5)), [poses], other[visible])[0]["centers"]["mean"] > 1e-3


def test_a_model_without_layers_is_one_layer(photos):
    class Plain(torch.nn.Module):
        input = models.build("poet_tiny").input

        def forward(self, images, mask):
            return {"heatmaps": images[:, :1]}

        def decode(self, outputs, sizes, layer=-1):
            assert layer == -1
            poses = Poses(np.ones((1, 17, 2), np.float32), np.ones((1, 17), np.float32), np.ones(1))
            return [poses for _ in sizes]

    data = open_dataset(photos, "val")
    seen, layers = forward(Plain(), data, Recipe(model="poet_tiny"), "cpu", print)
    assert seen == list(range(6)) and len(layers) == 1 and len(layers[0]) == 6
    metrics, tables = score(data, seen, layers)
    assert "centers" not in metrics and tables["matches.csv"].dx.isna().all()


def test_unusable_pictures_are_counted_or_stop(run, tmp_path):
    folder = tmp_path / "broken"
    Scenes(seed=3, count=4).write_coco(folder, size=96)
    victim = sorted((folder / "images").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:300])
    with pytest.raises(DataError, match=victim.name):
        evaluate_run(run, str(folder), folder=tmp_path / "a", **QUIET)
    metrics = evaluate_run(run, str(folder), folder=tmp_path / "b", on_error="skip", **QUIET)
    assert metrics["skipped"] == 1 and metrics["images"] == 3
    assert victim.name in metrics["skipped_because"][0]
    assert 2 not in pd.read_csv(tmp_path / "b" / "matches.csv").image_id.tolist()


def test_a_number_of_images_and_drawn_people_instead(run, tmp_path):
    metrics = evaluate_run(run, images=2, folder=tmp_path / "two", **QUIET)
    assert metrics["images"] == 2
    assert runs.load_run(tmp_path / "two")["parameters"]["images"] == len(RunFiles(str(tmp_path / "two")).data) == 2


def test_best_and_worst_pictures_are_in_order_and_apart(run, photos, tmp_path):
    out = tmp_path / "scores"
    evaluate_run(run, folder=out, **QUIET)
    good, bad = examples(RunFiles(str(out)), count=3)
    assert len(good) == len(bad) == 3
    values = [row[3] for row in good]
    assert values == sorted(values, reverse=True) and [r[3] for r in bad] == sorted(r[3] for r in bad)
    assert min(values) >= max(row[3] for row in bad)
    image, poses, target, _ = good[0]
    assert image.shape == (96, 96, 3) and len(poses) == 20 and len(target["areas"]) >= 2


def test_refusals_say_what_to_do(run, tmp_path):
    other = tmp_path / "other"
    write_json(other / "run.json", runs.load_run(run))
    with pytest.raises(ValueError, match="holds a training run; give the evaluation a folder of its own"):
        evaluate_run(run, folder=other, **QUIET)
    with pytest.raises(FileNotFoundError, match="no run was made there"):
        evaluate_run(tmp_path / "nothing", **QUIET)
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="there are no weights"):
        evaluate_run(run, **QUIET)
