"""Poses: what every model returns for one image, and how it becomes COCO result rows.

Coordinates: COCO pixels (the image's top-left corner is (0, 0)). N people, K keypoints.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

HALF_PIXEL = 0.5  # where the centre of the first pixel lies in COCO's convention; published networks count it as 0


def from_pixel_index(points):
    """Points whose integers are pixel centres -> COCO's convention, where integers are pixel borders (array or tensor).

    RTMO's and ViTPose's published code, heatmap cells and OpenCV number pixels by their centres. Every model converts
    at its border with these two functions: targets on the way in, `decode` on the way out.
    """
    return points + HALF_PIXEL


def to_pixel_index(points):
    """The inverse of `from_pixel_index`."""
    return points - HALF_PIXEL


@dataclass
class Poses:
    """The people found in one image, best first.

    `keypoints` (N, K, 2) pixels; `visibility` (N, K) in [0, 1]: how likely the joint can be seen; `scores` (N,): how
    sure the model is of the person; `boxes` (N, 4) x0, y0, x1, y1 pixels. `centers` (N, 2) pixels: only models that
    predict one (POET) set it, others leave NaN.
    """

    keypoints: np.ndarray
    visibility: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    centers: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.keypoints.ndim != 3 or self.keypoints.shape[2] != 2:
            raise ValueError(f"keypoints must have shape (N, K, 2), not {self.keypoints.shape}")
        n, k, _ = self.keypoints.shape
        if self.visibility.shape != (n, k) or self.scores.shape != (n,):
            raise ValueError(
                f"{n} people with {k} keypoints need visibility ({n}, {k}) and scores ({n},), "
                f"not {self.visibility.shape} and {self.scores.shape}"
            )
        if self.boxes is None:
            self.boxes = boxes_around(self.keypoints)
        if self.centers is None:
            self.centers = np.full((n, 2), np.nan, np.float32)

    @classmethod
    def of_boxes(cls, boxes: np.ndarray, scores: np.ndarray) -> Poses:
        """What a person detector finds: boxes (N, 4) and scores (N,), no keypoints."""
        return cls(np.zeros((len(boxes), 0, 2), np.float32), np.zeros((len(boxes), 0), np.float32), scores, boxes)

    @classmethod
    def nobody(cls, keypoints: int) -> Poses:
        """An image without people; `keypoints` is K."""
        return cls(*(np.zeros(shape, np.float32) for shape in ((0, keypoints, 2), (0, keypoints), 0)))

    def __len__(self) -> int:
        return len(self.scores)

    def finite(self) -> np.ndarray:
        """(N,) bool: all numbers that a result row holds are finite."""
        joints = np.isfinite(self.keypoints).all((1, 2)) & np.isfinite(self.visibility).all(1)
        return joints & np.isfinite(self.scores)

    def select(self, index) -> Poses:
        """The people of `index` (integers, a slice or a boolean mask), in that order."""
        return Poses(*(getattr(self, field.name)[index] for field in fields(Poses)))

    def transform(self, matrix: np.ndarray) -> Poses:
        """Move the poses by a (2, 3) affine matrix; a box becomes the upright box around its moved corners."""
        linear, shift = matrix[:, :2], matrix[:, 2]
        corners = self.boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2) @ linear.T + shift
        boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        return Poses(
            (self.keypoints @ linear.T + shift).astype(np.float32),
            self.visibility,
            self.scores,
            boxes.astype(np.float32),
            (self.centers @ linear.T + shift).astype(np.float32),
        )

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict]:
        """COCO result rows. The third number of a keypoint is the predicted visibility (COCO's scorer ignores it)."""
        triples = np.concatenate([self.keypoints, self.visibility[..., None]], axis=2)
        return [
            {
                "image_id": int(image_id),
                "category_id": category_id,
                "keypoints": [round(float(value), 3) for value in person.ravel()],
                "score": float(score),
            }
            for person, score in zip(triples, self.scores, strict=True)
        ]

    @classmethod
    def from_coco(cls, rows: list[dict], keypoints: int = 17) -> Poses:
        """The inverse of `to_coco`, for the rows of one image. `keypoints` is K, needed when there are no rows."""
        keypoints = len(rows[0]["keypoints"]) // 3 if rows else keypoints
        triples = np.array([row["keypoints"] for row in rows], np.float32).reshape(-1, keypoints, 3)
        scores = np.array([row["score"] for row in rows], np.float32)
        return cls(triples[..., :2], triples[..., 2], scores)


def join(parts: Sequence[Poses]) -> Poses:
    """All poses as one record. Raises ValueError where there is none (K would be unknown)."""
    if not parts:
        raise ValueError("there are no poses to join: an empty image is Poses.nobody(K)")
    return Poses(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Poses)))


def drop_not_finite(poses: list[Poses]) -> list[Poses]:
    """The same without people who have a number that is not finite; a warning counts them."""
    fine = [one.finite() for one in poses]
    if lost := sum(int((~kept).sum()) for kept in fine):
        warnings.warn(
            f"{lost} of {sum(map(len, poses))} poses hold NaN or infinity and are left out: the weights or these "
            "images are damaged; load other weights, or look at the images",
            stacklevel=2,
        )
    return [one.select(kept) for one, kept in zip(poses, fine, strict=True)]


def boxes_around(keypoints: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 around the keypoints (N, K, 2), or around those marked in `where` (N, K) bool.

    A person with no marked keypoint, or one that is not finite, gets the empty box (0, 0, 0, 0).
    """
    marked = np.broadcast_to(True if where is None else where[..., None], keypoints.shape)
    low = keypoints.min(1, initial=np.inf, where=marked)
    high = keypoints.max(1, initial=-np.inf, where=marked)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes).all(1, keepdims=True), boxes, 0).astype(np.float32)
