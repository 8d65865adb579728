"""Object keypoint similarity (POET, Eq. 5), and who is who: pairing predictions and people one to one.

OKS = sum_i exp(-d_i^2 / (2 s^2 k_i^2)) [v_i > 0] / sum_i [v_i > 0], s^2 the person's area, k_i = 2 sigma_i.
A person with no labelled keypoint has no Eq. 5; COCO's scorer then measures how far each predicted keypoint
lies outside the person's box grown by its own size on every side (0 inside), so that detections on such
people can be ignored. The arithmetic and the order of summation are those of pycocotools: values agree to the
last bit.
Shapes: D detections, G people, K keypoints, N or P pairs. Coordinates: pixels of the image.
"""

from __future__ import annotations

import numpy as np

CHUNK = 1024  # pairs at a time: a block of (1024, 17) float64 stays in the cache


def oks(keypoints_dt, keypoints_gt, visibility_gt, areas, sigmas, boxes_gt=None) -> np.ndarray:
    """(D, G) similarity in [0, 1] of every detection with every person.

    Args:
        keypoints_dt (D, K, 2), keypoints_gt (G, K, 2): pixels. visibility_gt (G, K): > 0 means labelled.
        areas (G,): pixels^2 (COCO: of the segmentation). sigmas (K,): per-joint fall-off.
        boxes_gt (G, 4): x0, y0, x1, y1 pixels, needed for people with no labelled keypoint.

    Raises:
        ValueError: shapes that do not fit, or a person without labelled keypoints when there are no boxes.
    """
    sigmas = np.asarray(sigmas, float)
    k = len(sigmas)
    dt, gt, visibility, areas = (np.asarray(a) for a in (keypoints_dt, keypoints_gt, visibility_gt, areas))
    if dt.ndim != 3 or gt.ndim != 3 or dt.shape[1:] != (k, 2) or gt.shape[1:] != (k, 2):
        raise ValueError(
            f"{k} sigmas need keypoints of shape (n, {k}, 2), not {dt.shape} (found) and {gt.shape} (people)"
        )
    if visibility.shape != gt.shape[:2] or areas.shape != (len(gt),):
        raise ValueError(
            f"{len(gt)} people need visibility {gt.shape[:2]} and areas ({len(gt)},), "
            f"not {visibility.shape} and {areas.shape}"
        )
    dt, gt, labelled = dt.astype(float), gt.astype(float), visibility > 0
    if boxes_gt is not None:
        boxes = np.asarray(boxes_gt, float).reshape(len(gt), 4)
        bounds = doubled(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1))
    elif not labelled.any(1).all():
        raise ValueError(
            f"person {int(np.argmin(labelled.any(1)))} has no labelled keypoint: OKS then needs the box; "
            "give boxes_gt, or leave such people out"
        )
    else:
        bounds = np.zeros((len(gt), 4))
    d, g = (index.ravel() for index in np.indices((len(dt), len(gt))))
    return oks_pairs(dt, gt, labelled, areas, sigmas, bounds, d, g).reshape(len(dt), len(gt))


def oks_pairs(dt, gt, labelled, areas, sigmas, bounds, d_index, g_index) -> np.ndarray:
    """(P,) similarity of the pairs (d_index, g_index) only.

    Arguments as in `oks`, unchecked; `labelled` (G, K) bool, `bounds` (G, 4) as `doubled` returns them.
    """
    variances = (np.asarray(sigmas, float) * 2) ** 2
    spread = np.asarray(areas, float) + np.spacing(1)
    k = len(variances)
    dt, gt = (xy.reshape(len(xy), 2 * k) for xy in (dt, gt))
    counts = labelled.sum(1)
    similarity = np.empty(len(d_index))
    # One block per number of labelled joints: their terms form a dense table whose rows numpy adds up in the
    # order in which pycocotools adds one person's. Any other order differs in the last bit, and last bits
    # decide ties.
    by_count = np.argsort(counts[g_index], kind="stable")
    edges = np.flatnonzero(np.diff(counts[g_index[by_count]])) + 1
    for block in np.split(by_count, edges) if len(by_count) else ():
        labels = int(counts[g_index[block[0]]])
        for start in range(0, len(block), CHUNK):
            pairs = block[start : start + CHUNK]
            g = g_index[pairs]
            offset = dt.take(d_index[pairs], axis=0)
            offset = offset - gt.take(g, axis=0) if labels else _outside(offset, bounds.take(g, axis=0), k)
            with np.errstate(over="ignore"):  # a joint found 1e200 pixels away, a negative area
                offset *= offset
                error = offset[:, 0::2] + offset[:, 1::2]
                error /= variances
                error /= spread[g, None]
                error /= -2
                if labels:
                    error = error[labelled.take(g, axis=0)].reshape(len(pairs), labels)
                similarity[pairs] = np.exp(error, out=error).sum(1) / error.shape[1]
    return similarity


def match_people(
    keypoints_dt, keypoints_gt, visibility_gt, areas, sigmas, boxes_gt=None, scores=None, min_oks=0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair predictions and people of one image one to one with the largest sum of OKS (Hungarian method).

    This is what POET's set criterion does with its own cost: every person gets a prediction as long as there
    are enough. Of equally good predictions the higher score (D,) wins. Pairs below `min_oks` are dropped
    afterwards.

    Returns:
        index of the prediction, index of the person (ascending), OKS of the pair; all (min(D, G),) or
        shorter.
    """
    from scipy.optimize import linear_sum_assignment

    table = oks(keypoints_dt, keypoints_gt, visibility_gt, areas, sigmas, boxes_gt)
    gain = table if scores is None else table + 1e-9 * np.asarray(scores, float)[:, None]
    people, found = linear_sum_assignment(gain.T, maximize=True)
    similarity = table[found, people]
    good = similarity >= min_oks
    return found[good], people[good], similarity[good]


def doubled(boxes_xywh: np.ndarray) -> np.ndarray:
    """(G, 4) x0, y0, x1, y1 of COCO boxes (G, 4) x, y, w, h grown by their own size on every side."""
    x, y, w, h = np.asarray(boxes_xywh, float).reshape(-1, 4).T
    return np.stack([x - w, y - h, x + w * 2, y + h * 2], axis=1)


def extent(keypoints: np.ndarray, labelled: np.ndarray | None = None) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 around keypoints (N, K, 2), those that are `labelled` (N, K) or all; not finite if one of
    them is not, or there is none."""
    corners = np.empty((len(keypoints), 4))
    for start in range(0, len(keypoints), CHUNK):
        part = slice(start, start + CHUNK)
        low = high = keypoints[part].transpose(1, 2, 0).copy()  # numpy is ten times as fast along the first axis
        if labelled is not None:
            low, high = (np.where(labelled[part].T[:, None], low, far) for far in (np.inf, -np.inf))
        corners[part, :2], corners[part, 2:] = low.min(0, initial=np.inf).T, high.max(0, initial=-np.inf).T
    return corners


def _outside(points: np.ndarray, bounds: np.ndarray, k: int) -> np.ndarray:
    """(P, 2K) distance in x and y from points (P, 2K), x0 y0 x1 y1 ..., to bounds (P, 4); 0 inside."""
    low, high = (np.tile(corner, k) for corner in (bounds[:, :2], bounds[:, 2:]))
    return np.maximum(low - points, 0) + np.maximum(points - high, 0)
