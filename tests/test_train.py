"""The training loop: it learns, resumes exactly, stops with a sentence and loses nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from posekit import runs, train
from posekit.recipes import Recipe, recipe


def small(**changes) -> Recipe:
    options = {"images": 24, "val_images": 8, "batch_size": 4, "steps": 9, "backbone_steps": 2, "warmup": 2, "size": 64}
    return recipe("poet_tiny", **(options | changes))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_few_pictures_are_learned_by_heart(tmp_path):
    options = small(
        images=2, val_images=2, batch_size=2, steps=200, augment="none", size=128, people=(1, 2), ema=0.0, warmup=20,
        backbone_steps=0, w_class=3.0,
    )  # fmt: skip
    train.train(options, tmp_path / "run", report=lambda line: None)
    log = runs.read_log(tmp_path / "run" / "log.csv")
    assert log[-1]["train_loss_kpts"] < 0.1 * log[0]["train_loss_kpts"]
    assert log[-1]["train_loss_ce"] < 0.4 * log[0]["train_loss_ce"]


def test_the_run_folder_holds_what_it_promises(tmp_path):
    metrics = train.train(small(), tmp_path / "run", report=lambda line: None)
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "log.csv", "model.safetensors", "predictions.json", "metrics.json"} <= names
    row = runs.read_log(folder / "log.csv")[-1]
    assert {"epoch", "step", "minutes", "lr", "lr_backbone", "train_loss_ce", "val_loss_kpts", "AP"} <= set(row)
    assert row["step"] == 9 and metrics["AP"] == row["AP"]
    record = runs.load_run(folder)
    assert record["status"] == "done" and record["provenance"]["seed"] == 0
    assert len(runs.read_json(folder / "predictions.json")) == 8 * 20


def test_done_is_done(tmp_path):
    train.train(small(), tmp_path / "run", report=lambda line: None)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    lines = []
    train.train(small(), tmp_path / "run", report=lines.append)
    assert "is done" in lines[0] and (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    train.train(small(), tmp_path / "whole", report=lambda line: None)
    whole, step = train.Loop.train_batch, []

    def stop_at_eight(loop, batch):
        step.append(1)
        if len(step) == 8:
            raise KeyboardInterrupt
        whole(loop, batch)

    monkeypatch.setattr(train.Loop, "train_batch", stop_at_eight)
    with pytest.raises(KeyboardInterrupt):
        train.train(small(), tmp_path / "cut", report=lambda line: None)
    assert runs.load_run(tmp_path / "cut")["status"] == "interrupted"
    monkeypatch.undo()
    lines = []
    train.train(small(), tmp_path / "cut", report=lines.append)
    assert "resumed at step 7 of 9" in lines[0]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    logs = [runs.read_log(tmp_path / name / "log.csv") for name in ("whole", "cut")]
    kept = [[{k: v for k, v in row.items() if k != "minutes"} for row in log] for log in logs]
    assert kept[0] == kept[1]


CHILD = """
import torch; torch.set_num_threads(1)
from posekit import train
from posekit.recipes import recipe
train.train(recipe("poet_tiny", images=24, val_images=8, batch_size=4, steps=9, backbone_steps=2, warmup=2, size=64),
            r"{folder}", checkpoint_seconds=0)
"""


def test_a_killed_process_resumes_and_ends_with_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train.train(small(), whole, report=lambda line: None)
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(folder=killed)], stdout=subprocess.DEVNULL)
    for _ in range(2400):  # a checkpoint after every step: kill between two of them
        if (killed / "resume.ckpt").exists():
            break
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert runs.load_run(killed)["status"] == "running"
    lines = []
    train.train(small(), killed, report=lines.append)
    assert "resumed at step" in lines[0]
    assert same(weights(whole), weights(killed))


def test_a_loss_that_is_not_a_number_names_the_pictures_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    from posekit.losses.poet import PoetCriterion

    calls = []

    forward = PoetCriterion.forward

    def poisoned(self, outputs, targets):
        calls.append(1)
        if len(calls) == 5:
            outputs = {**outputs, "pose": outputs["pose"] * float("nan")}
        return forward(self, outputs, targets)

    monkeypatch.setattr(PoetCriterion, "forward", poisoned)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 5, images \d+, .*not finite.*last checkpoint is kept"):
        train.train(small(), tmp_path / "run", checkpoint_seconds=0, report=lambda line: None)
    assert (tmp_path / "run" / "resume.ckpt").exists()
    assert runs.load_run(tmp_path / "run")["status"] == "failed"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recipe("poet"), "no recipe is called 'poet'; known: poet_tiny"),
        (lambda: recipe("poet_tiny", step=3), "a recipe has no field step; it has model"),
    ],
)
def test_wrong_recipes_give_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
