"""Put a trained run among the shipped weights: `python ci/ship.py data/runs/reference/poet_tiny`

Writes `data/weights/NAME/`: `model.safetensors` in half precision, the run's own `run.json` and `log.csv`, and what the
half-precision weights score on the run's validation data (`metrics.json`, `layers.csv`). Too large weights are refused.
A top-down model is scored once more in boxes of the shipped detector (`detected/`), which `--detected NAME` repeats.
`--study data/runs/reference/study_NAME` puts the records of its finished runs, no weights, into `data/studies/NAME`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors import safe_open

from posebook.benchmarks.weights import DETECTOR
from posebook.reports import DETECTED, STUDIES, RunFiles
from posekit import runs
from posekit.files import relative, save_tensors, write_bytes, write_json
from posekit.training.evaluate import evaluate_run

LIMIT = 12e6  # bytes
WEIGHTS = Path("data/weights")
LARGE = ("predictions.json", "matches.csv", "visibility.csv")  # 11_evaluate makes them again; a detector has fewer


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
    return score(folder)


def score(folder: Path, out: Path | None = None, boxes: str = "truth") -> dict:
    metrics = evaluate_run(folder, folder=out, boxes=boxes)
    for name in LARGE:
        ((out or folder) / name).unlink(missing_ok=True)
    return metrics


def score_detected(name: str) -> None:
    """Scores top-down weights in the boxes of the shipped detector, where there is one."""
    folder, detector = WEIGHTS / name, WEIGHTS / DETECTOR
    if RunFiles(str(folder)).model.input.fit != "crop" or not detector.is_dir():
        return
    found = Path("build/weights") / DETECTOR
    evaluate_run(detector, folder=found, report=lambda _: None)
    metrics = score(folder, folder / DETECTED, str(found))
    print(f"{name} in the boxes of {DETECTOR}: AP {metrics['AP']:.3f}")


def keep_records(study: Path) -> list[Path]:
    """Copies what reports read of a study's finished runs; returns their folders below `STUDIES`."""
    kept = []
    for run in sorted(path.parent for path in study.glob("*/run.json")):
        if runs.load_run(run)["status"] == "done":
            kept.append(Path(STUDIES) / study.name.removeprefix("study_") / run.name)
            for name in ("run.json", "log.csv", "metrics.json"):
                write_bytes(kept[-1] / name, (run / name).read_bytes())
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="a run folder whose training is done")
    parser.add_argument("--name", help="name among the shipped weights; by default the run folder's")
    parser.add_argument("--detected", metavar="NAME", help="only score shipped weights in detected boxes")
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="only keep the records of a study's finished runs")
    options = parser.parse_args()
    if options.study:
        print(*keep_records(options.study), sep="\n")
        return 0
    if options.run is None and not options.detected:
        parser.error("give a run folder, --detected NAME, or --study FOLDER")
    name = options.detected or options.name or options.run.name
    if not options.detected:
        metrics = ship(options.run, name)
        print(f"shipped {name}: AP {metrics['AP']:.3f} in half precision")
    score_detected(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
