"""Run folders as the reports of the book read them: which one a page shows, its tables, predictions, model and data.

Reports read files; only those that draw attention or centres on a few images run the model once more. What is missing
is said with the notebook that makes it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from posebook.catalogue import caption
from posebook.pictures import image_file
from posebook.selection import Subset
from posekit import runs
from posekit.data.transforms import decode
from posekit.evaluation import CROWD_STATS, STATS
from posekit.files import read_json, relative, resolve
from posekit.poses import Poses, join
from posekit.training import evaluate
from posekit.training.build import evaluation_loader
from posekit.training.found_boxes import scored_data
from posekit.training.recipes import Recipe, from_record
from posekit.training.summary import words_for
from posekit.training.weights import trained_model

NOT_RECORDED = "not recorded"  # of the command of a run that an older version made
MINE, RUNS, SHIPPED, FIGURES = "data/runs/mine", "data/runs", "data/weights", "figures/reference"
STUDIES = "data/studies"  # the records of studies that come with the book, without their weights
DETECTED = "detected"  # a folder beside shipped top-down weights: their scores in the boxes of a detector
MADE_BY = {"log.csv": "10_train", "predictions.json": "10_train", "metrics.json": "10_train"}


@dataclass
class RunFiles:
    """A run, or the evaluation of one in a folder of its own (`training.evaluate.evaluate_run(..., folder=...)`).

    `folder`: as given, relative to the repository. The attributes below read their file when first asked for.
    """

    folder: str
    record: dict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = str(self.folder)  # papermill makes a number of a folder called 2024
        self.record = runs.load_run(self.folder)

    def path(self, name: str) -> Path:
        """A file of this folder.

        Raises FileNotFoundError: it is not there; the sentence names the notebook that writes it.
        """
        path = resolve(self.folder) / name
        if not path.is_file():
            notebook = MADE_BY.get(name, "11_evaluate")
            raise FileNotFoundError(
                f"{relative(path)} is missing: notebooks/{notebook}.ipynb makes it, with "
                f"run_dir = {relative(self.folder)}"
            )
        return path

    def table(self, name: str) -> pd.DataFrame:
        """NAME.csv: `log` (a row per epoch), `layers` (COCO's ten numbers per decoder layer), `matches` (a row per
        annotated person, with the prediction that it was paired with), `visibility` (a row per keypoint of the paired
        people: joint, truth 0, 1 or 2, predicted), or what a measurement has written."""
        return pd.read_csv(self.path(f"{name}.csv"))

    @property
    def trained(self) -> str:
        """The folder of the weights: this one, or the one that was evaluated."""
        return self.record["parameters"].get("evaluated") or self.folder

    @cached_property
    def training(self) -> dict:
        """The record of the run that trained the weights."""
        return runs.load_run(self.trained)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that trained the weights."""
        return from_record(self.training["parameters"], f"{self.trained}/run.json")

    @cached_property
    def metrics(self) -> dict:
        """`metrics.json`; of the numbers of AP and AR, NaN (a dash in tables) where there is nobody to find."""
        found = read_json(self.path("metrics.json"))
        scored = {name: found[name] for name in (*STATS, *CROWD_STATS) if name in found}  # older ones have -1 for None
        return found | {name: np.nan if value is None or value < 0 else value for name, value in scored.items()}

    @cached_property
    def log(self) -> pd.DataFrame:
        """A row per epoch."""
        return pd.DataFrame(runs.read_log(self.path("log.csv"))).apply(pd.to_numeric)

    @cached_property
    def predictions(self) -> dict[int, Poses]:
        """Image id -> poses, surest first."""
        rows = defaultdict(list)
        for row in read_json(self.path("predictions.json")):
            rows[row["image_id"]].append(row)
        return {image: Poses.from_coco(sorted(found, key=lambda row: -row["score"])) for image, found in rows.items()}

    @cached_property
    def data(self):
        """The images that were scored."""
        return scored_data(self.folder)

    @cached_property
    def model(self):
        """The network with its weights, in evaluation mode; of several data sets, the one that was scored."""
        return trained_model(self.recipe, self.trained, self.data, self.record["parameters"].get("dataset", ""))

    @property
    def dataset(self) -> str:
        """How the numbers are labelled."""
        return words_for(self.data, self.recipe)

    @property
    def budget(self) -> str:
        """What the training cost: steps x batch and minutes."""
        done = self.training["results"]
        minutes = f", {done['minutes']:.1f} min" if done.get("minutes") else ""
        return f"{done.get('step', self.recipe.steps):,} steps of {self.recipe.batch_size}{minutes}"

    @property
    def title(self) -> str:
        """A shipped model as tables name it: its folder, and the boxes that a top-down model was given."""
        boxes = self.record.get("evaluation", self.record)["parameters"].get("boxes")
        given = {None: "", "truth": ", annotated boxes"}.get(boxes, f", boxes of {Path(boxes or '').name}")
        return f"{Path(self.trained).name}, shipped weights{given}"

    def run_model(self, indices: Iterable[int], **options) -> Iterator[tuple]:
        """(image, target, poses, outputs, batch) of images of `data`, one forward pass at a time.

        `options` go to the model (`attention=True`). Poses keep all queries, surest first, and the predicted centres.
        Of a top-down model the batch holds the crops of all annotated people of the image, and the poses are theirs, in
        that order; images without any are left out.
        """
        top_down = self.model.input.fit == "crop"
        sizes = {} if top_down else {"size": self.recipe.size, "max_size": self.recipe.max_size, "batch_size": 1}
        for i in indices:
            image = Subset(self.data, [i])
            for batch in evaluation_loader(image, self.model, **sizes).epoch(0):
                padding = () if top_down else (batch["padding_mask"],)
                with torch.inference_mode():
                    outputs = self.model(batch["images"], *padding, **options)
                    poses = join(decode(self.model, outputs, batch))
                yield image.image(0), image.target(0), poses, outputs, batch

    def score_row(self) -> dict:
        """A row of `tables.comparison`: the ten numbers, and what the record of the training run says of it.

        `recipe` is what runs share that differ in the seed alone; `trained` what two folders share that hold the same
        run scored in the same boxes, such as its shipped copy. What an older version did not record is NaN.

        Raises ValueError: a model that finds no keypoints.
        """
        if "AP" not in self.metrics:
            raise ValueError(evaluate.NO_POSES.format(run=self.folder, model=self.recipe.model))
        summary, made = self.training.get("summary", {}), self.training["provenance"]
        recipe = json.dumps({name: value for name, value in self.training["parameters"].items() if name != "seed"})
        boxes = self.record["parameters"].get("boxes", "truth")
        canvas = "" if self.data.area_scale == 1 else "; areas as on a 512 x 512 canvas"
        row = {"method": self.recipe.model, "model": self.recipe.model, "data set": self.dataset + canvas}
        row |= {"seed": self.recipe.seed, "scaled down": self.budget, "command": summary.get("command", NOT_RECORDED)}
        row |= {"params_m": summary.get("trainable", np.nan) / 1e6, "stride": summary.get("stride", np.nan)}
        row |= {"recipe": recipe, "trained": json.dumps([made["started"], made["commit"], made["seed"], recipe, boxes])}
        return row | {name: self.metrics.get(name, np.nan) for name in STATS}


