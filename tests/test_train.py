"""The training loop: it learns, resumes exactly, stops with a sentence and loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from posekit import runs
from posekit.files import read_json, write_json
from posekit.training import loop
from posekit.training.build import prepare
from posekit.training.recipes import Recipe, recipe


def small(**changes) -> Recipe:
    options = {"images": 24, "val_images": 8, "batch_size": 4, "steps": 9, "backbone_steps": 2, "warmup": 2, "size": 64}
    return recipe("poet_tiny", **(options | changes))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def small_rtmo(**changes) -> Recipe:
    """Crosses everything that a step decides: both stages, the late steps, the loader without mosaic."""
    options = {"images": 24, "val_images": 8, "batch_size": 4, "steps": 9, "warmup": 2, "size": 64}
    options |= {"augment": "rtmo_scenes", "late_augment": "rtmo_late", "stage2_at": 0.4, "late_at": 0.6}
    options |= {"model_options": {"widths": [8, 8, 16, 16, 16], "bins": [12, 16]}}
    return recipe("rtmo_tiny", **(options | changes))


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gains_by_heart(folder, seed=0) -> dict[str, float]:
    """By which share the terms of POET's loss fall from steps 1-50 to 151-200, on two pictures without augmentation."""
    options = small(
        images=2,
        val_images=2,
        batch_size=2,
        steps=200,
        augment="none",
        size=128,
        people=(1, 2),
        ema=0.0,
        warmup=20,
        backbone_steps=0,
        seed=seed,
    )
    loop.train(options, folder, report=lambda line: None)
    log = runs.read_log(folder / "log.csv")
    return {name: 1 - log[-1][f"train_{name}"] / log[0][f"train_{name}"] for name in ("loss_kpts", "loss_ce")}


@pytest.mark.learning
def test_a_few_pictures_are_learned_by_heart(tmp_path):
    gains = gains_by_heart(tmp_path / "run")
    assert gains["loss_kpts"] > 0.4 and gains["loss_ce"] > 0.1, gains


def test_the_run_folder_holds_what_it_promises(tmp_path):
    metrics = loop.train(small(), tmp_path / "run", report=lambda line: None)
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "log.csv", "model.safetensors", "predictions.json", "metrics.json"} <= names
    row = runs.read_log(folder / "log.csv")[-1]
    assert {"epoch", "step", "minutes", "lr", "lr_backbone", "train_loss_ce", "val_loss_kpts", "AP"} <= set(row)
    assert row["step"] == 9 and metrics["AP"] == row["AP"]
    record = runs.load_run(folder)
    assert record["status"] == "done" and record["provenance"]["seed"] == 0
    assert len(read_json(folder / "predictions.json")) == 8 * 20


def test_done_is_done(tmp_path):
    loop.train(small(), tmp_path / "run", report=lambda line: None)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    lines = []
    loop.train(small(), tmp_path / "run", report=lines.append)
    assert "is done" in lines[0] and (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(("small", "at"), [(small, 8), (small_rtmo, 3), (small_rtmo, 8)])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, interrupt, moved, small, at):
    loop.train(small(), tmp_path / "whole", report=lambda line: None)
    interrupt(at, lambda: loop.train(small(), tmp_path / "cut", report=lambda line: None))
    assert runs.load_run(tmp_path / "cut")["status"] == "interrupted"
    lines = []
    loop.train(small(), tmp_path / "cut", report=lines.append)
    assert f"resumed at step {at} of 9" in lines[0]
    assert moved(small(), tmp_path / "whole") > 0.9
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    logs = [runs.read_log(tmp_path / name / "log.csv") for name in ("whole", "cut")]
    kept = [[{k: v for k, v in row.items() if k != "minutes"} for row in log] for log in logs]
    assert kept[0] == kept[1]


CHILD = """
import torch; torch.set_num_threads(1)
from posekit.training import loop
from posekit.training.recipes import recipe
loop.train(recipe("poet_tiny", images=24, val_images=8, batch_size=4, steps=9, backbone_steps=2, warmup=2, size=64),
            r"{folder}", checkpoint_seconds=0)
"""


