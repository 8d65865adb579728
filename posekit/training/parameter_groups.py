"""Which parameters learn how fast and which decay: one function per paper, each a list of groups for an optimiser.

A group is a dict with `params`, `lr` (at first) and `base_lr` (before the schedule, `schedules.rate`), `weight_decay`,
and a `name` for the log.
"""

from __future__ import annotations

import re

from torch import nn

from posekit.training.recipes import Recipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
ENCODER_RATE = 0.05  # RTMO: of the transformer layer in the neck


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """The recipe's groups: `recipe.groups` is "backbone" (POET), "rtmo" or "layers" (ViTPose).

    Raises:
        ValueError: another word.
    """
    if recipe.groups == "backbone":
        return two_rates(model, recipe.lr, recipe.lr_backbone, recipe.weight_decay)
    if recipe.groups == "rtmo":
        return without_decay_of_norms(model, recipe.lr, recipe.weight_decay)
    if recipe.groups == "layers":
        return layer_wise(model, recipe.lr, recipe.weight_decay, recipe.layer_decay)
    raise ValueError(f"groups is {recipe.groups!r}; choose 'backbone', 'rtmo' or 'layers'")


def two_rates(model: nn.Module, lr: float, lr_backbone: float, weight_decay: float = 1e-4) -> list[dict]:
    """Two learning rates: parameters with "backbone" in their name, and the others (POET, Implementation Details)."""
    groups = []
    for name, rate, inside in (("head", lr, False), ("backbone", lr_backbone, True)):
        chosen = [p for n, p in model.named_parameters() if p.requires_grad and ("backbone" in n) == inside]
        groups += group(name, chosen, rate, weight_decay)
    return groups


def without_decay_of_norms(model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """RTMO's published configuration: norms and biases do not decay, `neck.encoder` learns at a twentieth of the rate.

    Only parameters named `bias` and those of normalisation modules are spared: the scales of the gated attention unit
    and the stacked biases of the multi-head attention (`in_proj_bias`) decay.
    """
    chosen: dict[tuple[str, float, float], list] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                encoder = f"{prefix}.{name}".startswith("neck.encoder")
                decay = 0.0 if name == "bias" or isinstance(module, NORMS) else weight_decay
                key = ("encoder" if encoder else "head", lr * ENCODER_RATE if encoder else lr, decay)
                chosen.setdefault(key, []).append(parameter)
    return [made for (name, rate, decay), found in chosen.items() for made in group(name, found, rate, decay)]


def layer_wise(model: nn.Module, lr: float, weight_decay: float, layer_decay: float) -> list[dict]:
    """ViTPose: the deeper a layer lies under the head, the slower it learns, by `layer_decay` for each.

    One-dimensional parameters, biases and the position table do not decay. Groups: head first, then layer by layer
    upwards from the patches.
    """
    depth = len(model.backbone.blocks)
    chosen: dict[tuple[int, float], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim == 1 or name.endswith(".bias") or name.endswith("pos_embed")
            key = (layer_id(name, depth), 0.0 if spared else weight_decay)
            chosen.setdefault(key, []).append(parameter)
    groups = []
    for (layer, decay), found in sorted(chosen.items(), key=lambda item: (item[0][0] != depth + 1, item[0])):
        name = "head" if layer == depth + 1 else "backbone"
        groups += group(name, found, lr * layer_scale(layer, depth, layer_decay), decay)
    return groups


def layer_id(name: str, depth: int) -> int:
    """0 = patches and position table, i + 1 = block i, `depth` + 1 = last norm, head and all else."""
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if name.startswith(("backbone.pos_embed", "backbone.patch_embed")) else depth + 1


def layer_scale(layer: int, depth: int, layer_decay: float) -> float:
    """The factor of the learning rate of a layer of `layer_id`: 1 for the head."""
    return layer_decay ** (depth + 1 - layer)


def group(name: str, parameters: list, lr: float, weight_decay: float) -> list[dict]:
    """The group in a list, or no group where there is no parameter."""
    made = {"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": weight_decay, "name": name}
    return [made] if parameters else []
