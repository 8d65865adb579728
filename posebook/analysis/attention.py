"""Where POET looks: reference points, detecting queries, attention maps over the image (POET, Figure 7).

`Maps` holds one forward pass with its attention, so that a slider only indexes it. Points and boxes are in COCO pixels
of the image. A map is the mean over the heads. h x w image tokens, Q queries, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from posekit.evaluation.oks import match_people
from posekit.layouts import Layout

REGIONS = {
    "face": ("nose", "eye", "ear", "head"),
    "arms": ("elbow", "wrist"),
    "torso": ("shoulder", "hip", "neck"),
    "legs": ("knee", "ankle"),
}


@dataclass
class Maps:
    """The attention of one image.

    `outputs`: of `POET.forward(..., attention=True)`; `target`: the batch's dict of this image (its `size` and
    `to_original`); `input_size`: (width, height) of the network input with its padding; `row`: place in the batch.
    """

    outputs: dict
    target: dict
    input_size: tuple[int, int]
    row: int = 0

    def encoder(self, point, layer: int = -1) -> np.ndarray:
        """(h, w): what the token under `point` (x, y) attends to in an encoder layer."""
        weights = self.outputs["encoder_attention"][layer, self.row].float().mean(0)
        return self._over_image(weights[self.token(point)])

    def decoder(self, query: int, layer: int = -1) -> np.ndarray:
        """(h, w): what a query attends to in a decoder layer."""
        return self._over_image(self.outputs["decoder_attention"][layer, self.row].float().mean(0)[query])

    def queries(self, layer: int = -1) -> np.ndarray:
        """(Q,) query of each pose in the order in which `POET.decode` returns them, surest first."""
        scores = self.outputs["logits"][layer, self.row].detach().float().softmax(-1)[:, 1]
        return np.argsort(-scores.cpu().numpy(), kind="stable")

    def token(self, point) -> int:
        """Index of the image token under a point of the image; a point outside goes to the nearest."""
        to_original = np.asarray(self.target["to_original"], float)
        place = np.linalg.solve(to_original[:, :2], np.asarray(point, float) - to_original[:, 2])
        h, w = (int(n) for n in self.outputs["feature_size"])
        column, row = np.floor(place / self.input_size * (w, h)).astype(int)
        return int(np.clip(row, 0, h - 1)) * w + int(np.clip(column, 0, w - 1))

    def _over_image(self, weights: torch.Tensor) -> np.ndarray:
        """(S,) -> (h, w) without the padding, to the nearest token."""
        h, w = (int(n) for n in self.outputs["feature_size"])
        share = np.asarray(self.target["size"], float) / self.input_size
        columns, rows = np.maximum(np.round(share * (w, h)).astype(int), 1)
        return weights.reshape(h, w)[:rows, :columns].cpu().numpy()


def reference_points(target: dict, size: tuple[int, int], layout: Layout, count: int = 6) -> list[dict]:
    """One point per person, the largest first, then one on the background; `count` in all.

    A person's point is the mean of the visible torso joints, or, of fewer than two, the visible joint nearest to the
    middle of the visible ones. Returns dicts with `point` (x, y) px and `person` (index into the target, None for the
    background).
    """
    points = []
    for person in np.argsort(-np.asarray(target["areas"]), kind="stable"):
        visible = np.asarray(target["visibility"][person]) == 2
        torso = visible & np.array([_region(name) == "torso" for name in layout.keypoints])
        joints = np.asarray(target["keypoints"][person], float)[torso if torso.sum() >= 2 else visible]
        if len(joints):
            point = joints.mean(0)
            if torso.sum() < 2:
                point = joints[np.linalg.norm(joints - point, axis=1).argmin()]
            points.append({"point": point, "person": int(person)})
    return [*points[: count - 1], {"point": background_point(target["boxes"], size), "person": None}]


def background_point(boxes, size: tuple[int, int], grid: int = 32) -> np.ndarray:
    """(x, y) of the place farthest from all boxes (n, 4) x0 y0 x1 y1, but not on the image's very edge."""
    width, height = size
    x, y = np.meshgrid(*((np.arange(grid) + 0.5) / grid * side for side in (width, height)))
    distance = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y)) * 2
    for x0, y0, x1, y1 in np.asarray(boxes, float).reshape(-1, 4):
        aside, above = np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1)
        distance = np.minimum(distance, np.hypot(aside.clip(0), above.clip(0)))
    best = np.unravel_index(distance.argmax(), distance.shape)
    return np.array([x[best], y[best]])


