"""From COCO's annotations to arrays: one column per field, checked once; scoring never touches a dictionary again.

Format: cocodataset.org, "Data format" (keypoints); CrowdPose adds `crowdIndex` to its images and has no areas. Frame:
pixels of the image. Shapes: I images (times categories, where several are scored), G people, K keypoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np

from posekit.data.coco_categories import Category, choose, read_categories, tell_left_out
from posekit.data.coco_json import normalise
from posekit.data.coco_values import Notes, load
from posekit.data.crowdpose import areas_of_boxes, crowd_index
from posekit.evaluation.rows import (
    ID,
    NUMBER,
    WHOLE,
    Misfit,
    check_types,
    field_of,
    fields_of,
    load_ground_truth,
    some,
    split_keypoints,
)

REMEDY = "category_id (on the command line --category)"


@dataclass
class People:
    """Annotated people, sorted by category and image (file order within an image).

    `image_ids` (I,) the images, ascending, once for each of the `categories`, whose people are compared among
    themselves; `known`: ids of all images of the file; `image` (G,) index into
    image_ids; `ids` (G,) annotation ids; `keypoints` (G, K, 2) pixels; `visibility` (G, K) COCO's 0, 1, 2;
    `areas` (G,) pixels^2; `boxes` (G, 4) x, y, w, h (NaN: none given); `crowd` (G,) bool; `ignore` (G,) bool:
    crowds, and people whose `num_keypoints` is 0; `names`: the joints', if the file tells. `crowd_index` (I,): how
    crowded the images are, for CrowdPose's convention only. `categories`: those that are scored; `listed`: all of the
    file. `notes`: what the reader should know.
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
    names: tuple[str, ...] | None = None
    crowd_index: np.ndarray | None = None
    categories: list[Category] = field(default_factory=lambda: [Category(1)])
    listed: list[Category] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.image_ids) // len(self.categories)


def read_people(
    ground_truth: dict | str | Path,
    category_id: int | None = None,
    image_ids: Iterable | None = None,
    convention: str | None = None,
) -> People:
    """The people of a COCO keypoint file (or of its dict), of all images or of `image_ids` only.

    `category_id`: of the only category to score; None: all that have the keypoints of one layout.
    `convention`: "coco", "crowdpose" (areas from the boxes, a Crowd Index per image: the file's, else computed), or
    None: CrowdPose's if any image of the file has a `crowdIndex`.

    Raises:
        ValueError: a file that is not JSON or not COCO, a row that lacks a field, numbers that are not
        finite.
    """
    if convention not in (None, "coco", "crowdpose"):
        raise ValueError(f"convention is 'coco' or 'crowdpose', not '{convention}'")
    is_path = isinstance(ground_truth, (str, Path))
    where = str(ground_truth) if is_path else "the ground truth"
    data = load_ground_truth(ground_truth) if is_path else ground_truth
    asked = category_id, image_ids, convention
    try:
        return _read(data, where, Notes(), *asked)
    except Misfit:
        data = load(ground_truth) if is_path else ground_truth
    need = "bbox" if _is_crowdpose(data, convention) else "area"
    truth = normalise(data, where, category=category_id, need=need, remedy=REMEDY)
    if truth.faults:
        rest = len(truth.faults) - 1
        raise ValueError(truth.faults[0] + (f" (and {rest:,} more like it or of other kinds)" if rest else ""))
    listing = [{"id": one.id, "name": one.name, "keypoints": one.keypoints} for one in truth.categories]
    tidy = {"images": truth.images, "annotations": truth.annotations, "categories": listing}
    people = _read(tidy, where, truth.notes, None, image_ids, "crowdpose" if need == "bbox" else "coco")
    people.listed = truth.listed
    return people


def _is_crowdpose(data, convention: str | None) -> bool:
    if convention is not None:
        return convention == "crowdpose"
    images = field_of(data, "images")
    return isinstance(images, list) and any(field_of(row, "crowdIndex") is not None for row in images)


