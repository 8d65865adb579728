"""From COCO's annotations to arrays: one column per field; scoring never touches a dictionary.

Format: cocodataset.org, "Data format" (keypoints); CrowdPose adds `crowdIndex` to its images and has no areas.
Coordinates: pixels of the image. Shapes: I images (times categories, where several are scored), G people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.data.coco_categories import Category
from posekit.data.coco_json import load, normalise, parts
from posekit.data.coco_values import Notes, named
from posekit.data.crowdpose import AREA_OF_BOX, crowd_index, has_crowd_index


@dataclass
class GroundTruth:
    """Annotated people, sorted by category and image (file order within an image).

    `image_ids` (I,) the images, ascending, once for each of the `categories`, whose people are compared among
    themselves; `known`: ids of all images of the file; `image` (G,) index into
    image_ids; `ids` (G,) annotation ids; `keypoints` (G, K, 2) pixels; `visibility` (G, K) COCO's 0, 1, 2;
    `areas` (G,) pixels^2; `boxes` (G, 4) x, y, w, h (NaN: none given); `crowd` (G,) bool; `ignore` (G,) bool:
    crowds, and people whose `num_keypoints` is 0. `crowd_index` (I,): how crowded the images are, for CrowdPose's
    convention only. `categories`: those that are scored; `listed`: all of the file. `notes`: what was changed or left
    out.
    """

    image_ids: list
    known: set
    image: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    crowd_index: np.ndarray | None
    categories: list[Category]
    listed: list[Category]
    notes: Notes

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.image_ids) // len(self.categories)


def read_ground_truth(
    ground_truth: dict | str | Path,
    category_id: int | None = None,
    image_ids: Iterable | None = None,
    convention: str | None = None,
) -> GroundTruth:
    """The people of a COCO keypoint file (or of its dict), of all images or of `image_ids` only.

    `category_id`: of the only category to score; None: all that have the keypoints of one layout.
    `convention`: "coco", "crowdpose" (areas from the boxes, a Crowd Index per image: the file's, else computed), or
    None: CrowdPose's if any image of the file has a `crowdIndex`.

    Raises:
        ValueError: a file that is not JSON or not COCO, a row that lacks a field, numbers that are not finite.
    """
    if convention not in (None, "coco", "crowdpose"):
        raise ValueError(f"convention is 'coco' or 'crowdpose', not '{convention}'")
    is_path = isinstance(ground_truth, str | Path)
    where = str(ground_truth) if is_path else "the ground truth"
    data = load(ground_truth) if is_path else ground_truth
    crowdpose = convention == "crowdpose" or convention is None and has_crowd_index(parts(data, where)[0])
    need = "bbox" if crowdpose else "area"
    file = normalise(data, where, category=category_id, need=need)
    if file.faults:
        rest = len(file.faults) - 1
        raise ValueError(file.faults[0] + (f" (and {rest:,} more like it or of other kinds)" if rest else ""))
    known = {row["id"] for row in file.images}
    chosen = known if image_ids is None else set(image_ids)
    if not chosen <= known:
        raise ValueError(f"image_ids: {named(chosen - known)} not among the {len(known)} images of {where}")
    order = sorted(chosen, key=lambda one: (isinstance(one, str), one))
    place_of = {image_id: i for i, image_id in enumerate(order)}
    places = np.array([place_of.get(row["id"], -1) for row in file.images], np.int64)[file.image]
    image = places + len(order) * file.kind
    rows = np.flatnonzero(places >= 0)
    rows = rows[np.argsort(image[rows], kind="stable")]
    visibility, crowd, counted, boxes = file.joints[rows, :, 2], file.crowd[rows], file.counted[rows], file.boxes[rows]
    # Whom to ignore is decided by the field, as in pycocotools, even where it contradicts the keypoints. CrowdPose's
    # field leaves out head and neck; xtcocotools, the source of the published numbers, goes by the keypoints.
    empty = np.where((counted < 0) | crowdpose, ~(visibility > 0).any(1), counted == 0)
    people = GroundTruth(
        image_ids=order * len(file.categories),
        known=known,
        image=image[rows],
        ids=file.ids[rows],
        keypoints=np.ascontiguousarray(file.joints[rows, :, :2]),
        visibility=visibility,
        areas=boxes[:, 3] * boxes[:, 2] * AREA_OF_BOX if crowdpose else file.areas[rows],
        boxes=boxes,
        crowd=crowd,
        ignore=crowd | empty,
        crowd_index=None,
        categories=file.categories,
        listed=file.listed,
        notes=file.notes,
    )
    if crowdpose:
        people.crowd_index = _crowd_indices(people, {row["id"]: row.get("crowdIndex") for row in file.images})
    _note_oddities(people, need)
    return people


def _crowd_indices(people: GroundTruth, given: dict) -> np.ndarray:
    """(I,) the Crowd Index of each image: the one given (by image id), else computed from its people."""
    n = people.images
    corners = np.concatenate([people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]], axis=1)
    columns = people.keypoints, people.visibility, corners
    order = np.argsort(people.image % max(n, 1), kind="stable")  # people of all categories are in each other's way
    edges = np.searchsorted(people.image[order] % max(n, 1), np.arange(n + 1))
    values = np.zeros(n)
    for i, image_id in enumerate(people.image_ids[:n]):
        here, value = order[edges[i] : edges[i + 1]], given[image_id]
        values[i] = crowd_index(*(column[here] for column in columns)) if value is None else value
    return np.tile(values, len(people.categories))


def _note_oddities(people: GroundTruth, need: str) -> None:
    """Note what pycocotools takes as it is, though it can hardly be meant."""
    flat = (people.areas <= 0) & ~people.ignore
    if flat.any():
        what = "box" if need == "bbox" else "area"
        people.notes.say(
            f"{flat.sum():,} people that count have no {what} above 0 (the first is annotation "
            f"{people.ids[np.argmax(flat)]}): as in pycocotools hardly any detection is near enough to them; give them "
            f"their {what}, or take it out and open the file as a data set, which fills it in"
        )
    if ((people.ids == 0) & ~people.ignore).any():
        people.notes.say(
            "the ground truth has an annotation with id 0: pycocotools counts whoever finds that person as a "
            "false positive, and so do these numbers; number the annotations from 1"
        )
