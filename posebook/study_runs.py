"""The runs of a study: trained side by side, found again, and read as rows of a table.

A study's runs stand in one folder, `FOLDER/VARIANT-SEED`, each an ordinary run folder that goes on where it was
interrupted. Equal runs of several studies are trained once, and a run that is there already (shipped weights as a
teacher, say) can take a variant's place.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from posebook.reports import RunFiles
from posebook.studies import needed, run_folder, study, study_recipe
from posekit import runs
from posekit.files import partial_name, plain, relative, remove_leftovers, resolve, write_json
from posekit.training.loop import train
from posekit.training.recipes import Recipe, from_record


def train_study(
    name: str,
    folder: str | Path,
    seeds: Iterable[int] = (0,),
    report: Callable[[str], None] = print,
    only: Iterable[str] = (),
    scale: str = "tiny",
    given: dict[str, str | Path] | None = None,
    **changes,
) -> dict[str, list[dict]]:
    """Trains every variant of a study with every seed; returns the metrics of each variant, seed by seed.

    A run that is done is not run again, one that was interrupted goes on (`posekit.training.loop.train`).

    Args:
        folder: of the study; each run gets a folder in it. only: these variants and what they start from; () = all.
        scale: "tiny", or "published" for the paper's own recipes. changes: fields of the recipe, the same for all.
        given: variant -> a finished run that takes its place for every seed, such as a teacher that was trained longer.

    Raises:
        ValueError: an unknown study, variant or field; a given run that is not done, or whose place another one has
            taken. FileNotFoundError: a given run is not there.
    """
    given, metrics = given or {}, {}
    needed(name, given, scale)  # their names are the study's
    for seed in seeds:
        for variant in needed(name, only, scale):
            report(f"{name}: {variant}, seed {seed}")
            run, done = run_folder(folder, variant, seed), metrics.setdefault(variant, [])
            if variant in given:
                report(f"given: {given[variant]}")
                _copy(resolve(given[variant]), run, given=str(given[variant]))
                if (stands := runs.load_run(run).get("given")) != str(given[variant]):
                    raise ValueError(
                        f"{relative(run)} holds another run ({stands or 'trained there'}), which others may have "
                        f"learnt from, not {given[variant]}: choose another folder for the study"
                    )
                done.append(runs.load_run(run)["results"])
                continue
            chosen = study_recipe(name, variant, folder, seed, scale, **changes)
            borrow(chosen, run, report)
            done.append(train(chosen, run, report=report))
    return metrics


def seeds_of(text: str) -> list[int]:
    """ "0 1" -> [0, 1], as a notebook's parameter brings them.

    Raises ValueError: none, or something other than whole numbers from 0 on.
    """
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError(f"seeds is {text!r}: give whole numbers separated by spaces, such as '0 1'")
    return [int(word) for word in words]


def given_runs(text: str) -> dict[str, str]:
    """ "teacher=data/weights/vitpose_tiny" -> {"teacher": "data/weights/vitpose_tiny"}, several separated by spaces.

    Raises ValueError: a word without "=".
    """
    if wrong := [words for words in text.split() if "=" not in words]:
        raise ValueError(f"given has {wrong[0]!r}: give VARIANT=FOLDER, such as teacher=data/weights/vitpose_tiny")
    return dict(words.split("=", 1) for words in text.split())


def borrow(chosen: Recipe, run: Path, report: Callable[[str], None] = print) -> None:
    """A finished run of the same recipe in a folder study_* beside this one *is* this run: copied, not trained again.

    Most studies have the base recipe among their variants. Training looks at data and seed once more.
    """
    if run.exists():
        return
    for other in sorted(run.parents[1].glob("study_*/*/run.json")):
        record = runs.load_run(other)
        made = vars(from_record(record["parameters"], relative(other))) if record["status"] == "done" else None
        if plain(made) == plain(vars(chosen)):
            report(f"the same recipe as {relative(other.parent)}: copied")
            _copy(other.parent, run)
            return


def _copy(source: Path, run: Path, **fields) -> None:
    """A finished run under another name; a folder that is there already is left alone."""
    record = runs.load_run(source)
    if record["status"] != "done":
        raise ValueError(f"the run in {relative(source)} is {record['status']}, not done: train it to its end")
    if not run.exists():
        remove_leftovers(run.parent, run.name)
        partial = partial_name(run)
        try:
            shutil.copytree(source, partial, ignore=shutil.ignore_patterns(".*"))
            write_json(partial / "run.json", record | {"folder": relative(run)} | fields)
            partial.rename(run)
        except OSError:
            if not run.exists():  # another process may have come first
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def study_rows(folder: str | Path, name: str, steps: bool = False) -> pd.DataFrame:
    """What came out: a row per finished run that has an AP, in the order of the study, then of the seeds.

    Columns: those of `reports.RunFiles.score_row`, variant, run (its folder), steps, minutes (of training). Of several
    data sets AP is the first one's, with `AP_NAME` of each. `steps`: also variants that are only a step on the way.

    Raises:
        FileNotFoundError: no finished run with an AP is there; the sentence names the notebook. ValueError: an unknown
            study.
    """
    one, rows = study(name), []
    scales = ("tiny", "published") if one.published else ("tiny",)
    variants = [(variant, scale) for scale in scales for variant in one.scaled(scale)[1]]
    for variant, scale in variants if steps else [pair for pair in variants if pair[0] not in one.steps]:
        for files in map(RunFiles, finished(folder, variant)):
            if files.recipe.model == study_recipe(name, variant, scale=scale).model:
                results = files.record["results"]
                row = {"variant": variant, "run": files.folder, "steps": int(results["step"])}
                row |= {key: results[key] for key in results if key in ("AP", "minutes") or key.startswith("AP_")}
                rows.append(files.score_row() | row)
    if not rows:
        raise FileNotFoundError(
            f"{relative(resolve(folder))} has no finished run of the study {name}: notebooks/14_study.ipynb "
            f"makes them, with study = {name}"
        )
    return pd.DataFrame(rows)


def finished(folder: str | Path, variant: str) -> list[str]:
    """The folders of a variant's finished runs with an AP, by seed."""
    start, found = run_folder(folder, variant, 0), {}
    for path in start.parent.glob(f"{start.name.removesuffix('0')}*/run.json"):
        seed = path.parent.name.removeprefix(start.name.removesuffix("0"))
        if seed.isdecimal():  # not another variant whose name goes on, nor a run that was moved aside
            record = runs.load_run(path)
            if record["status"] == "done" and record["results"].get("AP") is not None:
                found[int(seed)] = relative(path.parent)
    return [found[seed] for seed in sorted(found)]
