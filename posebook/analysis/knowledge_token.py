"""What a knowledge token changes in a ViTPose (Xu et al. 2022, "Transferability"): heatmaps and AP with it and without
it, and how much the crop's tokens attend to it.

Coordinates: COCO pixels of the crop. n crops, K keypoints, (h, w) heatmap, D blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from posebook.analysis.crop_views import BATCH, forward
from posebook.analysis.tokens import attention_of
from posebook.analysis.visible_share import ap_in_annotated_boxes
from posekit.data.transforms import normalise


@contextmanager
def removed(model) -> Iterator[None]:
    """Inside `with removed(model):` the model works without its knowledge token; afterwards it has it back.

    Raises:
        ValueError: it has none.
    """
    token = model.backbone.knowledge_token
    if token is None:
        raise ValueError("this model has no knowledge token to remove: give a run with distil = learn_token or token")
    model.backbone.knowledge_token = None
    try:
        yield
    finally:
        model.backbone.knowledge_token = token


def heatmaps(model, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (n, K, h, w) of crops uint8 (n, H, W, 3), in evaluation mode: (with the token, without it)."""
    maps = _maps(model, crops)
    with removed(model):
        return maps, _maps(model, crops)


@torch.inference_mode()
def attention(model, crops: np.ndarray) -> np.ndarray:
    """(D,) in [0, 1]: the share of their attention that the crops' tokens give to the knowledge token in each block,
    mean over crops, heads and tokens. Paid to all alike it would be 1 / (tokens + 1).

    Raises:
        ValueError: the model has no such token.
    """
    with removed(model):
        pass
    backbone, shares, device = model.eval().backbone, [], next(model.parameters()).device
    for part in normalise(crops, model.input.mean, model.input.std, device).split(BATCH):
        x, grid = backbone.embed(part)
        count = x.shape[1]
        x = torch.cat([x, backbone.knowledge_token.expand(len(x), -1, -1)], 1)
        given = []
        for block in backbone.blocks:
            normed = block.norm1(x)
            kept = [attention_of(block.attn, normed, grid, cell).sum(-1) for cell in range(count)]
            given.append(1 - torch.stack(kept).mean())
            x = block(x, grid)
        shares.append(torch.stack(given) * len(part))
    return (torch.stack(shares).sum(0) / len(crops)).cpu().numpy()


def measure(model, dataset, crops: np.ndarray) -> dict[str, float]:
    """What the token does, in numbers: over crops uint8 (n, H, W, 3), and AP over all annotated boxes of a data set.

    "AP with", "AP without" it; "heatmaps changed": root mean square of the difference over that of the heatmaps with
    it; "peaks moved": share of the heatmaps whose highest cell is another one; "attention": mean of `attention`.
    """
    maps, without = heatmaps(model, crops)
    flat, plain = (each.reshape(*each.shape[:2], -1) for each in (maps, without))
    size = max(float(np.square(maps).mean()), 1e-24)
    scores = {"AP with": _ap(model, dataset)}
    with removed(model):
        scores["AP without"] = _ap(model, dataset)
    return scores | {
        "heatmaps changed": float(np.sqrt(np.square(maps - without).mean() / size)),
        "peaks moved": float((flat.argmax(-1) != plain.argmax(-1)).mean()),
        "attention": float(attention(model, crops).mean()),
    }


def _ap(model, dataset) -> float:
    return float(ap_in_annotated_boxes(model, dataset, (0, 1)).AP[0])


def _maps(model, crops: np.ndarray) -> np.ndarray:
    return torch.cat([outputs["heatmaps"] for outputs in forward(model, crops)]).float().cpu().numpy()
