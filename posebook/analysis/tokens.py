"""The tokens of one crop inside ViTPose: which cells a token attends to, which become similar (Xu et al. 2022, section
3.1); what a knowledge token changes ("Transferability"): heatmaps and AP with it and without, attention to it.

Coordinates: COCO pixels of the crop. A *cell* is the number of a token, row by row. Maps have the grid's shape (h, w).
n crops, K keypoints, D blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posebook.analysis.crop_views import BATCH, forward
from posebook.analysis.visible_share import ap_in_annotated_boxes
from posekit.data.transforms import normalise
from posekit.models.windows import Attention, into_windows, plan_windows
from posekit.poses import Poses


@dataclass
class Tokens:
    """`image` uint8 (H, W, 3); `cell` the token looked at; `alike` (D + 1, h, w) cosine of every token with it, before
    the blocks and after each; `attention` (D, heads, h, w) whom it attends to in each block; `heatmaps` (K, h', w');
    `pose` one person in px of the crop.
    """

    image: np.ndarray
    cell: int
    alike: np.ndarray
    attention: np.ndarray
    heatmaps: np.ndarray
    pose: Poses

    @property
    def grid(self) -> tuple[int, int]:
        return self.alike.shape[1:]

    @property
    def place(self) -> np.ndarray:
        """The middle of the cell, (x, y) px of the crop."""
        row, column = divmod(self.cell, self.grid[1])
        height, width = self.image.shape[:2]
        return np.array([(column + 0.5) * width / self.grid[1], (row + 0.5) * height / self.grid[0]])


@torch.no_grad()
def follow(model, image: np.ndarray, place: tuple[float, float]) -> Tokens:
    """Run a ViTPose on one crop, uint8 RGB of the model's size, and follow the token at `place` (x, y) px.

    The model is used in evaluation mode and given back as it was.

    Raises ValueError: the place is outside the crop.
    """
    height, width = image.shape[:2]
    x, y = place
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"the place ({x:g}, {y:g}) is outside the crop of {width} x {height} pixels")
    training, backbone = model.training, model.backbone
    model.eval()
    pixels = normalise(np.ascontiguousarray(image)[None], model.input.mean, model.input.std)
    try:
        tokens, (rows, columns) = backbone.embed(pixels)
        count, cell = tokens.shape[1], int(y * rows / height) * columns + int(x * columns / width)
        alike, attention = [_alike(tokens, cell)], []
        if backbone.knowledge_token is not None:
            tokens = torch.cat([tokens, backbone.knowledge_token], 1)
        for block in backbone.blocks:
            attention.append(attention_of(block.attn, block.norm1(tokens), (rows, columns), cell)[0])
            tokens = block(tokens, (rows, columns))
            alike.append(_alike(tokens[:, :count], cell))
        outputs = model(pixels)
    finally:
        model.train(training)
    pose = model.decode(outputs, torch.tensor([[width, height]]))[0]
    maps = [torch.stack(parts).unflatten(-1, (rows, columns)).numpy() for parts in (alike, attention)]
    return Tokens(image, cell, *maps, outputs["heatmaps"][0].numpy(), pose)


@torch.no_grad()
def attention_of(attention: Attention, x: Tensor, grid: tuple[int, int], cell: int) -> Tensor:
    """The weight that token `cell` gives to the value of every cell, in whatever kind of attention: (B, heads, N).

    x (B, N + G, C) is what the attention gets. A weight on a window's mean is spread over the window's cells as the
    mean spreads it, so that weights times values are what comes out, but for the G further tokens, whose weight is
    what the sum over the cells lacks to 1.
    """
    cells = grid[0] * grid[1]
    q, k, _ = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    query = q[:, :, cell] / q.shape[-1] ** 0.5
    if attention.window is None:
        return torch.einsum("bhd,bhtd->bht", query, k).softmax(-1)[..., :cells]
    plan = plan_windows(grid, attention.window, attention.shift)
    number = into_windows(torch.arange(1, cells + 1, device=x.device)[None, :, None], plan)[..., 0] - 1  # -1 = padding
    window, at = (int(index) for index in (number == cell).nonzero()[0])
    seen = number[window] >= 0
    if plan.mask is not None:
        seen = seen & plan.mask[window, at].to(x.device)
    own = number[window][seen]
    keys = [k[:, :, own]]
    member = torch.zeros(plan.windows, cells, device=x.device, dtype=x.dtype)  # each cell's share in its window's mean
    member[(number >= 0).nonzero()[:, 0], number[number >= 0]] = 1
    member = member / member.sum(1, keepdim=True)
    if attention.pool:
        keys.append(torch.einsum("wn,bhnd->bhwd", member, k[:, :, :cells]))
    keys.append(k[:, :, cells:])
    weights = torch.einsum("bhd,bhtd->bht", query, torch.cat(keys, 2)).softmax(-1)
    result = weights.new_zeros(*weights.shape[:2], cells)
    result[..., own] = weights[..., : len(own)]
    if attention.pool:
        result += weights[..., len(own) : len(own) + plan.windows] @ member
    return result


def _alike(tokens: Tensor, cell: int) -> Tensor:
    """(1, N, C) -> (N,) cosine with token `cell`."""
    return torch.cosine_similarity(tokens[0], tokens[0, cell][None], -1)


@contextmanager
def token_removed(model) -> Iterator[None]:
    """Inside `with token_removed(model):` the model works without its knowledge token; afterwards it has it back.

    Raises ValueError: it has none.
    """
    token = model.backbone.knowledge_token
    if token is None:
        raise ValueError("this model has no knowledge token to remove: give a run with distil = learn_token or token")
    model.backbone.knowledge_token = None
    try:
        yield
    finally:
        model.backbone.knowledge_token = token


def token_heatmaps(model, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (n, K, h, w) of crops uint8 (n, H, W, 3), in evaluation mode: (with the token, without it)."""
    maps = _maps(model, crops)
    with token_removed(model):
        return maps, _maps(model, crops)


@torch.inference_mode()
def token_attention(model, crops: np.ndarray) -> np.ndarray:
    """(D,) in [0, 1]: the share of their attention that the crops' tokens give to the knowledge token in each block,
    mean over crops, heads and tokens. Paid to all alike it would be 1 / (tokens + 1).

    Raises ValueError: the model has no such token.
    """
    with token_removed(model):  # refuses a model without one
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


def token_effect(model, dataset, crops: np.ndarray) -> dict[str, float]:
    """What the token does, in numbers: over crops uint8 (n, H, W, 3), and AP over all annotated boxes of a data set.

    "AP with", "AP without" it; "heatmaps changed": root mean square of the difference over that of the heatmaps with
    it; "peaks moved": share of the heatmaps whose highest cell is another one; "attention": mean of `token_attention`.
    """
    maps, without = token_heatmaps(model, crops)
    flat, plain = (each.reshape(*each.shape[:2], -1) for each in (maps, without))
    size = max(float(np.square(maps).mean()), 1e-24)
    scores = {"AP with": _ap(model, dataset)}
    with token_removed(model):
        scores["AP without"] = _ap(model, dataset)
    return scores | {
        "heatmaps changed": float(np.sqrt(np.square(maps - without).mean() / size)),
        "peaks moved": float((flat.argmax(-1) != plain.argmax(-1)).mean()),
        "attention": float(token_attention(model, crops).mean()),
    }


def _ap(model, dataset) -> float:
    return float(ap_in_annotated_boxes(model, dataset, (0, 1)).AP[0])


def _maps(model, crops: np.ndarray) -> np.ndarray:
    return torch.cat([outputs["heatmaps"] for outputs in forward(model, crops)]).float().cpu().numpy()
