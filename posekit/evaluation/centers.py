"""Where the model puts a person's centre (POET, Figure 9b).

Annotated centre: the mean of the joints that the model's training called visible (`VISIBLE`); a person with none
has no centre. Offset: predicted - annotated centre, divided by the box's width and height,
as the figure's axes.
Shapes: N people with their predictions, K keypoints. Coordinates: pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A recipe's `visible` -> (the smallest of COCO's flags, in words). The released code trains with visible joints alone.
VISIBLE = {"released": (2, "visible joints"), "labelled": (1, "labelled joints")}


@dataclass
class Centers:
    """One row per person that has a centre and a box with an inside.

    `person` (N,): index into the input; `offset` (N, 2): dx / box width, dy / box height; `pixels` (N,):
    distance; `inside` (N,) bool: the predicted centre lies in the annotated box, edges included.
    """

    person: np.ndarray
    offset: np.ndarray
    pixels: np.ndarray
    inside: np.ndarray

    def __len__(self) -> int:
        return len(self.person)

    @property
    def distance(self) -> np.ndarray:
        """(N,) length of the offset in units of the box."""
        return np.hypot(*self.offset.T)

    def summary(self) -> dict[str, float]:
        """`people`; mean and median distance in box units and in pixels; `inside`: share. NaN for nobody."""
        lengths = {"": self.distance, "_pixels": self.pixels}
        columns = {f"{how.__name__}{unit}": (how, one) for unit, one in lengths.items() for how in (np.mean, np.median)}
        columns["inside"] = np.mean, self.inside
        numbers = {name: float(how(one)) if len(self) else float("nan") for name, (how, one) in columns.items()}
        return {"people": len(self)} | numbers


def true_centers(keypoints, visibility, visible: str = "released") -> np.ndarray:
    """(N, 2) mean of some joints of keypoints (N, K, 2), as the model was trained; NaN for a person without any.

    visible: "released" = visible joints (visibility (N, K) = 2), "labelled" = occluded ones too (visibility > 0).

    Raises:
        ValueError: another word.
    """
    if visible not in VISIBLE:
        raise ValueError(f"visible is {visible!r}; choose one of {', '.join(VISIBLE)}")
    keypoints, seen = np.asarray(keypoints, float), np.asarray(visibility) >= VISIBLE[visible][0]
    count = seen.sum(1)
    total = np.where(seen[..., None], keypoints, 0).sum(1)
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)


def compare_centers(predicted, keypoints, visibility, boxes, visible: str = "released") -> Centers:
    """Predicted against annotated centres of paired people.

    Args:
        predicted (N, 2), keypoints (N, K, 2), boxes (N, 4) x0, y0, x1, y1: pixels. visibility (N, K): COCO's
        flags.
            All but `predicted` are annotated; see `pairs.pair_people`. visible: see `true_centers`.

    People without such a joint, with an empty box or without a predicted centre (NaN) are left out.

    Raises:
        ValueError: shapes that do not fit.
    """
    predicted, boxes = np.asarray(predicted, float), np.asarray(boxes, float)
    n = len(predicted)
    if predicted.shape != (n, 2) or boxes.shape != (n, 4) or np.shape(keypoints)[0] != n:
        raise ValueError(
            f"predicted centres {predicted.shape}, keypoints {np.shape(keypoints)} and boxes {boxes.shape} "
            "must be (N, 2), (N, K, 2) and (N, 4)"
        )
    size = boxes[:, 2:] - boxes[:, :2]
    difference = predicted - true_centers(keypoints, visibility, visible)
    person = np.flatnonzero(np.isfinite(difference).all(1) & (size > 0).all(1))
    inside = ((predicted >= boxes[:, :2]) & (predicted <= boxes[:, 2:])).all(1)
    difference = difference[person]
    return Centers(person, difference / size[person], np.hypot(*difference.T), inside[person])
