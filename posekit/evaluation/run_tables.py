"""What scoring a run leaves behind: the arrays that are scored, a row per paired person or joint, a few numbers.

Legend: I images, K keypoints. Coordinates: pixels of the original images.
"""

from __future__ import annotations

import numpy as np

from posekit.evaluation.centers import compare_centers, true_centers
from posekit.evaluation.pairing import Pairs
from posekit.evaluation.visibility import compare_visibility
from posekit.poses import Poses


def visibility_numbers(pairs: Pairs) -> dict:
    """The numbers of Figure 10 and its text: shares on the right side of 0.5, area under the ROC curve, calibration."""
    seen = compare_visibility(pairs.visibility, pairs.true_visibility)
    names = ("threshold", "hidden", "visible", "hidden_correct", "visible_correct", "auc")
    right = seen.hidden * np.nan_to_num(seen.hidden_correct) + seen.visible * np.nan_to_num(seen.visible_correct)
    both = seen.hidden + seen.visible
    accuracy = float(right / both) if both else float("nan")
    return {n: getattr(seen, n) for n in names} | {"accuracy": accuracy, "calibration_error": seen.calibration.error}


def columns(poses: list[Poses], ids: list[int]) -> dict[str, np.ndarray]:
    """The poses of I images as the arrays that `evaluate` takes, rounded as `Poses.to_coco` does."""
    return {
        "image_id": np.repeat(np.array(ids), [len(p) for p in poses]),
        "keypoints": np.round(np.concatenate([p.keypoints for p in poses]).astype(float), 3),
        "score": np.concatenate([p.scores for p in poses]).astype(float),
    }


def annotation_ids(truth: dict) -> dict[int, list[int]]:
    """Ids of the people of every image, in the order of the data set's targets (crowd regions left out)."""
    ids: dict[int, list[int]] = {image["id"]: [] for image in truth["images"]}
    for row in truth["annotations"]:
        if not row.get("iscrowd"):
            ids[row["image_id"]].append(row["id"])
    return ids


def matches(pairs: Pairs, ids: list[int], people: dict[int, list[int]], visible: str = "released"):
    """`matches.csv`: a row per pair, pixels; dx, dy: predicted - annotated centre, in boxes (Figure 9b).

    visible: of which joints the annotated centre is the mean, see `centers.true_centers`.
    """
    import pandas as pd

    images = np.array(ids)[pairs.image]
    truth = true_centers(pairs.true_keypoints, pairs.true_visibility, visible)
    offset = np.full((len(pairs), 2), np.nan)
    if len(pairs):
        centers = compare_centers(pairs.centers, pairs.true_keypoints, pairs.true_visibility, pairs.boxes, visible)
        offset[centers.person] = centers.offset
    table = {
        "image_id": images,
        "annotation_id": [people[i][p] for i, p in zip(images.tolist(), pairs.person.tolist(), strict=True)],
        **{name: pairs.boxes[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))},
        "area": pairs.areas,
        "labelled": (pairs.true_visibility > 0).sum(1),
        "oks": pairs.oks,
        "score": pairs.score,
        "center_x": pairs.centers[:, 0],
        "center_y": pairs.centers[:, 1],
        "true_center_x": truth[:, 0],
        "true_center_y": truth[:, 1],
        "dx": offset[:, 0],
        "dy": offset[:, 1],
    }
    return pd.DataFrame(table).round(6)


def joints(pairs: Pairs, names: tuple[str, ...]):
    """`visibility.csv`: a row per joint of the paired people."""
    import pandas as pd

    return pd.DataFrame(
        {
            "joint": np.tile(np.array(names), len(pairs)),
            "truth": pairs.true_visibility.ravel(),
            "predicted": np.round(pairs.visibility.ravel().astype(float), 4),
        }
    )
