"""Outputs of bottom-up networks as they would be for a known number of people, to time what comes after the network.

Random weights would find dozens of people in noise. So drawn people, side by side, are rendered as the network should
see them: Gaussians with peaks of 0.3 to 1 over a floor of noise, a fifth of the joints missing, tags of one person near
its joints and noise elsewhere; for OpenPose fields along the limbs. A scene of which the grouping makes another number
of people is drawn again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posekit.losses.openpose import SHOULDERS, limb_fields, part_heatmaps, parts_of

FLOOR, MISSING, LOWEST_PEAK = 0.02, 0.2, 0.3
TAG_STEP, TAG_NOISE, TAG_FLOOR = 3.0, 0.12, 0.3
TRIES = 50


def tag_maps(keypoints: np.ndarray, size: int, stride: int, tags: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """`heatmaps` (1, K, h, w) and `tags` (1, K, L, h, w) as associative embedding gives them.

    keypoints (n, K, 2) px of an image of `size` x `size`; tags: L, 2 with the flip test; sigma is two cells.
    """
    people, count = keypoints.shape[:2]
    cells = np.arange(size // stride)
    heat = rng.uniform(0, FLOOR, (count, len(cells), len(cells)))
    tag = rng.normal(0, TAG_FLOOR, (count, tags, len(cells), len(cells)))
    for person in range(people):
        x, y = (keypoints[person].T / stride - 0.5)[..., None]
        squared = ((cells - x) ** 2)[:, None, :] + ((cells - y) ** 2)[:, :, None]
        peak = rng.uniform(LOWEST_PEAK, 1, count) * (rng.random(count) >= MISSING)
        heat = np.maximum(heat, peak[:, None, None] * np.exp(-squared / 8))
        near = (squared <= 36) & (peak > 0)[:, None, None]
        own = TAG_STEP * (person + 1) + rng.normal(0, TAG_NOISE, (count, tags))
        tag = np.where(near[:, None], own[..., None, None], tag)
    return {
        name: torch.from_numpy(value[None].astype(np.float32)) for name, value in (("heatmaps", heat), ("tags", tag))
    }


def part_maps(keypoints: np.ndarray, size: int, stride: int, rng: np.random.Generator) -> dict[str, Tensor]:
    """`heatmaps` (1, 1, P + 1, h, w) and `pafs` (1, 1, 2 E, h, w) as OpenPose gives them; limbs are one cell wide.

    Shoulders are never missing: the neck hangs on them, and without it one person becomes several.
    """
    visible = torch.from_numpy((rng.random(keypoints.shape[:2]) >= MISSING).astype(np.int64))
    visible[:, list(SHOULDERS)] = 1
    parts, labelled = parts_of(torch.from_numpy(keypoints).float(), visible)
    cells, shape = parts / stride - 0.5, (size // stride,) * 2
    heat, fields = part_heatmaps(cells, labelled, shape, 1.0), limb_fields(cells, labelled, shape, 1.0)
    noise = torch.from_numpy(rng.uniform(0, FLOOR, heat.shape)).float()
    return {"heatmaps": torch.maximum(heat, noise)[None, None], "pafs": fields[None, None]}


def side_by_side(people: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """Keypoints (n, K, 2) of people (K, 2) each, shrunk into cells of their own of a `size` x `size` image.

    People who overlap make more groups than people, and it is their number that the time is measured against.
    """
    if not people:
        return np.zeros((0, 17, 2))
    across = int(np.ceil(np.sqrt(len(people))))
    side = size / across
    result = []
    for cell, points in zip(rng.permutation(across**2), people, strict=False):
        low, extent = points.min(0), np.ptp(points, axis=0).max()
        row, column = divmod(int(cell), across)
        result.append((points - low) / extent * 0.8 * side + (column * side + 0.1 * side, row * side + 0.1 * side))
    return np.stack(result)


def rendered(render, decode, people: int, arrange, seed: int) -> dict[str, Tensor]:
    """The first outputs, out of 50, in which `decode` finds `people` people.

    render: (keypoints (n, K, 2), rng) -> outputs; decode: outputs -> Poses; arrange: the attempt -> keypoints.

    Raises:
        RuntimeError: none does.
    """
    counts = []
    for attempt in range(TRIES):
        outputs = render(arrange(seed + attempt), np.random.default_rng((seed, people, attempt)))
        counts.append(len(decode(outputs)))
        if counts[-1] == people:
            return outputs
    found = ", ".join(map(str, sorted(set(counts))))
    raise RuntimeError(f"none of {TRIES} rendered scenes of {people} people was grouped so, but as {found}")