def test_a_killed_process_resumes_and_ends_with_the_same_weights(tmp_path, moved):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    loop.train(small(), whole, report=lambda line: None)
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(folder=killed)], stdout=subprocess.DEVNULL)
    for _ in range(2400):  # a checkpoint after every step: kill between two of them
        if (killed / "resume.ckpt").exists():
            break
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert runs.load_run(killed)["status"] == "running"
    lines = []
    loop.train(small(), killed, report=lines.append)
    assert "resumed at step" in lines[0]
    assert moved(small(), whole) > 0.9
    assert same(weights(whole), weights(killed))


def test_a_loss_that_is_not_a_number_names_the_pictures_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    from posekit.losses.poet import PoetCriterion
    from posekit.losses.rtmo import RtmoCriterion

    for criterion, options, spoilt in (
        (PoetCriterion, small(), "pose"),
        (RtmoCriterion, small_rtmo(), "proxy_keypoints"),
    ):
        calls, forward = [], criterion.forward

        def poisoned(self, outputs, targets, calls=calls, forward=forward, spoilt=spoilt):
            calls.append(1)
            if len(calls) == 5:
                outputs = {**outputs, spoilt: outputs[spoilt] * float("nan")}
            return forward(self, outputs, targets)

        monkeypatch.setattr(criterion, "forward", poisoned)
        folder = tmp_path / options.model
        words = r"epoch 1, step 5, images \d+, .*not finite.*last checkpoint is kept"
        with pytest.raises(FloatingPointError, match=words):
            loop.train(options, folder, checkpoint_seconds=0, report=lambda line: None)
        assert (folder / "resume.ckpt").exists()
        assert runs.load_run(folder)["status"] == "failed"


def test_the_stages_of_rtmo_follow_the_step(tmp_path, monkeypatch):
    from posekit.data.mosaic import Mosaic

    seen, step, mixes, mix = [], loop.Loop.train_batch, [], Mosaic.mix

    def watched(loop, batch):
        criterion = loop.criterion(loop.plain)
        seen.append((criterion.stage, criterion.auxiliary))
        step(loop, batch)

    def mixed(self, *arguments):
        mixes.append(self.policy)
        return mix(self, *arguments)

    monkeypatch.setattr(loop.Loop, "train_batch", watched)
    monkeypatch.setattr(Mosaic, "mix", mixed)
    metrics = loop.train(small_rtmo(steps=14), tmp_path / "run", report=lambda line: None)
    assert seen == [(1, False)] * 6 + [(2, False)] * 2 + [(2, True)] * 6
    assert set(mixes[: 12 * 4]) == {"rtmo_scenes"}  # the epoch that holds the change ends as it began
    assert set(mixes[12 * 4 :]) == {"rtmo_late"}
    row = runs.read_log(tmp_path / "run" / "log.csv")[-1]
    assert row["train_loss_bbox_aux"] is not None and row["val_loss_mle"] is not None
    assert row["AP"] == metrics["AP"] and (tmp_path / "run" / "predictions.json").exists()


def test_people_in_crowds_are_scored_in_bands(tmp_path):
    options = small_rtmo(dataset="crowd", steps=2, people=(2, 4))
    metrics = loop.train(options, tmp_path / "run", report=lambda line: None)
    assert {"AP", "APeasy", "APmedium", "APhard"} <= set(metrics)
    assert runs.load_run(tmp_path / "run")["results"]["step"] == 2


def test_pictures_of_several_sizes_resume_exactly(tmp_path, interrupt, moved):
    options = small_rtmo(sizes=(64, 96), steps=4)
    loop.train(options, tmp_path / "a", report=lambda line: None)
    interrupt(3, lambda: loop.train(options, tmp_path / "b", report=lambda line: None))
    loop.train(options, tmp_path / "b", report=lambda line: None)
    assert moved(options, tmp_path / "a") > 0.9
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