def find_run(folder: str, has: str = "run.json", made_by: str = "10_train", shipped: bool = True) -> str:
    """The folder that a page reads: `folder`, or, if that is data/runs/mine/NAME and not there, the newest finished run
    called NAME of any profile but smoke (data/runs/*/NAME), then what comes with the book: of a study its records,
    data/studies/NAME, of a run, with `shipped`, data/weights/NAME.

    What is shown instead is printed. "" is returned for "", and where there is none, after a sentence that says how to
    make it.

    Args:
        folder: from the repository's root. has: the file that the page needs, as a pattern below the folder
            ("matches.csv"; "*/run.json" for a study). made_by: the notebook that makes such a folder.

    Raises FileNotFoundError: another folder than data/runs/mine/NAME is not there; nothing takes its place.
    """
    study, folder = has.startswith("*/"), str(folder)  # papermill makes a number of a folder called 2024
    if not folder or _started(folder, has) or not study and any(resolve(folder).glob(has)):
        return folder
    wanted = Path(relative(resolve(folder)))
    into = "out_dir" if made_by == "11_evaluate" else "run_dir"
    profile = " PROFILE=reference" if study else ""  # which quick leaves out
    way = f"notebooks/{made_by}.ipynb makes it with {into} = {folder}, or `make reproduce{profile}`"
    if wanted.parent.as_posix() != MINE:
        raise FileNotFoundError(f"{folder} has no finished run with {has}: {way}")
    same = (relative(path) for path in resolve(RUNS).glob(f"*/{wanted.name}") if path.parent.name != "smoke")
    began, found = max(((_started(path, has), path) for path in same), default=("", ""))
    what = "the newest of that name"
    if not began:
        kept = f"{STUDIES}/{wanted.name.removeprefix('study_')}" if study else f"{SHIPPED}/{wanted.name}"
        found, what = kept, "what comes with the book"
        if not (shipped or study) or not _started(found, has):
            print(f"{folder} was not run: {way}")
            return ""
    print(f"{folder} was not run; shown is {what}, {found}{_length(found)}")
    return found


