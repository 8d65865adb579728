"""How crowded is an image: CrowdPose's Crowd Index and its three bands (Li et al. 2019, section 4.1).

Crowd Index = 1/n sum_i N_i^b / N_i^a: N_i^b counts the joints of other people inside the box of person i, N_i^a
that person's own joints. 0: nobody reaches into anybody's box; 1: as many strangers' joints as own ones.
Shapes: n people of an image, K keypoints, I images. Coordinates: pixels of the image (any frame: it is a ratio).
"""

from __future__ import annotations

import numpy as np

from posekit.layouts import LAYOUTS, Layout

# differs from paper: its easy band ends at 0.1. CrowdPose's own tool, and xtcocotools after it, cut at 0.2, and the
# published AP of easy and medium come from them.
BORDERS = (0.2, 0.8)
BANDS = ("easy", "medium", "hard")
AREA_OF_BOX = 0.53  # CrowdPose has no outlines: the area of a person is this share of the box
MIN_BODY = 4  # people with fewer labelled joints between shoulder and ankle are not averaged over
_BODY = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def crowd_index(keypoints, visibility, boxes, layout: Layout | None = None) -> float:
    """The Crowd Index of one image, >= 0 (mostly below 1); 0.0 if nobody counts.

    Args:
        keypoints (n, K, 2), visibility (n, K): > 0 means labelled; occluded joints count. boxes (n, 4): x0, y0, x1, y1,
        borders included. layout: names of the keypoints; None: those of the known layout with K of them.

    The paper leaves two things open. All 2,000 values of CrowdPose's validation file come out, to their two digits,
    when (a) N_i^a counts all labelled joints of person i, in the box or not, and (b) the mean runs over people
    with at least 4 labelled joints besides head and neck (any 4 in an unknown layout); the joints of everybody
    else still count as strangers', those of crowd regions included.

    Raises:
        ValueError: shapes that do not fit.
    """
    keypoints, boxes = np.asarray(keypoints, float), np.asarray(boxes, float).reshape(-1, 4)
    labelled = np.asarray(visibility) > 0
    n = len(boxes)
    if keypoints.ndim != 3 or keypoints.shape[::2] != (n, 2) or labelled.shape != keypoints.shape[:2]:
        raise ValueError(
            f"{n} boxes need keypoints ({n}, K, 2) and visibility ({n}, K), not {keypoints.shape} and {labelled.shape}"
        )
    k = keypoints.shape[1]
    layout = layout or next((known for known in LAYOUTS.values() if len(known) == k), None)
    body = [i for i, name in enumerate(layout.keypoints) if name.endswith(_BODY)] if layout else []
    counts = labelled[:, body or slice(None)].sum(1) >= MIN_BODY
    if not counts.any():
        return 0.0
    x, y = keypoints[None, ..., 0], keypoints[None, ..., 1]
    x0, y0, x1, y1 = boxes.T[:, :, None, None]
    inside = ((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & labelled).sum(2)  # (n boxes, n people)
    strangers = inside.sum(1) - np.diagonal(inside)
    return float((strangers[counts] / labelled[counts].sum(1)).mean())


def has_crowd_index(images: list) -> bool:
    """Whether an image of a file has one, which makes it a file of CrowdPose's kind."""
    return any(isinstance(row, dict) and row.get("crowdIndex") is not None for row in images)


def band_of(index: np.ndarray, borders: tuple[float, float] = BORDERS) -> np.ndarray:
    """(I,) place in `BANDS` of each Crowd Index (I,): a value on a border belongs to the more crowded band.

    Raises:
        ValueError: borders that do not rise.
    """
    if not 0 < borders[0] < borders[1]:
        raise ValueError(f"bands {tuple(borders)} must be two rising numbers above 0, for example {BORDERS}")
    return np.digitize(index, borders)
