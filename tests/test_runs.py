"""Run folders: nothing is half written, a run knows what made it, another run is never overwritten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posekit import files, runs
from posekit.files import (
    load_checkpoint,
    read_json,
    relative,
    replacing,
    resolve,
    root,
    save_checkpoint,
    write_bytes,
    write_json,
)
from posekit.provenance import commit, provenance, seed_everything


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A directory that is the repository root as far as the code can see, outside any git checkout."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "posekit"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_root_is_found_from_a_sub_folder(elsewhere, monkeypatch):
    (elsewhere / "notebooks").mkdir()
    monkeypatch.chdir(elsewhere / "notebooks")
    assert root() == elsewhere
    assert resolve("data/runs") == elsewhere / "data" / "runs"
    assert relative(elsewhere / "data" / "x.json") == "data/x.json"
    assert relative(elsewhere.parent / "coco") == "../coco"


def test_json_takes_numpy_and_drops_nan(tmp_path):
    value = {"ap": np.float32(0.5), "n": np.int64(3), "rows": np.eye(2), "loss": float("nan"), "kept": True}
    write_json(tmp_path / "deep" / "m.json", value)
    assert read_json(tmp_path / "deep" / "m.json") == {
        "ap": 0.5,
        "n": 3,
        "rows": [[1.0, 0.0], [0.0, 1.0]],
        "loss": None,
        "kept": True,
    }
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="bad.json is not JSON"):
        read_json(tmp_path / "bad.json")


def test_failed_write_leaves_the_previous_file_and_no_debris(tmp_path):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.bin") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    import torch

    target = tmp_path / "resume.ckpt"
    save_checkpoint(target, {"step": 1, "weights": torch.ones(3)})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"resume.ckpt: No space left .* MB free .*previous file is unchanged"):
        save_checkpoint(target, {"step": 2, "weights": torch.zeros(3)})
    with pytest.raises(OSError, match="metrics.json: No space left .* nothing was written"):
        write_json(tmp_path / "metrics.json", {})
    assert load_checkpoint(target)["step"] == 1
    assert os.listdir(tmp_path) == ["resume.ckpt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
def test_real_limit_on_file_size_keeps_the_previous_checkpoint(tmp_path):
    program = """
import resource, sys, torch
from posekit import runs
from posekit.files import load_checkpoint, save_checkpoint, save_tensors
save_checkpoint("resume.ckpt", {"step": 1, "weights": torch.ones(1000)})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
for write in (
    lambda: save_checkpoint("resume.ckpt", {"step": 2, "weights": torch.ones(1_000_000)}),
    lambda: save_tensors("model.safetensors", {"weights": torch.ones(1_000_000)}),
):
    try:
        write()
    except OSError as error:
        print(type(error).__name__, error)