def _read(data, where: str, notes: Notes, category_id, image_ids: Iterable | None, convention: str | None) -> People:
    """The people of records or dicts that have COCO's types. Raises Misfit: they have not."""
    images, annotations = field_of(data, "images"), field_of(data, "annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise Misfit("no lists")
    (ids,) = fields_of(images, ("id",))
    check_types(ids, *ID)
    known = set(ids)
    if len(known) < len(ids):
        raise Misfit("an image id is used twice")
    given = {i: index for i, row in zip(ids, images, strict=True) if (index := field_of(row, "crowdIndex")) is not None}
    check_types(given.values(), *NUMBER)
    crowdpose = _is_crowdpose(data, convention)
    chosen = known if image_ids is None else set(image_ids)
    if not chosen <= known:
        raise ValueError(f"image_ids: {some(chosen - known)} not among the {len(known)} images of {where}")
    order = sorted(chosen, key=lambda one: (isinstance(one, str), one))
    index = {image_id: i for i, image_id in enumerate(order)}
    image_of, kinds = fields_of(annotations, ("image_id", "category_id"))
    check_types(image_of, *ID)
    check_types(kinds, *WHOLE)
    listed = read_categories(_categories(data), where, notes, strict=False)
    kept = choose(listed, used := Counter(kinds), category_id, where, REMEDY, key=len)
    places = {one.id: place for place, one in enumerate(kept)}
    if left_out := Counter({kind: n for kind, n in used.items() if kind not in places}):
        tell_left_out(left_out, kept, listed, where, notes, everything=len(left_out) == len(used))
    image = np.fromiter(map(index.get, image_of, repeat(-1)), np.int64, len(image_of))
    if any(image_of[i] not in known for i in np.flatnonzero(image < 0).tolist()):
        raise Misfit("an annotation of no image")
    place = np.fromiter(map(places.get, kinds, repeat(-1)), np.int64, len(kinds))
    wanted = np.flatnonzero((place >= 0) & (image >= 0))
    image = image + place * len(index)
    wanted = wanted[np.argsort(image[wanted], kind="stable")]
    people = _people([annotations[i] for i in wanted.tolist()], crowdpose, notes)
    people.image_ids, people.known, people.image = list(index) * len(kept), known, image[wanted]
    people.names = kept[0].keypoints or None
    people.categories, people.listed, people.notes = kept, listed, notes
    if crowdpose:
        people.crowd_index = _crowd_indices(people, given)
    return people


def _categories(data):
    """The file's categories as JSON has them."""
    rows = field_of(data, "categories")
    if isinstance(data, dict):
        return rows
    return [{"id": one.id, "name": one.name, "keypoints": one.keypoints} for one in rows]


def _crowd_indices(people: People, given: dict) -> np.ndarray:
    """(I,) the Crowd Index of each image: the one given (by image id), else computed from its people."""
    n = people.images
    corners = np.concatenate([people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]], axis=1)
    columns = people.keypoints, people.visibility, corners
    order = np.argsort(people.image % max(n, 1), kind="stable")  # people of all categories are in each other's way
    edges = np.searchsorted(people.image[order] % max(n, 1), np.arange(n + 1))
    values = np.zeros(n)
    for i, image_id in enumerate(people.image_ids[:n]):
        here = order[edges[i] : edges[i + 1]]
        values[i] = given[image_id] if image_id in given else crowd_index(*(column[here] for column in columns))
    return np.tile(values, len(people.categories))


def _people(rows: list, crowdpose: bool, notes: Notes) -> People:
    """The columns of annotation rows; the images are the caller's. Raises Misfit."""
    ids, keypoints, areas = fields_of(rows, ("id", "keypoints", "bbox" if crowdpose else "area"))
    check_types(ids, *WHOLE)
    try:
        ids = np.array(ids, np.int64)
        areas = np.array(areas, float)  # None, where a record has none, becomes NaN
        areas = areas_of_boxes(areas.reshape(len(rows), 4)) if crowdpose else areas.reshape(len(rows))
        given = [field_of(row, "bbox") or (np.nan,) * 4 for row in rows]
        boxes = np.array(given, float).reshape(len(rows), 4)
    except (TypeError, ValueError, OverflowError):
        raise Misfit("an id, area or box is no number") from None
    if len(np.unique(ids)) < len(ids):
        raise Misfit("an annotation id is used twice")
    keypoints, visibility = split_keypoints(keypoints, None)
    labelled = visibility > 0
    # pycocotools never reads where an unlabelled joint lies: not even whether it is a number.
    finite = np.isfinite(keypoints).all(2)
    if not (finite | ~labelled).all() or not np.isfinite(visibility).all() or not np.isfinite(areas).all():
        raise Misfit("a number is not finite")
    if not finite.all():
        keypoints = np.where(finite[..., None], keypoints, 0)
    labelled = labelled.any(1)
    if (~labelled & ~np.isfinite(boxes).all(1)).any():
        raise Misfit("a person with neither joints nor a box")
    crowd, counted = ([field_of(row, name) for row in rows] for name in ("iscrowd", "num_keypoints"))
    check_types(crowd, *WHOLE, type(None))
    check_types(counted, *WHOLE, type(None))
    crowd = np.array([bool(flag) for flag in crowd], bool)
    # Whom to ignore is decided by the field, as in pycocotools, even where it contradicts the keypoints. CrowdPose's
    # field leaves out head and neck; xtcocotools, the source of the published numbers, goes by the keypoints.
    empty = [not some if n is None or crowdpose else n == 0 for n, some in zip(counted, labelled, strict=True)]
    people = People(
        image_ids=[],
        known=set(),
        image=np.zeros(0, np.int64),
        ids=ids,
        keypoints=keypoints,
        visibility=visibility,
        areas=areas,
        boxes=boxes,
        crowd=crowd,
        ignore=crowd | np.array(empty, bool),
    )
    _tell_odd(people, notes, crowdpose)
    return people


def _tell_odd(people: People, notes: Notes, crowdpose: bool) -> None:
    """Note what pycocotools takes as it is, though it can hardly be meant."""
    flat = (people.areas <= 0) & ~people.ignore
    if flat.any():
        what = "box" if crowdpose else "area"
        notes.say(
            f"{flat.sum():,} people that count have no {what} above 0 (the first is annotation "
            f"{people.ids[np.argmax(flat)]}): as in pycocotools hardly any detection is near enough to them; give them "
            f"their {what}, or take it out and open the file as a data set, which fills it in"
        )
    if ((people.ids == 0) & ~people.ignore).any():
        notes.say(
            "the ground truth has an annotation with id 0: pycocotools counts whoever finds that person as a "
            "false alarm, and so do these numbers; number the annotations from 1"
        )
