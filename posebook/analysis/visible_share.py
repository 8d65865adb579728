"""AP by the visible share of the body: how a top-down model does on people of whom only a part is in the picture
(ViTPose: its summary's limitation, "struggles with partial inputs").

Two measurements. `ap_by_share` bins people as they come by the share of their joints that can be seen. `examine`
controls the share: the same whole people, each in a picture that ends inside the body.

The cut. A person's *body box* is the upright box around what is annotated: the box and all labelled joints. A cut keeps
the given share of its height, from the top ("upper") or from the bottom ("lower"), or of its width ("side": from the
left of every other person, from the right of the others). There the picture ends: beyond the line, rounded to a whole
pixel, the crop is black as beyond the border of any picture, and joints are not labelled. The model is given what is
kept of the body box, so a smaller part is shown larger. Each cut is scored as a picture of its own with one person.
OKS keeps the area of the whole person: the same error costs the same however much is cut away. The joints that are left
may be easier or harder ones (an eye's OKS forgives less than a hip's), so every cut has its control: the model sees the
whole person, and the same joints count. The distance to the control holds two things: what the missing part of the body
costs, and what it brings that the rest is shown larger.

Coordinates: COCO pixels of the image. n people, K keypoints, (W, H) crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from posebook.analysis.crop_views import find_poses
from posekit.data.crops import box_matrices, crop_people
from posekit.data.transforms import invert
from posekit.evaluation.coco import evaluate
from posekit.evaluation.oks import oks

KEPT = ("upper", "lower", "side")
SHARES = (0.25, 0.4, 0.55, 0.7, 0.85)
EDGES = (0.0, 0.45, 0.6, 0.75, 0.9, 1.0)


def visible_fraction(visibility: np.ndarray) -> np.ndarray:
    """(n,) share of the K joints that can be seen: COCO's flag 2 of (n, K). A joint outside the picture has flag 0."""
    return (np.asarray(visibility) == 2).mean(-1)


def ap_by_share(
    ground_truth: dict,
    detections: dict[str, np.ndarray],
    edges: Sequence[float] = EDGES,
    shares: dict[int, float] | None = None,
    **options,
) -> pd.DataFrame:
    """COCO's AP of the people in each bin [edge, next edge) of their visible share; the last bin includes its end.

    As in COCO's area ranges, people of other bins are neither missed nor found: they are ignored, and so is a detection
    matched to one of them.

    Args:
        ground_truth: COCO's dict. detections: arrays `image_id` (D,), `keypoints` (D, K, 2), `score` (D,) and, of a
            top-down model, `annotation` (D,): the id of the person in whose box it was found. Such a detection counts
            in that person's bin only, as COCO sorts those that match nobody by their own area. Without `annotation`
            one that matches nobody is a false positive in every bin.
        shares: by annotation id, in [0, 1]; None = `visible_fraction` of the annotated flags.
        options: of `posekit.evaluation.evaluate`, but for the convention, which is COCO's.

    Returns: a row per bin: low, high, share (mean of its people, NaN if there is nobody), AP (NaN likewise), people.

    Raises:
        ValueError: edges that do not rise; a person without a share.
    """
    edges = np.asarray(edges, float)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges of the bins must rise, at least two of them, not {edges.tolist()}")
    rows = ground_truth["annotations"]
    if shares is None:
        shares = {row["id"]: float(visible_fraction(row["keypoints"][2::3])) for row in rows}
    missing = [row["id"] for row in rows if row["id"] not in shares]
    if missing:
        raise ValueError(f"annotation {missing[0]} has no visible share: give one for every annotation, or none at all")
    bins = {one: int(place) for one, place in zip(shares, bin_of(list(shares.values()), edges), strict=True)}
    found = {name: np.asarray(values) for name, values in detections.items()}
    owner = found.pop("annotation", None)
    owner = None if owner is None else np.array([bins.get(one, -1) for one in owner.tolist()], int)
    table = []
    for place, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        people = [row if bins[row["id"]] == place else row | {"num_keypoints": 0} for row in rows]
        mine = found if owner is None else {name: values[owner == place] for name, values in found.items()}
        result = evaluate(ground_truth | {"annotations": people}, mine, convention="coco", **options)
        own = [shares[one] for one in result.people.ids[~result.people.ignore].tolist()]
        table.append((low, high, np.mean(own) if own else np.nan, _ap(result), len(own)))
    return pd.DataFrame(table, columns=["low", "high", "share", "AP", "people"])


def bin_of(shares: Sequence[float], edges: np.ndarray) -> np.ndarray:
    """(n,) number of the bin that each share lies in, -1 for outside; the last edge belongs to the last bin."""
    shares = np.asarray(shares, float)
    place = np.searchsorted(edges, shares, side="right") - 1
    place[shares == edges[-1]] = len(edges) - 2
    return np.where((shares >= edges[0]) & (shares <= edges[-1]), place, -1)


