"""People as a data set: one item is one person's crop with its heatmap target (ViTPose: Xu et al. 2022, section 4.1).

`Loader(PersonCrops(dataset), CropAugment("vitpose"), batch_size)` gives batches as of any other data set, each a pure
function of (seed, epoch, index). Besides the usual, a crop's target holds `heatmaps` (K, h, w) and `weights` (K,), what
the loss compares, and `box` (4,), `window` (2,) = (width, height) of what was cut out, both in pixels of the image,
and `box_score`, which `posekit.topdown.merge_crops` needs to make an image's poses of its crops.

Coordinates: COCO pixels. K keypoints, n people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from posekit.data.coco_categories import Category, check_categories
from posekit.data.coco_json import load
from posekit.data.coco_rows import normalise_rows
from posekit.data.coco_values import ImageIds, Notes
from posekit.data.crops import box_faults
from posekit.data.images import DataError, read_or_skip
from posekit.protocols import PoseDataset

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (n, 4), scores (n,), rows of the image's target (n,) or -1


class PersonCrops:
    """The people of a data set, one by one; a data set for `Loader` with a `CropAugment`.

    `boxes`: where they come from. "truth": the annotated boxes of people with a labelled joint. The path of a COCO
    detections file (rows `image_id`, `category_id`, `bbox` x y w h, `score`), or one entry per image: `Poses` of a
    one-stage model, or arrays (n, 4) x0 y0 x1 y1. People of such boxes have no annotation: all weights are 0. Boxes
    that are empty, not finite or outside the image, or whose score is not a positive number, are left out and counted
    in `skipped`.

    Attributes: `ids` the image's id of every person, `image_index` (n,) its index, `boxes` (n, 4), `scores` (n,),
    `persons` (n,) the row of the image's target or -1; `ground_truth`, `layout`, `area_scale`, `category_id` of the
    data set; `notes`: its own, and what was left out of the boxes' file.

    Raises:
        ValueError: another number of entries than images. `DataError`: a file that cannot be used.
    """

    def __init__(self, dataset: PoseDataset, boxes="truth") -> None:
        self.dataset, self.layout = dataset, dataset.layout
        self.name = f"people of {dataset.name}"
        self.area_scale, self.on_error = getattr(dataset, "area_scale", 1.0), getattr(dataset, "on_error", "raise")
        self.category_id, noticed = getattr(dataset, "category_id", 1), Notes()
        annotated = isinstance(boxes, str) and boxes == "truth"
        if annotated:
            found = [_annotated(dataset.target(i)) for i in range(len(dataset))]
        elif isinstance(boxes, str | Path):
            found = read_detections(boxes, dataset, noticed)
        else:
            found = _given(boxes, len(dataset))
        images = np.repeat(np.arange(len(dataset)), [len(rows) for rows, _, _ in found])
        empty = [(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))]  # a data set without any image
        table = [images, *(np.concatenate(part) for part in zip(*(found or empty), strict=True))]
        faults = self._faults(*table[:3], inside=not annotated)
        self.skipped = [f"{dataset.name}, image {dataset.ids[images[i]]}: {faults[i]}" for i in sorted(faults)]
        self.image_index, self.boxes, self.scores, self.persons = (np.delete(part, list(faults), 0) for part in table)
        self.notes = [*getattr(dataset, "notes", []), *noticed.lines()]
        self.ids = [int(dataset.ids[i]) for i in self.image_index]
        self._last: tuple[int, np.ndarray] | None = None

    def _faults(self, images: np.ndarray, boxes: np.ndarray, scores: np.ndarray, inside: bool) -> dict[int, str]:
        """Why which box cannot be cut out or, with `inside`, lies outside its image."""
        sizes = None
        if inside and hasattr(self.dataset, "ground_truth"):
            known = {row["id"]: (row["width"], row["height"]) for row in self.dataset.ground_truth["images"]}
            sizes = np.reshape([known.get(self.dataset.ids[i], (np.inf, np.inf)) for i in images], (-1, 2))
        wrong = np.flatnonzero(~np.isfinite(scores) | (scores < 0))
        faults = {int(i): f"box {i}, {boxes[i].tolist()}, has the score {scores[i]}" for i in wrong}
        return faults | box_faults(boxes, sizes)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"PersonCrops({self.dataset.name}: {len(self)} people in {len(self.dataset)} images)"

    @property
    def ground_truth(self) -> dict:
        """Of the data set: crops are scored as the images they come from."""
        return self.dataset.ground_truth

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.dataset.fingerprint).encode())
        digest.update(np.ascontiguousarray(self.boxes, np.float64).tobytes() + self.image_index.tobytes())
        return digest.hexdigest()[:12]

    def image(self, i: int) -> np.ndarray:
        """The image of person i; read once for neighbours in the same image."""
        index = int(self.image_index[i])
        if self._last is None or self._last[0] != index:
            self._last = index, self.dataset.image(index)
        return self._last[1]

    def target(self, i: int) -> dict[str, np.ndarray]:
        """Person i in pixels of the image: as of a data set, with one row or, without annotation, none; one box."""
        rows = self.dataset.target(int(self.image_index[i]))
        part = slice(self.persons[i], self.persons[i] + 1) if self.persons[i] >= 0 else slice(0, 0)
        return {
            "keypoints": rows["keypoints"][part].reshape(-1, len(self.layout), 2),
            "visibility": rows["visibility"][part].reshape(-1, len(self.layout)),
            "boxes": self.boxes[i : i + 1],
            "areas": rows["areas"][part],
            "ignore": np.zeros((0, 4), np.float32),
            "box_score": np.array(self.scores[i], np.float32),
        }

    def by_image(self) -> Iterator[tuple[np.ndarray | None, np.ndarray, np.ndarray]]:
        """(pixels, boxes (n, 4), scores (n,)) of every image of the data set, in order.

        An image without boxes is not read; one that cannot be read and is skipped comes without boxes.
        """
        ends = np.searchsorted(self.image_index, range(len(self.dataset) + 1))
        for index, (first, last) in enumerate(pairwise(ends)):
            image = read_or_skip(self.dataset, index) if last > first else None
            last = first if image is None else last
            yield image, self.boxes[first:last], self.scores[first:last]

    def skip(self, i: int, sentence: str) -> None:
        """The image of person i turned out to be unreadable."""
        self.dataset.skip(int(self.image_index[i]), sentence)
        self.skipped.append(sentence)


People = PersonCrops  # the name by which scripts of the first version import it


class ConcatDataset:
    """Several data sets of people as one; every target says by `dataset` which it belongs to (and so which head).

    Goes with `CropAugment(layout=first.layout, others=(second.layout, ...))`.
    """

    def __init__(self, parts: Sequence[PersonCrops]) -> None:
        self.parts, self.layout = list(parts), parts[0].layout
        self.name = " + ".join(part.name for part in parts)
        self.notes = [f"{part.name}: {note}" for part in parts for note in part.notes]
        self.ids = [one for part in parts for one in part.ids]
        self.on_error = "skip" if all(part.on_error == "skip" for part in parts) else "raise"
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(" ".join(part.fingerprint for part in self.parts).encode()).hexdigest()[:12]

    def where(self, i: int) -> tuple[int, int]:
        """(data set, index in it)"""
        which = int(np.searchsorted(self._ends, i, side="right"))
        return which, i - int(self._ends[which] - len(self.parts[which]))

    def image(self, i: int) -> np.ndarray:
        which, index = self.where(i)
        return self.parts[which].image(index)

    def target(self, i: int) -> dict[str, np.ndarray]:
        which, index = self.where(i)
        return self.parts[which].target(index) | {"dataset": np.array(which)}

    def skip(self, i: int, sentence: str) -> None:
        which, index = self.where(i)
        self.parts[which].skip(index, sentence)


def _annotated(target: dict[str, np.ndarray]) -> Found:
    rows = np.flatnonzero((target["visibility"] > 0).any(1))
    return target["boxes"][rows].astype(np.float64), np.ones(len(rows)), rows


def _given(boxes: Sequence, images: int) -> list[Found]:
    if len(boxes) != images:
        raise ValueError(f"{images} images need as many entries of boxes, not {len(boxes)}")
    found = []
    for entry in boxes:
        rows = np.asarray(getattr(entry, "boxes", entry), np.float64).reshape(-1, 4)
        scores = np.asarray(getattr(entry, "scores", np.ones(len(rows))), np.float64)
        found.append((rows, scores, np.full(len(rows), -1)))
    return found


def read_detections(path: str | Path, dataset: PoseDataset, notes: Notes) -> list[Found]:
    """A COCO detections file, sorted by the images of the data set; other images and categories are left out, and
    counted in `notes`.

    Raises:
        DataError: not such a file, or nothing in it belongs to the data set; the sentence names it and the entry.
    """
    where, number = f"the boxes of '{path}'", getattr(dataset, "category_id", 1)
    name = dataset.ground_truth["categories"][0].get("name", "") if hasattr(dataset, "ground_truth") else ""
    person = [Category(number, name)]
    try:
        content = load(path)
    except ValueError as error:
        raise DataError(f"'{path}' is not a COCO detections file: {error}") from None
    try:
        rows = normalise_rows(content, where, ImageIds(dataset.ids), person, notes)
        check_categories([row["category_id"] for row in rows], person, person, where, notes)
    except ValueError as error:
        raise DataError(str(error)) from None
    by_image: dict[int, list] = {one: [] for one in dataset.ids}
    people = [row for row in rows if row["category_id"] == number]
    others = [row["image_id"] for row in people if row["image_id"] not in by_image]
    if others and len(others) == len(people):
        raise DataError(
            f"{where}: none of its images is in {dataset.name}; the first is {others[0]!r}: "
            "of another data set or split?"
        )
    if others:
        notes.say(f"left out: {len(others):,} detections of images that are not in use (the first: {others[0]!r})")
    for row in people:
        x, y, width, height = row["bbox"]
        by_image.get(row["image_id"], []).append((x, y, x + width, y + height, row["score"]))
    tables = (np.array(found, np.float64).reshape(-1, 5) for found in by_image.values())
    return [(table[:, :4], table[:, 4], np.full(len(table), -1)) for table in tables]
