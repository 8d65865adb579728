"""Short trainings to play with: a few choices become a recipe, a run of about a minute, and a row of a table.

The runs go through `posekit.training.loop.train` as all others do, into numbered folders of one folder. Asked for a
recipe that is there already, it is shown, or goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from posebook import tables
from posebook.verdicts import ONE_SEED
from posekit import runs
from posekit.files import plain, relative, resolve
from posekit.training.loop import train
from posekit.training.recipes import RECIPES, Recipe, from_record, recipe

STEPS = {"poet_tiny": 400, "rtmo_tiny": 350, "vitpose_tiny": 400}  # about a minute of one idle core
SCRATCH, SHIPPED = "random weights", "the shipped weights"
STARTS = (SCRATCH, SHIPPED)
# model -> what each option changes; the first changes nothing. "recipe" is another recipe, the rest are its fields.
_WINDOW = {"window": [4, 3]}
OPTIONS: dict[str, dict[str, dict]] = {
    "poet_tiny": {
        "20 queries": {},
        "10 queries": {"model_options": {"num_queries": 10}},
        "50 queries": {"model_options": {"num_queries": 50}},
        "queries chosen from the encoder": {"recipe": "poet_tiny_proposals"},
    },
    "rtmo_tiny": {
        "dcc": {},
        "cc+dba": {"model_options": {"decoding": "cc+dba"}},
        "cc": {"model_options": {"decoding": "cc"}},
        "regression": {
            "model_options": {"decoding": "regression"},
            "loss_options": {"coordinate_loss": "oks", "w_oks": 10.0, "dynamic_k": "iou"},
        },
    },
    "vitpose_tiny": {
        "full attention": {},
        "windows of 4 x 3": {"model_options": {"attention": "window"} | _WINDOW},
        "shifted windows": {"model_options": {"attention": "shift"} | _WINDOW},
        "pooled windows": {"model_options": {"attention": "pool"} | _WINDOW},
        "shifted and pooled": {"model_options": {"attention": "shift+pool"} | _WINDOW},
    },
}
OPTION_OF = {"poet_tiny": "queries", "rtmo_tiny": "decoding", "vitpose_tiny": "attention"}


@dataclass(frozen=True)
class Choice:
    """What a reader chooses. option: of `OPTIONS`, "" = the first. lr 0, steps 0: the recipe's rate, about a minute."""

    model: str = "rtmo_tiny"
    option: str = ""
    lr: float = 0.0
    steps: int = 0
    seed: int = 0
    start: str = SCRATCH
    images: int = 512  # training images; few, so that they are drawn in seconds and a curve has points
    val_images: int = 50

    @property
    def recipe(self) -> Recipe:
        """The recipe of this choice.

        Raises ValueError: an unknown model, option or start; what `Recipe` refuses.
        """
        for name, value, known in (("model", self.model, OPTIONS), ("start", self.start, STARTS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        options = OPTIONS[self.model]
        if self.option and self.option not in options:
            raise ValueError(f"option is {self.option!r}; {self.model} has {', '.join(options)}")
        changes = dict(options[self.option or next(iter(options))])
        name = changes.pop("recipe", self.model)
        base, steps = RECIPES[name], self.steps or STEPS[self.model]
        changes |= {"steps": steps, "seed": self.seed, "images": self.images, "val_images": self.val_images}
        changes["warmup"] = min(base.warmup, steps // 4)
        if self.lr:
            changes |= {"lr": self.lr, "lr_backbone": base.lr_backbone * self.lr / base.lr}
        if self.start == SHIPPED:
            changes |= {"weights": f"data/weights/{self.model}", "backbone_steps": 0}
        else:
            changes["backbone_steps"] = min(base.backbone_steps, steps // 4)
        return recipe(name, **changes)


def place_of(chosen: Recipe, folder: str | Path) -> Path:
    """The run folder of this recipe: the one that has it already, or the next number."""
    wanted, highest = plain(vars(chosen)), 0
    for path in _records(folder):
        if plain(vars(from_record(runs.load_run(path)["parameters"], relative(path)))) == wanted:
            return path.parent
        highest = int(path.parent.name)
    return resolve(folder) / f"{highest + 1:03d}"


def play(choice: Choice, folder: str | Path, show: Callable[[], None] = lambda: None, report=print) -> Path:
    """Trains a choice; returns its run folder. show: called after every row of the log, to draw it.

    Stopped (Jupyter's stop button, Ctrl-C) it says so and returns: the same choice goes on from there.
    """
    chosen = choice.recipe
    run = place_of(chosen, folder)

    def told(sentence: str) -> None:
        if sentence.startswith("epoch"):
            show()
        else:
            report(sentence)

    try:
        train(chosen, run, validate_every=1, report=told)
    except KeyboardInterrupt:
        pass  # `train` has said where
    show()
    report(summary(run))
    return run


def summary(run: str | Path) -> str:
    """One line: what the run has cost, what it reached, and what that allows to say."""
    row = _row(runs.load_run(run), resolve(run))
    what = "crops" if row["model"].startswith("vitpose") else "images"
    ap = "not measured" if row["AP"] is None else f"{row['AP']:.3f}"
    return (
        f"run {row['run']}, {row['model']}, {row['status']}: {row['steps done']:,} steps, {row['seconds']:.0f} s of "
        f"training, {row['seen']:,} {what} seen; AP {ap} on {row['val_images']} drawn scenes. {ONE_SEED}"
    )


def table(folder: str | Path, last: int = 8) -> pd.DataFrame:
    """The last runs, a row each: what differs between them, then status, steps done, seconds, seen, loss, AP."""
    rows = pd.DataFrame([_row(runs.load_run(path), path.parent) for path in _records(folder)[-last:]])
    if rows.empty:
        return rows
    results = ["status", "steps done", "seconds", "seen", "loss", "AP"]
    chosen = [name for name in rows if name not in ("run", *results)]
    differ = [name for name in chosen if name in ("model", "option") or rows[name].astype(str).nunique() > 1]
    return rows[["run", *differ, *results]]


def page(folder: str | Path, last: int = 8):
    """`table` as a page shows it."""
    rows = table(folder, last)
    forms = {"lr": "{:.1e}", "seconds": "{:.0f}", "seen": "{:,}", "loss": "{:.2f}", "AP": "{:.3f}"}
    for name in forms.keys() & set(rows):
        rows[name] = ["–" if pd.isna(value) else forms[name].format(value) for value in rows[name]]
    return tables.page(rows, "The last runs, one seed each") if len(rows) else "No run yet."


def logs(folder: str | Path, last: int = 6) -> dict[str, tuple[str, pd.DataFrame]]:
    """Run -> (model, log) of the last runs that have a log, oldest first."""
    found = {}
    for path in _records(folder):
        log = pd.DataFrame(runs.read_log(path.with_name("log.csv")))
        if len(log):
            found[path.parent.name] = (runs.load_run(path)["parameters"]["model"], log)
    return dict(list(found.items())[-last:])


def form(choice: Choice):
    """Shows controls for a choice; returns a function that reads them. What they say counts when a run begins."""
    from IPython.display import display
    from ipywidgets import BoundedIntText, Dropdown, FloatLogSlider, IntSlider, VBox

    wide = {"style": {"description_width": "9em"}, "layout": {"width": "34em"}}
    base = RECIPES[choice.model]
    model = Dropdown(value=choice.model, options=list(OPTIONS), description="model", **wide)
    option = Dropdown(options=list(OPTIONS[choice.model]), description=OPTION_OF[choice.model], **wide)
    option.value = choice.option or option.options[0]
    rate = {"base": 10, "min": -4.5, "max": -1.5, "step": 0.1, "readout_format": ".1e"}
    lr = FloatLogSlider(choice.lr or base.lr, description="learning rate", **rate, **wide)
    length = choice.steps or STEPS[choice.model]
    steps = IntSlider(length, min=10, max=2000, step=10, description="steps", **wide)
    seed = BoundedIntText(choice.seed, min=0, max=999, description="seed", **wide)
    start = Dropdown(value=choice.start, options=STARTS, description="start from", **wide)

    def other_model(_change) -> None:
        option.options, option.description = list(OPTIONS[model.value]), OPTION_OF[model.value]
        lr.value, steps.value = RECIPES[model.value].lr, STEPS[model.value]

    model.observe(other_model, "value")
    display(VBox([model, option, lr, steps, start, seed]))
    sizes = {"images": choice.images, "val_images": choice.val_images}
    return lambda: Choice(model.value, option.value, lr.value, steps.value, seed.value, start.value, **sizes)


def _records(folder: str | Path) -> list[Path]:
    """The `run.json` of the numbered runs, in their order."""
    found = [path for path in resolve(folder).glob("*/run.json") if path.parent.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.parent.name))


def _row(record: dict, run: Path) -> dict:
    """A run as a row: what was chosen, how far it came and what it cost."""
    made = from_record(record["parameters"], relative(run))
    log = runs.read_log(run / "log.csv")
    last = log[-1] if log else {}
    steps = int(last.get("step") or 0)
    model = "poet_tiny" if made.model == "poet_tiny_proposals" else made.model
    return {
        "run": run.name,
        "model": model,
        "option": _option(made, model),
        "lr": made.lr,
        "steps": made.steps,
        "start": SHIPPED if made.weights else SCRATCH,
        "seed": made.seed,
        "images": made.images,
        "val_images": made.val_images,
        "status": record["status"],
        "steps done": steps,
        "seconds": 60 * (last.get("minutes") or 0),
        "seen": steps * made.batch_size,
        "loss": last.get("train_total"),
        "AP": last.get("AP"),
    }


def _option(made: Recipe, model: str) -> str:
    """The name of a recipe's option; its fields as JSON where it has none."""
    for name, changes in OPTIONS.get(model, {}).items():
        base = RECIPES[changes.get("recipe", model)]
        wanted = changes.get("model_options", base.model_options)
        if made.model == base.model and plain(made.model_options) == plain(wanted):
            return name
    return json.dumps(plain(made.model_options))
