"""Multi-head self-attention over a grid of tokens, in full or within windows: ViTPose, "attention type" (Table 4).

`full`: every token sees every token. `window`: only those of its own window. `shift`: in every second block the grid is
rolled by half a window first (Swin, Liu et al. 2021). `pool`: the keys and values of a window are its own tokens and
the mean key and value of every window, so that some context stays global. `shift+pool`: both. None adds parameters.

The tokens are sorted into windows *before* the projections and sorted back after the last one, so a windowed block
computes and keeps scores of (window tokens)^2 only: nothing is masked out of a full attention.

A grid that the windows do not divide is padded at the bottom and on the right, and the padded cells are neither seen
nor counted in a mean. A window larger than the grid becomes the grid; an axis with one window does not shift.

Legend: B images, N = h w cells of the grid, G further tokens without a place (the knowledge token), C channels,
H heads, d = C / H, n windows of L cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ("full", "window", "shift", "pool", "shift+pool")


class Attention(nn.Module):
    """Self-attention; parameters `qkv` and `proj` as in published ViT weights, whatever the kind.

    `window` (rows, columns) in cells; `shift` (rows, columns): how far this block rolls the grid; `pool`: whether the
    windows' means are seen. Without `window` attention is full.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: tuple[int, int] | None = None,
        shift: tuple[int, int] = (0, 0),
        pool: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{dim} channels do not split into {heads} heads; choose a multiple")
        if window is not None and min(window) < 1:
            raise ValueError(f"a window of {window} cells: both numbers must be positive")
        self.heads, self.window, self.shift, self.pool = heads, window, shift, pool
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """x (B, N + G, C), the N cells of `grid` = (h, w) row by row first -> the same shape.

        Full attention uses `grid` for nothing and takes any number of tokens. Windowed, the G further tokens see all
        cells and are seen from every window.
        """
        if self.window is None:
            return self._attend(*self._split(x))
        batch, cells = len(x), grid[0] * grid[1]
        if x.shape[1] < cells:
            raise ValueError(f"{x.shape[1]} tokens are fewer than the {grid[0]} x {grid[1]} cells of the grid")
        plan = plan_windows(grid, self.window, self.shift)
        windows, others = plan.windows, x[:, cells:]
        q, *own = self._split(into_windows(x[:, :cells], plan))  # (B n, H, L, d)
        seen_everywhere = []  # keys and values (B, H, T, d)
        if self.pool:
            share = None if plan.share is None else plan.share.to(x)
            seen_everywhere.append([_means(part, windows, share) for part in own])
        if others.shape[1]:
            other_q, *other = self._split(others)
            seen_everywhere.append(other)
        mask, (k, v) = plan.mask, own
        if seen_everywhere:
            q = q.contiguous()  # a view would keep keys and values alive that are copied below
            for more in seen_everywhere:
                spread = [part[:, None].expand(-1, windows, -1, -1, -1).flatten(0, 1) for part in more]
                k, v = (torch.cat(parts, 2) for parts in zip((k, v), spread, strict=True))
        if mask is not None:  # (B n, 1, L, S), equal for heads
            mask = F.pad(mask.to(x.device), (0, k.shape[2] - mask.shape[2]), value=True)
            mask = mask[None, :, None].expand(batch, -1, -1, -1, -1).flatten(0, 1)
        result = out_of_windows(self._attend(q, k, v, mask), plan, batch)
        if others.shape[1]:
            cells_too = [part.unflatten(0, (batch, windows)).transpose(1, 2).flatten(2, 3) for part in own]
            k, v = (torch.cat(parts, 2) for parts in zip(cells_too, other, strict=True))
            real = None
            if plan.real is not None:
                real = F.pad(plan.real.to(x.device).flatten(), (0, others.shape[1]), value=True)[None]
            result = torch.cat([result, self._attend(other_q, k, v, real)], 1)
        return result

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> queries, keys and values (B, H, T, d)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """-> (B, T, C)."""
        return self.proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


