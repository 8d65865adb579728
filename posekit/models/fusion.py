"""A copy of a model for deployment: batch norms folded into the layers before them, convolutions channels last.

Folding moves the last bits of every output, so no model is folded before someone asks for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)
# How the names of modules begin that compute pixels, or maps of which pixels are read: 8 bits are too few for them
PRECISE = {
    "AssociativeEmbedding": ("keypoint_head.final_layer", "higher.final_layer"),
    "POET": ("class_embed", "kpt_embed"),
    "RTMDet": ("head.rtm_",),
    "RTMPose": ("head.cls_",),
    "SimpleBaseline": ("keypoint_head.final_layer",),
    "ViTPose": ("keypoint_head.final_layer",),
    "YOLOXPose": ("head.out_",),
}


def fused(model: M) -> M:
    """A copy of the model for deployment, in evaluation mode: what can be folded is folded, convolutions are channels
    last, nothing is trained. Same results up to rounding; models have it as their method `fuse`."""
    model = fuse_batch_norms(model)
    for module in model.modules():
        if hasattr(module, "merge_branches"):
            module.merge_branches()
    return model.requires_grad_(False).to(memory_format=torch.channels_last)


def fuse_batch_norms(module: M) -> M:
    """A copy of the module, in evaluation mode, in which every batch norm is part of the layer before it.

    A batch norm, trained or frozen, belongs to the convolution or linear layer that was registered just before it in
    the same module. The activation that timm's batch norms contain stays.
    """
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        for (name, layer), (norm_name, norm) in pairwise(list(parent.named_children())):
            if not hasattr(norm, "running_mean") or not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                continue
            if isinstance(layer, nn.Linear):
                layer = fuse_linear_bn_eval(layer, norm)
            else:
                layer = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
            setattr(parent, name, layer)
            setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return module


def in_bf16(model: M) -> M:
    """The model itself, which from now on computes in bfloat16 what torch's autocast lets it, `PRECISE` parts not."""
    for name, module in model.named_modules():
        if name.startswith(PRECISE.get(type(model).__name__, ())):
            module.forward = _autocast(module.forward, False)
    model.forward = _autocast(model.forward, True)
    return model


def _autocast(forward: Callable, enabled: bool) -> Callable:
    def run(x: Tensor, *inputs, **options):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=enabled):
            return forward(x if enabled else x.float(), *inputs, **options)

    return run
