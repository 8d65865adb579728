"""From COCO's JSON to arrays: one column per field, checked once; scoring never touches a dictionary again.

Format: cocodataset.org, "Data format" (keypoints) and "Results format"; CrowdPose adds `crowdIndex` to its images
and has no areas. Frame: pixels of the image.
Shapes: I images, G people, D detections, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from posekit.evaluation.crowd import areas_of_boxes, crowd_index
from posekit.evaluation.rows import field_of, fields_of, load_ground_truth, row_pieces, some, split_keypoints


@dataclass
class People:
    """Annotated people of one category, sorted by image (file order within an image).

    `image_ids` (I,) the images, ascending; `known`: ids of all images of the file; `image` (G,) index into
    image_ids; `ids` (G,) annotation ids; `keypoints` (G, K, 2) pixels; `visibility` (G, K) COCO's 0, 1, 2;
    `areas` (G,) pixels^2; `boxes` (G, 4) x, y, w, h (NaN: none given); `crowd` (G,) bool; `ignore` (G,) bool:
    crowds, and people whose `num_keypoints` is 0; `names`: the joints', if the file tells. `crowd_index` (I,): how
    crowded the images are, for CrowdPose's convention only.
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

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Detections:
    """Detections of one category.

    `row` (D,) says where each stood in the input; `image` (D,) index into the people's `image_ids`;
    `keypoints` (D, K, 2) pixels; `scores` (D,); `boxes` (D, 4) x0, y0, x1, y1 around all K keypoints; `areas`
    (D,) pixels^2 of these boxes (or of the rows' own `bbox` if the first row has one: pycocotools' rule).
    """

    row: np.ndarray
    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index) -> Detections:
        columns = (self.row, self.image, self.keypoints, self.scores, self.boxes, self.areas)
        return Detections(*(column[index] for column in columns))


def read_people(
    ground_truth: dict | str | Path,
    category_id: int = 1,
    image_ids: Iterable | None = None,
    convention: str | None = None,
) -> People:
    """The people of a COCO keypoint file (or of its dict), of all images or of `image_ids` only.

    `convention`: "coco", "crowdpose" (areas from the boxes, a Crowd Index per image: the file's, else computed), or
    None: CrowdPose's if any image of the file has a `crowdIndex`.

    Raises:
        ValueError: a file that is not JSON or not COCO, a row that lacks a field, numbers that are not
        finite.
    """
    is_path = isinstance(ground_truth, (str, Path))
    where = str(ground_truth) if is_path else "the ground truth"
    data = load_ground_truth(ground_truth) if is_path else ground_truth
    images, annotations = field_of(data, "images"), field_of(data, "annotations")
    if images is None or annotations is None:
        found = (
            f"the fields {some(data) or 'none'}" if isinstance(data, dict) else f"a {type(data).__name__}"
        )
        raise ValueError(
            f"{where} must hold 'images' and 'annotations', as a COCO keypoint file does; it holds {found}"
        )
    (ids,) = fields_of(images, ("id",), where)
    known = set(ids)
    given = {i: index for i, row in zip(ids, images, strict=True) if (index := field_of(row, "crowdIndex")) is not None}
    if convention not in (None, "coco", "crowdpose"):
        raise ValueError(f"convention is 'coco' or 'crowdpose', not '{convention}'")
    crowdpose = bool(given) if convention is None else convention == "crowdpose"
    chosen = known if image_ids is None else set(image_ids)
    if not chosen <= known:
        raise ValueError(f"image_ids: {some(chosen - known)} not among the {len(known)} images of {where}")
    index = {image_id: i for i, image_id in enumerate(sorted(chosen))}
    categories = {field_of(category, "id"): category for category in field_of(data, "categories") or ()}
    if categories and category_id not in categories:
        raise ValueError(
            f"{where} has no category {category_id}; it has {some(categories)}: give category_id"
        )
    image_of, kinds = fields_of(annotations, ("image_id", "category_id"), where)
    image = np.fromiter(map(index.get, image_of, repeat(-1)), np.int64, len(image_of))
    wanted = np.flatnonzero((np.array(kinds) == category_id) & (image >= 0))
    wanted = wanted[np.argsort(image[wanted], kind="stable")]
    people = _people([annotations[i] for i in wanted.tolist()], where, crowdpose)
    people.image_ids, people.known, people.image = list(index), known, image[wanted]
    people.names = tuple(field_of(categories.get(category_id, {}), "keypoints") or ()) or None
    if crowdpose:
        people.crowd_index = _crowd_indices(people, given)
    return people


