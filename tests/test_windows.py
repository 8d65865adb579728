"""Attention within windows: equal to its definition on any grid, and really less memory."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from posekit.models.windows import KINDS, Attention, attention_for, into_windows, out_of_windows, plan_windows


def by_definition(module, x, grid):
    """Every cell asks every cell, what it may not see is masked: (h w)^2 scores, no cutting and no rolling."""
    (h, w), heads = grid, module.heads
    window = [min(a, b) for a, b in zip(module.window, grid, strict=True)]
    padded = [-(-size // side) * side for size, side in zip(grid, window, strict=True)]
    places, wraps = [], []
    for size, side, whole, shift in zip(grid, window, padded, module.shift, strict=True):
        shift = shift % side if whole > side else 0
        rolled = (torch.arange(size) - shift) % whole
        places.append(rolled // side)
        wraps.append(torch.arange(size) < shift)
    number = (places[0][:, None] * 100 + places[1]).flatten()
    wrap = (wraps[0][:, None] * 2 + wraps[1]).flatten()
    q, k, v = module.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    cells, tokens = h * w, x.shape[1]
    sees = torch.ones(tokens, tokens, dtype=torch.bool)
    sees[:cells, :cells] = (number[:, None] == number) & (wrap[:, None] == wrap)
    if module.pool:
        groups = F.one_hot(number.unique(return_inverse=True)[1]).to(x)
        share = (groups / groups.sum(0)).T
        k, v = (torch.cat([part, share @ part[:, :, :cells]], 2) for part in (k, v))
        pooled = torch.ones(tokens, len(share), dtype=torch.bool)
        pooled[cells:] = False  # tokens without a place see every cell itself
        sees = torch.cat([sees, pooled], 1)
    out = ((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~sees, -torch.inf)).softmax(-1) @ v
    return module.proj(out.transpose(1, 2).flatten(2))


def attention(kind, window, block=1):
    torch.manual_seed(0)
    return attention_for(kind, 12, 3, window, block).double()


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS[1:]),
    grid=st.tuples(st.integers(1, 11), st.integers(1, 9)),
    window=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    others=st.integers(0, 2),
)
def test_windows_equal_a_masked_full_attention_on_any_grid(kind, grid, window, others):
    module = attention(kind, window)
    x = torch.randn(2, grid[0] * grid[1] + others, 12, dtype=torch.float64, requires_grad=True)
    out = module(x, grid)
    assert torch.allclose(out, by_definition(module, x, grid), atol=1e-10)
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    assert gradient.isfinite().all()


@given(grid=st.tuples(st.integers(1, 20), st.integers(1, 20)), shift=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_cutting_into_windows_can_be_undone(grid, shift):
    plan = plan_windows(grid, (5, 4), shift)
    x = torch.randn(2, grid[0] * grid[1], 3)
    assert torch.equal(out_of_windows(into_windows(x, plan), plan, 2), x)


@pytest.mark.parametrize("kind", ["window", "shift"])
def test_a_window_of_the_whole_grid_is_full_attention(kind):
    module, x = attention(kind, (50, 50)), torch.randn(1, 30, 12, dtype=torch.float64)
    full = Attention(12, 3).double()
    full.load_state_dict(module.state_dict())
    assert torch.allclose(module(x, (6, 5)), full(x, (6, 5)), atol=1e-12)


def test_shifting_is_for_every_second_block():
    shifts = [attention_for("shift+pool", 12, 3, (8, 6), block).shift for block in range(4)]
    assert shifts == [(0, 0), (4, 3), (0, 0), (4, 3)]
    assert [attention_for(kind, 12, 3, (8, 6), 1).pool for kind in KINDS] == [False, False, False, True, True]


def saved_bytes(module, x, grid):
    """Bytes that a forward pass keeps for the backward one, every storage counted once."""
    sizes = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = module(x, grid)
    assert out.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_windows_keep_a_fraction_of_the_scores(kind):
    """Of 768 tokens' scores, 12 windows keep a twelfth (and the columns of 12 means)."""
    torch.manual_seed(0)
    x = torch.randn(1, 768, 24, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):  # the kernel that keeps its scores
        full = saved_bytes(attention_for("full", 24, 4, (8, 8), 1), x, (32, 24))
        windowed = saved_bytes(attention_for(kind, 24, 4, (8, 8), 1), x, (32, 24))
    assert full > 768 * 768 * 4 * 4
    assert windowed < 0.25 * full


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attention_for("dilated", 12, 3, (8, 8), 0), "attention is 'dilated'; choose one of full, window"),
        (lambda: Attention(12, 5), "12 channels do not split into 5 heads"),
        (lambda: Attention(12, 3, (0, 8)), "both numbers must be positive"),
        (lambda: Attention(12, 3, (4, 4))(torch.zeros(1, 5, 12), (3, 2)), "5 tokens are fewer than the 3 x 2 cells"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
