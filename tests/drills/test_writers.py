"""Two writers in one folder: the second is told, nobody reads half a file, nothing of a dead one stays."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from posekit import files, locks, runs
from posekit.files import save_tensors, write_bytes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
PACKAGE = {**os.environ, "PYTHONPATH": str(Path(runs.__file__).parents[1])}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "posekit"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def other(program: str) -> subprocess.Popen:
    """A process that has run `program` up to its `print()` and waits for a line, or for its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=PACKAGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    return process


WRITER = """
from posekit import runs
with runs.Run.open("data/runs/a", {"lr": 1}, seed=0) as run:
    print(flush=True)
    input()
"""


def test_a_second_writer_is_told_who_is_there_and_the_lock_ends_with_its_process(elsewhere):
    first = other(WRITER)
    told = rf"data/runs/a is being written by process {first.pid}: wait until that is done or stop it"
    before = (elsewhere / "data/runs/a/run.json").read_bytes()
    for parameters in ({"lr": 1}, {"lr": 2}):  # the same run, and another one that would move the first aside
        with pytest.raises(locks.InUseError, match=told):
            runs.Run.open("data/runs/a", parameters, seed=0)
    assert (elsewhere / "data/runs/a/run.json").read_bytes() == before  # and it can be read all the time
    assert os.listdir(elsewhere / "data/runs") == ["a"]
    first.kill()
    first.wait()
    with runs.Run.open("data/runs/a", {"lr": 1}, seed=0) as run:
        assert run.before == "running" and run.record["sessions"] == 2
        with pytest.raises(locks.InUseError, match=rf"by this process \({os.getpid()}\)"):
            runs.Run.open("data/runs/a", {"lr": 1}, seed=0)
    assert os.listdir(elsewhere / "data/runs/a") == ["run.json"]
    assert runs.Run.open("data/runs/a", {"lr": 1}, seed=0).before == "done"  # is only read, by as many as like


def test_a_run_that_is_done_but_lacks_a_file_is_made_again(elsewhere):
    with runs.Run.open("a", {}, seed=0, makes=("model",)) as run:
        write_bytes(run.path("model"), b"weights")
    assert runs.Run.open("a", {}, seed=0, makes=("model",)).before == "done"
    (elsewhere / "a/model").unlink()
    with runs.Run.open("a", {}, seed=0, makes=("model",)) as run:
        assert runs.load_run("a")["status"] == "running"


def test_the_lock_stays_with_a_folder_that_is_moved_and_ends_in_forks(elsewhere):
    lock = locks.writing(elsewhere / "a")
    (elsewhere / "a").rename(elsewhere / "b")
    with pytest.raises(locks.InUseError, match="b is being written"):
        locks.writing(elsewhere / "b")
    there, told = os.pipe()
    child = os.fork()
    if child == 0:  # a data worker: lives on when its parent is gone
        os.write(told, b"!")
        time.sleep(600)
        os._exit(0)
    os.read(there, 1)
    try:
        lock.path = elsewhere / "b/.lock"
        lock.file.close()  # as the system does when the process dies
        locks.writing(elsewhere / "b").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    locks.writing(elsewhere / "c").release()
    assert not (elsewhere / "c").exists()  # nothing was written


def test_who_waits_gets_the_lock_when_its_holder_is_killed(elsewhere, capfd):
    holder = other("from posekit.locks import *\nlock = take(Path('l'), 'it')\nprint()\ninput()")
    ender = threading.Timer(0.3, holder.kill)
    ender.start()
    with locks.take(Path("l"), "the scenes", wait=True):
        assert holder.wait() == -signal.SIGKILL
    assert f"waiting for process {holder.pid}, which is writing the scenes" in capfd.readouterr().err
    assert not Path("l").exists()


def test_a_disk_without_locks_is_used_without(elsewhere, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with runs.Run.open("a", {}, seed=0) as run:
        assert run.lock.file is None


def test_only_the_leftovers_of_dead_processes_go(elsewhere):
    program = """
import os, signal
from posekit import files
with files.replacing("a/{name}") as file:
    file.write(b"half")
    {end}
"""
    with files.replacing("a/mine") as file:  # of this process, while it writes
        living = other(program.format(name="living", end="print(flush=True); input()"))
        dead = other(program.format(name="dead", end="os.kill(os.getpid(), signal.SIGKILL)"))
        dead.wait()
        (elsewhere / "a/.old.partial").write_bytes(b"half")  # of an older version
        (elsewhere / f"a/.run.{dead.pid}-0.partial").mkdir()
        left = {path.name.split(".")[1] for path in (elsewhere / "a").glob(".*.partial")}
        assert left == {"mine", "living", "dead", "old", "run"}
        locks.writing(elsewhere / "a").release()
        left = {path.name.split(".")[1] for path in (elsewhere / "a").glob(".*.partial")}
        assert left == {"mine", "living"}
        file.write(b"whole")
    assert living.communicate("\n")[0] is not None
    assert sorted(os.listdir(elsewhere / "a")) == ["living", "mine"]


BUSY = """
import itertools, sys
from posekit.files import write_json
value = sys.argv[1] * 20000
for number in itertools.count():
    write_json("stress.json", {"value": value, "again": value})
    if number == 0:
        print(flush=True)
"""


@pytest.mark.parametrize("reads", [300, pytest.param(20_000, marks=pytest.mark.long)])
def test_readers_never_see_half_a_file(elsewhere, reads):
    """Two processes write the same file without a lock (a figure, say) as fast as they can."""
    writers = [
        subprocess.Popen([sys.executable, "-c", BUSY, letter], env=PACKAGE, stdout=subprocess.PIPE) for letter in "xy"
    ]
    try:
        for writer in writers:
            writer.stdout.readline()
        seen = set()
        for _ in range(reads):
            read = json.loads((elsewhere / "stress.json").read_bytes())
            assert read["value"] == read["again"] and len(read["value"]) == 20000
            seen.add(read["value"][0])
        assert [writer.poll() for writer in writers] == [None, None]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert seen <= {"x", "y"}


def test_an_evaluation_does_not_write_into_a_run_in_progress(elsewhere):
    from posekit.training.evaluate import evaluate_run

    first = other(WRITER)
    with pytest.raises(locks.InUseError, match=f"process {first.pid}"):
        evaluate_run("data/runs/a")
    first.communicate("\n")


def test_equal_weights_make_equal_files(elsewhere):
    """The note beside them had its keys in the order of a hash table: one order in one process, another in the next."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 5).half()}
    note = {letter: letter.upper() for letter in "abcdefgh"}
    assert len({save(tensors, note) for _ in range(20)}) > 1  # the reason
    for number in range(20):
        save_tensors(f"{number}.safetensors", tensors, note)
    assert len({Path(f"{number}.safetensors").read_bytes() for number in range(20)}) == 1
    loaded = load_file("1.safetensors")
    assert loaded["a"].shape == (2, 5) and loaded["b"].tolist() == [0, 1, 2]
    with safe_open("1.safetensors", "pt") as file:
        assert file.metadata() == note


def test_sets_are_written_in_order(elsewhere):
    program = "from posekit.files import write_json; write_json('%s.json', {'set': {'one', 'two', 'three', 'four'}})"
    for seed in "123":
        subprocess.run([sys.executable, "-c", program % seed], env=PACKAGE | {"PYTHONHASHSEED": seed}, check=True)
    assert {path.read_text() for path in map(Path, ("1.json", "2.json", "3.json"))} == {Path("1.json").read_text()}
