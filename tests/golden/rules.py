"""Weights and images that the files define by rule: from the name of a tensor, and from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


def plain_tensor(key: str, shape: tuple[int, ...], salt: str = "") -> np.ndarray:
    """Rule `plain`: the float32 tensor that the name `key` stands for."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    z = rng.standard_normal(shape, dtype=np.float32)
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if name == "running_var":
        return np.float32(1) + np.float32(0.1) * np.abs(z)
    if name != "running_mean" and len(shape) >= 2:
        return z / np.float32(np.sqrt(np.prod(shape[1:])))
    if name == "weight":
        return np.float32(1) + np.float32(0.1) * z
    return np.float32(0.1) * z


def spread_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Rule `spread`: `plain` rescaled, so that the queries of POET's decoder do not collapse."""
    tensor = plain_tensor(key, shape)
    if key == "query_embed.weight":
        return tensor * np.float32(32)
    if key.endswith("in_proj_weight"):
        tensor[: 2 * shape[1]] *= np.float32(3)  # the rows of queries and keys; the values keep their scale
        return tensor
    if key.endswith(("out_proj.weight", "linear2.weight")):
        return tensor * np.float32(0.3)
    if key.startswith("kpt_embed") and len(shape) == 2:
        return tensor * np.float32(2)
    return tensor * np.float32(1.25) if len(shape) == 4 else tensor


WEIGHT_RULES = {"plain": plain_tensor, "spread": spread_tensor}


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def by_rule(shapes: dict[str, tuple[int, ...]], rule: str = "plain") -> dict[str, Tensor]:
    """A state dict of these names and shapes by rule `plain` or `spread`."""
    return {name: torch.from_numpy(np.asarray(WEIGHT_RULES[rule](name, shape))) for name, shape in shapes.items()}


def images(rule: str, seed: int, shape: list[int], valid_hw) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, 3, H, W) float32 by rule `normal` or `blocks`, and the mask (B, H, W), True = padding.

    Image b keeps its top-left `valid_hw[b]` = (h, w); the rest is 0. `blocks` are 32 x 32 patches of one
    colour with a quarter of the noise, so that neighbouring pixels agree as they do in photographs.
    """
    batch, channels, height, width = shape
    rng = np.random.Generator(np.random.PCG64(seed))
    if rule not in ("normal", "blocks"):
        raise ValueError(f"the image rule is {rule!r}; known are 'normal' and 'blocks'")
    if rule == "blocks":
        low = rng.standard_normal((batch, channels, height // 32, width // 32), dtype=np.float32)
    pixels = rng.standard_normal(shape, dtype=np.float32)
    if rule == "blocks":
        pixels = np.kron(low, np.ones((32, 32), np.float32)) + np.float32(0.25) * pixels
    mask = np.ones((batch, height, width), bool)
    for index, (valid_height, valid_width) in enumerate(valid_hw):
        mask[index, :valid_height, :valid_width] = False
    pixels[np.broadcast_to(mask[:, None], pixels.shape)] = 0
    return pixels, mask


@contextmanager
def hooked(hooks: dict[nn.Module, Callable]) -> Iterator[None]:
    """Calls hook(inputs, options, output) after every forward pass of a module."""
    handles = [
        module.register_forward_hook(lambda _, *values, hook=hook: hook(*values), with_kwargs=True)
        for module, hook in hooks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
