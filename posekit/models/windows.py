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
            q, k, v = self._split(self.qkv(x))
            return self.proj(_joined(F.scaled_dot_product_attention(q, k, v)))
        return self._windowed(x, grid)

    def _windowed(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        batch, cells = len(x), grid[0] * grid[1]
        if x.shape[1] < cells:
            raise ValueError(f"{x.shape[1]} tokens are fewer than the {grid[0]} x {grid[1]} cells of the grid")
        plan = plan_windows(grid, self.window, self.shift)
        others = x[:, cells:]
        q, own_k, own_v = self._split(self.qkv(into_windows(x[:, :cells], plan)))  # (B n, H, L, d)
        k, v = own_k, own_v
        mask = None if plan.mask is None else plan.mask.to(x.device)
        seen_everywhere = []
        if self.pool:
            share = None if plan.share is None else plan.share.to(x)
            seen_everywhere.append([_means(part, plan.windows, share) for part in (own_k, own_v)])
        if others.shape[1]:
            other_q, other_k, other_v = self._split(self.qkv(others))
            seen_everywhere.append([other_k, other_v])
        if seen_everywhere:
            q = q.contiguous()  # a view would keep keys and values alive that are copied below
        for more_k, more_v in seen_everywhere:
            k = torch.cat([k, _to_every_window(more_k, plan.windows)], 2)
            v = torch.cat([v, _to_every_window(more_v, plan.windows)], 2)
            if mask is not None:
                mask = F.pad(mask, (0, more_k.shape[2]), value=True)
        if mask is not None:
            mask = mask[None, :, None].expand(batch, -1, -1, -1, -1).flatten(0, 1)  # (B n, 1, L, S), equal for heads
        out = _joined(F.scaled_dot_product_attention(q, k, v, mask))
        result = out_of_windows(self.proj(out), plan, batch)
        if others.shape[1]:
            all_k = torch.cat([_all_cells(own_k, plan.windows), other_k], 2)
            all_v = torch.cat([_all_cells(own_v, plan.windows), other_v], 2)
            real = None
            if plan.real is not None:
                real = F.pad(plan.real.to(x.device).flatten(), (0, others.shape[1]), value=True)[None]
            seen = F.scaled_dot_product_attention(other_q, all_k, all_v, real)
            result = torch.cat([result, self.proj(_joined(seen))], 1)
        return result

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, 3 C) -> three of (B, H, T, d)."""
        return qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class Plan(NamedTuple):
    """How a grid becomes windows. `mask` (n, L, L) True = may be seen, None = all may; `real` (n, L) False = padding
    and `share` (n, L) the weight of a cell in its window's mean, both None without padding."""

    grid: tuple[int, int]
    padded: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    mask: Tensor | None
    real: Tensor | None
    share: Tensor | None

    @property
    def windows(self) -> int:
        return (self.padded[0] // self.window[0]) * (self.padded[1] // self.window[1])


@lru_cache(maxsize=64)
def plan_windows(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> Plan:
    """Windows, padding and masks for a grid (rows, columns); see the module's docstring for the rules."""
    window = tuple(min(side, size) for side, size in zip(window, grid, strict=True))
    padded = tuple(-(-size // side) * side for side, size in zip(window, grid, strict=True))
    shift = tuple(s % side if size > side else 0 for s, side, size in zip(shift, window, padded, strict=True))
    bare = Plan(grid, padded, window, shift, None, None, None)
    real = mask = share = None
    if padded != grid:
        real = into_windows(torch.ones(1, grid[0] * grid[1], 1), bare)[..., 0] > 0
        share = real.double() / real.sum(1, keepdim=True)  # no window is padding alone, rolled or not
    if any(shift):
        # What came round from the other side of the grid is no neighbour: it belongs to another region
        rows, columns = ((torch.arange(size) + s >= size).long() for size, s in zip(padded, shift, strict=True))
        regions = (2 * rows[:, None] + columns).flatten()[None, :, None]
        regions = into_windows(regions, bare._replace(grid=padded, shift=(0, 0)))[..., 0]
        mask = regions[:, :, None] == regions[:, None, :]
    if real is not None:
        seen = real[:, None, :] if mask is None else mask & real[:, None, :]
        mask = seen | ~real[:, :, None]  # what a padded cell sees is thrown away, but must not be nothing (NaN)
    return bare._replace(mask=mask, real=real, share=share)


def into_windows(cells: Tensor, plan: Plan) -> Tensor:
    """(B, N, C) -> (B n, L, C): padded, rolled, cut."""
    x = cells.unflatten(1, plan.grid)
    if plan.padded != plan.grid:
        x = F.pad(x, (0, 0, 0, plan.padded[1] - plan.grid[1], 0, plan.padded[0] - plan.grid[0]))
    if any(plan.shift):
        x = x.roll((-plan.shift[0], -plan.shift[1]), (1, 2))
    x = x.unflatten(2, (-1, plan.window[1])).unflatten(1, (-1, plan.window[0])).transpose(2, 3)
    return x.flatten(3, 4).flatten(0, 2)


def out_of_windows(windows: Tensor, plan: Plan, batch: int) -> Tensor:
    """The inverse of `into_windows`: (B n, L, C) -> (B, N, C)."""
    rows, columns = (size // side for size, side in zip(plan.padded, plan.window, strict=True))
    x = windows.unflatten(1, plan.window).unflatten(0, (batch, rows, columns)).transpose(2, 3)
    x = x.flatten(3, 4).flatten(1, 2)
    if any(plan.shift):
        x = x.roll(plan.shift, (1, 2))
    return x[:, : plan.grid[0], : plan.grid[1]].flatten(1, 2)


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


def _joined(heads: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, C)."""
    return heads.transpose(1, 2).flatten(2)


def _means(part: Tensor, count: int, share: Tensor | None) -> Tensor:
    """Keys or values (B n, H, L, d) -> their means per window (B, H, n, d)."""
    part = part.unflatten(0, (len(part) // count, count))
    mean = part.mean(3) if share is None else torch.einsum("bnhld,nl->bnhd", part, share)
    return mean.transpose(1, 2)


def _to_every_window(part: Tensor, count: int) -> Tensor:
    """(B, H, T, d) -> (B n, H, T, d)."""
    return part[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)


def _all_cells(part: Tensor, count: int) -> Tensor:
    """(B n, H, L, d) -> (B, H, n L, d)."""
    return part.unflatten(0, (len(part) // count, count)).transpose(1, 2).flatten(2, 3)
