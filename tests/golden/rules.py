"""Weights and images that golden files define by rule instead of storing them.

Weights come from the name of the tensor, so two implementations with the same names have the same weights
without a checkpoint. Images come from a seed.
"""

from __future__ import annotations

import zlib

import numpy as np


def plain_tensor(key: str, shape: tuple[int, ...], salt: str = "") -> np.ndarray:
    """Rule `plain`: the float32 tensor that the name `key` stands for."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    z = rng.standard_normal(shape, dtype=np.float32)
    name = key.rsplit(".", 1)[-1]
    if name == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if name == "running_var":
        return np.float32(1) + np.float32(0.1) * np.abs(z)
    if name == "running_mean":
        return np.float32(0.1) * z
    if len(shape) >= 2:
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
    if len(shape) == 4:
        return tensor * np.float32(1.25)
    return tensor


WEIGHT_RULES = {"plain": plain_tensor, "spread": spread_tensor}


def images(rule: str, seed: int, shape: list[int], valid_hw) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, 3, H, W) float32 by rule `normal` or `blocks`, and the mask (B, H, W), True = padding.

    Image b keeps its top-left `valid_hw[b]` = (h, w); the rest is 0. `blocks` are 32 x 32 patches of one
    colour with a quarter of the noise, so that neighbouring pixels agree as they do in photographs.
    """
    batch, channels, height, width = shape
    rng = np.random.Generator(np.random.PCG64(seed))
    if rule == "normal":
        pixels = rng.standard_normal(shape, dtype=np.float32)
    elif rule == "blocks":
        low = rng.standard_normal((batch, channels, height // 32, width // 32), dtype=np.float32)
        fine = rng.standard_normal(shape, dtype=np.float32)
        pixels = np.kron(low, np.ones((32, 32), np.float32)) + np.float32(0.25) * fine
    else:
        raise ValueError(f"the image rule is {rule!r}; known are 'normal' and 'blocks'")
    mask = np.ones((batch, height, width), bool)
    for index, (valid_height, valid_width) in enumerate(valid_hw):
        mask[index, :valid_height, :valid_width] = False
    pixels[np.broadcast_to(mask[:, None], pixels.shape)] = 0
    return pixels, mask
