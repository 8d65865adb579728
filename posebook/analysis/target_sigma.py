"""What a decoding loses on perfect heatmaps, by the sigma of their Gaussian (ViTPose; DARK: Zhang et al. 2020).

n people, K keypoints, (h, w) heatmap. Sigma in cells of the heatmap, distances in px of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from posekit.data.heatmaps import heatmap_targets
from posekit.models import heatmap_decoding

SIGMAS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


def decoded_targets(points: np.ndarray, labelled: np.ndarray, crop_size, heatmap_size, sigma: float):
    """(maps (n, K, h, w), {method: (n, K, 2) heatmap index}): UDP's targets and where each decoding finds the joint.

    points (n, K, 2) px of the crop, labelled (n, K); sizes are (width, height).
    """
    maps, _ = heatmap_targets(points, labelled.astype(np.float32), crop_size, heatmap_size, sigma=sigma)
    return maps, {method: heatmap_decoding.locate(maps, method)[0] for method in heatmap_decoding.METHODS}


def decoding_errors(
    points: np.ndarray, labelled: np.ndarray, crop_size, heatmap_size, sigmas: Sequence[float] = SIGMAS
) -> pd.DataFrame:
    """A row per sigma: sigma, and the mean distance of each decoding from the joint, over labelled joints inside."""
    inside = labelled & ((points >= 0) & (points < np.array(crop_size))).all(-1)
    rows = []
    for sigma in sigmas:
        _, found = decoded_targets(points, inside, crop_size, heatmap_size, sigma)
        places = {name: heatmap_decoding.to_crop(where, heatmap_size, crop_size) for name, where in found.items()}
        off = {name: float(np.linalg.norm(where - points, axis=-1)[inside].mean()) for name, where in places.items()}
        rows.append({"sigma": sigma} | off)
    return pd.DataFrame(rows)
