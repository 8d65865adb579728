"""Put a trained run among the shipped weights: `python ci/ship.py data/runs/reference/poet_tiny`

Writes `data/weights/NAME/`: `model.safetensors` in half precision, the run's own `run.json` and `log.csv`, and what the
half-precision weights score on the run's validation data (`metrics.json`, `layers.csv`). Too large weights are refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors import safe_open

from posekit import runs
from posekit.files import relative, save_tensors, write_bytes, write_json
from posekit.training.evaluate import evaluate_run

LIMIT = 12e6  # bytes
WEIGHTS = Path("data/weights")


def ship(run: Path, name: str) -> dict:
    """Copies the run's weights in half precision and scores them; returns the metrics."""
    folder = WEIGHTS / name
    with safe_open(run / "model.safetensors", "pt") as file:
        note = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    save_tensors(folder / "model.safetensors", halves, note)
    size = (folder / "model.safetensors").stat().st_size
    if size > LIMIT:
        (folder / "model.safetensors").unlink()
        raise ValueError(f"the weights of {run} take {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}: not shipped")
    record = runs.load_run(run)
    record["folder"] = relative(folder)
    write_json(folder / "run.json", record)
    write_bytes(folder / "log.csv", (run / "log.csv").read_bytes())
    metrics = evaluate_run(folder)
    for name in ("predictions.json", "matches.csv", "visibility.csv"):  # large, and 11_evaluate makes them again
        (folder / name).unlink(missing_ok=True)  # a detector has fewer
    return metrics


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder whose training is done")
    parser.add_argument("--name", help="name among the shipped weights; by default the run folder's")
    options = parser.parse_args()
    metrics = ship(options.run, options.name or options.run.name)
    print(f"shipped {options.name or options.run.name}: AP {metrics['AP']:.3f} in half precision")
    return 0


if __name__ == "__main__":
    sys.exit(main())