print(load_checkpoint("resume.ckpt")["step"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=_with_package()
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert "resume.ckpt: File too large" in lines[0] and "the previous file is unchanged" in lines[0]
    assert "model.safetensors: File too large" in lines[1] and "nothing was written" in lines[1]
    assert lines[2] == "1"
    assert os.listdir(tmp_path) == ["resume.ckpt"]


@pytest.mark.skipif(not hasattr(os, "kill") or sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_in_mid_write_keeps_the_previous_file(tmp_path):
    program = """
import os, signal
from posekit import runs
from posekit.files import replacing, write_bytes
write_bytes("a.bin", b"old")
with replacing("a.bin") as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=_with_package())
    assert done.returncode == -9
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    write_bytes(tmp_path / "a.bin", b"new")
    assert os.listdir(tmp_path) == ["a.bin"]


def _with_package():
    return {**os.environ, "PYTHONPATH": str(Path(runs.__file__).parents[1])}


def test_cut_checkpoint_is_named(tmp_path):
    import torch

    save_checkpoint(tmp_path / "resume.ckpt", {"weights": torch.ones(1000)})
    whole = (tmp_path / "resume.ckpt").read_bytes()
    (tmp_path / "resume.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="resume.ckpt is not a whole checkpoint; delete it"):
        load_checkpoint(tmp_path / "resume.ckpt")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9), max_size=5))
def test_log_keeps_every_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    for epoch, value in enumerate(values):
        runs.append_row(path, {"epoch": epoch, "loss": value})
    assert [row["loss"] for row in runs.read_log(path)] == values


def test_log_grows_columns_and_goes_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "log.csv"
    for epoch in range(4):
        sometimes = {"AP": 0.25} if epoch == 1 else {}
        runs.append_row(path, {"epoch": epoch, "loss": 1 / (epoch + 1)} | sometimes)
    runs.truncate_log(path, 2)
    rows = runs.read_log(path)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["AP"] for row in rows] == [None, 0.25, None]
    assert rows[2]["loss"] == 1 / 3
    runs.truncate_log(tmp_path / "none.csv", 3)
    assert runs.read_log(tmp_path / "none.csv") == []


def test_log_is_appended_and_only_a_new_column_rewrites_it(tmp_path):
    path = tmp_path / "log.csv"
    runs.append_row(path, {"epoch": 0, "loss": 0.5, "AP": None})
    first, file = path.read_bytes(), path.stat().st_ino
    runs.append_row(path, {"epoch": 1, "AP": float("nan")})
    assert path.read_bytes() == first + b"1,,nan\n" and path.stat().st_ino == file
    runs.append_row(path, {"epoch": 2, "AR": 0.25})
    assert path.read_text() == "epoch,loss,AP,AR\n0,0.5,,\n1,,nan,\n2,,,0.25\n"


@pytest.mark.parametrize("torn", ["3,0.12", "3", ""])
def test_half_a_row_that_a_kill_left_is_none(tmp_path, torn):
    path = tmp_path / "log.csv"
    for epoch in range(3):
        runs.append_row(path, {"epoch": epoch, "loss": 1 / (epoch + 1)})
    whole = path.read_text()
    path.write_text(whole + torn)
    assert [row["epoch"] for row in runs.read_log(path)] == [0, 1, 2]
    runs.append_row(path, {"epoch": 3, "loss": 0.125})
    assert path.read_text() == whole + "3,0.125\n"
    path.write_text("epoch,lo")
    runs.append_row(path, {"epoch": 0, "loss": 0.5})
    assert path.read_text() == "epoch,loss\n0,0.5\n"


def test_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    runs.append_row(path, {"epoch": 0, "loss": 0.5})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"log.csv: No space left .* MB free .*previous file is unchanged"):
        runs.append_row(path, {"epoch": 1, "loss": 0.25})
    assert path.read_bytes() == before


def test_seeds_repeat():
    import torch

    drawn = []
    for _ in range(2):
        seed_everything(7)
        drawn.append((np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_provenance_holds_no_absolute_path(elsewhere):
    made = provenance({"dataset": str(elsewhere.parent / "coco"), "lr": 1e-3}, seed=3)
    assert made["commit"] == "unknown" and made["dirty"] is False
    assert made["parameters"] == {"dataset": "../coco", "lr": 1e-3}
    assert str(elsewhere.parent) not in json.dumps(made)
    assert {"python", "torch", "torchvision", "numpy", "opencv"} <= set(made["versions"])


def test_commit_says_when_files_were_changed(elsewhere):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True)

    git("init", "-q")
    git("add", "pyproject.toml")
    git("commit", "-q", "-m", "one")
    name, dirty = commit()
    assert len(name) == 7 and not dirty
    with open("pyproject.toml", "a") as file:
        file.write("# changed\n")
    assert commit() == (name, True)


def test_footer_says_shared_facts_once():
    def record(name, seed):
        return {
            "folder": f"data/runs/quick/{name}",
            "parameters": {"model": name},
            "provenance": {
                "commit": "abc1234",
                "dirty": True,
                "device": "cpu",
                "threads": 2,
                "seed": seed,
                "started": "2026-11-20T10:00:00+00:00",
                "data": {"name": "people"},
            },
        }

    end = "commit abc1234* · 2 threads CPU · 2026-11-20"
    assert runs.footer(record("poet_tiny", 0)) == f"drawn people · profile quick · poet_tiny seed 0 · {end}"
    shipped = record("poet_tiny_proposals", 0) | {"folder": "data/weights/poet_tiny_proposals"}
    both = runs.footer(record("poet_tiny", 0), shipped, profile="quick")
    assert both == f"drawn people · profile quick · poet_tiny seed 0, poet_tiny_proposals seed 0 (shipped) · {end}"
    longer = record("poet_tiny", 1) | {"folder": "data/runs/reference/study_decoders/simple-1"}
    mixed = runs.footer(record("poet_tiny", 0), longer, profile="mine")  # each says where it comes from
    assert mixed == f"drawn people · profile quick, profile reference · poet_tiny seed 0, poet_tiny seed 1 · {end}"
    timed = record("rtmo_s", 0)
    timed["parameters"]["threads"] = 1  # set by the measurement, whatever the process could use
    assert "1 thread CPU" in runs.footer(timed)
    assert "profile" not in runs.footer(provenance())


def test_footer_says_how_long_the_weights_learned(elsewhere):
    for name, steps in (("short", 3000), ("long", 50000)):
        with runs.Run.open(f"data/weights/{name}", {"model": "poet_tiny", "steps": steps}, seed=0) as run:
            run.save(step=steps)
    with runs.Run.open("data/runs/quick/scores", {"model": "poet_tiny", "evaluated": "data/weights/long"}) as run:
        pass
    assert " · poet_tiny seed 0 (shipped, 3,000 steps) · " in f" · {runs.footer('data/weights/short')}"
    assert " · poet_tiny (shipped, 50,000 steps) · " in runs.footer(run.record)
    (resolve("data/weights/long") / "run.json").unlink()
    assert " · poet_tiny (shipped) · " in runs.footer(run.record)


def test_run_records_how_it_ended(elsewhere):
    with runs.Run.open("data/runs/quick/a", {"model": "poet_tiny"}, seed=0) as run:
        assert runs.load_run("data/runs/quick/a")["status"] == "running"
        run.save(AP=np.float64(0.25))
    record = runs.load_run("data/runs/quick/a")
    assert record["status"] == "done" and record["results"] == {"AP": 0.25}
    assert record["folder"] == "data/runs/quick/a" and record["provenance"]["seconds"] > 0
    with pytest.raises(KeyboardInterrupt), runs.Run.open("data/runs/quick/b", {}, seed=0):
        raise KeyboardInterrupt
    assert runs.load_run("data/runs/quick/b")["status"] == "interrupted"
    with pytest.raises(ValueError), runs.Run.open("data/runs/quick/c", {}, seed=0):
        raise ValueError(f"loss is NaN, see {elsewhere / 'data' / 'x.json'}")
    assert runs.load_run("data/runs/quick/c")["reason"] == f"ValueError: loss is NaN, see data{os.sep}x.json"
    with pytest.raises(FileNotFoundError, match="quick/d/run.json is missing"):
        runs.load_run("data/runs/quick/d")


def test_same_parameters_continue_and_others_move_the_old_run_aside(elsewhere, capsys):
    folder = elsewhere / "data/runs/quick/a"
    with pytest.raises(KeyboardInterrupt), runs.Run.open(folder, {"lr": 1e-3}, seed=0) as run:
        assert run.before is None
        run.save(epochs=5)
        raise KeyboardInterrupt
    (folder / "resume.ckpt").write_bytes(b"weights")
    with runs.Run.open(folder, {"lr": 1e-3, "workers": 2}, seed=0, defaults={"workers": 2}) as run:
        assert run.before == "interrupted"
        assert run.record["sessions"] == 2 and run.record["results"] == {"epochs": 5}
        assert (folder / "resume.ckpt").exists()
    done = (folder / "run.json").read_bytes()
    with runs.Run.open(folder, {"lr": 1e-3, "workers": 2}, seed=0) as run:
        assert run.before == "done"
    assert (folder / "run.json").read_bytes() == done
    with runs.Run.open(folder, {"lr": 2e-3, "workers": 2}, seed=0) as run:
        assert run.before is None and run.record["results"] == {}
        assert sorted(os.listdir(folder)) == [".lock", "run.json"]
    assert os.listdir(folder) == ["run.json"]
    aside = [other for other in folder.parent.iterdir() if other != folder]
    assert len(aside) == 1 and (aside[0] / "resume.ckpt").read_bytes() == b"weights"
    assert "another lr" in capsys.readouterr().out
