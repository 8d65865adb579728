"""What published weights score here, beside what is published of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from posebook.reports import RunFiles
from posebook.tables import NOT_RUN, text
from posekit.models.published import WEIGHTS
from posekit.training.published_run import FOLDERS


@dataclass
class Score:
    """The AP of published weights in per cent: `name` as in posekit.models.published, `theirs` as stated, `ours` on so
    many `images` in these `boxes`."""

    name: str
    theirs: float
    ours: float
    images: int
    boxes: str


def scores(folders: Iterable[str]) -> list[Score]:
    """The evaluations of published weights (11_evaluate with `published`) in these folders."""
    found = []
    for folder in folders:
        files = RunFiles(folder)
        model, weights = files.recipe.model, files.recipe.weights.partition(":")[2]
        name, said = f"{model}:{weights}" if weights else model, files.training["published"]
        boxes = files.record["parameters"].get("boxes", "")
        found.append(Score(name, said["ap"], 100 * files.metrics["AP"], files.metrics["images"], boxes))
    return found


def table(found: list[Score]) -> pd.DataFrame:
    """A row for all published weights of keypoints: what was scored first, of the others the command."""
    known, rows = {one.name: one for one in found}, []
    for name, entry in WEIGHTS.items():
        if entry.ap is None:
            continue
        row = {"weights": name, "data": entry.data, "test": entry.protocol, "published AP": f"{entry.ap:.1f}"}
        if one := known.get(name):
            row |= {"AP here": text(one.ours, ".1f"), "difference": text(one.ours - one.theirs, "+.1f")}
            row |= {"images": f"{one.images:,}", "boxes": one.boxes, "command": ""}
        else:
            out = f"data/runs/published/{name.replace(':', '_')}_scores"
            words = f"-p published {name} -p dataset {FOLDERS[entry.data]} -p out_dir {out}"
            row |= {"AP here": NOT_RUN, "difference": "", "images": "", "boxes": ""}
            row |= {"command": f"ci/execute.py notebooks/11_evaluate.ipynb build/11.ipynb {words}"}
        rows.append(row)
    shown = pd.DataFrame(rows)
    return shown.sort_values("AP here", key=lambda column: column == NOT_RUN, kind="stable", ignore_index=True)
