"""AP by the visible share of the body: how a top-down model does on people of whom only a part is in the image
(ViTPose: its summary's limitation, "struggles with partial inputs").

`ap_in_annotated_boxes` bins people as they come by the share of their keypoints that can be seen. `examine` controls
the share: a cut keeps a share of the *body box* (around the box and all labelled keypoints), from the top ("upper"),
from the bottom ("lower") or from one side ("side", left and right in turn). There the image ends: beyond the line,
rounded to a whole pixel, the crop is black and keypoints are not labelled. The model is given what is kept of the body
box. Each cut is scored as an image of its own with one person, whose OKS keeps the area of the whole person. The
keypoints that are left may be easier ones, so every cut has its control: the model sees the whole person, and the same
keypoints count.

Coordinates: COCO pixels of the image. n people, K keypoints, (W, H) crop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from posebook.analysis.crop_views import find_poses
from posekit.data.crops import box_matrices, crop_people
from posekit.data.topdown import PersonCrops
from posekit.data.transforms import invert
from posekit.evaluation.coco import evaluate
from posekit.evaluation.oks import oks
from posekit.evaluation.run_tables import annotation_ids

KEPT = ("upper", "lower", "side")
SHARES = (0.25, 0.4, 0.55, 0.7, 0.85)
EDGES = (0.0, 0.45, 0.6, 0.75, 0.9, 1.0)


def ap_by_share(ground_truth: dict, detections: dict[str, np.ndarray], edges: Sequence[float], **options):
    """COCO's AP of the people in each bin [edge, next edge) of their visible share; the last bin includes its end.

    As in COCO's area ranges, people of other bins are neither missed nor found: they are ignored. A detection counts in
    the bin of the person in whose box it was found, as COCO sorts those that match nobody by their own area.

    Args:
        ground_truth: COCO's dict. detections: arrays `image_id` (D,), `keypoints` (D, K, 2), `score` (D,), `annotation`
            (D,), the id of the person in whose box it was found. options: of `posekit.evaluation.evaluate`.

    Returns: a row per bin: low, high, share (mean of its people, NaN if there is nobody), AP (NaN likewise), people.

    Raises ValueError: edges that do not rise.
    """
    edges = np.asarray(edges, float)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges of the bins must rise, at least two of them, not {edges.tolist()}")
    rows = ground_truth["annotations"]
    seen = [np.mean(np.array(row["keypoints"][2::3]) == 2) for row in rows]  # COCO's flag 2
    shares = pd.Series(seen, [row["id"] for row in rows], float)
    closed = [*edges[:-1], np.nextafter(edges[-1], np.inf)]
    bins = pd.Series(np.digitize(shares, closed) - 1, shares.index)
    owner = bins.loc[detections["annotation"]].to_numpy()
    table = []
    for place, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        people = [row if bins[row["id"]] == place else row | {"num_keypoints": 0} for row in rows]
        mine = {name: np.asarray(values)[owner == place] for name, values in detections.items() if name != "annotation"}
        result = evaluate(ground_truth | {"annotations": people}, mine, convention="coco", **options)
        own = shares.loc[result.people.ids[~result.people.ignore]]
        table.append((low, high, own.mean(), _ap(result), len(own)))
    return pd.DataFrame(table, columns=["low", "high", "share", "AP", "people"])


def ap_in_annotated_boxes(model, dataset, edges: Sequence[float] = EDGES) -> pd.DataFrame:
    """`ap_by_share` of a top-down model in the annotated boxes of a data set, people as they come."""
    boxes, ids = PersonCrops(dataset), annotation_ids(dataset.ground_truth)
    keypoints, scores = find_in_image(model, *crop_boxes(model, dataset, boxes.image_index, boxes.boxes))
    owner = [ids[one][person] for one, person in zip(boxes.ids, boxes.persons.tolist(), strict=True)]
    found = {"image_id": boxes.ids, "keypoints": keypoints, "score": scores, "annotation": owner}
    options = {"sigmas": dataset.layout.sigmas, "category_id": dataset.category_id}
    return ap_by_share(dataset.ground_truth, found, edges, **options)


@dataclass
class Bodies:
    """Annotated people of a data set.

    `image_index` (n,) index of the image, ascending; `boxes` (n, 4) body boxes x0 y0 x1 y1; `keypoints` (n, K, 2);
    `labelled` (n, K) bool; `areas` (n,) px^2.
    """

    image_index: np.ndarray
    boxes: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.image_index)

    def select(self, index) -> Bodies:
        return Bodies(*(values[index] for values in vars(self).values()))


def whole_bodies(dataset, least: float = 1.0, people: int = 0) -> Bodies:
    """The people with at least the share `least` of their joints labelled: 1 = no joint is outside the image.

    people: at most so many, evenly over the data set; 0 = all.

    Raises ValueError: nobody is that complete.
    """
    targets = [dataset.target(i) for i in range(len(dataset))]
    keypoints, visibility, areas, boxes = (
        np.concatenate([np.asarray(target[name], float) for target in targets])
        for name in ("keypoints", "visibility", "areas", "boxes")
    )
    labelled = visibility > 0
    low = np.where(labelled[..., None], keypoints, np.inf).min(1).clip(max=boxes[:, :2])
    high = np.where(labelled[..., None], keypoints, -np.inf).max(1).clip(min=boxes[:, 2:])
    image_index = np.repeat(np.arange(len(dataset)), [len(target["areas"]) for target in targets])
    whole = np.flatnonzero(labelled.any(1) & (labelled.mean(1) >= least) & (high > low).all(1))
    if not len(whole):
        raise ValueError(f"nobody in {dataset.name} has {least:.0%} of the joints labelled: lower `least`")
    if people and len(whole) > people:
        whole = whole[np.linspace(0, len(whole) - 1, people).round().astype(int)]
    return Bodies(image_index, np.concatenate([low, high], 1), keypoints, labelled, areas).select(whole)


def cut(boxes: np.ndarray, share: float, kept: str) -> np.ndarray:
    """Body boxes (n, 4) -> what is kept of them (n, 4), at least a pixel; the line is rounded to a whole pixel.

    Raises ValueError: a share outside (0, 1], another side than upper, lower or side.
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


