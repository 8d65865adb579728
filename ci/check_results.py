"""Are the committed results those of the committed weights? `python ci/check_results.py`

Every AP of shipped weights that a table, a figure's data or README prints must be that of their record; each network,
scored again, must reach the record on the same images, to TOLERANCE, and on images of fresh seeds, to FRESH. `--short`
scores two networks and no fresh images. Prints a line per fault; exit status 1 when there is one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from posebook.benchmarks.weights import DETECTOR, TOLERANCE, shipped_runs
from posebook.reports import DETECTED, FIGURES, SHIPPED, RunFiles
from posekit.data import open_dataset
from posekit.files import resolve
from posekit.training.evaluate import evaluate_run, forward, score
from posekit.training.validation import numbers_of, rows_of
from posekit.training.weights import trained_model

FRESH = 0.06  # of AP: three standard errors of the difference between two samples of 300 images, as seeds show
SHORT = ("poet_tiny", "rtmo_tiny")
ROW = re.compile(r"^\| `(data/weights/\w+)` \|.*\| (\d\.\d{3}) \| (\d\.\d{3}) \|$", re.MULTILINE)  # of README
TITLE = re.compile(rf"^(\w+), shipped weights(, boxes of {DETECTOR})?(?:, annotated boxes)?$")


def records() -> dict[str, float]:
    """AP of all shipped weights, by folder, that of a top-down model in detected boxes in a folder of its own."""
    folders = sorted(path.parent for path in resolve(SHIPPED).glob("**/metrics.json"))
    return {str(one.relative_to(resolve("."))): RunFiles(str(one)).metrics["AP"] for one in folders}


def printed(known: dict[str, float], root: Path) -> Iterator[str]:
    """A sentence for each AP below `root` (README.md, figures/reference) that is not the record's."""

    def differs(where: str, folder: str, text: str, factor: float = 1.0) -> Iterator[str]:
        digits = len(text.partition(".")[2])
        if folder not in known:
            yield f"{where} names {folder}, which is not shipped"
        elif abs(factor * known[folder] - float(text)) > 0.51 * 10**-digits:
            yield f"{where}: AP {text} of {folder}, whose record says {factor * known[folder]:.{digits}f}"

    for folder, ap, _ in ROW.findall((root / "README.md").read_text(encoding="utf-8")):
        yield from differs("README.md", folder, ap)
    for path in sorted((root / FIGURES).glob("*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if {"method", "AP"} <= set(table):
            for row in table.itertuples():
                if found := TITLE.match(row.method):
                    folder = f"{SHIPPED}/{found[1]}" + (f"/{DETECTED}" if found[2] else "")
                    yield from differs(path.name, folder, row.AP.split()[0], 100)
        if {"run", "boxes", "AP"} <= set(table):
            for row in table.itertuples():
                folder = row.run + (f"/{DETECTED}" if row.boxes == DETECTOR else "")
                yield from differs(path.name, folder, f"{float(row.AP):.3f}")


def fresh_ap(run: str, seed: int) -> float:
    """AP on as many drawn images of another seed."""
    files = RunFiles(run)
    recipe = files.recipe
    options = {"count": recipe.val_images, "size": recipe.size or None, "people": recipe.people}
    data = open_dataset(recipe.dataset, "val", seed=seed, **options)
    model = trained_model(recipe, run, data)
    seen, layers = forward(model, data, recipe, "cpu", lambda line: None)
    if model.num_keypoints:
        return score(data, seen, layers)[0]["AP"]
    rows = [row for i, poses in zip(seen, layers[-1], strict=True) for row in rows_of(poses, data.ids[i], 1)]
    return numbers_of(data, rows, detector=True)["AP"]


def scored(known: dict[str, float], short: bool, seed: int) -> Iterator[str]:
    """A sentence for each network that does not reach its record."""
    for run in shipped_runs():
        name, boxes = run.rpartition("/")[2], {run: "truth"}
        if short and name not in SHORT:
            continue
        if f"{run}/{DETECTED}" in known and not short:
            boxes[f"{run}/{DETECTED}"] = f"build/weights/{DETECTOR}"
        for folder, source in boxes.items():
            out = f"build/weights/{name}" + ("_detected" if source != "truth" else "")
            ap = evaluate_run(run, folder=out, report=lambda line: None, boxes=source)["AP"]
            print(f"{folder}: AP {ap:.4f}, recorded {known[folder]:.4f}", flush=True)
            if abs(ap - known[folder]) > TOLERANCE:
                yield f"{folder} reaches AP {ap:.4f}, and its record says {known[folder]:.4f}"
        if not short:
            ap = fresh_ap(run, seed)
            print(f"{run}: AP {ap:.4f} on images of seed {seed}", flush=True)
            if abs(ap - known[run]) > FRESH:
                yield f"{run} reaches AP {ap:.3f} on images of seed {seed}, and its record says {known[run]:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="score two networks and no fresh images")
    parser.add_argument("--seed", type=int, default=1000, help="of the fresh images")
    options = parser.parse_args()
    known = records()
    faults = [*printed(known, resolve(".")), *scored(known, options.short, options.seed)]
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{len(known)} records, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
