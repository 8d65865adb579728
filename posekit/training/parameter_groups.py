"""Which parameters learn how fast and which decay: one rule per paper, and the optimiser's groups that it makes."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

from posekit.training.recipes import Recipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
ENCODER_RATE = 0.05  # RTMO: of the transformer layer in the neck


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """Groups for an optimiser, by the rule that `recipe.groups` names: "backbone" (POET), "rtmo" or "layers" (ViTPose).

    A group is a dict with `params`, `lr` (at first) and `base_lr` (before the schedule, `schedules.rate`),
    `weight_decay`, and a `name` for the log.
    """
    rule, groups = RULES[recipe.groups], {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(rule(name, parameter, model, recipe), []).append(parameter)
    return [
        {"params": groups[key], "lr": lr, "base_lr": lr, "weight_decay": decay, "name": name}
        for key in sorted(groups, key=lambda key: key[0])
        for _, name, lr, decay in [key]
    ]


# A rule says of one parameter: (where its group stands among the groups, its name, learning rate, weight decay)
Key = tuple[tuple, str, float, float]


def two_rates(name: str, parameter: nn.Parameter, model: nn.Module, recipe: Recipe) -> Key:
    """Two learning rates: parameters with "backbone" in their name, and the others (POET, Implementation Details)."""
    if "backbone" in name:
        return (1,), "backbone", recipe.lr_backbone, recipe.weight_decay
    return (0,), "head", recipe.lr, recipe.weight_decay


def without_decay_of_norms(name: str, parameter: nn.Parameter, model: nn.Module, recipe: Recipe) -> Key:
    """RTMO's published configuration: norms and biases do not decay, `neck.encoder` learns at a twentieth of the rate.

    Only parameters named `bias` and those of normalisation modules are spared: the scales of the gated attention unit
    and the stacked biases of the multi-head attention (`in_proj_bias`) decay.
    """
    module, _, last = name.rpartition(".")
    decay = 0.0 if last == "bias" or isinstance(model.get_submodule(module), NORMS) else recipe.weight_decay
    if name.startswith("neck.encoder"):
        return (), "encoder", recipe.lr * ENCODER_RATE, decay
    return (), "head", recipe.lr, decay


def layer_wise(name: str, parameter: nn.Parameter, model: nn.Module, recipe: Recipe) -> Key:
    """ViTPose: the deeper a layer lies under the head, the slower it learns, by `recipe.layer_decay` for each.

    One-dimensional parameters, biases and the position table do not decay. Groups: head first, then layer by layer
    upwards from the patches.
    """
    depth = len(model.backbone.blocks)
    layer, head = layer_id(name, depth), layer_id(name, depth) == depth + 1
    decay = 0.0 if parameter.ndim == 1 or name.endswith((".bias", "pos_embed")) else recipe.weight_decay
    rate = recipe.lr * layer_scale(layer, depth, recipe.layer_decay)
    return (not head, layer, decay), "head" if head else "backbone", rate, decay


RULES: dict[str, Callable[[str, nn.Parameter, nn.Module, Recipe], Key]] = {
    "backbone": two_rates,
    "rtmo": without_decay_of_norms,
    "layers": layer_wise,
}


def layer_id(name: str, depth: int) -> int:
    """0 = patches and position table, i + 1 = block i, `depth` + 1 = last norm, head and all else."""
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if name.startswith(("backbone.pos_embed", "backbone.patch_embed")) else depth + 1


def layer_scale(layer: int, depth: int, layer_decay: float) -> float:
    """The factor of the learning rate of a layer of `layer_id`: 1 for the head."""
    return layer_decay ** (depth + 1 - layer)
