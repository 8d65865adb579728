"""Benchmarks of the library: `python -m posebook.benchmarks [NAME ...]`; without a name, the list; `all` runs them all.

CPU time of one thread. Each benchmark prints its table; exit status 1 when one misses a limit, which is said.
"""

from __future__ import annotations

import sys

NAMES = {
    "attention": ("vitpose_cost", "attention_memory"),
    "crops": ("data", "crops"),
    "drawing": ("data", "drawing"),
    "grouping": ("grouping", "grouping"),
    "loader": ("data", "loader"),
    "poet": ("poet_speed", "poet"),
    "poet_inference": ("poet_inference", "poet_inference"),
    "poet_step": ("training_step", "poet_step"),
    "rtmo": ("rtmo_speed", "backend_speed"),
    "rtmo_step": ("training_step", "rtmo_step"),
    "scoring": ("scoring", "scoring"),
    "sizes": ("sizes", "sizes"),
    "weights": ("weights", "shipped_weights"),
}


def main(names: list[str]) -> int:
    """Run benchmarks; returns the exit status, 2 for an unknown name."""
    import importlib

    if unknown := [name for name in names if name not in (*NAMES, "all")]:
        print(f"there is no benchmark {unknown[0]!r}; choose of {', '.join(NAMES)}, all", file=sys.stderr)
        return 2
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    missed = []
    for name in NAMES if "all" in names else names or NAMES:
        module, function = NAMES[name]
        run = getattr(importlib.import_module(f"posebook.benchmarks.{module}"), function)
        print(f"{name}: {run.__doc__.splitlines()[0]}", flush=True)
        if names:
            missed += [f"{name}: {sentence}" for sentence in run()]
    print(*missed, sep="\n", end="\n" if missed else "")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