def find_scores(folder: str) -> str:
    """As `find_run`, for an evaluation: when there is none, the shipped weights of its name are scored into `folder`.

    data/runs/mine/NAME_scores belongs to data/weights/NAME; that takes a minute on one core.
    """
    found = find_run(folder, has="matches.csv", made_by="11_evaluate", shipped=False)
    weights = f"{SHIPPED}/{Path(folder).name.removesuffix('_scores')}"
    if found or not folder or not _started(weights, "run.json"):
        return found
    print(f"scoring what comes with the book, {weights}{_length(weights)}, into {folder}")
    evaluate.evaluate_run(weights, folder=folder)
    return folder


def shipped_rivals(names: str) -> list[RunFiles]:
    """Shipped weights by their names, separated by spaces; scores of a top-down model in detected boxes follow it.

    What is not shipped is printed.
    """
    found = []
    for name in names.split():
        folder = f"{SHIPPED}/{name}"
        scored = [one for one in (folder, f"{folder}/{DETECTED}") if (resolve(one) / "metrics.json").is_file()]
        found += map(RunFiles, scored)
        if not scored:
            print(f"{folder}: not shipped, left out below")
    return found


def committed(stem: str, as_text: bool = False) -> pd.DataFrame:
    """The data of a figure as it comes with the book, for a page whose own run was not made; says so.

    as_text: every cell as it is written, of a table that is shown.

    Raises FileNotFoundError: no figure of that name comes with the book.
    """
    path = f"{FIGURES}/{stem}.csv"
    if not resolve(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no figure called {stem} comes with the book")
    print(f"shown instead is what comes with the book, {path}; the files beside it say how it was made")
    return pd.read_csv(resolve(path), dtype=str if as_text else None, keep_default_na=not as_text)


def committed_figure(stem: str):
    """A figure as it comes with the book, its footer below it, for a page whose own run was not made; says so.

    Raises FileNotFoundError: no figure of that name comes with the book.
    """
    path = f"{FIGURES}/{stem}.png"
    if not resolve(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no figure called {stem} comes with the book")
    print(f"shown is {path}, which comes with the book; its footer says which runs it shows")
    return image_file(resolve(path), alt=caption(stem))


def footer_of(stem: str, profile: str) -> str:
    """The line below a figure that is drawn from `committed(stem)`."""
    return f"profile {profile} · not run here: drawn from {FIGURES}/{stem}.csv"


def _started(folder: str, has: str) -> str:
    """When the newest finished run in a folder began, "" if it has none, or lacks what the page needs."""
    place = resolve(folder)
    if not any(place.glob(has)):
        return ""
    records = (runs.load_run(path) for path in place.glob("*/run.json" if has.startswith("*/") else "run.json"))
    return max((one["provenance"]["started"] for one in records if one["status"] == "done"), default="")


def _length(folder: str) -> str:
    """The number of steps in brackets, or nothing where none were taken."""
    path = resolve(folder) / "run.json"
    steps = runs.steps_of(runs.load_run(path)) if path.is_file() else None
    return f" ({steps:,} steps)" if steps else ""