def crop_boxes(model, dataset, image_index: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(crops uint8 (n, H, W, 3), matrices (n, 2, 3) from image to crop) of boxes (n, 4), each in its image."""
    size, matrices = model.crop_size, box_matrices(boxes, model.crop_size, udp=True)
    crops = np.empty((len(boxes), size[1], size[0], 3), np.uint8)
    for index in np.unique(image_index):
        here = image_index == index
        crops[here] = crop_people(dataset.image(int(index)), matrices[here], size, model.input.pixel_centre)
    return crops, matrices


def crop_cuts(model, dataset, people: Bodies, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`crop_boxes` of what is `left` (n, 4) of people: black beyond the sides where a body box was cut."""
    crops, matrices = crop_boxes(model, dataset, people.image_index, left)
    low = np.where(left[:, :2] > people.boxes[:, :2], left[:, :2], -np.inf)
    high = np.where(left[:, 2:] < people.boxes[:, 2:], left[:, 2:], np.inf)
    shown = []  # of the crop's columns, of its rows: it is upright, so they are the image's
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
    """AP of a top-down model on cut people, and on the same keypoints of the same people uncut; see the module's head.

    Args: shares in (0, 1); 1 is always measured, without a cut. people, least: see `whole_bodies`.

    Returns: a row per kept side and share: kept, share, AP, AP_whole (the control), people (with a keypoint left),
        joints (their number, mean of those people). AP is NaN where nobody has a keypoint left.

    Raises ValueError: a model that does not look at crops; nobody complete enough; what `cut` refuses.
    """
    if model.input.fit != "crop":
        raise ValueError("only a top-down model looks at one person's crop; this one finds people in whole images")
    chosen, sigmas, rows = whole_bodies(dataset, least, people), dataset.layout.sigmas, []
    whole = find_in_image(model, *crop_boxes(model, dataset, chosen.image_index, chosen.boxes))
    for side, share, left, labelled in cuts(chosen, shares, kept):
        found = whole if share == 1 else find_in_image(model, *crop_cuts(model, dataset, chosen, left))
        ap, control = (ap_alone(chosen, labelled, *poses, sigmas) for poses in (found, whole))
        joints = labelled.sum(1)[labelled.any(1)]
        rows.append((side, share, ap, control, len(joints), joints.mean() if len(joints) else np.nan))
    return pd.DataFrame(rows, columns=["kept", "share", "AP", "AP_whole", "people", "joints"])


def cuts(people: Bodies, shares: Sequence[float], kept: Sequence[str]) -> Iterator[tuple]:
    """(side, share, what is left of the boxes, the keypoints labelled there); the largest share is the whole."""
    for side in kept:
        for share in sorted({*shares, 1.0}):
            left = cut(people.boxes, share, side)
            yield side, share, left, people.labelled & inside(people.keypoints, left)


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
    for side, share, left, labelled in cuts(person, shares, kept):
        crops, matrices = crop_cuts(model, dataset, person, left)
        found, _ = find_in_image(model, crops, matrices)
        value = oks(found, person.keypoints, labelled, person.areas, dataset.layout.sigmas, left)[0, 0]
        in_crop = [joints[0] @ matrices[0, :, :2].T + matrices[0, :, 2] for joints in (person.keypoints, found)]
        points = [np.where(labelled[0][:, None], joints, np.nan) for joints in in_crop]
        shown.append(Example(side, share, crops[0], *points, float(value)))
    return shown


def ap_alone(people: Bodies, labelled: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, sigmas) -> float:
    """COCO's AP where each person is alone in an image with one detection (n, K, 2), (n,); NaN without any label."""
    joints = np.concatenate([np.where(labelled[..., None], people.keypoints, 0), 2.0 * labelled[..., None]], 2)
    table = {"id": np.arange(1, len(people) + 1), "keypoints": [*joints.reshape(len(people), -1)], "area": people.areas}
    table |= {"bbox": [*np.hstack([people.boxes[:, :2], people.boxes[:, 2:] - people.boxes[:, :2]])]}
    table |= {"num_keypoints": labelled.sum(1), "category_id": 1, "iscrowd": 0}
    rows = pd.DataFrame(table).assign(image_id=table["id"]).to_dict("records")
    truth = {"images": [{"id": row["id"]} for row in rows], "annotations": rows, "categories": [{"id": 1}]}
    found = {"image_id": np.arange(1, len(people) + 1), "keypoints": keypoints, "score": scores}
    return _ap(evaluate(truth, found, sigmas, convention="coco"))


def _ap(result) -> float:
    return result.stats["AP"] if result.stats["AP"] >= 0 else float("nan")
