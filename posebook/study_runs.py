"""The runs of a study: trained side by side, found again, and read as rows of a table.

A study's runs stand in one folder, `FOLDER/VARIANT-SEED`, each an ordinary run folder that goes on where it was
interrupted. Equal runs of several studies are trained once, and a run that is there already (shipped weights as a
teacher, say) can take a variant's place.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from posebook.studies import RUN, RUN_FIELDS, needed, run_folder, study, study_recipe
from posekit import runs
from posekit.files import partial_name, plain, relative, remove_leftovers, resolve, write_json
from posekit.training.recipes import Recipe, from_record

if TYPE_CHECKING:
    import pandas as pd

DERIVED = ("model", "note", "seed", "warmup")  # fields of a recipe that a command need not tell


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
        given: variant -> a finished run, or shipped weights, that takes its place for every seed: a teacher, say, that
            was trained far longer than its students are.

    Raises:
        ValueError: an unknown study, variant or field; a given run that is not done, or whose place another one has
            taken. FileNotFoundError: a given run is not there.
    """
    from posekit.training.loop import train

    seeds, given, metrics = list(seeds), given or {}, {}
    for variant in given:
        needed(name, [variant], scale)  # its name is one of the study's
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

    Raises:
        ValueError: none, or something other than whole numbers from 0 on.
    """
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise ValueError(f"seeds is {text!r}: give whole numbers separated by spaces, such as '0 1'")
    return [int(word) for word in words]


def given_runs(text: str) -> dict[str, str]:
    """ "teacher=data/weights/vitpose_tiny" -> {"teacher": "data/weights/vitpose_tiny"}, several separated by spaces.

    Raises:
        ValueError: a word without "=".
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
        if record["status"] != "done":
            continue
        made = from_record(record["parameters"], relative(other))  # an older record lacks the newer fields
        if plain(vars(made)) == plain(vars(chosen)):
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

    Columns: variant, seed, run (its folder), AP in [0, 1], steps, minutes (of training), params_m (trained parameters),
    "data set", "scaled down", command; `figures.vitpose.study_table` takes them. Of several data sets AP is the first
    one's, with `AP_NAME` of each. `steps`: also variants that are only a step on the way.

    Raises:
        FileNotFoundError: no finished run with an AP is there; the sentence names the notebook. ValueError: an unknown
            study.
    """
    import pandas as pd

    one, rows = study(name), []
    for scale in ("tiny", "published") if one.published else ("tiny",):
        for variant in one.scaled(scale)[1]:
            if variant not in one.steps or steps:
                rows += [_row(name, variant, run, scale) for run in finished(folder, variant, scale, name)]
    if not rows:
        raise FileNotFoundError(
            f"{relative(resolve(folder))} has no finished run of the study {name}: notebooks/14_study.ipynb "
            f"makes them, with study = {name}"
        )
    return pd.DataFrame(rows)


def finished(folder: str | Path, variant: str, scale: str = "tiny", name: str = "") -> list[Path]:
    """The folders of a variant's finished runs with an AP, by seed; of study `name`, only those of that scale."""
    start, found = run_folder(folder, variant, 0), {}
    for path in start.parent.glob(f"{start.name.removesuffix('0')}*/run.json"):
        seed = path.parent.name.removeprefix(start.name.removesuffix("0"))
        if not seed.isdecimal():  # another variant whose name goes on, or a run that was moved aside
            continue
        record = runs.load_run(path)
        if record["status"] == "done" and record["results"].get("AP") is not None:
            if name and record["parameters"].get("model") != study_recipe(name, variant, scale=scale).model:
                continue
            found[int(seed)] = path.parent
    return [found[seed] for seed in sorted(found)]


def _row(name: str, variant: str, run: Path, scale: str) -> dict:
    from posebook.reports import RunFiles

    files = RunFiles(relative(run))
    facts, results = files.score_row(), files.record["results"]
    row = {"variant": variant, "seed": files.recipe.seed, "run": relative(run), "AP": results["AP"]}
    row |= {"steps": int(results["step"]), "minutes": results["minutes"], "params_m": facts["params_m"]}
    row |= {key: facts[key] for key in ("data set", "scaled down")}
    given = "given" in files.record
    row |= {"command": files.command if given else command(name, variant, files.recipe, scale)}
    return row | {key: results[key] for key in results if key.startswith("AP_")}


def command(name: str, variant: str, made: Recipe, scale: str = "tiny") -> str:
    """What trains a variant, and what it starts from, again; the same for every seed."""
    fields = plain(vars(study_recipe(name, variant, scale=scale)))
    own = {k: v for k, v in plain(vars(made)).items() if k not in DERIVED and v != fields[k]}
    own = {k: v for k, v in own.items() if not str(fields[k]).startswith(RUN)}  # its place follows from the study's
    words = {"study": name, "run_dir": f"data/runs/mine/study_{name}", "only": variant}
    words |= {"scale": scale} if scale != "tiny" else {}
    words |= {k: own.pop(k) for k in ("steps", "images", "val_images") if k in own}
    words |= {"more": json.dumps(own)} if own else {}
    sources = " ".join(sorted(_given(name, variant, made, scale)))
    words |= {"given": sources} if sources else {}
    options = " ".join(f"-p {k} {shlex.quote(str(v))}" for k, v in words.items())
    return f"ci/execute.py notebooks/14_study.ipynb build/14.ipynb {options}"


def _given(name: str, variant: str, made: Recipe, scale: str) -> set[str]:
    """ "VARIANT=FOLDER" of the given runs that a variant starts from, directly or through another one."""
    own, found = study(name).scaled(scale)[1][variant], set()
    for key in RUN_FIELDS:
        source = own.get(key, "")
        if source.startswith(RUN) and (resolve(getattr(made, key)) / "run.json").is_file():
            record, source = runs.load_run(getattr(made, key)), source.removeprefix(RUN)
            before = from_record(record["parameters"], f"{getattr(made, key)}/run.json")
            found |= {f"{source}={record['given']}"} if "given" in record else _given(name, source, before, scale)
    return found
