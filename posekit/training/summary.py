"""What tables say of a training run, written into its record when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from posekit.training.recipes import Recipe, command

if TYPE_CHECKING:
    from posekit.training.build import Parts


def summary(recipe: Recipe, parts: Parts) -> dict[str, Any]:
    """What tables say of a run, so that no report builds its model again: kept in `run.json`.

    `parameters`, `trainable`: counts; `stride`: pixels of the input per cell of the features; `dataset`: how its scores
    are labelled; `command`: what trains the same run again.
    """
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in parts.model.parameters()]
    data = next(iter(parts.val.values())).dataset
    return {
        "parameters": sum(count for count, _ in counts),
        "trainable": sum(count for count, trained in counts if trained),
        "stride": stride_of(parts.model),
        "dataset": words_for(getattr(data, "dataset", data), recipe),
        "command": command(recipe),
    }


def stride_of(model: nn.Module) -> int:
    """Pixels of the input per cell of a model's features; of several levels, the finest that predicts people; of a
    bottom-up model, per cell of its heatmaps."""
    if hasattr(model, "features"):
        return 2 ** min(model.features)
    if hasattr(model, "stride") and model.input.fit != "crop":
        return int(model.stride)
    backbone = model.backbone
    return int((backbone if hasattr(backbone, "stride") else backbone[0]).stride)


def words_for(data, recipe: Recipe) -> str:
    """How scores on a data set are labelled; of drawn people with the size of their images."""
    size = recipe.size or getattr(data, "size", 0)
    return f"{data.name}, {size} px" if data.name.startswith("drawn") else data.name
