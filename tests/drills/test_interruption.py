"""Trainings that are broken into end as if nobody had: the same weights, log and predictions, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAMILIES = ("poet_tiny", "rtmo_tiny", "vitpose_tiny", "mae_tiny")
CODES = {"INT": 130, "INT2": 130, "TERM": -signal.SIGTERM, "KILL": -signal.SIGKILL}
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
            assert broken["status"] == status or broken["aim"] in ("end", "weights", "record"), told
        assert result["end"] == [0] * drill.get("ranks", 1) and not result["differs"], told
    return results


def one(family: str, kind: str, aim: str, share: float, **options) -> dict:
    return {"family": family, "breaks": [[kind, aim, share]], **options}


def test_moments_after_warm_up(tmp_path):
    drills = [one(family, kind, "anywhere", share) for family, kind, share in (
        ("poet_tiny", "INT", 0.3), ("poet_tiny", "KILL", 0.6), ("rtmo_tiny", "INT", 0.7), ("rtmo_tiny", "KILL", 0.4),
        ("mae_tiny", "INT", 0.5), ("mae_tiny", "KILL", 0.2), ("mae_tiny", "TERM", 0.8), ("mae_tiny", "INT2", 0.6),
    )]  # fmt: skip
    twice = [["INT", "anywhere", 0.1], ["TERM", "anywhere", 0.05], ["INT", "validation", 0.1]]
    drills += [one("poet_tiny", "INT", "pre-training", 0.5), {"family": "vitpose_tiny", "breaks": twice}]
    run_drills(tmp_path, drills)


AIMED = [
    ("INT", "forward"), ("INT2", "forward"), ("INT", "backward"), ("INT2", "backward"), ("INT", "optimiser"),
    ("INT2", "optimiser"), ("INT", "average"), ("INT2", "average"), ("INT", "validation"), ("INT2", "validation"),
    ("KILL", "validation"), ("INT", "checkpoint"), ("INT2", "checkpoint"), ("TERM", "checkpoint"),
    ("KILL", "checkpoint"), ("INT2", "log"), ("KILL", "log"), ("INT2", "record"), ("KILL", "record"),
    ("INT2", "weights"), ("KILL", "weights"), ("INT", "end"),
]  # fmt: skip


def test_moments_inside_every_part_of_a_step_and_every_file(tmp_path):
    chance = random.Random(0)
    run_drills(tmp_path, [one("vitpose_tiny", kind, aim, chance.random() * 0.95, **SOON) for kind, aim in AIMED])


@pytest.mark.parametrize("kind", ["INT", "KILL"])
def test_steps_of_several_batches(tmp_path, kind):
    """Two of an epoch's three batches make a step, so validations fall between the batches of one."""
    chance = random.Random(1)
    changes = {"accumulate": 2, "steps": 5, "warmup": 1}
    aims = ("anywhere", "validation", "checkpoint") if kind == "KILL" else ("anywhere", "validation")
    run_drills(tmp_path, [one("vitpose_tiny", kind, aim, 0.9 * chance.random(), changes=changes) for aim in aims])


def test_two_processes_hold_the_same_and_stop_together(tmp_path):
    """POET's backbone is trained alone before; the signal reaches one of them."""
    changes = {"batch_size": 1, "steps": 5}
    first, second = run_drills(tmp_path, [
        one("poet_tiny", "INT", "anywhere", 0.4, ranks=2, changes=changes),
        one("poet_tiny", "INT", "validation", 0.3, ranks=2, changes=changes),
    ])  # fmt: skip
    assert first["breaks"][0]["codes"] == second["breaks"][0]["codes"] == [130, 130]
    assert first["ranks alike"] and second["ranks alike"]


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_moments_of_each_signal(tmp_path, family):
    chance = random.Random(family)
    run_drills(tmp_path, [
        one(family, kind, "anywhere", 0.98 * chance.random(), **(SOON if number % 2 else {}))
        for kind in ("INT", "TERM", "KILL", "INT2") for number in range(20)
    ])  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_moments_in_the_writing_of_a_checkpoint(tmp_path, family):
    chance = random.Random(family)
    kinds = ("INT", "TERM", "KILL", "INT2") * 5
    run_drills(tmp_path, [one(family, kind, "checkpoint", 0.98 * chance.random(), **SOON) for kind in kinds])


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_of_every_family(tmp_path, family):
    chance = random.Random(family)
    aimed = [(kind, aim) for kind, aim in AIMED if aim != "average" or family != "mae_tiny"]
    run_drills(tmp_path, [one(family, kind, aim, chance.random() * 0.95) for kind, aim in aimed])
