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
from posekit.data.loader import Loader
from posekit.data.mosaic import MIXES, Mosaic
from posekit.models.input import Input
from posekit.recipes import Recipe

FAMILIES = ("poet", "rtmo")


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
    family = family_of(recipe.model)
    options = {"size": recipe.size or None, "people": recipe.people}  # the same pictures for every seed of the run
    train = open_dataset(recipe.dataset, "train", count=recipe.images or None, **options)
    val = open_dataset(recipe.dataset, "val", count=recipe.val_images or None, **options)
    model = build_model(recipe, num_keypoints=len(train.layout))
    if family == "rtmo":
        check_rtmo(recipe, model.input)
    criterion = (poet_criterion if family == "poet" else rtmo_criterion)(recipe, train.layout)
    shared = {"rank": rank, "world": world}
    late = None
    if recipe.late_augment and recipe.late_at < 1:
        late = training_loader(recipe, train, model.input, recipe.late_augment, **shared)
    return Parts(
        model, criterion, training_loader(recipe, train, model.input, recipe.augment, **shared),
        evaluation_loader(val, model.input, size=recipe.size, max_size=recipe.max_size, workers=recipe.workers),
        late, {"proxies": True} if family == "rtmo" else {},
    )  # fmt: skip


def family_of(model: str) -> str:
    """The family of a model that can be trained, by its name.

    Raises:
        ValueError: none of them.
    """
    family = model.partition("_")[0]
    if family not in FAMILIES:
        raise ValueError(f"there is no training for the model {model!r}; its name starts with {' or '.join(FAMILIES)}")
    return family


def check_rtmo(recipe: Recipe, see: Input) -> None:
    """Raises ValueError for what an RTMO cannot be trained with."""
    odd = [size for size in (recipe.size or see.size, *recipe.sizes) if size % 32]
    if odd:
        raise ValueError(f"RTMO sees pictures whose sides are multiples of 32, not {odd[0]}; change size or sizes")
    if recipe.backbone_steps:
        raise ValueError(f"backbone_steps is {recipe.backbone_steps}: only POET's backbones are trained alone first")


def build_model(recipe: Recipe, num_keypoints: int) -> nn.Module:
    """The recipe's model, with its starting weights where it names some."""
    overrides = {"num_keypoints": num_keypoints}
    if recipe.num_queries:
        overrides["num_queries"] = recipe.num_queries
    if recipe.pretrained:
        overrides["pretrained"] = True
    model = with_options(models.build, recipe.model_options, recipe.model, "model_options", **overrides)
    if recipe.weights:
        from posekit.models.checkpoints import start_from

        start_from(model, runs.resolve(recipe.weights))
    return model


def poet_criterion(recipe: Recipe, layout) -> nn.Module:
    from posekit.losses.poet import PoetCriterion

    return with_options(
        PoetCriterion, recipe.loss_options, len(layout), field="loss_options", pose_cost=recipe.pose_cost,
        class_term=recipe.class_term, visible=recipe.visible, deltas_and_center=recipe.deltas_and_center,
        w_class=recipe.w_class, w_abs=recipe.w_abs, w_vis=recipe.w_vis, w_ctr=recipe.w_ctr, w_deltas=recipe.w_deltas,
    )  # fmt: skip


def rtmo_criterion(recipe: Recipe, layout) -> nn.Module:
    from posekit.losses.rtmo import RtmoCriterion

    return with_options(RtmoCriterion, recipe.loss_options, layout.sigmas, field="loss_options")


def with_options(make: Callable, options: Mapping[str, Any], first, field: str = "model_options", **fixed) -> Any:
    """`make(first, **fixed, **options)`, lists in `options` as tuples.

    Raises:
        ValueError: an option that `make` does not take, or that the recipe has a field for.
    """
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    what = first if isinstance(first, str) else make.__name__
    if twice := sorted(given.keys() & fixed.keys()):
        raise ValueError(f"{field} of the recipe names {', '.join(twice)}, which comes from elsewhere: leave it out")
    try:
        return make(first, **fixed, **given)
    except TypeError as error:
        word = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if word is None or word[1] not in given:
            raise
        raise ValueError(f"{field} of the recipe names {word[1]!r}, which {what} does not know") from error


def training_loader(recipe: Recipe, dataset, see: Input, policy: str, **share: int) -> Loader:
    """Shuffled pictures under a policy of augment.py or mosaic.py, at the recipe's size or sizes."""
    size = recipe.size or see.size
    if policy in MIXES:
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
    dataset, see: Input, *, size: int = 0, max_size: int = 1333, batch_size: int = 0, workers: int = 0, device="cpu"
) -> Loader:
    """Pictures in order, unaugmented, at the size that the model wants (or `size`)."""
    if see.fit == "letterbox":
        fit, batch = Augment("none", dataset.layout, size=size or see.size, pad=see.pad, align=see.align), 50
    else:
        fit, batch = Augment("none", dataset.layout, shortest=min(see.size, max_size), longest=max_size), 2
    return Loader(
        dataset, fit, batch_size or batch, shuffle=False, workers=workers, mean=see.mean, std=see.std, device=device
    )  # fmt: skip