@dataclass
class Bodies:
    """Annotated people of a data set.

    `pictures` (n,) index of the picture, ascending; `boxes` (n, 4) body boxes x0 y0 x1 y1; `keypoints` (n, K, 2);
    `labelled` (n, K) bool; `areas` (n,) px^2.
    """

    pictures: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)

    def select(self, index) -> Bodies:
        return Bodies(*(values[index] for values in vars(self).values()))


def whole_bodies(dataset, least: float = 1.0, people: int = 0) -> Bodies:
    """The people with at least the share `least` of their joints labelled: 1 = no joint is outside the picture.

    people: at most so many, evenly over the data set; 0 = all.

    Raises:
        ValueError: nobody is that complete.
    """
    targets = [dataset.target(i) for i in range(len(dataset))]
    keypoints, visibility, areas, boxes = (
        np.concatenate([np.asarray(target[name], float) for target in targets])
        for name in ("keypoints", "visibility", "areas", "boxes")
    )
    labelled = visibility > 0
    low = np.where(labelled[..., None], keypoints, np.inf).min(1).clip(max=boxes[:, :2])
    high = np.where(labelled[..., None], keypoints, -np.inf).max(1).clip(min=boxes[:, 2:])
    pictures = np.repeat(np.arange(len(dataset)), [len(target["areas"]) for target in targets])
    whole = np.flatnonzero(labelled.any(1) & (labelled.mean(1) >= least) & (high > low).all(1))
    if not len(whole):
        raise ValueError(f"nobody in {dataset.name} has {least:.0%} of the joints labelled: lower `least`")
    if people and len(whole) > people:
        whole = whole[np.linspace(0, len(whole) - 1, people).round().astype(int)]
    return Bodies(pictures, np.concatenate([low, high], 1), keypoints, labelled, areas).select(whole)


def cut(boxes: np.ndarray, share: float, kept: str) -> np.ndarray:
    """Body boxes (n, 4) -> what is kept of them (n, 4), at least a pixel; the line is rounded to a whole pixel.

    Raises:
        ValueError: a share outside (0, 1], another side than upper, lower or side.
    """
    if kept not in KEPT or not 0 < share <= 1:
        raise ValueError(f"cannot keep {share:g} of the body, {kept!r}: give a share in (0, 1] of {', '.join(KEPT)}")
    boxes = np.array(boxes, float).reshape(-1, 4)
    if share == 1:
        return boxes
    axis = int(kept != "side")
    low, high = boxes[:, axis].copy(), boxes[:, axis + 2].copy()
    first = np.arange(len(boxes)) % 2 == 0 if kept == "side" else np.full(len(boxes), kept == "upper")
    reach = share * (high - low)
    boxes[:, axis + 2] = np.where(first, np.maximum(np.round(low + reach), np.floor(low) + 1).clip(max=high), high)
    boxes[:, axis] = np.where(first, low, np.minimum(np.round(high - reach), np.ceil(high) - 1).clip(min=low))
    return boxes


def inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n, K) bool: which of the points (n, K, 2) of a body lie in what is kept of it, (n, 4)."""
    return ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(-1)


def crop_boxes(model, dataset, pictures: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(crops uint8 (n, H, W, 3), matrices (n, 2, 3) from picture to crop) of boxes (n, 4) in pictures (n,) by index."""
    size, matrices = model.crop_size, box_matrices(boxes, model.crop_size, udp=True)
    crops = np.empty((len(boxes), size[1], size[0], 3), np.uint8)
    for picture in np.unique(pictures):
        here = pictures == picture
        crops[here] = crop_people(dataset.image(int(picture)), matrices[here], size, model.input.pixel_centre)
    return crops, matrices