def _crowd_indices(people: People, given: dict) -> np.ndarray:
    """(I,) the Crowd Index of each image: the one given (by image id), else computed from its people."""
    edges = np.searchsorted(people.image, np.arange(len(people.image_ids) + 1))
    corners = np.concatenate([people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:]], axis=1)
    columns = people.keypoints, people.visibility, corners
    values = np.zeros(len(people.image_ids))
    for i, image_id in enumerate(people.image_ids):
        here = slice(edges[i], edges[i + 1])
        values[i] = given[image_id] if image_id in given else crowd_index(*(column[here] for column in columns))
    return values


def _people(rows: list, where: str, crowdpose: bool) -> People:
    """The columns of annotation rows; the images are the caller's."""
    ids, keypoints, areas = fields_of(rows, ("id", "keypoints", "bbox" if crowdpose else "area"), where)
    ids = np.array(ids, np.int64)
    if crowdpose:
        areas = areas_of_boxes(np.array(areas, float).reshape(len(rows), 4))
    areas = np.array(areas, float)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = values[np.argmax(counts > 1)]
        raise ValueError(
            f"{where} uses the annotation id {twice} more than once: number the annotations 1, 2, 3 ..."
        )
    keypoints, visibility = split_keypoints(keypoints, None, where)
    finite = np.isfinite(keypoints).all((1, 2)) & np.isfinite(visibility).all(1) & np.isfinite(areas)
    if not finite.all():
        bad = ids[np.argmin(finite)]
        raise ValueError(f"{where}: annotation {bad} holds a keypoint or an area that is not a finite number")
    labelled = (visibility > 0).any(1)
    unknown = (np.nan,) * 4
    boxes = np.array([field_of(row, "bbox") or unknown for row in rows], float).reshape(len(rows), 4)
    homeless = ~labelled & np.isnan(boxes).any(1)
    if homeless.any():
        raise ValueError(
            f"{where}: annotation {ids[np.argmax(homeless)]} has neither a labelled keypoint nor a 'bbox', "
            "so no detection can be compared with it: give it a box or remove it"
        )
    crowd = np.array([bool(field_of(row, "iscrowd")) for row in rows], bool)
    # Whom to ignore is decided by the field, as in pycocotools, even where it contradicts the keypoints. CrowdPose's
    # field leaves out head and neck; xtcocotools, the source of the published numbers, goes by the keypoints.
    counted = [None if crowdpose else field_of(row, "num_keypoints") for row in rows]
    empty = [not some if n is None else n == 0 for n, some in zip(counted, labelled, strict=True)]
    return People(
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


def read_detections(detections, people: People, category_id: int = 1) -> Detections:
    """Detections from COCO result rows: a list of dicts, the path of such a file, or a dict of arrays.

    The dict of arrays has `image_id` (D,), `keypoints` (D, K, 2), (D, K, 3) or flat (D, 3K), `score` (D,)
    and, if wanted, `category_id` (D,). Rows of other categories, and of images of the ground truth that were
    not chosen for `people`, are left out.

    Raises:
        ValueError: no list, a row that lacks a field, another number of keypoints, an unknown image, numbers
        that
            are not finite.
    """
    is_path = isinstance(detections, (str, Path))
    where = str(detections) if is_path else "the detections"
    k = people.keypoints.shape[1] if len(people) else None
    if isinstance(detections, dict):
        image_ids, kinds, found = _from_arrays(detections, k, where, category_id)
    else:
        image_ids, kinds, found = _from_rows(row_pieces(detections) if is_path else [detections], k, where)
    index = {image_id: i for i, image_id in enumerate(people.image_ids)}
    found.image = np.fromiter(map(index.get, image_ids, repeat(-1)), np.int64, len(found))
    unknown = {image_ids[i] for i in np.flatnonzero(found.image < 0)} - people.known
    if unknown:
        raise ValueError(
            f"{where}: image {some(unknown)} not in the ground truth: of another data set or split?"
        )
    finite = np.isfinite(found.scores) & np.isfinite(found.boxes).all(1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(
            f"{where}: row {bad} (image {image_ids[bad]}) holds a keypoint or score that is not finite"
        )
    wanted = (kinds == category_id) & (found.image >= 0)
    return found if wanted.all() else found.select(wanted)


def _from_rows(pieces: Iterable[list], k: int | None, where: str) -> tuple[list, np.ndarray, Detections]:
    """(image ids, categories (D,), detections without their images) of result rows."""
    image_ids, kinds, scores, sizes = [], [], [], []
    keypoints, around = [np.zeros((0, k or 0, 2))], [np.zeros((0, 4))]
    boxed = False
    for rows in pieces:
        if not isinstance(rows, (list, tuple)):
            raise ValueError(
                f"{where}: detections must be a list of rows (image_id, category_id, keypoints, score), "
                f"not one {type(rows).__name__}"
            )
        if not rows:
            continue
        first = len(image_ids)
        columns = fields_of(rows, ("image_id", "category_id", "score", "keypoints"), where, first)
        if not first:
            boxed = bool(field_of(rows[0], "bbox"))
            if not boxed and field_of(rows[0], "segmentation") is not None:
                raise ValueError(
                    f"{where}: poses are not measured by 'segmentation': remove it from the rows"
                )
        image_ids += columns[0]
        kinds += columns[1]
        scores += columns[2]
        xy, _ = split_keypoints(columns[3], k, where, first)
        k = xy.shape[1] if k is None else k
        keypoints.append(xy)
        around.append(_boxes(xy))
        if boxed:
            sizes += [box[2] * box[3] for box in fields_of(rows, ("bbox",), where, first)[0]]
    xy = np.concatenate(keypoints if keypoints[0].shape[1] == (k or 0) else keypoints[1:])
    found = _detections(
        xy, np.array(scores, float), np.concatenate(around), np.array(sizes) if boxed else None
    )
    return image_ids, np.array(kinds), found


def _from_arrays(
    columns: dict, k: int | None, where: str, category_id: int
) -> tuple[list, np.ndarray, Detections]:
    missing = {"image_id", "keypoints", "score"} - set(columns)
    if missing:
        raise ValueError(
            f"{where}: detections must be a list of rows, or a dict of arrays image_id, keypoints and score; "
            f"this dict lacks {some(missing)}"
        )
    image_ids = np.asarray(columns["image_id"]).tolist()
    scores, keypoints = np.asarray(columns["score"], float), np.asarray(columns["keypoints"], float)
    n = len(image_ids)
    if keypoints.ndim == 2 and keypoints.shape[1] % 3 == 0:
        keypoints = keypoints.reshape(n, keypoints.shape[1] // 3, 3)
    shape = keypoints.shape
    if (
        scores.shape != (n,)
        or len(shape) != 3
        or shape[0] != n
        or k not in (None, shape[1])
        or shape[2] not in (2, 3)
    ):
        raise ValueError(
            f"{where}: {n} image ids need scores ({n},) and keypoints ({n}, {k or 'K'}, 2 or 3), "
            f"not {scores.shape} and {shape}"
        )
    xy = np.ascontiguousarray(keypoints[..., :2])
    kinds = np.asarray(columns.get("category_id", np.full(n, category_id)))
    return image_ids, kinds, _detections(xy, scores, _boxes(xy))


def _detections(xy, scores, boxes, areas=None) -> Detections:
    """The images are the caller's. Areas (n,): of the boxes unless given."""
    n = len(scores)
    if areas is None:
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is reported by the caller
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return Detections(np.arange(n), np.zeros(n, np.int64), xy, scores, boxes, areas)


def _boxes(xy: np.ndarray) -> np.ndarray:
    """(n, 4) box around all K keypoints (n, K, 2); not finite if one of them is not."""
    if not xy.size:
        return np.zeros((len(xy), 4))
    by_joint = xy.transpose(1, 2, 0).copy()  # numpy is ten times as fast at a minimum over the first axis
    return np.concatenate([by_joint.min(0), by_joint.max(0)]).T