class Plan(NamedTuple):
    """How a grid becomes windows: `cells` (n, L), N = padding, and `order` (N,), where each cell stands among them.

    `mask` (n, L, L) True = may be seen, None = all may; `real` (n, L) False = padding and `share` (n, L) the weight of
    a cell in its window's mean, both None without padding.
    """

    cells: Tensor
    order: Tensor
    mask: Tensor | None
    real: Tensor | None
    share: Tensor | None

    @property
    def windows(self) -> int:
        return len(self.cells)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a plan that a prediction made serves training as well
def plan_windows(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> Plan:
    """Windows, padding and masks for a grid (rows, columns); see the module's docstring for the rules."""
    tall, wide = (min(side, size) for side, size in zip(window, grid, strict=True))
    padded = tuple(-(-size // side) * side for side, size in zip((tall, wide), grid, strict=True))
    shift = tuple(s % side if size > side else 0 for s, side, size in zip(shift, (tall, wide), padded, strict=True))

    def cut(table: Tensor) -> Tensor:
        return table.unflatten(1, (-1, wide)).unflatten(0, (-1, tall)).transpose(1, 2).flatten(2).flatten(0, 1)

    count = grid[0] * grid[1]
    numbers = torch.arange(count).view(grid)
    numbers = F.pad(numbers, (0, padded[1] - grid[1], 0, padded[0] - grid[0]), value=count)
    cells = cut(numbers.roll((-shift[0], -shift[1]), (0, 1)))
    real = mask = share = None
    if any(shift):
        # What came round from the other side of the grid is no neighbour: it belongs to another region
        rows, columns = ((torch.arange(size) + s >= size).long() for size, s in zip(padded, shift, strict=True))
        regions = cut(2 * rows[:, None] + columns)
        mask = regions[:, :, None] == regions[:, None, :]
    if padded != grid:
        real = cells < count
        share = real.double() / real.sum(1, keepdim=True)  # no window is padding alone, rolled or not
        seen = real[:, None, :] if mask is None else mask & real[:, None, :]
        mask = seen | ~real[:, :, None]  # what a padded cell sees is thrown away, but must not be nothing (NaN)
    return Plan(cells, cells.flatten().argsort()[:count], mask, real, share)


def into_windows(tokens: Tensor, plan: Plan) -> Tensor:
    """(B, N, C) -> (B n, L, C), zeros where a window is padded."""
    if plan.real is not None:
        tokens = F.pad(tokens, (0, 0, 0, 1))
    picked = tokens.index_select(1, plan.cells.flatten().to(tokens.device))
    return picked.unflatten(1, plan.cells.shape).flatten(0, 1)


def out_of_windows(windows: Tensor, plan: Plan, batch: int) -> Tensor:
    """The inverse of `into_windows`: (B n, L, C) -> (B, N, C)."""
    return windows.unflatten(0, (batch, plan.windows)).flatten(1, 2).index_select(1, plan.order.to(windows.device))


def attention_for(kind: str, dim: int, heads: int, window: tuple[int, int], block: int) -> Attention:
    """The attention of one block: a shifting kind shifts by half a window in blocks 1, 3, 5, ... (as Swin does).

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"attention is {kind!r}; choose one of {', '.join(KINDS)}")
    if kind == "full":
        return Attention(dim, heads)
    shift = (window[0] // 2, window[1] // 2) if kind.startswith("shift") and block % 2 else (0, 0)
    return Attention(dim, heads, tuple(window), shift, pool=kind.endswith("pool"))


def _means(part: Tensor, count: int, share: Tensor | None) -> Tensor:
    """Keys or values (B n, H, L, d) -> their means per window (B, H, n, d)."""
    part = part.unflatten(0, (len(part) // count, count))
    mean = part.mean(3) if share is None else torch.einsum("bnhld,nl->bnhd", part, share)
    return mean.transpose(1, 2)
