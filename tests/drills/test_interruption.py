"""Trainings that are broken into end as if nobody had: the same weights, log and predictions, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAMILIES = ("poet_tiny", "rtmo_tiny", "vitpose_tiny", "mae_tiny")
CODES = {"INT": 130, "INT2": 130, "TERM": -signal.SIGTERM, "KILL": -signal.SIGKILL}
WITHIN_BATCH = ("forward", "backward", "optimiser", "average")
SOON = {"checkpoint_seconds": 0}  # a checkpoint after every step, besides those of the validations

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these drills fork")


def run_drills(folder: Path, drills: list[dict]) -> list[dict]:
    """Runs moments.py; every break came where it was aimed, and nothing differs afterwards."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parents[1])])}
    call = [sys.executable, str(HERE / "moments.py"), str(folder), json.dumps(drills)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(drills)
    for drill, result in zip(drills, results, strict=True):
        told = f"{json.dumps(result)}\n{done.stderr[-2000:]}"
        for broken in result["breaks"]:
            assert broken["codes"][0] == CODES[broken["signal"]], told
            status = "running" if broken["signal"] == "KILL" else "interrupted"
            # flags are read between batches: after the last one, a signal finds a run that ends as it would have
            late = broken["status"] == "done" and broken["aim"] not in WITHIN_BATCH
            assert late or broken["status"] == status or broken["aim"] in ("end", "weights", "record"), told
        assert result["end"] == [0] * drill.get("ranks", 1) and not result["differs"], told
    return results


def one(family: str, kind: str, aim: str, share: float, **options) -> dict:
    return {"family": family, "breaks": [[kind, aim, share]], **options}


def aimed(family: str, seed: int, aims: list[tuple[str, str]], **options) -> list[dict]:
    chance = random.Random(seed)
    return [one(family, kind, aim, 0.95 * chance.random(), **options) for kind, aim in aims]


IN_SHORT = [("INT2", "forward"), ("INT", "optimiser"), ("INT", "average"), ("KILL", "checkpoint"), ("KILL", "weights")]
ALL = [
    (kind, aim)
    for aim in (
        "forward",
        "backward",
        "optimiser",
        "average",
        "validation",
        "checkpoint",
        "log",
        "record",
        "weights",
        "end",
    )
    for kind in ("INT", "INT2", "KILL")
]
# two of an epoch's three batches make a step, so validations fall between the batches of one
ACCUMULATING = {"accumulate": 2, "steps": 5, "warmup": 1}


def test_moments_after_warm_up_and_inside_everything_that_counts(tmp_path):
    drills = [
        one("poet_tiny", "INT", "pre-training", 2000),
        one("rtmo_tiny", "KILL", "anywhere", 150_000),
        one("mae_tiny", "TERM", "anywhere", 10_000),
    ]
    often = [["INT", "anywhere", 0.1], ["TERM", "anywhere", 0.05], ["INT", "validation", 0.1]]
    drills += [{"family": "vitpose_tiny", "breaks": often}, *aimed("vitpose_tiny", 0, IN_SHORT)]
    drills += aimed("vitpose_tiny", 1, [("KILL", "validation")], changes=ACCUMULATING)
    run_drills(tmp_path, drills)


@pytest.mark.long
@pytest.mark.parametrize(("aim", "call"), [("anywhere", 20_000), ("validation", 3_000)])
def test_two_processes_hold_the_same_and_stop_together(tmp_path, aim, call):
    """POET's backbone is trained alone before; the signal reaches one of them."""
    changes = {"batch_size": 1, "steps": 5}
    (result,) = run_drills(tmp_path, [one("poet_tiny", "INT", aim, call, ranks=2, changes=changes)])
    assert result["breaks"][0]["codes"] == [130, 130] and result["ranks alike"]


@pytest.mark.long
def test_every_family_at_twenty_moments_of_each_signal_and_in_every_part(tmp_path):
    """Two families at a time, a core each."""

    def everything(number: int) -> None:
        family, chance = FAMILIES[number], random.Random(number)
        folder = tmp_path / family
        folder.mkdir()
        drills = [
            one(family, kind, "anywhere", 0.98 * chance.random()) for kind in ("INT", "TERM", "KILL") for _ in range(20)
        ]
        drills += [one(family, kind, "checkpoint", 0.98 * chance.random(), **SOON) for kind in CODES for _ in range(2)]
        drills += aimed(family, number, [pair for pair in ALL if pair[1] != "average" or family != "mae_tiny"])
        changed = [("INT", "anywhere"), ("TERM", "validation"), ("KILL", "anywhere"), ("KILL", "checkpoint")]
        run_drills(folder, drills + aimed(family, number, changed, changes=ACCUMULATING))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(everything, range(len(FAMILIES))))


PROGRAM = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from posekit.training import loop
from posekit.training.recipes import recipe

signal.signal(signal.SIGINT, signal.default_int_handler)
step = loop.Loop.train_batch


def broken_into(trainer, batch):
    if trainer.step == 3 and sys.argv[1:]:
        sys.argv.pop()
        {send}
    step(trainer, batch)


loop.Loop.train_batch = broken_into
tiny = {{"dim": 32, "heads": 2, "depth": 2, "filters": 8}}
options = dict(size=128, images=6, val_images=2, batch_size=2, steps=8, warmup=2, model_options=tiny, workers=2)
loop.train(recipe("vitpose_tiny", **options), os.path.abspath("{folder}"))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_the_data_workers_get_the_signal_as_well(tmp_path, kind):
    """As from a terminal or a scheduler: to all processes of the training at once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}

    def run(folder: str, *words: str) -> subprocess.CompletedProcess:
        program = PROGRAM.format(folder=folder, send=f"os.killpg(0, signal.{kind})")
        call = [sys.executable, "-c", program, *words]
        return subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, start_new_session=True
        )

    broken = run("cut", "break")
    codes = {"SIGINT": (1, -signal.SIGINT), "SIGTERM": (-signal.SIGTERM,)}[kind]  # 1: of python -c
    assert broken.returncode in codes, broken.stderr
    assert broken.stderr.count("Traceback") == (kind == "SIGINT") and "data worker" not in broken.stderr
    assert "interrupted at step 4 of 8; the same call goes on from there" in broken.stdout
    assert "resumed at step 4 of 8" in run("cut").stdout and run("whole").returncode == 0
    for name in ("model.safetensors", "predictions.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.long
def test_a_kernel_is_interrupted(tmp_path, monkeypatch):
    """What "interrupt the kernel" and the time limit of ci/execute.py send reaches a training in a cell."""
    import execute
    import nbformat

    program = PROGRAM.format(folder="run", send="os.kill(os.getpid(), signal.SIGINT)").replace("workers=2", "workers=0")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell("name: str = 'a'")
    parameters.metadata["tags"] = ["parameters"]
    book.cells = [parameters, nbformat.v4.new_code_cell(program)]
    nbformat.write(book, tmp_path / "toy.ipynb")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(execute.NotebookError, match="KeyboardInterrupt: interrupted at step 4 of 8; the same call"):
        execute.execute(tmp_path / "toy.ipynb", "out.ipynb")
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run/resume.ckpt").exists()
