"""Keypoints of one's own: their OKS sigmas and what a mirror exchanges, where the file or the names do not say it.

OKS forgives a joint's offset as far as annotators differ about it. COCO measured that on people who were annotated
several times: sigma^2 = E[d^2 / s^2], d the distance from the mean of the annotations, s^2 the person's area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from posekit.layouts import Layout


def with_sigmas(layout: Layout, sigmas: float | Sequence[float]) -> Layout:
    """The layout with other OKS sigmas: one for all keypoints, or one for each.

    Raises:
        ValueError: another number of them, or one that is not above 0.
    """
    k = len(layout)
    values = np.atleast_1d(np.asarray(sigmas, float))
    if values.shape not in ((1,), (k,)) or not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"sigmas are {sigmas}: give a number above 0, or {k} of them, one per keypoint")
    return replace(layout, name=f"custom{k}", sigmas=np.broadcast_to(values, (k,)).copy())


def with_pairs(layout: Layout, pairs: Sequence[Sequence[str | int]]) -> Layout:
    """The layout with these pairs of keypoints, names or places counted from 0, exchanged by a mirror; [] for none.

    Raises:
        ValueError: a pair of other than two keypoints, an unknown one, or one in two pairs.
    """
    places = {name: i for i, name in enumerate(layout.keypoints)}
    found = [tuple(places.get(one, one) if isinstance(one, str) else one for one in pair) for pair in pairs]
    ends = [end for pair in found for end in pair]
    unknown = [end for end in ends if isinstance(end, bool) or not isinstance(end, int) or not 0 <= end < len(layout)]
    if unknown:
        raise ValueError(f"flip_pairs names {unknown[0]!r}; the keypoints are {', '.join(layout.keypoints)}")
    if any(len(pair) != 2 for pair in found) or len(set(ends)) < len(ends):
        raise ValueError("flip_pairs is a list of pairs, and no keypoint stands in two of them")
    return replace(layout, pairs=tuple(found))


def estimate_sigmas(keypoints: np.ndarray, labelled: np.ndarray, areas: np.ndarray, least: int = 10) -> np.ndarray:
    """(K,) OKS sigmas from people who were annotated several times.

    Args:
        keypoints (P, R, K, 2): R annotations of each of P people, pixels. labelled (P, R, K) bool. areas (P,).
        least: a joint must have been annotated at least twice for so many people.

    Raises:
        ValueError: too few annotations of a joint.
    """
    labelled, areas = np.asarray(labelled, bool), np.asarray(areas, float)
    points = np.where(labelled[..., None], np.asarray(keypoints, float), 0)
    count = labelled.sum(1)  # (P, K)
    mean = points.sum(1) / np.maximum(count, 1)[..., None]
    offset = np.where(labelled, ((points - mean[:, None]) ** 2).sum(3), 0).sum(1)
    repeated = count > 1
    if (repeated.sum(0) < least).any():
        joint = int(repeated.sum(0).argmin())
        raise ValueError(
            f"keypoint {joint} was annotated twice for {repeated.sum(0)[joint]} people, fewer than {least}: annotate "
            "more people again, or give the sigmas"
        )
    variance = np.where(repeated, offset / np.maximum(count - 1, 1) / areas[:, None], 0)
    return np.sqrt(variance.sum(0) / repeated.sum(0))
