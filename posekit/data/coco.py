"""Any folder in COCO's keypoint format: images and one JSON (Lin et al. 2014, cocodataset.org/#format-data).

Real COCO (`annotations/person_keypoints_val2017.json`, `val2017/`) or a folder that somebody made (one JSON with
keypoints, images in `images/` or beside it). The number of keypoints comes from the file. A problem is one sentence
that names the file and the id.

Coordinates: COCO pixels, (0, 0) the top-left corner of the image as stored: the EXIF orientation is ignored, because
COCO annotated the stored pixels. n people, K keypoints, m crowd regions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from posekit.data.coco_json import normalise
from posekit.data.folder import find_annotations, find_images, find_layout, image_path, is_inside, known_layout
from posekit.data.images import DataError, check_file, check_size, read_image
from posekit.layouts import Layout


class CocoFolder:
    """A data set read from `root`: a folder, or the path of its JSON.

    `split`: "train" or "val". `annotations`, `images`: file and folder, if they are not where they are
    usually found. `layout`: a `Layout` or the name of one, if the file's own keypoint names are not to be
    used. `with_people`: keep only images with at least one labelled, non-crowd person (for training).
    `count`: only the first so many images. `category`: id or name of the only category to keep; None: all that have
    the same keypoints. `outside`: images may lie outside the folder (absolute paths, `..`, symbolic links).
    `sigmas`: of OKS, a number or one per keypoint. `flip_pairs`: what a mirror exchanges, [["lhand", "rhand"], ...].

    `on_error="raise"`: the first bad entry stops with a `DataError`. `"skip"`: bad annotations and images are
    left out, and `skipped` lists a sentence for each; images are then looked at (header and end, not
    decoded) at once.

    Attributes: `name`, `layout`, `sigmas_from` (where the layout's sigmas come from), `category_id` (the one category
    of `ground_truth`, whatever the file has), `ids` (image ids, in the file's order), `notes` (sentences that a reader
    should know: what was changed, left out, filled in), `note` (all of them, or ""), `skipped`, `area_scale` 1.0,
    `fingerprint`: sha256 of annotation file and ids, shortened to 12 digits.
    """

    area_scale = 1.0

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        layout: Layout | str | None = None,
        on_error: str = "raise",
        with_people: bool = False,
        count: int | None = None,
        category: int | str | None = None,
        outside: bool = False,
        sigmas: float | Sequence[float] | None = None,
        flip_pairs: Sequence[Sequence[str | int]] | None = None,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"a data set has the splits 'train' and 'val', not '{split}'")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', not '{on_error}'")
        self.root, self.split, self.on_error = Path(root), split, on_error
        self.skipped: list[str] = []
        notes: list[str] = []
        if self.root.is_file():
            self.root, annotations = self.root.parent, self.root
            if self.root.name == "annotations":
                self.root = self.root.parent
        if not self.root.is_dir():
            raise DataError(f"there is no folder '{self.root}'")
        self.name = self.root.resolve().name
        self.file, data = find_annotations(self.root, split, annotations, notes)
        given = known_layout(layout)
        try:
            truth = normalise(data, str(self.file), True, given, category)
        except ValueError as error:
            raise DataError(str(error)) from None
        for fault in truth.faults:
            self._problem(fault)
        self.layout, self.sigmas_from = find_layout(self.file, truth, given, notes, sigmas, flip_pairs)
        self._images = truth.images
        labelled = self._sort_people(truth, notes)
        if with_people:
            self._images = [row for row in self._images if row["id"] in labelled]
        self._images = self._images[:count]
        if not self._images:
            people = " with labelled people" if with_people else ""
            raise DataError(f"{self.file}: no image{people} is left to use")
        self.folder = find_images(self.root, split, images, self._images, self.file)
        self._check_files(outside)
        self.ids = [row["id"] for row in self._images]
        self._unreadable: set[int] = set()
        self.notes = [*notes, *truth.notes.lines()]

    @property
    def note(self) -> str:
        return "; ".join(self.notes)

    def __len__(self) -> int:
        return len(self._images)

    def __repr__(self) -> str:
        return f"CocoFolder({self.name}, {self.split}: {len(self)} images, {len(self.layout)} keypoints)"

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.file.read_bytes())
        digest.update(json.dumps(self.ids).encode())
        return digest.hexdigest()[:12]

    def path(self, i: int) -> Path:
        """Where image i lies."""
        return image_path(self.folder, self._images[i]["file_name"])

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises DataError for a missing, truncated, unreadable or wrongly sized image."""
        row, path = self._images[i], self.path(i)
        pixels = read_image(path, f"image {row['id']}")
        check_size(row, path, pixels.shape[1], pixels.shape[0])
        return pixels

    def target(self, i: int) -> dict[str, np.ndarray]:
        """The people of image i, in pixels of the image:

        `keypoints` (n, K, 2) f32, `visibility` (n, K) uint8 in {0, 1, 2}, `boxes` (n, 4) f32 xyxy, `areas`
        (n,) f32, `ignore` (m, 4) f32 xyxy: crowd regions. People without a labelled joint are among the n.
        """
        rows, file = self._rows[self._images[i]["id"]], self._file
        boxes, crowd = _corners(file.boxes[rows]), file.crowd[rows]
        joints = file.joints[rows][~crowd].astype(np.float32)
        return {
            "keypoints": np.ascontiguousarray(joints[..., :2]),
            "visibility": joints[..., 2].astype(np.uint8),
            "boxes": boxes[~crowd],
            "areas": file.areas[rows][~crowd].astype(np.float32),
            "ignore": boxes[crowd],
        }

    @property
    def ground_truth(self) -> dict:
        """The COCO dictionary of the images in use: images, annotations (crowds too) and categories, in image pixels.

        Segmentations are left out: keypoint scoring does not use them, and they are most of the file.
        """
        images = [row for row in self._images if row["id"] not in self._unreadable]
        rows = [row for image in images for row in self._annotations[self._rows[image["id"]]]]
        return {"images": images, "annotations": rows, "categories": [self._category]}

    @cached_property
    def _annotations(self) -> list[dict]:
        """The file's annotations as rows, all in one category."""
        file, images = self._file, np.array([row["id"] for row in self._file.images])
        columns = {
            "id": file.ids,
            "image_id": images[file.image],
            "category_id": np.full(len(file.ids), self.category_id),
            "iscrowd": file.crowd.astype(int),
            "num_keypoints": file.counted,
            "keypoints": file.joints.reshape(len(file.ids), 3 * file.k),
            "bbox": file.boxes,
            "area": file.areas,
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def skip(self, i: int, sentence: str) -> None:
        """Image i turned out to be unreadable: count it, and leave it out of the ground truth from now on."""
        if self.ids[i] not in self._unreadable:
            self._unreadable.add(self.ids[i])
            self.skipped.append(sentence)

    def _problem(self, sentence: str) -> None:
        """Stop with the sentence, or note it and go on, as `on_error` says."""
        if self.on_error == "raise":
            raise DataError(f"{sentence} (on_error='skip' leaves such entries out and counts them)")
        self.skipped.append(sentence)

    def _sort_people(self, truth, notes: list[str]) -> set[int]:
        """Sort the annotations by image, all in one category; returns the ids of the images with labelled people."""
        first = truth.categories[0]
        self.category_id = first.id
        self._category = {
            "id": first.id,
            "name": ", ".join(dict.fromkeys(one.name for one in truth.categories if one.name)) or "person",
            "keypoints": list(self.layout.keypoints),
            "skeleton": [[a + 1, b + 1] for a, b in self.layout.limbs],
        }
        self._file = truth
        edges = np.searchsorted(truth.image, np.arange(len(truth.images) + 1)).tolist()
        self._rows = {row["id"]: slice(*ends) for row, ends in zip(truth.images, pairwise(edges), strict=True)}
        labelled = (truth.counted > 0) & ~truth.crowd
        if labelled.any() and not (truth.joints[labelled, :, 2] == 2).any():
            notes.append("no joint is marked v = 2 (visible): losses that train visible joints only find nothing")
        return {truth.images[i]["id"] for i in np.unique(truth.image[labelled])}

    def _check_files(self, outside: bool) -> None:
        """Every image is there (one listing of the folder) and lies in the folder; with on_error="skip", also that it
        looks complete."""
        with os.scandir(self.folder) as entries:
            present = {entry.name for entry in entries if not entry.is_symlink()}
        keep = []
        for i, row in enumerate(self._images):
            path = self.path(i)
            if row["file_name"] not in present:
                if not os.path.isfile(path):
                    self._problem(f"image {row['id']}: there is no image '{path}'")
                    continue
                if not outside and not is_inside(path, [self.root, self.folder]):
                    self._problem(
                        f"image {row['id']}: its file '{path}' lies outside '{self.root}': "
                        "move it there, or allow it with outside=True"
                    )
                    continue
            try:
                if self.on_error == "skip":
                    check_file(row, path)
                keep.append(row)
            except DataError as error:
                self._problem(str(error))
        self._images = keep
        if not keep:
            raise DataError(f"none of the images that {self.file} lists can be used: {self.skipped[-1]}")


def _corners(boxes: np.ndarray) -> np.ndarray:
    """COCO's x, y, width, height -> (n, 4) float32 x0, y0, x1, y1."""
    boxes = boxes.astype(np.float32)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
