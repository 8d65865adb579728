"""Poses: what every model returns for one image, and how it becomes COCO result rows.

Coordinates: COCO pixels (the image's top-left corner is (0, 0)). N people, K keypoints.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from posekit.files import write_bytes, write_json
from posekit.layouts import Layout, layout_of

ARRAYS = ("keypoints", "visibility", "scores", "boxes", "centers")  # of Poses, one row per person


@dataclass(frozen=True)
class Source:
    """The image that poses were found in: its path ("" of pixels in memory), and what reads it as uint8 (H, W, 3)."""

    name: str
    read: Callable[[], np.ndarray]


@dataclass(repr=False)
class Poses:
    """The people found in one image, best first.

    `keypoints` (N, K, 2) pixels; `visibility` (N, K) in [0, 1]: how likely the joint can be seen; `scores` (N,): how
    sure the model is of the person; `boxes` (N, 4) x0, y0, x1, y1 pixels. `centers` (N, 2) pixels: only models that
    predict one (POET) set it, others leave NaN. `source`: the image they were found in, where that is known; for `draw`
    and for notebooks, which show the poses on it. `layout`: names and limbs of the keypoints; None: the known layout
    with as many.
    """

    keypoints: np.ndarray
    visibility: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None = None
    centers: np.ndarray | None = None
    source: Source | None = field(default=None, compare=False)
    layout: Layout | None = field(default=None, compare=False)

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

    def __repr__(self) -> str:
        scores = " ".join(f"{score:.2f}" for score in self.scores[:8]) + (" ..." if len(self) > 8 else "")
        people = f"{len(self)} {'person' if len(self) == 1 else 'people'}"
        where = f" in {self.source.name}" if self.source and self.source.name else ""
        return f"<Poses: {people}{where}, {self.keypoints.shape[1]} keypoints; scores: {scores or '-'}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the image with the poses where it is known, and the line of `repr`."""
        words = f"<code>{escape(repr(self))}</code>"
        if self.source is None:
            return words
        import cv2

        try:
            image = self.draw()
        except (ValueError, OSError) as error:
            return f"{words}<br>{escape(str(error))}"
        scale = min(1.0, 800 / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        jpeg = base64.b64encode(cv2.imencode(".jpg", image[..., ::-1])[1]).decode()
        return f'<img src="data:image/jpeg;base64,{jpeg}" alt="poses"><br>{words}'

    def draw(self, image: np.ndarray | None = None, **options) -> np.ndarray:
        """A copy of the image (H, W, 3) uint8 RGB with the poses on it, by default the one that they were found in.
        `options`: of `posekit.draw.draw` (`threshold=0.3`, `boxes=True`).

        Raises:
            ValueError: the image is not known, or cannot be read.
        """
        from posekit.draw import draw

        if image is None and self.source is None:
            raise ValueError("these poses do not know their image: give its pixels, poses.draw(image)")
        return draw(self.source.read() if image is None else np.asarray(image), self, **options)

    def save(self, path: str | Path, image_id: int = 0) -> Path:
        """Write the poses: COCO result rows (.json), a table of joints (.csv), or the image with the poses drawn on it
        (.jpg, .png and what else OpenCV writes). Returns the path.

        Raises:
            ValueError: another suffix, or an image that is not known.
        """
        path = Path(path)
        if path.suffix == ".json":
            write_json(path, self.to_coco(image_id), indent=None)
        elif path.suffix == ".csv":
            write_bytes(path, self.to_frame().to_csv(index=False, lineterminator="\n").encode())
        else:
            import cv2

            try:
                good, data = cv2.imencode(path.suffix, self.draw()[..., ::-1])
            except cv2.error:
                raise ValueError(f"poses are saved as .json, .csv, .jpg or .png, not as '{path.name}'") from None
            write_bytes(path, data.tobytes())
        return path

    def to_frame(self, names: Sequence[str] | None = None):
        """A pandas table with a row per joint: person, score, joint, x, y, visibility. `names` (K,): of the joints, by
        default those of the layout."""
        import pandas as pd

        n, k = self.visibility.shape
        columns = {"person": np.repeat(np.arange(n), k), "score": np.repeat(self.scores, k)}
        columns["joint"] = list(names or (self.layout or layout_of(k)).keypoints) * n
        x, y = self.keypoints.reshape(n * k, 2).T
        return pd.DataFrame(columns | {"x": x, "y": y, "visibility": self.visibility.ravel()})

    def to_supervision(self):
        """`supervision.KeyPoints` of these people, for that library's tracking, smoothing and annotators:
        `ByteTrack().update_with_detections(poses.to_supervision().as_detections())`.

        Raises ModuleNotFoundError: the package `supervision` is missing.
        """
        try:
            from supervision import KeyPoints
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("this needs the package supervision: pip install 'posekit[track]'") from error
        return KeyPoints(self.keypoints, keypoint_confidence=self.visibility, detection_confidence=self.scores)

    def finite(self) -> np.ndarray:
        """(N,) bool: all numbers that a result row holds are finite."""
        joints = np.isfinite(self.keypoints).all((1, 2)) & np.isfinite(self.visibility).all(1)
        return joints & np.isfinite(self.scores)

    def select(self, index) -> Poses:
        """The people of `index` (integers, a slice or a boolean mask), in that order."""
        arrays = {name: getattr(self, name)[index] for name in ARRAYS}
        return Poses(**arrays, source=self.source, layout=self.layout)

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
            layout=self.layout,
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
    return Poses(*(np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS))


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
