"""From a recipe to what the training loop needs: data, model and criterion, for every family of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from posekit import models, runs
from posekit.data import open_dataset
from posekit.data.augment import Augment
from posekit.data.crop_augment import CropAugment
from posekit.data.loader import Loader
from posekit.data.mosaic import MIXES, Mosaic
from posekit.data.topdown import People
from posekit.layouts import Layout
from posekit.models.input import Input
from posekit.recipes import Recipe


@dataclass
class Parts:
    """A model with random (or the recipe's) weights, its criterion, and its loaders.

    `late`: the training loader from the recipe's `late_at` on, or None. `asked`: what the criterion wants to have from
    the model besides its usual outputs, as keyword arguments of `forward`.
    """

    model: nn.Module
    criterion: nn.Module
    train: Loader
    val: Loader
    late: Loader | None = None
    asked: dict[str, Any] = field(default_factory=dict)


def prepare(recipe: Recipe, *, rank: int = 0, world: int = 1) -> Parts:
    """Opens the data, then builds the model for their keypoints. `rank` of `world` processes gets its share.

    Raises:
        ValueError: a recipe that does not hang together; one sentence.
    """
    criterion_for = CRITERIA[family_of(recipe.model)]
    options = {"size": recipe.size or None, "people": recipe.people}  # the same pictures for every seed of the run
    train = open_dataset(recipe.dataset, "train", count=recipe.images or None, **options)
    val = open_dataset(recipe.dataset, "val", count=recipe.val_images or None, **options)
    model = build_model(recipe, num_keypoints=len(train.layout))
    criterion, asked = criterion_for(recipe, model, train.layout)
    if model.input.fit == "crop":
        train = People(train)
    late = None
    if recipe.late_augment and recipe.late_at < 1:
        late = training_loader(recipe, train, model, recipe.late_augment, rank=rank, world=world)
    return Parts(
        model, criterion, training_loader(recipe, train, model, recipe.augment, rank=rank, world=world),
        evaluation_loader(val, model, size=recipe.size, max_size=recipe.max_size, workers=recipe.workers), late, asked,
    )  # fmt: skip


def family_of(model: str) -> str:
    """The family of a model that can be trained, by its name.

    Raises:
        ValueError: none of them.
    """
    family = model.partition("_")[0]
    if family not in CRITERIA:
        known = ", ".join(CRITERIA)
        raise ValueError(f"there is no training for the model {model!r}; its name begins with one of {known}")
    return family


def build_model(recipe: Recipe, num_keypoints: int) -> nn.Module:
    """The recipe's model, with its starting weights where it names some."""
    overrides = {"num_keypoints": num_keypoints}
    if recipe.num_queries:
        overrides["num_queries"] = recipe.num_queries
    if recipe.pretrained:
        overrides["pretrained"] = True
    model = with_options(models.build, recipe.model_options, recipe.model, field="model_options", **overrides)
    if recipe.weights:
        from posekit.models.checkpoints import start_from

        start_from(model, runs.resolve(recipe.weights))
    return model


def poet_criterion(recipe: Recipe, model: nn.Module, layout: Layout) -> tuple[nn.Module, dict]:
    from posekit.losses.poet import PoetCriterion

    return with_options(
        PoetCriterion, recipe.loss_options, len(layout), pose_cost=recipe.pose_cost, class_term=recipe.class_term,
        visible=recipe.visible, deltas_and_center=recipe.deltas_and_center, w_class=recipe.w_class, w_abs=recipe.w_abs,
        w_vis=recipe.w_vis, w_ctr=recipe.w_ctr, w_deltas=recipe.w_deltas,
    ), {}  # fmt: skip


def rtmo_criterion(recipe: Recipe, model: nn.Module, layout: Layout) -> tuple[nn.Module, dict]:
    from posekit.losses.rtmo import RtmoCriterion

    check_backbone_steps(recipe)
    odd = [size for size in (recipe.size or model.input.size, *recipe.sizes) if size % 32]
    if odd:
        raise ValueError(f"RTMO sees pictures whose sides are multiples of 32, not {odd[0]}; change size or sizes")
    return with_options(RtmoCriterion, recipe.loss_options, layout.sigmas), {"proxies": True}


def vitpose_criterion(recipe: Recipe, model: nn.Module, layout: Layout) -> tuple[nn.Module, dict]:
    from posekit.losses.heatmap import HeatmapCriterion

    check_backbone_steps(recipe)
    return with_options(HeatmapCriterion, recipe.loss_options), {}


CRITERIA = {"poet": poet_criterion, "rtmo": rtmo_criterion, "vitpose": vitpose_criterion}


def check_backbone_steps(recipe: Recipe) -> None:
    if recipe.backbone_steps:
        raise ValueError(f"backbone_steps is {recipe.backbone_steps}: only POET's backbones are trained alone first")


def with_options(make: Callable, options: Mapping[str, Any], *first, field: str = "loss_options", **fixed) -> Any:
    """`make(*first, **fixed, **options)`, lists in `options` as tuples; `field`: what the recipe calls the options.

    Raises:
        ValueError: an option that `make` does not take, or that the recipe has a field for.
    """
    given = plain_options(options)
    what = first[0] if first and isinstance(first[0], str) else make.__name__
    if twice := sorted(given.keys() & fixed.keys()):
        raise ValueError(f"{field} of the recipe names {', '.join(twice)}, which comes from elsewhere: leave it out")
    try:
        return make(*first, **fixed, **given)
    except TypeError as error:
        word = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if word is None or word[1] not in given:
            raise
        raise ValueError(f"{field} of the recipe names {word[1]!r}, which {what} does not know") from error


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options as Python functions take them: JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def training_loader(recipe: Recipe, dataset, model: nn.Module, policy: str, **share: int) -> Loader:
    """Shuffled pictures under a policy of augment.py or mosaic.py, at the recipe's size or sizes; or shuffled crops of
    people under one of crop_augment.py."""
    see: Input = model.input
    size = recipe.size or see.size
    if see.fit == "crop":
        augment = CropAugment(policy, dataset.layout, model.crop_size, model.stride)
    elif policy in MIXES:
        augment = Mosaic(policy, dataset.layout, size, pad=see.pad or 0)
    elif see.fit == "letterbox":
        augment = Augment(policy, dataset.layout, size=size, pad=see.pad, align=see.align)
    else:
        augment = Augment(policy, dataset.layout, longest=recipe.max_size)
    return Loader(
        dataset, augment, recipe.batch_size, seed=recipe.seed, workers=recipe.workers, drop_last=True, mean=see.mean,
        std=see.std, sizes=recipe.sizes, **share,
    )  # fmt: skip


def evaluation_loader(
    dataset, model: nn.Module, *, boxes="truth", size: int = 0, max_size: int = 1333, batch_size: int = 0,
    workers: int = 0, device="cpu",
) -> Loader:  # fmt: skip
    """Pictures in order, unaugmented, at the size that the model wants (or `size`); for a model that sees crops, the
    crops of `boxes` (see `posekit.data.topdown.People`), picture by picture."""
    see: Input = model.input
    if see.fit == "crop":
        dataset, batch = People(dataset, boxes), 64
        fit = CropAugment("none", dataset.layout, model.crop_size, model.stride)
    elif see.fit == "letterbox":
        fit, batch = Augment("none", dataset.layout, size=size or see.size, pad=see.pad, align=see.align), 50
    else:
        fit, batch = Augment("none", dataset.layout, shortest=min(see.size, max_size), longest=max_size), 2
    return Loader(
        dataset, fit, batch_size or batch, shuffle=False, workers=workers, mean=see.mean, std=see.std, device=device
    )  # fmt: skip
