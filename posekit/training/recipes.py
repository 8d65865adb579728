"""Every training recipe as one flat record: the papers' and the ones that a laptop can run.

A recipe is data, in `recipes.yaml`: `RECIPES["poet_tiny"]`, changed with `recipe(name, steps=500)`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from posekit.training import recipe_fields

FAMILIES = ("poet", "rtmo", "vitpose", "mae", "ae", "openpose", "simple", "rtmpose", "yolox", "rtmdet")
WITHOUT_KEYPOINTS = ("mae", "rtmdet")  # families that find none


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run, besides the machine. Units: steps, pixels, epochs = passes over the data.

    Shares are of all steps, in [0, 1]; 1.0 = never. What is peculiar to a model stands in `model_options` and
    `loss_options`, keyword arguments of the model's builder and of its criterion as JSON can hold them.
    """

    model: str
    note: str = ""  # what it costs and what to expect, with the run that showed it
    # data
    dataset: str = "people"  # "people" = drawn people, or the path of a COCO-format folder; several with + between
    images: int = 8192  # training images of each: drawn, or at most so many of a folder (0 = all)
    val_images: int = 300  # validation images, likewise
    val_also: str = ""  # another data set of the same keypoints, scored at every validation: AP_NAME in the log
    on_error: str = "raise"  # "skip": entries of a folder that cannot be used are left out and counted
    data_options: dict = field(default_factory=dict)  # of a folder, where posekit does not find them by itself:
    #   "annotations", "images", "layout", "category", "outside"; of each split its own by {"train": ..., "val": ...}
    people: tuple[int, int] = (1, 6)  # people per drawn image
    size: int = 0  # input size in pixels; 0 = the model's own
    augment: str = "scenes"  # a policy of posekit.data.augment
    late_augment: str = ""  # the policy from `late_at` on; "" = the same
    max_size: int = 1333  # longest side in pixels, where the policy varies the size
    sizes: tuple[int, ...] = ()  # input sizes of which each batch draws one; () = always `size`
    batch_size: int = 16
    workers: int = 0  # loader processes; 0 = in this one
    # model and loss
    model_options: dict = field(default_factory=dict)
    loss_options: dict = field(default_factory=dict)
    backbone_steps: int = 0  # first train the backbone alone on joint heatmaps, see posekit.training.pretrain
    weights: str = ""  # start from this run folder, .safetensors or published file
    # distillation, of ViTPose only; see posekit.losses.distillation
    teacher: str = ""  # run folder or weights of the model that teaches
    distil: str = ""  # "output", "token" or "both"; "learn_token" = the phase before, of the teacher itself
    output_weight: float = 1.0  # of the distance to the teacher's heatmaps, beside that to the ground truth
    # optimisation
    steps: int = 1500
    lr: float = 8e-4
    lr_backbone: float = 8e-4
    weight_decay: float = 1e-4
    groups: str = "backbone"  # which parameters learn and decay how, see posekit.training.parameter_groups
    layer_decay: float = 1.0  # with groups="layers": factor of the rate from one layer to the one below it
    warmup: int = 200  # steps of warm-up
    warmup_form: str = "linear"  # or "quadratic", "thousandth"; see posekit.training.schedules
    schedule: str = "cosine"  # "cosine" to `floor`, "step" = times 0.1 at `drop_at`, "two_cosines", "constant"
    floor: float = 0.0  # the rate at which cosines end
    drop_at: float | tuple[float, ...] = 0.8  # shares of the steps
    restart_at: tuple[float, ...] = ()  # shares: "two_cosines" raises the rate, lets it fall again, holds it
    stage2_at: float = 1.0  # share at which the criterion changes to its second stage
    late_at: float = 1.0  # share at which `late_augment` and the criterion's late terms begin
    clip: float = 1.0  # gradient norm; 0 = none
    ema: float = 0.0  # decay of the averaged weights; 0 = none
    ema_ramp: float = 0.0  # updates in which the average slows down to that decay; 0 = it has it at once
    accumulate: int = 1  # batches per step
    precision: str = "32-true"  # a precision of Lightning Fabric, for example "bf16-mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every field; a model that gets a knowledge token has a place for it, also when its weights are loaded
        later.

        Raises:
            ValueError: a field of another type, outside its limits, or with an unknown word.
        """
        for name, spec in self.__dataclass_fields__.items():
            if spec.type == "str" and isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        recipe_fields.check({name: str(spec.type) for name, spec in self.__dataclass_fields__.items()}, vars(self))
        if self.distil in ("token", "both", "learn_token"):
            object.__setattr__(self, "model_options", {**self.model_options, "knowledge_token": True})


def recipe(name: str, **changes) -> Recipe:
    """The recipe of this name with some fields changed.

    Raises:
        ValueError: an unknown name or field; the sentence lists the known ones.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; known: {', '.join(RECIPES)}")
    unknown = set(changes) - set(Recipe.__dataclass_fields__)
    if unknown:
        fields = ", ".join(Recipe.__dataclass_fields__)
        raise ValueError(f"a recipe has no field {', '.join(sorted(unknown))}; it has {fields}")
    return replace(RECIPES[name], **_tuples(changes))


def command(made: Recipe) -> str:
    """The command that trains this recipe, written as changes of the named recipe that it differs from least."""
    fields = {name: value for name, value in vars(made).items() if name != "note"}
    named = {name: vars(known) for name, known in RECIPES.items() if known.model == made.model}
    changes = {name: {k: v for k, v in fields.items() if v != known[k]} for name, known in named.items()}
    if not changes:
        return f"posekit.training.loop.train({made!r}, FOLDER)"
    nearest = min(changes, key=lambda name: len(changes[name]))
    words = ["ci/execute.py", "notebooks/10_train.ipynb", "build/10_train.ipynb", "-p", "recipe", nearest]
    if changes[nearest]:
        words += ["-p", "more", json.dumps(changes[nearest])]
    return shlex.join(words)


def from_record(parameters: Mapping, where: str = "run.json") -> Recipe:
    """The recipe in a `run.json`, also one that an older version wrote; what it does not name has its default.

    Raises:
        ValueError: no model, or a field that no recipe can have; the sentence begins with `where`.
    """
    known = _tuples({name: parameters[name] for name in parameters if name in Recipe.__dataclass_fields__})
    if "model" not in known:
        raise ValueError(f"{where}: its parameters name no model, so it is not of a training run; give one of those")
    try:
        return Recipe(**known)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def family_of(model: str) -> str:
    """The family of a model that can be trained, by its name.

    Raises:
        ValueError: none of them.
    """
    family = model.partition("_")[0]
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"there is no training for the model {model!r}; its name begins with one of {known}")
    return family


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options as Python functions take them: JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _tuples(fields: Mapping) -> dict:
    """Fields as JSON brings them, with tuples again where it has lists; options stay as they are."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


RECIPES: dict[str, Recipe] = {
    name: Recipe(**_tuples(fields))
    for name, fields in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items()
}
