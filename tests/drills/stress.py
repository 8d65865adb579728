"""Does training depend on luck? Every training recipe of a profile, several seeds, threads and kinds of arithmetic.

    python tests/drills/stress.py                                     # profile quick, seeds 0 to 4; build/stress.csv
    python tests/drills/stress.py --workers rtmo_features_45 --seeds 0 1 --threads 1 2 --capability default native

A row is one run in a process and a temporary folder of its own: the recipe of a worker of 10_train, or of a variant of
a study of 14_study (equal recipes once), at its own number of steps or `--steps`, whichever is less, validated in the
middle and at the end. Rows that the CSV holds are not run again. Exit status 1: a row failed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import jobs  # noqa: E402

COLUMNS = ("worker", "seed", "threads", "capability", "steps", "result", "loss", "AP")
KEY = COLUMNS[:4]
PEOPLE = 4  # about as many crops come from a drawn picture


def trainings(profile: str) -> Iterator[tuple[str, str, str, dict]]:
    """(name, recipe or study, variant or "", changes) of every distinct training recipe of a profile."""
    from posebook.studies import needed, study_recipe
    from posekit.runs import upgraded
    from posekit.training import recipes

    seen = []
    for job in jobs.read(profile):
        told = {name: value for name, value in job.parameters.items() if name not in ("run_dir", "seed", "seeds")}
        notebook = Path(job.notebook).stem
        if notebook == "10_train":
            source, told = told.pop("recipe"), told | json.loads(told.pop("more", "{}"))
            told = {name: value for name, value in told.items() if name not in ("recipe", "more")}
            base = recipes.RECIPES[source]
            changes = upgraded({"model": base.model} | told)  # w_ctr and the like are loss_options
            for place in {"model_options", "loss_options"} & (changes.keys() - told.keys()):
                changes[place] = getattr(base, place) | changes[place]
            yield job.name, source, "", {name: value for name, value in changes.items() if name != "model"}
        elif notebook == "14_study":
            study = told.pop("study")
            for variant in needed(study):
                made = study_recipe(study, variant, **told)
                if made not in seen:
                    seen.append(made)
                    yield f"{job.name}: {variant}", study, variant, told


def shortened(made, cap: int, val_images: int) -> dict:
    """Changes that end the run after `cap` steps and an epoch, with its validation, after half of them."""
    steps, sets = min(made.steps, cap), made.dataset.count("+") + 1
    share = (PEOPLE if made.model.startswith(("vitpose", "mae")) else 1) * sets
    images = max(steps // 2 * made.batch_size // share, 1)
    return {"steps": steps, "images": min(made.images, images), "val_images": min(made.val_images, val_images)}


def train_one(profile: str, name: str, seed: int, cap: int, val_images: int) -> dict:
    """Trains a row in this process: its steps, result, loss and AP."""
    from posebook.studies import run_folder, study_recipe
    from posebook.study_runs import train_study
    from posekit import runs
    from posekit.training import recipes
    from posekit.training.loop import train

    source, variant, changes = next(rest for known, *rest in trainings(profile) if known == name)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as home:
        try:
            if variant:
                changes |= shortened(study_recipe(source, variant, **changes), cap, val_images)
                train_study(source, f"{home}/study", (seed,), lines.append, (variant,), **changes)
                folder = run_folder(f"{home}/study", variant, seed)
            else:
                base, folder = recipes.RECIPES[source], Path(home, "run")
                changes |= shortened(recipes.recipe(source, **changes), cap, val_images)
                changes = {"warmup": min(base.warmup, changes["steps"] // 4)} | changes
                train(recipes.recipe(source, **changes, seed=seed), folder, report=lines.append)
        except Exception as error:  # a row of the table; the others go on
            return {"steps": changes.get("steps", ""), "result": f"failed: {type(error).__name__}: {error}"}
        row = runs.read_log(folder / "log.csv")[-1]
    lost = sum("the validation loss of" in line for line in lines)
    result = f"finished; {lost} validations not finite" if lost else "finished"
    if not math.isfinite(row["train_total"]):
        result = "failed: the training loss is not finite"
    return {"steps": row["step"], "result": result, "loss": row["train_total"], "AP": row.get("AP")}


def run(options, name: str, seed: int, threads: int, capability: str) -> dict:
    """A row, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
    environment |= {"OMP_NUM_THREADS": str(threads)}
    environment |= {} if capability == "native" else {"ATEN_CPU_CAPABILITY": capability}
    words = ["--one", name, "--seeds", str(seed), "--profile", options.profile, "--steps", str(options.steps)]
    command = [sys.executable, __file__, *words, "--val-images", str(options.val_images)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    try:
        row = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        row = {"result": f"failed: exit status {done.returncode}: {last}"}
    return dict(zip(KEY, (name, seed, threads, capability), strict=True)) | row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--workers", nargs="+", default=[], help="names, or parts of them; none: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--capability", nargs="+", default=["native"], help="of ATen: default, avx2, avx512, native")
    parser.add_argument("--steps", type=int, default=300, help="at most so many")
    parser.add_argument("--val-images", type=int, default=50, help="at most so many")
    parser.add_argument("--csv", type=Path, default=Path("build/stress.csv"), help="of other steps: another file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train_one(options.profile, options.one, options.seeds[0], options.steps, options.val_images)))
        return 0
    from posekit import runs

    names = [name for name, *_ in trainings(options.profile)]
    if unknown := [word for word in options.workers if not any(word in name for name in names)]:
        parser.error(f"no recipe of profile {options.profile} is called {unknown[0]!r}; there are {', '.join(names)}")
    names = [name for name in names if not options.workers or any(word in name for word in options.workers)]
    rows = runs.read_log(options.csv)
    known = {tuple(row[name] for name in KEY) for row in rows}
    wanted = [(n, s, t, c) for c in options.capability for t in options.threads for n in names for s in options.seeds]
    for number, key in enumerate(wanted, 1):
        if key not in known:
            rows.append(run(options, *key))
            runs.append_row(options.csv, {name: rows[-1].get(name) for name in COLUMNS})
            print(f"{number} of {len(wanted)}: {' '.join(map(str, key))}: {rows[-1]['result']}", file=sys.stderr)
    rows = [row for row in rows if tuple(row[name] for name in KEY) in wanted]
    print(pd.DataFrame(rows, columns=COLUMNS).to_string(index=False, float_format="{:.3f}".format, na_rep=""))
    return 1 if any(row["result"].startswith("failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
