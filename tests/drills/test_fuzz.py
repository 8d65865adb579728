"""The short form of `fuzz.py`: a few files of every kind; and the judge itself must find faults."""

import subprocess
import sys
import time
from pathlib import Path

import fuzz
import numpy as np
import pytest

HERE = Path(__file__).parent


def test_a_few_damaged_files_of_every_kind():
    command = [sys.executable, str(HERE / "fuzz.py"), "--share", "0.02", "--seed", "1", "--seconds", "120"]
    run = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert sum(line.split()[0] in fuzz.COUNTS for line in run.stdout.splitlines()[1:]) == len(fuzz.COUNTS)


def not_documented(_):
    raise KeyError("x")


def of_a_library(_):
    np.array([[1], [2, 3]])


def no_such_model(_):
    fuzz.posekit.load("no such model")


@pytest.mark.parametrize(("door", "words"), [(not_documented, "KeyError"), (of_a_library, "did not raise")])
def test_other_errors_are_faults(door, words):
    outcome = fuzz.apart(lambda: fuzz.through([door], None, whole=False), limit=60)
    assert outcome.word == "fault" and words in outcome.said


def test_a_documented_error_is_none():
    outcome = fuzz.apart(lambda: fuzz.through([no_such_model], None, whole=False), limit=60)
    assert outcome.word == "refused" and "no such model" in outcome.said


def test_hangs_crashes_and_too_much_memory_are_faults(monkeypatch):
    outcome = fuzz.apart(lambda: time.sleep(60), limit=0.5)
    assert outcome.word == "fault" and "still running" in outcome.said
    outcome = fuzz.apart(lambda: fuzz.os.kill(fuzz.os.getpid(), fuzz.signal.SIGSEGV), limit=60)
    assert outcome.word == "fault" and "signal 11" in outcome.said
    monkeypatch.setattr(fuzz, "BYTES", 2**20)
    outcome = fuzz.apart(lambda: fuzz.through([lambda _: bytes(2**28)], None, whole=False), limit=60)
    assert outcome.word == "fault" and "MemoryError" in outcome.said
