"""Windowed attention as a mask and as a cost: who may attend to whom, and what is computed and kept (ViTPose, Table 4).

The mask is of `posekit.models.windows`, which never computes what it hides. N tokens of a grid (rows, columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from posekit.models.windows import Attention, plan_windows

MB = 2**20


@dataclass
class WindowCost:
    """One attention layer on one crop: `gmac`, 10^9 multiply-adds; `scores_mb`, the scores that an implementation
    keeps for the backward pass, float32."""

    gmac: float
    scores_mb: float


def allowed(
    grid: tuple[int, int], window: tuple[int, int] | None, shift: tuple[int, int] = (0, 0), pool: bool = False
) -> np.ndarray:
    """(N, N) in {0, 1, 2}: may the token of a row attend to that of a column? 1: yes, 2: as part of the mean of its
    window (`pool`), 0 not at all. window None: full attention.
    """
    count = grid[0] * grid[1]
    if window is None:
        return np.ones((count, count), np.uint8)
    plan = plan_windows(tuple(grid), tuple(window), tuple(shift))
    seen = np.full((count + 1, count + 1), 2 * pool, np.uint8)  # the last one: padding
    for number, cells in enumerate(plan.cells.numpy()):
        mask = np.ones((len(cells), len(cells)), bool) if plan.mask is None else plan.mask[number].numpy()
        block = seen[np.ix_(cells, cells)]
        seen[np.ix_(cells, cells)] = np.where(mask, 1, block)
    return seen[:count, :count]


@torch.no_grad()
def cost(
    grid: tuple[int, int],
    window: tuple[int, int] | None,
    shift: tuple[int, int] = (0, 0),
    pool: bool = False,
    dim: int = 768,
    heads: int = 12,
) -> WindowCost:
    """Counted on the layer itself, without arithmetic. By default the width and heads of ViTPose-B."""
    with torch.device("meta"):
        layer = Attention(dim, heads, window, shift, pool).eval()
        tokens = torch.empty(1, grid[0] * grid[1], dim)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        layer(tokens, grid)
    count = grid[0] * grid[1]
    scores = count * count
    if window is not None:
        plan = plan_windows(tuple(grid), tuple(window), tuple(shift))
        windows, cells = plan.cells.shape
        scores = windows * cells * (cells + windows * pool)
    return WindowCost(counter.get_total_flops() / 2e9, 4 * heads * scores / MB)


def window_numbers(
    grid: tuple[int, int], window: tuple[int, int] | None, shift: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """(rows, columns): the window of every token; parts of a window that may not see one another count as windows."""
    seen = allowed(grid, window, shift) == 1
    _, first = np.unique(seen.argmax(1), return_inverse=True)
    return first.reshape(grid)
