"""Full disks and damaged caches: one sentence, nothing half written, and afterwards it goes on."""

import errno
import os
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from posekit import runs
from posekit.data.drawn import cache
from posekit.data.drawn.scenes import Scenes
from posekit.training import loop
from posekit.training.recipes import recipe

PACKAGE = {**os.environ, "PYTHONPATH": str(Path(runs.__file__).parents[1])}


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_before_drawing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    words = r"cannot draw 3 scenes of 32 x 32 pixels .* in .*: No space left on device; choose another cache folder"
    with pytest.raises(OSError, match=words):
        Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import os, resource, sys
from posekit.data.drawn.scenes import Scenes
os.mkdir("cache")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
if sys.argv[1] == "later":  # no blocks are allocated beforehand, and the disk fills while workers draw
    del os.posix_fallocate
    import numpy
    from posekit.data.drawn import cache
    def unallocated(path, count, size):
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
            numpy.lib.format.write_array_header_1_0(file, header)
    cache._allocate = unallocated
try:
    Scenes(seed=1, count=900, size=32, cache="cache", workers=2)
except OSError as error:
    print(error)
print(os.listdir("cache"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
@pytest.mark.parametrize("when", ["before", "later"])
def test_a_real_limit_is_an_error_and_no_signal(tmp_path, when):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, when], cwd=tmp_path, env=PACKAGE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sentence, left = done.stdout.strip().splitlines()
    assert "cannot draw 900 scenes of 32 x 32 pixels (3 MB)" in sentence and "File too large" in sentence
    assert left == "[]" and "Traceback" not in done.stderr


def test_what_a_killed_process_had_drawn_goes_at_once(tmp_path):
    program = """
import os, signal
from posekit.data.drawn import cache
from posekit.data.drawn.scenes import Scenes
cache.draw_block = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Scenes(seed={seed}, count=3, size=32, cache="cache", workers=1)
"""
    for seed in (1, 2):
        killed = subprocess.run([sys.executable, "-c", program.format(seed=seed)], cwd=tmp_path, env=PACKAGE)
        assert killed.returncode == -signal.SIGKILL
    cache = tmp_path / "cache"
    assert len(list(cache.glob("*.tmp-*"))) == 1  # the second has removed the first one's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Scenes(seed=1, count=3, size=32, cache=cache, workers=1)
    names = [path.name for path in cache.iterdir()]
    assert len(names) == 1 and names[0].startswith("people-v")


def test_a_cache_is_drawn_by_one_process_and_others_wait(tmp_path):
    program = """
from posekit.data.drawn import cache
from posekit.data.drawn.scenes import Scenes
drawn, draw = [], cache._draw
cache._draw = lambda *a: (drawn.append(1), draw(*a))
scenes = Scenes(seed=1, count=60, size=64, cache="cache", workers=1)
print(len(drawn), scenes.image(59).sum())
"""
    call = [sys.executable, "-c", program]
    pair = [subprocess.Popen(call, cwd=tmp_path, env=PACKAGE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = sorted(one.communicate()[0].split() for one in pair)
    assert [one.returncode for one in pair] == [0, 0]
    assert [drawn for drawn, _ in told] == ["0", "1"] and told[0][1] == told[1][1]


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("name", ["images.npy", "annotations.npz", "cache.json"])
def test_a_file_of_the_cache_that_was_cut_or_holed_is_drawn_again(tmp_path, name, cut):
    whole = np.array(Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1).image(1))
    path = next(tmp_path.iterdir()) / name
    data = path.read_bytes()
    length = int(cut * len(data))
    for damaged in (data[:length], data[:length] + bytes(len(data) - length)):
        if damaged == data:  # it ends with zeros
            continue
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="is damaged .* drawing it again"):
            again = Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1)
        np.testing.assert_array_equal(again.image(1), whole)
        assert path.read_bytes() == data  # equal drawings, equal files


@contextmanager
def small_disk(folder: Path, size: str):
    """A file system of a few megabytes; only root may make one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.long
def test_a_small_disk_that_fills(tmp_path, monkeypatch):
    """The real thing, where this may mount; everywhere else the limits above must do."""
    try:
        with small_disk(tmp_path / "disk", "1m") as disk:
            with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device; choose"):
                patch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 40}))
                Scenes(seed=1, count=500, size=32, cache=disk, workers=2)
            assert list(disk.iterdir()) == []
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


TINY = {"model_options": {"dim": 32, "heads": 2, "depth": 2, "filters": 8}, "size": 128, "ema": 0.5}
SHORT = {"images": 6, "val_images": 2, "batch_size": 2, "steps": 6, "warmup": 2, "people": (1, 2)}


def test_a_training_whose_disk_fills_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = recipe("vitpose_tiny", **SHORT | TINY)
    silent = {"report": lambda line: None, "checkpoint_seconds": 0}
    loop.train(options, tmp_path / "whole", **silent)
    fsync, calls = os.fsync, []

    def filling(descriptor):
        calls.append(1)
        if len(calls) == 4:
            full()
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="resume.ckpt: No space left .*file is unchanged"):
        patch.setattr(os, "fsync", filling)
        loop.train(options, tmp_path / "cut", **silent)
    assert runs.load_run(tmp_path / "cut")["status"] == "failed"
    lines = []
    loop.train(options, tmp_path / "cut", **silent | {"report": lines.append})
    assert "resumed at step 2 of 6" in lines[0]
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
