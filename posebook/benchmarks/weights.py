"""The AP of every model that comes with the book, scored again from its weights."""

from __future__ import annotations

import pandas as pd

from posebook.reports import SHIPPED, RunFiles
from posekit.files import relative, resolve
from posekit.training.evaluate import evaluate_run

DETECTOR = "rtmdet_tiny"  # whose boxes a top-down model gets besides the annotated ones
TOLERANCE = 0.002  # of AP, between machines whose last bits differ


def shipped_weights(folder: str = "build/weights") -> list[str]:
    """AP of the shipped weights on 300 drawn images that no run trained on; top-down models also in detected boxes."""
    rows, missed = [], []
    runs = sorted(relative(path.parent) for path in resolve(SHIPPED).glob("*/run.json"))
    runs.sort(key=lambda run: not run.endswith(DETECTOR))  # its boxes come first
    for run in runs:
        files, name = RunFiles(run), run.rpartition("/")[2]
        if not hasattr(files.model, "decode"):
            continue
        crops, boxes = files.model.input.fit == "crop", f"{folder}/{DETECTOR}"
        found = {"truth" if crops else "": files.metrics["AP"]}
        detected = {boxes: None} if crops and f"{SHIPPED}/{DETECTOR}" in runs else {}
        for source, recorded in (found | detected).items():
            out = f"{folder}/{name}" + ("_detected" if source == boxes else "")
            ap = evaluate_run(run, folder=out, report=lambda line: None, boxes=source or "truth")["AP"]
            words = {"": "", "truth": "annotated", boxes: DETECTOR}[source]
            rows.append((name, files.training["summary"]["parameters"] / 1e6, files.budget, words, ap, recorded))
            if recorded is not None and abs(ap - recorded) > TOLERANCE:
                missed.append(f"{name} has AP {ap:.4f} and its record says {recorded:.4f}")
    columns = ["weights", "parameters, M", "training", "boxes", "AP", "recorded"]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return missed
