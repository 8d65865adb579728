"""OpenVINO's signal stack: two runners, freed in both orders, and then signals. That was a segmentation fault.

OpenVINO's CPU plugin sets an alternate signal stack when a core first compiles a model, and sets the one before it
again when that core is freed. With two cores, the one made first and freed first leaves the other to set a stack that
is gone, and the next signal with a handler in Python writes there. posekit.runners.openvino_core is the one core.
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
from test_export import lively

from posekit import runners
from posekit.export import export

for package in ("onnx", "openvino"):
    pytest.importorskip(package, reason=f"the drill needs the package {package}")

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
DRILL = """\
import gc, os, signal, sys
import numpy as np
from torch.utils.data import DataLoader
from posebook.benchmarks import rtmo_speed
from posekit.runners import load

seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append("SIGINT"))
signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))

def signals():
    "Ctrl-C, the end of a child, and data workers, which start and end by fork and SIGCHLD."
    before = len(seen)
    os.kill(os.getpid(), signal.SIGINT)
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert [int(x) for x in DataLoader(range(4), num_workers=1)] == [0, 1, 2, 3]
    assert {"SIGINT", "SIGCHLD"} <= set(seen[before:]), seen[before:]

path, images = sys.argv[1], np.zeros((1, 3, 64, 96), np.float32)
for order in ("first second", "second first"):
    first = load("rtmo_tiny", path, backend="openvino").session.run
    made = {"first": first, "second": rtmo_speed.openvino_runner(path, 1)}
    del first
    assert made["first"]([images])[0].shape[2] == 5 and made["second"]({"input": images}).shape[2] == 5
    signals()
    for name in order.split():
        del made[name]
        gc.collect()
        signals()
print("survived")
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(lively(SIZE), tmp_path_factory.mktemp("drill") / "model.onnx", SIZE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor signal stacks")
def test_signals_after_runners_were_freed_in_both_orders(path):
    call = [sys.executable, "-X", "faulthandler", "-c", DRILL, str(path)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "survived\n", (done.returncode, done.stderr)


def test_threads_that_ask_at_once_get_one_core(monkeypatch):
    gate, slow = Barrier(8), SimpleNamespace(Core=lambda: (time.sleep(0.05), object())[1])
    monkeypatch.setitem(sys.modules, "openvino", slow)
    monkeypatch.setattr(runners, "_cores", [])
    with ThreadPoolExecutor(8) as pool:
        cores = list(pool.map(lambda _: (gate.wait(), runners.openvino_core())[1], range(8)))
    assert len(set(map(id, cores))) == 1


def test_nothing_makes_a_core_of_its_own():
    folders = [ROOT / name for name in ("posekit", "ci", "notebooks", "tests")]
    files = [path for folder in folders for end in ("py", "ipynb") for path in folder.rglob(f"*.{end}")]
    made = [path for path in files if re.search(r"\bopenvino\.Core\(|import Core\b", path.read_text("utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in made if path != Path(__file__)] == ["posekit/runners.py"]