def detecting_queries(
    poses, target: dict, maps: Maps, sigmas, threshold: float = 0.5, min_oks: float = 0.5
) -> list[dict]:
    """The queries that detect people, the largest person first; pairs are one to one, with score >= `threshold`.

    poses: all Q poses of the image, as decoded. Returns dicts with `query`, `pose`, `person` (indices) and `oks`.
    """
    sure = np.flatnonzero(poses.scores >= threshold)
    if not len(sure) or not len(target["keypoints"]):
        return []
    truth = [target[name] for name in ("keypoints", "visibility", "areas")]
    pairs = match_people(poses.keypoints[sure], *truth, sigmas, min_oks=min_oks)
    queries = maps.queries()
    rows = zip(
        queries[sure[pairs[0]]].tolist(), sure[pairs[0]].tolist(), *(part.tolist() for part in pairs[1:]), strict=True
    )
    rows = [dict(zip(("query", "pose", "person", "oks"), row, strict=True)) for row in rows]
    return sorted(rows, key=lambda row: -float(target["areas"][row["person"]]))


def focus(weights: np.ndarray, box, size: tuple[int, int]) -> tuple[float, float]:
    """(share of the attention (h, w) inside a box, share of the image that the box covers); equal = no preference."""
    cover = coverage(box, weights.shape, size)
    return float((weights * cover).sum() / max(weights.sum(), 1e-12)), float(cover.mean())


def coverage(box, shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(h, w) in [0, 1]: how much of each token the box covers."""
    x0, y0, x1, y1 = (float(value) for value in box)

    def along(low: float, high: float, count: int, side: float) -> np.ndarray:
        return np.diff(np.clip(np.arange(count + 1) * side / count, low, high)) * count / side

    (h, w), (width, height) = shape, size
    return along(y0, y1, h, height)[:, None] * along(x0, x1, w, width)[None]


def focus_rows(maps: Maps, target: dict, found: list[dict], size: tuple[int, int], layout: Layout) -> list[dict]:
    """`focus` on the people in `found`, layer by layer: from a point on the person (encoder), by its query (decoder).

    Returns dicts with part, layer (from 1), person, inside, covered, and ratio = inside / covered.
    """
    points = reference_points(target, size, layout, len(target["areas"]) + 1)
    points = {row["person"]: row["point"] for row in points}
    rows = []
    for pair in found:
        person = pair["person"]
        starts = {"decoder": (maps.decoder, pair["query"])}
        starts |= {"encoder": (maps.encoder, points[person])} if person in points else {}
        for part, (look, start) in starts.items():
            for layer in range(len(maps.outputs[f"{part}_attention"])):
                inside, covered = focus(look(start, layer), target["boxes"][person], size)
                row = {"part": part, "layer": layer + 1, "person": person, "inside": inside, "covered": covered}
                rows.append(row | {"ratio": inside / max(covered, 1e-12)})
    return rows


def region_rows(maps: Maps, target: dict, found: list[dict], size: tuple[int, int], layout: Layout) -> list[dict]:
    """Decoder attention (last layer) under each visible joint, relative to the mean over the person's box.

    Returns dicts with person, area (pixels), joint, region (a key of `REGIONS`) and ratio.
    """
    rows = []
    for pair in found:
        person, weights = pair["person"], maps.decoder(pair["query"])
        cover = coverage(target["boxes"][person], weights.shape, size)
        usual = max((weights * cover).sum() / max(cover.sum(), 1e-12), 1e-12)
        places = np.floor(target["keypoints"][person] / (np.array(size) / weights.shape[::-1])).astype(int)
        for joint in np.flatnonzero(np.asarray(target["visibility"][person]) == 2):
            row, column = np.clip(places[joint, ::-1], 0, np.array(weights.shape) - 1)
            name, area = layout.keypoints[joint], float(target["areas"][person])
            ratio = float(weights[row, column] / usual)
            rows.append({"person": person, "area": area, "joint": name, "region": _region(name), "ratio": ratio})
    return rows


def _region(joint: str) -> str:
    return next((region for region, words in REGIONS.items() if any(word in joint for word in words)), "other")
