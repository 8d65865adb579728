"""Predictions paired with the annotated people of their image, for the visibility and centre figures.

The paper's Figure 10 counts 123,359 + 59,850 = 183,209 = 17 x 10,777 joints: every annotated person of COCO's
validation set has one prediction, also those without a labelled joint, as in the set criterion's one-to-one
matching. The pairing here is the one with the largest sum of OKS per image. Unlike a matching at OKS >= 0.5
it does not leave out the people that the model got wrong, which would flatter visibility and centres;
`min_oks` gives that one, too.
Shapes: N pairs, K keypoints. Coordinates: pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posekit.evaluation.oks import match_people, oks
from posekit.layouts import layout_for
from posekit.poses import Poses


@dataclass
class Pairs:
    """N predictions, each with its person.

    `image`, `prediction`, `person` (N,): index of the image, of the prediction and of the person within it;
    `oks` (N,); `score` (N,). Predicted: `keypoints` (N, K, 2), `visibility` (N, K) in [0, 1], `centers` (N,
    2), NaN if the model has none. Annotated: `true_keypoints` (N, K, 2), `true_visibility` (N, K) in {0, 1,
    2}, `boxes` (N, 4) x0, y0, x1, y1, `areas` (N,). `unpaired`: people for whom no prediction was left (or
    none with OKS >= min_oks).
    """

    image: np.ndarray
    prediction: np.ndarray
    person: np.ndarray
    oks: np.ndarray
    score: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    centers: np.ndarray
    true_keypoints: np.ndarray
    true_visibility: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    unpaired: int

    def __len__(self) -> int:
        return len(self.image)


def pair_people(predictions: Sequence[Poses], targets: Sequence[dict], sigmas=None, min_oks: float = 0.0) -> Pairs:
    """Pair each image's poses with its people, one to one, by the largest sum of OKS.

    Args:
        predictions: one `Poses` per image. targets: one dict per image as a data set's `target(i)` returns
        it:
            keypoints (n, K, 2) pixels, visibility (n, K), boxes (n, 4) corners, areas (n,).
        sigmas (K,): None takes those of the known layout with K joints. min_oks: leave out pairs below.

    Raises:
        ValueError: another number of images, or of keypoints.
    """
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions for {len(targets)} images: give one Poses per image")
    if not len(targets):
        raise ValueError("no images, so nobody to pair: give at least one")
    k = np.shape(targets[0]["keypoints"])[1]
    sigmas = layout_for(k).sigmas if sigmas is None else np.asarray(sigmas, float)
    columns: list[tuple] = []
    people = 0
    for number, (poses, target) in enumerate(zip(predictions, targets, strict=True)):
        found, person, oks = _match(poses, target, sigmas, min_oks)
        people += len(target["keypoints"])
        predicted = (poses.scores, poses.keypoints, poses.visibility, poses.centers)
        annotated = (target[name] for name in ("keypoints", "visibility", "boxes", "areas"))
        pair = (np.full(len(found), number), found, person, oks)
        columns.append((*pair, *(values[found] for values in predicted), *(values[person] for values in annotated)))
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Pairs(*joined, unpaired=people - len(joined[0]))  # type: ignore[misc]


def surplus(poses: Poses, target: dict, sigmas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The poses of an image for which nobody is left when every annotated person is paired with one of them.

    One that lies on somebody who has a pose already is a duplicate, one that lies on nobody a false positive.

    Returns: index of the pose, index of the person that it is most like (-1: nobody is annotated) and their OKS,
        each (E,) for E poses too many.
    """
    paired, _, _ = _match(poses, target, sigmas)
    extra = np.setdiff1d(np.arange(len(poses)), paired)
    if not len(target["keypoints"]):
        return extra, np.full(len(extra), -1), np.zeros(len(extra))
    keypoints, visibility, areas = target["keypoints"], target["visibility"], target["areas"]
    table = oks(poses.keypoints[extra], keypoints, visibility, areas, sigmas, target["boxes"])
    return extra, table.argmax(1), table.max(1)


def _match(poses: Poses, target: dict, sigmas, min_oks: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keypoints, visibility, areas = target["keypoints"], target["visibility"], target["areas"]
    return match_people(poses.keypoints, keypoints, visibility, areas, sigmas, target["boxes"], poses.scores, min_oks)
