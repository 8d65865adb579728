"""A run folder as the reports of the book read it: tables, predictions, and the model and data behind them.

Reports read files; only those that draw attention or centres on a few pictures run the model once more. What
is missing is said with the notebook that makes it.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from posekit import runs
from posekit.evaluation import CROWD_STATS, STATS
from posekit.poses import Poses
from posekit.training.recipes import RECIPES, Recipe, from_record

# What 10_train lets one change about a recipe by a parameter of its own; the rest goes through `more`, but for what it
# derives from these and what does not change the weights.
CHANGES = (
    "dataset",
    "steps",
    "images",
    "val_images",
    "batch_size",
    "size",
    "augment",
    "lr",
    "w_class",
    "w_abs",
    "w_ctr",
    "w_deltas",
    "w_vis",
    "visible",
    "num_queries",
    "ema",
    "backbone_steps",
    "precision",
    "on_error",
)
UNTOLD = ("model", "note", "seed", "warmup", "lr_backbone", "workers")
MADE_BY = {"log.csv": "10_train", "predictions.json": "10_train", "metrics.json": "10_train"}


@dataclass
class RunFiles:
    """A run, or the evaluation of one in a folder of its own (`evaluate.evaluate_run(..., folder=...)`).

    `folder`: as given, relative to the repository. The attributes below read their file when first asked for.
    """

    folder: str
    record: dict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = str(self.folder)  # papermill makes a number of a folder called 2024
        self.record = runs.load_run(self.folder)

    def path(self, name: str) -> Path:
        """A file of this folder.

        Raises:
            FileNotFoundError: it is not there; the sentence names the notebook that writes it.
        """
        path = runs.resolve(self.folder) / name
        if not path.is_file():
            notebook = MADE_BY.get(name, "11_evaluate")
            raise FileNotFoundError(
                f"{runs.relative(path)} is missing: notebooks/{notebook}.ipynb makes it, with "
                f"run_dir = {runs.relative(self.folder)}"
            )
        return path

    @property
    def trained(self) -> str:
        """The folder of the weights: this one, or the one that was evaluated."""
        return self.record["parameters"].get("evaluated") or self.folder

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that trained the weights."""
        return from_record(runs.load_run(self.trained)["parameters"], f"{self.trained}/run.json")

    @property
    def identity(self) -> str:
        """What two folders share that hold the same trained run, scored in the same boxes: its shipped copy, say."""
        trained = runs.load_run(self.trained)
        made = [trained["provenance"][name] for name in ("started", "commit", "seed")]
        return json.dumps([*made, trained["parameters"], self.record["parameters"].get("boxes", "truth")])

    @cached_property
    def metrics(self) -> dict:
        """`metrics.json`; of the numbers of AP and AR, NaN (a dash in tables) where there is nobody to find."""
        found = runs.read_json(self.path("metrics.json"))
        scored = {name: found[name] for name in (*STATS, *CROWD_STATS) if name in found}  # older ones have -1 for None
        return found | {name: np.nan if value is None or value < 0 else value for name, value in scored.items()}

    @cached_property
    def log(self) -> pd.DataFrame:
        """One row per epoch; see `train.train`."""
        return pd.read_csv(self.path("log.csv"))

    @cached_property
    def layers(self) -> pd.DataFrame:
        """COCO's ten numbers per decoder layer."""
        return pd.read_csv(self.path("layers.csv"))

    @cached_property
    def matches(self) -> pd.DataFrame:
        """One row per annotated person, with the prediction that it was paired with."""
        return pd.read_csv(self.path("matches.csv"))

    @cached_property
    def visibility(self) -> pd.DataFrame:
        """One row per joint of the paired people: joint, truth (0, 1, 2), predicted."""
        return pd.read_csv(self.path("visibility.csv"))

    @cached_property
    def predictions(self) -> dict[int, Poses]:
        """Image id -> poses, surest first."""
        rows = defaultdict(list)
        for row in runs.read_json(self.path("predictions.json")):
            rows[row["image_id"]].append(row)
        return {image: Poses.from_coco(sorted(found, key=_by_score)) for image, found in rows.items()}

    @cached_property
    def data(self):
        """The pictures that were scored."""
        from posekit.training.evaluate import ASKED, open_data

        asked = self.record["parameters"]
        told = {name: asked[name] for name in ASKED if name in asked} if "evaluated" in asked else {}
        return open_data(self.recipe, **told)

    @cached_property
    def model(self):
        """The network with its weights, in evaluation mode; of several data sets, the one that was scored."""
        from posekit.training.evaluate import trained_model

        return trained_model(self.recipe, self.trained, self.data, self.record["parameters"].get("dataset", ""))

    @property
    def dataset(self) -> str:
        """The words under which the numbers are shown."""
        size = self.recipe.size or getattr(self.data, "size", 0)
        return f"{self.data.name}, {size} px" if self.data.name.startswith("drawn") else self.data.name

    @property
    def budget(self) -> str:
        """What the training cost: steps x batch and minutes."""
        done = runs.load_run(self.trained)["results"]
        minutes = f", {done['minutes']:.1f} min" if done.get("minutes") else ""
        return f"{done.get('step', self.recipe.steps):,} steps of {self.recipe.batch_size}{minutes}"

    @property
    def command(self) -> str:
        """What trains these weights again, but for the seed."""
        mine = vars(self.recipe)
        changed = {
            name: {k: v for k, v in mine.items() if k not in UNTOLD and v != getattr(known, k)}
            for name, known in RECIPES.items()
            if known.model == self.recipe.model
        }
        nearest = min(changed, key=lambda name: len(changed[name]))
        words = "".join(f" -p {name} {shlex.quote(str(mine[name]))}" for name in CHANGES if name in changed[nearest])
        more = {name: value for name, value in changed[nearest].items() if name not in CHANGES}
        words += f" -p more {shlex.quote(json.dumps(more))}" if more else ""
        return f"ci/execute.py notebooks/10_train.ipynb build/10.ipynb -p recipe {nearest}{words}"

    def index(self, image_id: int) -> int:
        """Where the picture with this id stands in `data`."""
        return self.data.ids.index(image_id)

    def seen_by(self, indices: Iterable[int], **options) -> Iterator[tuple]:
        """(picture, target, poses, outputs, batch) of pictures of `data`, one forward pass at a time.

        `options` go to the model (`attention=True`). Poses keep all queries, surest first, and the predicted
        centres; the batch is as the loader gives it, with its targets. Of a top-down model the batch holds the crops of
        all annotated people of the picture, and the poses are theirs, in that order; pictures without any are left out.
        """
        import torch

        from posekit.evaluation.nms import join
        from posekit.inference import decode
        from posekit.training.build import evaluation_loader

        if self.model.input.fit == "crop":
            for i in indices:
                view = View(self.data, [i])
                for batch in evaluation_loader(view, self.model).epoch(0):
                    with torch.inference_mode():
                        outputs = self.model(batch["images"], **options)
                        poses = join(decode(self.model, outputs, batch))
                    yield view.image(0), view.target(0), poses, outputs, batch
            return
        view = View(self.data, list(indices))
        loader = evaluation_loader(view, self.model, size=self.recipe.size, max_size=self.recipe.max_size, batch_size=1)
        for place, batch in enumerate(loader.epoch(0)):
            with torch.inference_mode():
                outputs = self.model(batch["images"], batch["padding_mask"], **options)
                poses = decode(self.model, outputs, batch)[0]
            yield view.image(place), view.target(place), poses, outputs, batch

    def score_row(self) -> dict:
        """The ten numbers and what a table must say about them; see `figures.tables.comparison`.

        Raises:
            ValueError: a model that finds no keypoints.
        """
        from posekit.training.evaluate import NO_POSES

        if not hasattr(self.model, "decode"):
            raise ValueError(NO_POSES.format(run=self.folder, model=self.recipe.model))
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        canvas = "" if self.data.area_scale == 1 else "; areas as on a 512 x 512 canvas"
        own = self.recipe.note not in {known.note for known in RECIPES.values()}  # its command alone does not repeat it
        told = f"; {self.recipe.note}" if own else ""
        facts = {
            "method": self.recipe.model,
            "model": self.recipe.model,
            "data set": self.dataset + canvas,
            "seed": self.recipe.seed,
            "scaled down": self.budget + told,
            "params_m": trained / 1e6,
            "stride": stride_of(self.model),
            "command": self.command,
            "trained": self.identity,
        }
        return facts | {name: self.metrics.get(name, np.nan) for name in STATS}


