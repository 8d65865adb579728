"""The AP of every model that comes with the book, scored again from its weights."""

from __future__ import annotations

import pandas as pd

from posebook.reports import DETECTED, SHIPPED, RunFiles
from posekit.files import relative, resolve
from posekit.training.evaluate import evaluate_run

DETECTOR, ANNOTATED = "rtmdet_tiny", "annotated"  # whose boxes a top-down model gets
TOLERANCE = 0.002  # of AP, between machines whose last bits differ


def shipped_runs() -> list[str]:
    """The folders of all shipped weights that find people, the detector first."""
    runs = sorted(relative(path.parent) for path in resolve(SHIPPED).glob("*/run.json"))
    runs.sort(key=lambda run: not run.endswith(f"/{DETECTOR}"))
    return [run for run in runs if hasattr(RunFiles(run).model, "decode")]


def shipped_scores(folder: str = "build/weights", images: int = 0) -> pd.DataFrame:
    """A row per shipped weights and kind of boxes, scored on 300 drawn images that no run trained on.

    folder: where the predictions go. images: at most so many; 0 = all. Returns: run, name, params_m (millions),
    training (its steps and minutes), boxes ("" for models that see whole images, `ANNOTATED`, `DETECTOR`), AP, recorded
    (the AP of `metrics.json`, which lies beside the weights).
    """
    rows, runs = [], shipped_runs()
    detector = any(run.endswith(f"/{DETECTOR}") for run in runs)
    for run in runs:
        files, name = RunFiles(run), run.rpartition("/")[2]
        crops, recorded = files.model.input.fit == "crop", files.metrics["AP"]
        scored = {ANNOTATED: recorded} if crops else {"": recorded}
        if crops and detector:
            scored[DETECTOR] = RunFiles(f"{run}/{DETECTED}").metrics["AP"]
        for boxes, known in scored.items():
            source = f"{folder}/{DETECTOR}" if boxes == DETECTOR else "truth"
            out = f"{folder}/{name}" + ("_detected" if boxes == DETECTOR else "")
            ap = evaluate_run(run, images=images, folder=out, report=lambda line: None, boxes=source)["AP"]
            size = files.training["summary"]["parameters"] / 1e6
            rows.append((run, name, size, files.budget, boxes, ap, known))
    return pd.DataFrame(rows, columns=["run", "name", "params_m", "training", "boxes", "AP", "recorded"])


def shipped_weights() -> list[str]:
    """AP of the shipped weights on 300 drawn images that no run trained on; top-down models also in detected boxes."""
    rows = shipped_scores()
    print(rows.drop(columns="run").to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    off = rows[(rows.AP - rows.recorded).abs() > TOLERANCE]
    return [f"{row['name']} has AP {row.AP:.4f} and its record says {row.recorded:.4f}" for _, row in off.iterrows()]
