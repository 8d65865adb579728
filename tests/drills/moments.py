"""Breaks into tiny trainings at chosen moments and lets them go on: what came of it, a JSON line per drill.

    python tests/drills/moments.py FOLDER '[{"family": "mae_tiny", "breaks": [["INT", "anywhere", 0.3]]}]'

A break is (signal, aim, share): the aim is a function, the share in [0, 1) says how far into all that Python calls in
it, after warm-up, over the whole run; from 1 on it is the number of the call. So a moment is the same one every time,
and it lies inside the forward pass, the optimiser or the writing of a file, not between them. Signals: INT, TERM, KILL,
and INT2: Ctrl-C twice. Each session is a fork of this process, which has imported everything and trained nothing;
`ranks`: so many processes train together.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path

import lightning_fabric  # noqa: F401 - here, not in each session
import numpy as np
import pycocotools.mask  # noqa: F401
import torch
import torch._dynamo  # noqa: F401
import torch.optim.swa_utils  # noqa: F401
from safetensors.torch import load_file

from posekit import runs
from posekit.files import read_json
from posekit.training import (
    loop,  # noqa: F401
)
from posekit.training.recipes import recipe

SHORT = {"images": 6, "val_images": 2, "batch_size": 2, "steps": 8, "warmup": 2, "people": (1, 2)}
TINY = {"dim": 32, "heads": 2, "depth": 2}
FAMILIES = {
    "poet_tiny": {"size": 64, "backbone_steps": 3, "ema": 0.5},
    "rtmo_tiny": {
        "size": 64,
        "augment": "rtmo_scenes",
        "late_augment": "rtmo_late",
        "stage2_at": 0.4,
        "late_at": 0.6,
        "model_options": {"widths": [8, 8, 16, 16, 16], "bins": [12, 16]},
        "ema": 0.5,
        "ema_ramp": 3,
    },
    "vitpose_tiny": {"size": 128, "model_options": TINY | {"filters": 8, "drop_path": 0.2}, "ema": 0.5},
    "mae_tiny": {"size": 128, "model_options": TINY | {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}},
}
AIMS = {  # name -> (end of the file's path, function)
    "anywhere": ("posekit/training/loop.py", "fit"),
    "forward": ("lightning_fabric/wrappers.py", "forward"),
    "backward": ("torch/autograd/__init__.py", "backward"),
    "optimiser": ("torch/optim/adam.py", "step"),
    "average": ("torch/optim/swa_utils.py", "update_parameters"),
    "validation": ("posekit/training/loop.py", "validate"),
    "checkpoint": ("posekit/files.py", "save_checkpoint"),
    "log": ("posekit/runs.py", "append_row"),
    "record": ("posekit/runs.py", "save"),
    "weights": ("posekit/files.py", "save_tensors"),
    "end": ("posekit/training/loop.py", "finish"),
    "pre-training": ("posekit/training/pretrain.py", "pretrain"),
}
EARLY = ("pre-training",)  # before warm-up
NUMBERS = {"INT": signal.SIGINT, "INT2": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}


class Watch:
    """A profile function: counts the calls inside every aim, and sends a signal at call `at` of one."""

    def __init__(self, warmup: int, kind: str = "", aim: str = "", at: int = 0) -> None:
        self.kind, self.aim, self.at, self.warmup, self.warm = kind, aim, at, warmup, False
        self.calls, self.depth = dict.fromkeys(AIMS, 0), dict.fromkeys(AIMS, 0)
        self.open: list[str] = []  # the aims that are being called
        self.skipping = None  # the frame that is left out
        self.named: dict[str, list[tuple[str, str]]] = {}
        for name, (path, function) in AIMS.items():
            self.named.setdefault(function, []).append((name, path))

    def __call__(self, frame, event: str, argument) -> None:
        if self.skipping is not None:  # pickling is most of all calls
            if event == "return" and frame is self.skipping:
                self.skipping = None
            return
        if event == "call" and self.kind and self.aim != "checkpoint" and frame.f_code.co_name == "save_checkpoint":
            self.skipping = frame
            return
        if event in ("call", "return"):
            for name, path in self.named.get(frame.f_code.co_name, ()):
                if frame.f_code.co_filename.endswith(path):
                    self.depth[name] += 1 if event == "call" else -1
                    self.open = [name for name, depth in self.depth.items() if depth]
            if event == "call" and frame.f_code.co_name == "train_batch":
                self.warm = frame.f_locals["self"].step >= self.warmup
        if event not in ("call", "c_call") or not self.open:
            return
        writing = self.depth["checkpoint"]  # tens of thousands of calls, and an aim of its own
        for name in self.open:
            if (self.warm or name in EARLY) and not (name == "anywhere" and writing):
                self.calls[name] += 1
        if self.kind and self.calls[self.aim] > self.at:
            if self.kind == "INT2":  # the second at the next call
                self.kind = "INT"
            else:
                sys.setprofile(None)
            os.kill(os.getpid(), NUMBERS[self.kind])


def session(family: str, folder: Path, watch: Watch | None = None, ranks: int = 1, **options) -> list[int]:
    """Starts or continues the run in forked processes; their exit codes. 130: it was interrupted."""
    options, changes = {"checkpoint_seconds": 1e9, "validate_every": 1} | options, {}
    if "changes" in options:
        changes = options.pop("changes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        if child := os.fork():
            children.append(child)
            continue
        code = 0
        try:
            if ranks > 1:
                os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
                os.environ["MASTER_PORT"] = str(port)
                options |= {"devices": ranks, "accelerator": "cpu"}
                note_parameters(folder, rank)
            if watch is not None and rank == 0:
                sys.setprofile(watch)
            chosen = recipe(family, **SHORT | FAMILIES[family] | changes)
            loop.train(chosen, folder, report=lambda line: None, **options)
            if watch is not None and rank == 0:
                sys.setprofile(None)
                (folder.parent / "calls.json").write_text(json.dumps(watch.calls))
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def note_parameters(folder: Path, rank: int) -> None:
    """Lets a process that trains with others write what it holds in the end: FOLDER-RANK.npy."""
    finish = loop.Loop.finish

    def noting(loop):
        flat = torch.cat([p.detach().flatten() for p in loop.plain.parameters()]).numpy()
        np.save(folder.with_name(f"{folder.name}-{rank}.npy"), flat)
        return finish(loop)

    loop.Loop.finish = noting


def differences(whole: Path, cut: Path) -> list[str]:
    """What differs between two finished runs, besides times."""
    found = []
    if (whole / "model.safetensors").read_bytes() != (cut / "model.safetensors").read_bytes():
        a, b = (load_file(folder / "model.safetensors") for folder in (whole, cut))
        found.append("weights" if any(not torch.equal(a[name], b[name]) for name in a) else "file of the weights")
    for name in sorted({path.name for folder in (whole, cut) for path in folder.glob("predictions*.json")}):
        if not (cut / name).exists() or (whole / name).read_bytes() != (cut / name).read_bytes():
            found.append(name)
    logs, metrics = ([read(folder) for folder in (whole, cut)] for read in (log, numbers))
    found += ["log"] if logs[0] != logs[1] else []
    found += ["metrics"] if metrics[0] != metrics[1] else []
    found += [path.name for path in cut.iterdir() if path.name.startswith(".") or path.name == "resume.ckpt"]
    return found


def log(folder: Path) -> list[dict]:
    return [{k: repr(v) for k, v in row.items() if k != "minutes"} for row in runs.read_log(folder / "log.csv")]


def numbers(folder: Path) -> dict:
    return {k: repr(v) for k, v in read_json(folder / "metrics.json").items() if k != "minutes"}


def drill(home: Path, family: str, breaks: list, ranks: int = 1, **options) -> dict:
    """Trains whole (once for equal drills), then with breaks, and compares."""
    settings = json.dumps([family, ranks, options.get("changes")])
    home = home / f"{family}-{ranks}-{sum(settings.encode()):x}"
    whole, warmup = home / "whole", SHORT["warmup"]
    counting = any(share < 1 for *_, share in breaks)
    if not (home / ("calls.json" if counting else "whole/metrics.json")).exists():
        shutil.rmtree(whole, ignore_errors=True)
        codes = session(family, whole, Watch(warmup) if counting else None, ranks, **options)
        assert codes == [0] * ranks, f"{family} ended with {codes}"
    calls = json.loads((home / "calls.json").read_text()) if counting else {}
    cut, told = home / "cut", []
    shutil.rmtree(cut, ignore_errors=True)
    for kind, aim, share in breaks:
        at = int(share if share >= 1 else share * calls[aim])
        codes = session(family, cut, Watch(warmup, kind, aim, at), ranks, **options)
        status = runs.load_run(cut)["status"]
        told.append({"signal": kind, "aim": aim, "call": at, "of": calls.get(aim), "codes": codes, "status": status})
    codes = session(family, cut, None, ranks, **options)
    result = {"family": family, "breaks": told, "end": codes, "differs": differences(whole, cut)}
    if ranks > 1:
        held = [np.load(home / f"{name}-{rank}.npy") for name in ("whole", "cut") for rank in range(ranks)]
        result["ranks alike"] = all(np.array_equal(held[0], other) for other in held)
    return result


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in a shell's background
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    Path("pyproject.toml").write_text('[project]\nname = "posekit"\n')  # caches and records stay in this folder
    for wanted in json.loads(sys.argv[2]):
        print(json.dumps(drill(Path.cwd(), **wanted)), flush=True)