TOGETHER = """
import os

import torch

torch.set_num_threads(1)
from posekit.losses.rtmo import RtmoCriterion
from posekit.training.recipes import recipe
from posekit.training.loop import train

forward = RtmoCriterion.forward


def lonely(self, outputs, targets):
    if self.training and os.environ.get("LOCAL_RANK", "0") == "1":  # the second process never sees anybody
        targets = [{**target, **{k: target[k][:0] for k in ("keypoints", "visibility", "boxes", "areas")}}
                   for target in targets]
    return forward(self, outputs, targets)


RtmoCriterion.forward = lonely
options = dict(images=16, val_images=4, batch_size=2, steps=5, warmup=2, size=64, ema=0.9)
options |= dict(model_options={"widths": [8, 8, 16, 16, 16], "bins": [12, 16]})
train(recipe("rtmo_tiny", **options), os.path.abspath("together"), accelerator="cpu", devices=2)
"""


def test_two_processes_make_one_run_also_when_one_sees_nobody(tmp_path):
    (tmp_path / "together.py").write_text(TOGETHER)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOCAL_", "NODE_", "WORLD_", "MASTER_"))}
    done = subprocess.run(
        [sys.executable, "together.py"],
        cwd=tmp_path,
        env=clean,
        text=True,
        capture_output=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "together"
    record, log = runs.load_run(folder), runs.read_log(folder / "log.csv")
    assert record["status"] == "done" and record["sessions"] == 1 and record["results"]["step"] == 5
    assert [row["step"] for row in log] == [5]  # written by one of them
    assert all(value.isfinite().all() for value in weights(folder).values())


def test_several_devices_from_a_notebook_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_fabric.connector._IS_INTERACTIVE", True)
    with pytest.raises(ValueError, match="devices is 2, and a notebook is one process .* take devices=1 here, or put"):
        loop.train(small(), tmp_path / "run", accelerator="cpu", devices=2)
    assert not (tmp_path / "run").exists()


def test_in_another_thread_a_training_leaves_signals_alone(tmp_path, monkeypatch):
    """Python hands signals to the main thread, and only that may install handlers."""
    seen, step = [], loop.Loop.train_batch

    def watched(loop, batch):
        step(loop, batch)
        seen.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setattr(loop.Loop, "train_batch", watched)
    before, options = signal.getsignal(signal.SIGINT), small(steps=2, backbone_steps=0)
    thread = threading.Thread(target=loop.train, args=(options, tmp_path / "a"), kwargs={"report": str})
    thread.start()
    thread.join()
    assert seen == [before] * 2 and runs.load_run(tmp_path / "a")["status"] == "done"
    loop.train(options, tmp_path / "b", report=lambda line: None)
    assert seen[-1] != before and signal.getsignal(signal.SIGINT) == before


def test_a_run_of_an_older_version_is_the_same_run(tmp_path):
    """Its record lacks the fields that came later, and has POET's options as fields of their own."""
    loop.train(small(), tmp_path / "run", report=lambda line: None)
    record = runs.load_run(tmp_path / "run")
    for name in ("loss_options", "stage2_at", "sizes", "ema_ramp"):
        del record["parameters"][name]
    record["parameters"] |= {"visible": "labelled", "w_class": 3.0, "w_abs": 4.0, "num_queries": 0, "pretrained": False}
    write_json(tmp_path / "run" / "run.json", record)
    lines = []
    loop.train(small(), tmp_path / "run", report=lines.append)
    assert "is done" in lines[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recipe("poet"), "no recipe is called 'poet'; known: poet_tiny"),
        (lambda: recipe("poet_tiny", step=3), "a recipe has no field step; it has model"),
        (lambda: prepare(small_rtmo(model_options={"bin": [3, 4]})), "names 'bin', which rtmo_tiny does not know"),
        (lambda: prepare(small_rtmo(loss_options={"w_ols": 1})), "names 'w_ols', which RtmoCriterion does not know"),
        (lambda: prepare(small_rtmo(model_options={"num_keypoints": 3})), "num_keypoints, which comes from elsewhere"),
        (lambda: prepare(small_rtmo(loss_options={"mle": "mine"})), "mle is 'mine'; choose one of"),
        (lambda: prepare(small_rtmo(size=72)), "multiples of 32"),
        (lambda: prepare(small_rtmo(backbone_steps=5)), "backbone_steps"),
        (lambda: prepare(small(model="hourglass_104")), "there is no training for the model"),
    ],
)
def test_wrong_recipes_give_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
