"""What made a result: commit, versions, device, seed and data, as records keep them. Recorded times are UTC."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from posekit.files import plain, relative, root

VERSIONED = ("torch", "torchvision", "numpy", "opencv-python-headless", "posekit")


def provenance(
    parameters: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    data: Any = None,
    device: Any = "cpu",
    dtype: str = "float32",
) -> dict[str, Any]:
    """What made a result: commit, versions, device, threads, seed, data, parameters, when and how long.

    `data`: a data set (its name, fingerprint and length are kept), a dict of such facts, or None.
    """
    name, dirty = commit()
    if data is not None and not isinstance(data, Mapping):
        data = {"name": data.name, "fingerprint": data.fingerprint, "images": len(data)}
    versions = {"python": platform.python_version()}
    for package in VERSIONED:
        with suppress(metadata.PackageNotFoundError):
            versions[package.removesuffix("-python-headless")] = metadata.version(package)
    return {
        "commit": name,
        "dirty": dirty,
        "versions": versions,
        "device": _device_name(device),
        "dtype": str(dtype).removeprefix("torch."),
        "threads": _threads(),
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "seed": seed,
        "data": None if data is None else _recorded(data),
        "parameters": _recorded(parameters or {}),
    }


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators (every device)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def commit() -> tuple[str, bool]:
    """(short commit, are tracked files changed?); ("unknown", False) outside a git checkout."""
    here = root()

    def git(*arguments: str) -> str:
        call = ["git", "--no-optional-locks", "-C", str(here), *arguments]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here.resolve():  # someone else's checkout
            return "unknown", False
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=7", "HEAD"), bool(changed)
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def _device_name(device: Any) -> str:
    if not str(device).startswith("cuda"):
        return str(device)
    import torch

    return torch.cuda.get_device_name(device)


def _threads() -> int:
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values; absolute paths become relative ones, so that no record names a person's folders."""
    paths = {key: isinstance(value, str | Path) and Path(value).is_absolute() for key, value in values.items()}
    return {key: relative(value) if paths[key] else plain(value) for key, value in values.items()}