def crop_cuts(model, dataset, people: Bodies, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same for what is `left` (n, 4) of people: black beyond the sides where a body box was cut."""
    crops, matrices = crop_boxes(model, dataset, people.pictures, left)
    low = np.where(left[:, :2] > people.boxes[:, :2], left[:, :2], -np.inf)
    high = np.where(left[:, 2:] < people.boxes[:, 2:], left[:, 2:], np.inf)
    shown = []  # of the crop's columns, of its rows: it is upright, so they are the picture's
    for i, side in enumerate(model.crop_size):
        at = (np.arange(side) + 0.5 - matrices[:, i, 2, None]) / matrices[:, i, i, None]
        shown.append((at >= low[:, [i]]) & (at < high[:, [i]]))
    crops *= (shown[1][:, :, None] & shown[0][:, None])[..., None]
    return crops, matrices


def find_in_image(model, crops: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(keypoints (n, K, 2) px of the image, scores (n,)) of a top-down model, in evaluation mode, on crops."""
    found, back = find_poses(model, crops), invert(matrices).astype(np.float32).astype(float)
    points = np.concatenate([poses.keypoints for poses in found]).astype(float)
    points = np.einsum("nij,nkj->nki", back[:, :, :2], points) + back[:, None, :, 2]
    return points, np.concatenate([poses.scores for poses in found]).astype(float)


def examine(
    model, dataset, shares: Sequence[float] = SHARES, kept: Sequence[str] = KEPT, people: int = 300, least: float = 1.0
) -> pd.DataFrame:
    """AP of a top-down model on cut people, and on the same joints of the same people uncut; see the module's head.

    Args: shares in (0, 1); 1 is always measured, without a cut. people, least: see `whole_bodies`.

    Returns: a row per kept side and share: kept, share, AP, AP_whole (the control), people (with a joint left), joints
        (mean of those people). AP is NaN where nobody has a joint left.

    Raises:
        ValueError: a model that does not look at crops; nobody complete enough; what `cut` refuses.
    """
    if model.input.fit != "crop":
        raise ValueError("only a top-down model looks at one person's crop; this one finds people in whole pictures")
    chosen, sigmas, rows = whole_bodies(dataset, least, people), dataset.layout.sigmas, []
    whole = find_in_image(model, *crop_boxes(model, dataset, chosen.pictures, chosen.boxes))
    for side, share in cuts(shares, kept):
        left = cut(chosen.boxes, share, side)
        labelled = chosen.labelled & inside(chosen.keypoints, left)
        found = whole if share == 1 else find_in_image(model, *crop_cuts(model, dataset, chosen, left))
        ap, control = (ap_alone(chosen, labelled, *poses, sigmas) for poses in (found, whole))
        joints = labelled.sum(1)[labelled.any(1)]
        rows.append((side, share, ap, control, len(joints), joints.mean() if len(joints) else np.nan))
    return pd.DataFrame(rows, columns=["kept", "share", "AP", "AP_whole", "people", "joints"])


def cuts(shares: Sequence[float], kept: Sequence[str]) -> list[tuple[str, float]]:
    """(side, share) of every cut: side by side, each from the smallest share to the whole."""
    return [(side, share) for side in kept for share in sorted({*shares, 1.0})]


@dataclass
class Example:
    """One cut of one person: `image` uint8 (H, W, 3), and in pixels of that crop the labelled joints `truth` and what a
    model says of them, `found`: (K, 2), NaN where no joint is labelled. `oks`: of these joints."""

    kept: str
    share: float
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    oks: float


def examples(model, dataset, person: Bodies, shares: Sequence[float], kept: Sequence[str] = KEPT) -> list[Example]:
    """The cuts of one person (`Bodies` of length 1), kept by kept side, each from the smallest share to the whole."""
    shown = []
    for side, share in cuts(shares, kept):
        left = cut(person.boxes, share, side)
        labelled = person.labelled & inside(person.keypoints, left)
        crops, matrices = crop_cuts(model, dataset, person, left)
        found, _ = find_in_image(model, crops, matrices)
        value = oks(found, person.keypoints, labelled, person.areas, dataset.layout.sigmas, left)[0, 0]
        in_crop = [joints[0] @ matrices[0, :, :2].T + matrices[0, :, 2] for joints in (person.keypoints, found)]
        points = [np.where(labelled[0][:, None], joints, np.nan) for joints in in_crop]
        shown.append(Example(side, share, crops[0], *points, float(value)))
    return shown


def ap_alone(people: Bodies, labelled: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, sigmas) -> float:
    """COCO's AP where each person is alone in a picture with one detection (n, K, 2), (n,); NaN without any label."""
    joints = np.concatenate([np.where(labelled[..., None], people.keypoints, 0), 2.0 * labelled[..., None]], 2)
    boxes = np.concatenate([people.boxes[:, :2], people.boxes[:, 2:] - people.boxes[:, :2]], 1).tolist()
    rows = [
        {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "keypoints": joints[i].ravel().tolist()}
        | {"num_keypoints": int(labelled[i].sum()), "area": float(people.areas[i]), "bbox": boxes[i]}
        for i in range(len(people))
    ]
    truth = {"images": [{"id": row["id"]} for row in rows], "annotations": rows, "categories": [{"id": 1}]}
    found = {"image_id": np.arange(1, len(people) + 1), "keypoints": keypoints, "score": scores}
    return _ap(evaluate(truth, found, sigmas, convention="coco"))


def ap_in_annotated_boxes(model, dataset, edges: Sequence[float] = EDGES) -> pd.DataFrame:
    """`ap_by_share` of a top-down model in the annotated boxes of a data set, people as they come."""
    from posekit.data.topdown import PersonCrops

    boxes = PersonCrops(dataset)
    keypoints, scores = find_in_image(model, *crop_boxes(model, dataset, boxes.pictures, boxes.boxes))
    truth, ids = dataset.ground_truth, {int(one): [] for one in dataset.ids}
    for row in truth["annotations"]:
        if not row.get("iscrowd") and row["image_id"] in ids:
            ids[row["image_id"]].append(row["id"])  # a target's people have the file's order
    owner = [ids[one][person] for one, person in zip(boxes.ids, boxes.persons.tolist(), strict=True)]
    found = {"image_id": boxes.ids, "keypoints": keypoints, "score": scores, "annotation": owner}
    return ap_by_share(truth, found, edges, sigmas=dataset.layout.sigmas, category_id=dataset.category_id)


def _ap(result) -> float:
    return result.stats["AP"] if result.stats["AP"] >= 0 else float("nan")
