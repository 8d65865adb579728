"""The 1-D heatmaps of RTMO's coordinate classifier: read for an image, and put into numbers (RTMO, Figures 4 and 5).

n people, K keypoints, B bins of an axis. Coordinates: COCO pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from posekit.evaluation.oks import match_people
from posekit.poses import Poses

AXES = ("x", "y")


@dataclass
class HeatmapPoses:
    """People of one image: `poses`, and per person `heatmap_x` (n, K, Bx), `heatmap_y` (n, K, By), `bins_x` (n, Bx),
    `bins_y` (n, By) px, `sigmas` (n, K) relative to the person's size. `threshold`: the score that they reach.
    """

    poses: Poses
    heatmap_x: np.ndarray
    heatmap_y: np.ndarray
    bins_x: np.ndarray
    bins_y: np.ndarray
    sigmas: np.ndarray
    threshold: float = 0.1

    def __len__(self) -> int:
        return len(self.poses)

    def select(self, index) -> HeatmapPoses:
        """The people of `index`, in that order."""
        arrays = (self.heatmap_x, self.heatmap_y, self.bins_x, self.bins_y, self.sigmas)
        return HeatmapPoses(self.poses.select(index), *(array[index] for array in arrays), self.threshold)


def read_heatmaps(model, outputs: dict, batch: dict, threshold: float = 0.1) -> HeatmapPoses:
    """What a model with a coordinate classifier finds in the only image of `batch`, with its heatmaps.

    Where nobody reaches the threshold, the cells with the best scores are read all the same, `threshold` 0.

    Raises ValueError: the model regresses, it has no heatmaps.
    """
    target = batch["targets"][0]
    sizes = torch.as_tensor(target["size"])[None]
    for limit in (threshold, 0.0):
        (poses,), (parts,) = model.decode(outputs, sizes, score_threshold=limit, heatmaps=True)
        if len(poses):
            break
    matrix = np.asarray(target["to_original"], float)
    bins = {f"bins_{axis}": parts[f"bins_{axis}"] * matrix[i, i] + matrix[i, 2] for i, axis in enumerate(AXES)}
    rest = {name: parts[name] for name in ("heatmap_x", "heatmap_y", "sigmas")}
    return HeatmapPoses(poses.transform(matrix), **bins, **rest, threshold=limit)


def match_to_annotation(found: HeatmapPoses, target: dict, sigmas) -> tuple[HeatmapPoses, np.ndarray, np.ndarray]:
    """(found, person, oks) of the pairs of found and annotated people with the largest sum of OKS, surest match first.

    target: a data set's dict; person (m,): index into it.
    """
    truth = [target[name] for name in ("keypoints", "visibility", "areas")]
    index, person, oks = match_people(found.poses.keypoints, *truth, sigmas, target["boxes"], found.poses.scores)
    order = np.argsort(-oks, kind="stable")
    return found.select(index[order]), person[order], oks[order]


def best_match(files, index: int, person: int) -> tuple[np.ndarray, dict, HeatmapPoses]:
    """(image, target, found) of one annotated person of a run's data: what the model finds most like it, one person.

    Unlike `match_to_annotation` it asks for this person alone, so that there is always an answer.
    """
    ((image, target, _, outputs, batch),) = files.run_model([index])
    found = read_heatmaps(files.model, outputs, batch)
    alone = {name: np.asarray(target[name])[[person]] for name in ("keypoints", "visibility", "areas", "boxes")}
    best, _, _ = match_to_annotation(found, alone, files.data.layout.sigmas)
    return image, target, best


def most_visible(target: dict, joints: list[int]) -> int:
    """The annotated person with most of `joints` visible, among equals the largest; chosen without any model."""
    visible = (np.asarray(target["visibility"])[:, joints] == 2).sum(1)
    return int(np.lexsort([np.asarray(target["areas"]), visible])[-1])


def spread(heatmaps: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(n, K) px: standard deviation of the place under heatmaps (n, K, B) over bins (n, B)."""
    mean = (heatmaps * bins[:, None]).sum(-1, keepdims=True)
    return np.sqrt((heatmaps * (bins[:, None] - mean) ** 2).sum(-1))


def normalised_total_variation(heatmaps: np.ndarray) -> np.ndarray:
    """(...): total variation of heatmaps (..., B), relative to that of a single peak of their height.

    1 for a single peak, wherever it stands; n for n peaks of equal height with nothing in between. Figure 5's
    "probabilities of nearby bins can vary significantly", as a number.
    """
    walk = np.abs(np.diff(heatmaps, axis=-1)).sum(-1)
    once = 2 * heatmaps.max(-1) - heatmaps[..., 0] - heatmaps[..., -1]
    return walk / np.maximum(once, 1e-12)


def joint_rows(found: HeatmapPoses, target: dict, sigmas, picture: int = 0) -> pd.DataFrame:
    """A row per labelled keypoint of every pair: picture, person, joint, visibility, oks; relative to the root of the
    annotated area error (mean of those in x and in y), sigma, spread_x, spread_y; variation_x, variation_y.
    """
    pairs, people, oks = match_to_annotation(found, target, sigmas)
    truth, visibility, areas = (target[name][people] for name in ("keypoints", "visibility", "areas"))
    size = np.maximum(np.sqrt(areas.astype(float)), 1)[:, None]
    parts = ((pairs.heatmap_x, pairs.bins_x), (pairs.heatmap_y, pairs.bins_y))
    off = np.abs(pairs.poses.keypoints - truth).mean(-1)
    table = {"error": off / size.astype(off.dtype), "sigma": pairs.sigmas}
    table |= {f"spread_{axis}": spread(*part) / size for axis, part in zip(AXES, parts, strict=True)}
    table |= {f"variation_{a}": normalised_total_variation(heat) for a, (heat, _) in zip(AXES, parts, strict=True)}
    who, joint = np.nonzero(visibility > 0)
    table = {name: values[who, joint].astype(float) for name, values in table.items()}
    facts = {"picture": picture, "person": people[who], "joint": joint}
    facts |= {"visibility": visibility[who, joint].astype(int), "oks": oks[who]}
    return pd.DataFrame(facts | table)


def examine(files, indices: Iterable[int]) -> pd.DataFrame:
    """`joint_rows` over images of a run (`reports.RunFiles`); `attrs`: people annotated, found, and the threshold.

    Of images where nobody reaches the threshold nothing is counted, unless there is no other image.
    """
    layout, people, seen = files.data.layout, 0, []
    for index, (_, target, _, outputs, batch) in zip(indices, files.run_model(indices), strict=True):
        people += int((np.asarray(target["visibility"]) > 0).any(1).sum())
        seen.append((index, read_heatmaps(files.model, outputs, batch), target))
    sure = [one for one in seen if one[1].threshold > 0] or seen
    rows = [joint_rows(found, target, layout.sigmas, index) for index, found, target in sure]
    table = pd.concat(rows, ignore_index=True)
    counted = int(table.groupby(["picture", "person"]).ngroups)
    table.attrs |= {"people": people, "found": counted, "threshold": min(one[1].threshold for one in sure)}
    return table