def distinct(files: Iterable[RunFiles]) -> list[RunFiles]:
    """Every trained run once, the first that was given: its evaluation and its shipped copy are not two runs."""
    found: dict[str, RunFiles] = {}
    for one in files:
        found.setdefault(one.identity, one)
    return list(found.values())


@dataclass
class View:
    """Some pictures of a data set, in the order of `indices`, as a data set."""

    whole: object
    indices: list[int]

    def __post_init__(self) -> None:
        self.name, self.layout, self.category_id = self.whole.name, self.whole.layout, self.whole.category_id
        self.ids = [self.whole.ids[i] for i in self.indices]
        self.area_scale = getattr(self.whole, "area_scale", 1.0)

    @property
    def ground_truth(self) -> dict:
        """The annotations of these pictures alone, as COCO has them."""
        whole, chosen = self.whole.ground_truth, set(self.ids)
        images = [row for row in whole["images"] if row["id"] in chosen]
        return whole | {
            "images": images,
            "annotations": [row for row in whole["annotations"] if row["image_id"] in chosen],
        }

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, place: int) -> np.ndarray:
        return self.whole.image(self.indices[place])

    def target(self, place: int) -> dict[str, np.ndarray]:
        return self.whole.target(self.indices[place])


def stride_of(model) -> int:
    """Pixels of the picture per cell of a model's features; of several levels, the finest that finds people."""
    if hasattr(model, "features"):
        return 2 ** min(model.features)
    backbone = model.backbone
    return backbone.stride if hasattr(backbone, "stride") else backbone[0].stride


def by_picture(matches: pd.DataFrame) -> pd.DataFrame:
    """Mean OKS of the labelled people of each picture, best first: image_id, oks, people."""
    counted = matches[matches.labelled > 0].groupby("image_id").oks.agg(["mean", "size"]).reset_index()
    table = counted.set_axis(["image_id", "oks", "people"], axis=1)
    return table.sort_values(["oks", "image_id"], ascending=[False, True], ignore_index=True)


def crowded(data, people: int = 4, first: int = 0) -> int:
    """Index of the first picture from `first` on with `people` people (or the nearest number, if none has).

    A picture to look into: chosen by its annotation, not by how well a model does on it.
    """
    counts = np.array([len(data.target(i)["areas"]) for i in range(len(data))])
    off = np.abs(np.roll(counts, -first) - people)
    return int((first + off.argmin()) % len(data))


def _by_score(row: dict) -> float:
    return -row["score"]
