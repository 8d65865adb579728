"""The data of a recipe: its data sets opened, and whether there is anybody in them to learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posekit.data import DRAWN, open_dataset
from posekit.data.images import DataError
from posekit.data.topdown import PersonCrops
from posekit.files import resolve
from posekit.protocols import PoseDataset, PoseModel
from posekit.training.recipe_fields import DATA_OPTIONS
from posekit.training.recipes import Recipe

DATA_PARAMETERS = (
    "dataset",
    "split",
    "images",
    "on_error",
    "data_options",
)  # of `open_data`


def names_of(dataset: str) -> dict[str, str]:
    """A recipe's `dataset` as {short name: what `open_dataset` takes}: one, or several with + between them.

    A path that exists is one data set, whatever stands in it.

    Raises:
        ValueError: two of the same name.
    """
    specs = [dataset] if dataset in DRAWN or resolve(dataset).exists() else dataset.split("+")
    names = {Path(spec).stem: spec for spec in specs}
    if len(names) < len(specs):
        raise ValueError(f"dataset is {dataset!r}: each data set can be in it once, and its folder needs its own name")
    return names


def open_data(
    recipe: Recipe,
    dataset: str = "",
    split: str = "val",
    images: int = 0,
    on_error: str = "raise",
    data_options: Mapping[str, Any] | None = None,
) -> PoseDataset:
    """One of the recipe's data sets, by its name or path ("" = the first), or another one; the same for every seed.

    images: at most so many; 0 = the recipe's number of its own data, all of another folder. on_error: "skip" leaves out
    what cannot be used, as does the recipe on its own data. data_options: None = the recipe's for its own data.

    Raises:
        ValueError: a negative number, or data that cannot be used; a refusal names the option that is the remedy.
    """
    if images < 0:
        raise ValueError(f"images is {images}: give how many at most, or 0 for the run's own number")
    own = names_of(recipe.dataset)
    spec = own.get(dataset, dataset) or next(iter(own.values()))
    if spec in own.values():
        images = images or (recipe.images if split == "train" else recipe.val_images)
        on_error = "skip" if "skip" in (on_error, recipe.on_error) else "raise"
        data_options = recipe.data_options if data_options is None else data_options
    if spec in DRAWN:
        return open_dataset(spec, split, count=images or None, size=recipe.size or None, people=recipe.people)
    options = folder_options(data_options or {}, split)
    try:
        return open_dataset(spec, split, count=images or None, on_error=on_error, **options)
    except DataError as error:
        named = next((name for name in DATA_OPTIONS if f"{name}=" in str(error)), None)
        if named is None:
            raise
        hint = json.dumps({named: True if named == "outside" else "..."})
        raise DataError(f"{error} (of a recipe or notebook: data_options = {hint})") from None


def folder_options(options: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The options of a folder for one split: {"annotations": {"train": "a.json", "val": "b.json"}} -> its own file.

    Raises:
        ValueError: a split that is not named; one sentence.
    """
    chosen = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            if split not in value:
                raise ValueError(f"data_options names {name} for {', '.join(value) or 'nothing'}, and not for {split}")
            value = value[split]
        chosen[name] = value
    return chosen


def check_people(recipe: Recipe, model: PoseModel, data: PoseDataset | PersonCrops, family: str) -> None:
    """Stops before the first step where a folder shows nobody from whom the model could learn.

    POET learns from people with a joint that its recipe calls visible, RTMO and YOLOX-Pose from those with a labelled
    joint and a box of more than a pixel at the network's size, top-down models from crops of people with a labelled
    joint and a box, the others from those with a labelled joint.

    Args:
        data: a folder; of top-down models its `PersonCrops`.

    Raises:
        ValueError: nobody; the sentence names the data set and, where there is one, a remedy.
    """
    images = data.dataset if model.input.fit == "crop" else data
    targets = (data.target(i) for i in range(len(data)))
    if model.input.fit == "crop":
        learnable, what = len(data) > 0, "a person with a labelled joint and a box with a width and a height"
    elif family in ("rtmo", "yolox"):
        sides = {row["id"]: max(row["width"], row["height"]) for row in data.ground_truth["images"]}
        scales = ((recipe.size or model.input.size) / sides[image_id] for image_id in data.ids)
        learnable = any(_matched(target, scale) for target, scale in zip(targets, scales, strict=True))
        what = "a person with a labelled joint and a box of more than a pixel (at input size)"
    else:
        least = 2 if family == "poet" and recipe.loss_options.get("visible", "released") == "released" else 1
        learnable = any((target["visibility"] >= least).any() for target in targets)
        what = "a person with a labelled joint (v > 0)"
        if not learnable and least == 2 and any((data.target(i)["visibility"] > 0).any() for i in range(len(data))):
            what = "a joint with v = 2 (visible), and visible = 'released' trains these alone: "
            what += "choose visible = 'labelled', which trains every labelled joint"
    if not learnable:
        none = f"none of its {len(images)} images shows {what}"
        raise ValueError(f"{recipe.model} has nobody to learn from in {images.name}: {none}")


def _matched(target: Mapping[str, np.ndarray], scale: float) -> bool:
    """Is somebody there whom RTMO's assignment can match? See `posekit.losses.targets.pack_people`."""
    sides = (target["boxes"][:, 2:] - target["boxes"][:, :2]) * scale
    return bool(((target["visibility"] > 0).any(1) & (sides > 1).all(1)).any())
