"""From a recipe to what the training loop needs: data, model and criterion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from posekit import models, runs
from posekit.data import open_dataset
from posekit.data.augment import Augment
from posekit.data.loader import Loader
from posekit.losses.poet import PoetCriterion
from posekit.models.poet import Input
from posekit.recipes import Recipe


@dataclass
class Parts:
    """A model with random (or the recipe's) weights, its criterion, and the two loaders."""

    model: nn.Module
    criterion: nn.Module
    train: Loader
    val: Loader


def prepare(recipe: Recipe, *, rank: int = 0, world: int = 1) -> Parts:
    """Opens the data, then builds the model for their keypoints. `rank` of `world` processes gets its share."""
    options = {"size": recipe.size or None, "people": recipe.people}  # the same pictures for every seed of the run
    train = open_dataset(recipe.dataset, "train", count=recipe.images or None, **options)
    val = open_dataset(recipe.dataset, "val", count=recipe.val_images or None, **options)
    model = build_model(recipe, num_keypoints=len(train.layout))
    criterion = PoetCriterion(
        len(train.layout), pose_cost=recipe.pose_cost, class_term=recipe.class_term, visible=recipe.visible,
        deltas_and_center=recipe.deltas_and_center, w_class=recipe.w_class, w_abs=recipe.w_abs, w_vis=recipe.w_vis,
        w_ctr=recipe.w_ctr, w_deltas=recipe.w_deltas,
    )  # fmt: skip
    see = model.input
    fit = {"size": recipe.size or see.size} if see.fit == "letterbox" else {"longest": recipe.max_size}
    training = Augment(recipe.augment, train.layout, **fit)
    return Parts(
        model, criterion,
        Loader(
            train, training, recipe.batch_size, seed=recipe.seed, workers=recipe.workers, drop_last=True,
            mean=see.mean, std=see.std, rank=rank, world=world,
        ),
        evaluation_loader(val, see, size=recipe.size, max_size=recipe.max_size, workers=recipe.workers),
    )  # fmt: skip


def build_model(recipe: Recipe, num_keypoints: int) -> nn.Module:
    """The recipe's model, with its starting weights where it names some."""
    overrides = {"num_queries": recipe.num_queries} if recipe.num_queries else {}
    if recipe.pretrained:
        overrides["pretrained"] = True
    model = models.build(recipe.model, num_keypoints=num_keypoints, **overrides)
    if recipe.weights:
        from posekit.models.checkpoints import start_from

        start_from(model, runs.resolve(recipe.weights))
    return model


def evaluation_loader(
    dataset, see: Input, *, size: int = 0, max_size: int = 1333, batch_size: int = 0, workers: int = 0, device="cpu"
) -> Loader:
    """Pictures in order, unaugmented, at the size that the model wants (or `size`)."""
    if see.fit == "letterbox":
        fit, batch = Augment("none", dataset.layout, size=size or see.size), 50
    else:
        fit, batch = Augment("none", dataset.layout, shortest=min(see.size, max_size), longest=max_size), 2
    return Loader(
        dataset, fit, batch_size or batch, shuffle=False, workers=workers, mean=see.mean, std=see.std, device=device
    )  # fmt: skip
