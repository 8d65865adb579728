"""From joints to the heatmaps that a top-down model learns: MSRA (Xiao, Wu, Wei 2018), its unbiased form (DARK: Zhang
et al. 2020) and UDP (Huang et al. 2020), with UDP's combined targets.

N people, K keypoints, (h, w) heatmap. All people and joints at once.
"""

from __future__ import annotations

import numpy as np

from posekit.pixels import to_pixel_index

STYLES = ("udp", "msra", "unbiased", "combined")
LEARNT = 0.5  # a joint whose weight is not larger gets an empty map (published rule)


def heatmap_targets(
    keypoints: np.ndarray,
    weights: np.ndarray,
    crop_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    style: str = "udp",
    sigma: float = 2.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Target maps float32 (N, K, h, w) and weights (N, K) of joints in a crop.

    Args:
        keypoints: (N, K, 2) COCO pixels of the crop. weights: (N, K), 0 = not labelled.
        crop_size, heatmap_size: (width, height). sigma: of the Gaussian, in heatmap cells.
        style: "udp" (a Gaussian at the joint, cut at three sigma), "msra" (at the nearest cell), "unbiased" (at the
            joint, not cut) or "combined" (N, 3 K, h, w): per joint a disk and the two offsets inside it.

    The weight of a joint too far outside to touch the map becomes 0.

    Raises:
        ValueError: an unknown style; a labelled joint that is not finite.
    """
    if style not in STYLES:
        raise ValueError(f"the target style is {style!r}; choose one of {', '.join(STYLES)}")
    weights = np.array(weights, np.float32)
    labelled = weights > 0
    if not np.isfinite(keypoints[labelled]).all():
        person, joint = np.argwhere(labelled & ~np.isfinite(keypoints).all(-1))[0]
        raise ValueError(f"joint {joint} of person {person} is labelled but not finite: {keypoints[person, joint]}")
    # From here on as published: in pixel index, where the centre of pixel (r, c) is (c, r).
    joints = to_pixel_index(np.where(labelled[..., None], keypoints, 0).astype(np.float64))
    crop, heat = np.array(crop_size, np.float64), np.array(heatmap_size, np.float64)
    stride = (crop - 1) / np.maximum(heat - 1, 1) if style in ("udp", "combined") else crop / heat
    centre = joints / stride
    if style == "combined":
        return combined_maps(centre, weights, heatmap_size), weights
    cell = centre if style == "unbiased" else np.trunc(centre + 0.5)  # truncated towards zero, also below it
    reach = 3 * sigma
    weights[(cell - reach >= heat).any(-1) | (cell + reach + 1 < 0).any(-1)] = 0
    if style == "msra":
        centre = cell
    # A Gaussian is the product of one along x and one along y, and so is the square that it is cut to.
    lines = []
    for axis, length in enumerate(heatmap_size):
        cells = np.arange(length)
        line = np.exp(-((cells - centre[..., axis, None]) ** 2) / (2 * sigma**2))
        if style != "unbiased":
            line *= np.abs(cells - cell[..., axis, None]) <= reach
        lines.append(line.astype(np.float32))
    x, y = lines[0], lines[1] * (weights > LEARNT)[..., None]
    return y[..., :, None] * x[..., None, :], weights


def combined_maps(centre: np.ndarray, weights: np.ndarray, heatmap_size: tuple[int, int]) -> np.ndarray:
    """UDP's combined target (N, 3 K, h, w): 1 inside a disk around the joint, and there the offset to the joint in x
    and in y, relative to the disk's radius, which is 3.5 cells for a map 64 high.

    centre: (N, K, 2) joints in heatmap index.
    """
    width, height = heatmap_size
    radius = 0.0546875 * height
    x = np.broadcast_to((centre[..., 0, None, None] - np.arange(width)) / radius, (*weights.shape, height, width))
    y = np.broadcast_to((centre[..., 1, None, None] - np.arange(height)[:, None]) / radius, x.shape)
    disk = (x**2 + y**2 <= 1) & (weights > LEARNT)[..., None, None]
    maps = np.stack([disk, x * disk, y * disk], axis=2).astype(np.float32)
    return maps.reshape(len(weights), -1, height, width)
