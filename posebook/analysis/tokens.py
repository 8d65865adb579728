"""The tokens of one crop inside ViTPose: which cells a token attends to, which become similar (section 3.1).

Coordinates: COCO pixels of the crop. A *cell* is the number of a token, row by row. Maps have the grid's shape (h, w).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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

    Raises:
        ValueError: the place is outside the crop.
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
