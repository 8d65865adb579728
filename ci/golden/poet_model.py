"""POETs of the size that a golden file needs, filled by rule the way published weights are loaded."""

from __future__ import annotations

import torch
from torch import nn

from golden.rules import WEIGHT_RULES
from posekit import models
from posekit.models import checkpoints


def options_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The options of `build` for a published state dict of these shapes."""
    return checkpoints.size(shapes)


def build_for(options: dict[str, int], dilate_last: bool = False) -> nn.Module:
    """POET-R50 or POET-DC5-R50 of that size, random weights, evaluation mode."""
    return models.build("poet_dc5_r50" if dilate_last else "poet_r50", **options).eval()


def fill(model: nn.Module, rule: str) -> None:
    """Load the weights of rule `plain` or `spread` under their published names."""
    if rule not in WEIGHT_RULES:
        raise ValueError(f"the weight rule is {rule!r}; known are {', '.join(WEIGHT_RULES)}")
    tensor = WEIGHT_RULES[rule]
    published = {name: torch.from_numpy(tensor(name, tuple(value.shape))) for name, value in model.state_dict().items()}
    checkpoints.load_weights(model, published)
