"""How large a network is: parameters and multiply-adds, counted without computing anything."""

from __future__ import annotations

import torch
from torch import nn


def parameters(model: nn.Module) -> float:
    """Millions of parameters."""
    return sum(one.numel() for one in model.parameters()) / 1e6


def multiply_adds(model: nn.Module, height: int, width: int) -> float:
    """10^9 multiply-adds of one image or crop: convolutions and matrix products. The model must lie on the device
    "meta"; its parameters are frozen."""
    from torch.utils.flop_counter import FlopCounterMode

    model.requires_grad_(False)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() / 2e9
