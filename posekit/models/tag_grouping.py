"""From heatmaps and tags to people: the grouping of associative embedding (Newell, Huang, Deng 2017, section 3.3).

Peaks of the heatmaps are candidates; joint after joint they join the person whose mean tag is nearest, or begin a new
person; then every person's missing joints are filled from the whole map. Two modes find the same people:

- "paper": as mmpose 0.x computes it, which the papers' runtimes are of. Every person scans all K maps at full size:
  the slope of POET's Figure 1.
- "fast": peaks by one dilation per map, missing joints by branch and bound over blocks of pixels.

Legend: K keypoints, (H, W) maps, L tags per keypoint (2 with the flip test), P people. A joint is a row x, y, value,
tag 1 ... tag L; a missing one is all zeros. Pixel (r, c) of a map is x = c, y = r until `adjust` adds half a pixel, the
middle of that pixel in COCO's frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

MODES = ("fast", "paper")
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)  # head and trunk first: they are found best
BLOCK = 16  # pixels: side of the blocks of "fast"
FIRST = 16  # blocks that are looked at first
SLACK = 1e-3  # more than float32 rounds a distance or a value by


@dataclass(frozen=True)
class Grouping:
    """How people are found. `order`: of the keypoints, () = as they are numbered; `detection`: the lowest value of a
    candidate; `tag_distance`: from which on a candidate begins a new person; `candidates`: at most so many per map;
    `window`: a peak is the largest value within so many pixels.
    """

    mode: str = "fast"
    order: tuple[int, ...] = COCO_ORDER
    detection: float = 0.1
    tag_distance: float = 1.0
    candidates: int = 30
    window: int = 5

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"the grouping mode is {self.mode!r}; choose one of {', '.join(MODES)}")


def group(heatmaps: np.ndarray, tags: np.ndarray, grouping: Grouping = Grouping()) -> tuple[np.ndarray, np.ndarray]:
    """People of one image: joints (P, K, 3 + L) float32, x and y in COCO's frame of the maps, and scores (P,).

    heatmaps (K, H, W), tags (K, H, W, L), float32. A person's score is the mean of its K values before missing joints
    are filled, zeros counted. Pixels whose tag is not finite are no candidates.

    Raises:
        ValueError: shapes that do not fit, or heatmaps with NaN.
    """
    if tags.shape[:3] != heatmaps.shape or tags.ndim != 4:
        raise ValueError(f"heatmaps {heatmaps.shape} (K, H, W) and tags {tags.shape} (K, H, W, L) do not fit")
    if np.isnan(heatmaps.sum()) and np.isnan(heatmaps).any():  # the sum is the quicker test
        raise ValueError("the heatmaps hold NaN: the weights or the image are damaged")
    if not np.isfinite(tags.sum()):
        usable = np.isfinite(tags).all(-1)
        heatmaps, tags = np.where(usable, heatmaps, 0), np.where(usable[..., None], tags, 0)
    fast = grouping.mode == "fast"
    people = match((fast_peaks if fast else full_peaks)(heatmaps, tags, grouping), grouping)
    scores = people[..., 2].mean(1)
    return (fast_refine if fast else full_refine)(adjust(people, heatmaps), heatmaps, tags), scores


def full_peaks(heatmaps: np.ndarray, tags: np.ndarray, grouping: Grouping) -> list[np.ndarray]:
    """Per keypoint its candidates (n, 3 + L), best first, as mmpose 0.x: a max-pool, then the top of all pixels."""
    import torch
    from torch.nn import functional

    maps, (_, height, width) = torch.from_numpy(np.ascontiguousarray(heatmaps)), heatmaps.shape
    pooled = functional.max_pool2d(maps[None], grouping.window, 1, grouping.window // 2)[0]
    values, index = (maps * (pooled == maps)).flatten(1).topk(min(grouping.candidates, height * width))
    y, x = np.divmod(index.numpy(), width)
    found = np.take_along_axis(tags.reshape(len(tags), -1, tags.shape[-1]), index.numpy()[..., None], 1)
    joints = np.concatenate([np.stack([x, y, values.numpy()], -1).astype(np.float32), found], -1)
    return [one[one[:, 2] > grouping.detection] for one in joints]


def fast_peaks(heatmaps: np.ndarray, tags: np.ndarray, grouping: Grouping) -> list[np.ndarray]:
    """The same candidates from the pixels above the threshold alone."""
    kernel, found = np.ones((grouping.window, grouping.window), np.uint8), []
    for one, tag in zip(heatmaps, tags, strict=True):
        one = np.ascontiguousarray(one, np.float32)
        y, x = np.divmod(np.flatnonzero((one > grouping.detection) & (cv2.dilate(one, kernel) == one)), one.shape[1])
        best = np.argsort(-one[y, x], kind="stable")[: grouping.candidates]
        y, x = y[best], x[best]
        found.append(np.concatenate([np.stack([x, y, one[y, x]], 1), tag[y, x]], 1, dtype=np.float32))
    return found


def match(candidates: list[np.ndarray], grouping: Grouping) -> np.ndarray:
    """Candidates per keypoint -> people (P, K, 3 + L): an assignment by tags, keypoint after keypoint.

    The cost of a pair is 100 times its rounded distance less the candidate's value: among equally distant pairs the
    better peaks win. People are as many as the tags tell, without a limit.
    """
    people: list[np.ndarray] = []
    tags: list[list[np.ndarray]] = []
    size = candidates[0].shape[1]

    for keypoint in grouping.order or range(len(candidates)):
        rows = candidates[keypoint]
        new = np.ones(len(rows), bool)
        if len(rows) and people:
            means = np.stack([np.mean(one, axis=0) for one in tags])
            distance = np.linalg.norm(rows[:, None, 3:] - means[None], axis=2)
            first, second = linear_sum_assignment(np.round(distance) * 100 - rows[:, 2:3])
            for row, person in zip(first, second, strict=True):
                if distance[row, person] < grouping.tag_distance:
                    people[person][keypoint] = rows[row]
                    tags[person].append(rows[row, 3:])
                    new[row] = False
        for row in rows[new]:
            people.append(np.zeros((len(candidates), size), np.float32))
            people[-1][keypoint] = row
            tags.append([row[3:]])
    return np.stack(people) if people else np.zeros((0, len(candidates), size), np.float32)


def adjust(people: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Found joints a quarter of a pixel towards the larger neighbour in x and in y, then to the middle of the pixel.

    Neighbours of equal value count as the smaller: the joint moves to the left, or up.
    """
    result, found = people.copy(), people[..., 2] > 0
    person, keypoint = found.nonzero()
    x, y = people[person, keypoint, :2].astype(np.int64).T
    result[person, keypoint, :2] += quarter(heatmaps, keypoint, x, y) + np.float32(0.5)
    return result


def quarter(heatmaps: np.ndarray, keypoint: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, 2) +-0.25 towards the larger neighbours of pixels (y, x) of the maps of `keypoint`, all (n,)."""
    height, width = heatmaps.shape[1:]
    left, right = heatmaps[keypoint, y, np.maximum(x - 1, 0)], heatmaps[keypoint, y, np.minimum(x + 1, width - 1)]
    above, below = heatmaps[keypoint, np.maximum(y - 1, 0), x], heatmaps[keypoint, np.minimum(y + 1, height - 1), x]
    return np.where(np.stack([right > left, below > above], -1), 0.25, -0.25).astype(np.float32)


def full_refine(people: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Missing joints where heatmap - round(distance to the person's mean tag) is largest, if the heatmap is positive.

    As mmpose 0.x: all maps of every person, also those of joints that it has.
    """
    best = np.zeros(people.shape[:2], np.int64)
    for number, mean in enumerate(mean_tags(people)):
        for keypoint in range(len(heatmaps)):
            distance = np.round(((tags[keypoint] - mean) ** 2).sum(-1) ** 0.5)
            best[number, keypoint] = np.argmax(heatmaps[keypoint] - distance)
    person, keypoint = (people[..., 2] == 0).nonzero()
    y, x = np.divmod(best[person, keypoint], heatmaps.shape[2])
    return fill(people, heatmaps, person, keypoint, x, y)


def fast_refine(people: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """The same joints, without a scan of the map for each: blocks of pixels are bounded by their largest value and the
    range of their tags, and only those are looked at that may hold the best pixel."""
    keypoint, person = (people[..., 2] == 0).T.nonzero()
    means, x, y = mean_tags(people), np.zeros_like(person), np.zeros_like(person)
    blocks = {number: Blocks(heatmaps[number], tags[number]) for number in np.unique(keypoint)}
    for i in range(len(person)):
        x[i], y[i] = blocks[keypoint[i]].best(means[person[i]])
    return fill(people, heatmaps, person, keypoint, x, y)


def mean_tags(people: np.ndarray) -> list[np.ndarray]:
    """Per person (L,) the mean tag of the joints that it has."""
    return [joints[joints[:, 2] > 0, 3:].mean(0) for joints in people]


def fill(people: np.ndarray, heatmaps: np.ndarray, person, keypoint, x, y) -> np.ndarray:
    """A copy in which these joints, all (n,), stand at pixels (y, x), where the heatmap is positive there."""
    value = heatmaps[keypoint, y, x]
    person, keypoint, x, y, value = (array[value > 0] for array in (person, keypoint, x, y, value))
    result = people.copy()
    result[person, keypoint, :2] = np.stack([x, y], -1) + 0.5 + quarter(heatmaps, keypoint, x, y)
    result[person, keypoint, 2] = value
    return result


class Blocks:
    """One map and its tags in blocks of 16 x 16 pixels (fewer at the right and the lower edge)."""

    def __init__(self, heatmap: np.ndarray, tags: np.ndarray) -> None:
        height, width = heatmap.shape
        down, right = -height % BLOCK, -width % BLOCK
        self.columns = (width + right) // BLOCK
        edge = ((0, down), (0, right))
        # what is beyond the edge can never be the best
        self.heat = self._split(np.pad(heatmap, edge, constant_values=-np.inf) if down or right else heatmap)
        tags = np.pad(tags, (*edge, (0, 0)), "edge") if down or right else tags
        self.tags = np.stack([self._split(tags[..., i]) for i in range(tags.shape[-1])])  # (L, blocks, pixels)
        self.largest, self.low, self.high = self.heat.max(-1), self.tags.min(-1), self.tags.max(-1)

    def _split(self, array: np.ndarray) -> np.ndarray:
        """(H, W) -> (blocks, pixels)."""
        rows = array.reshape(-1, BLOCK, self.columns, BLOCK).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(rows.reshape(-1, BLOCK * BLOCK))

    def best(self, mean: np.ndarray) -> tuple[int, int]:
        """x, y of the first pixel, row by row, with the largest heatmap - round(distance of its tag to `mean`)."""
        mean = mean[:, None]
        distance = np.sqrt(np.square(np.clip(mean, self.low, self.high) - mean).sum(0))
        bound = self.largest - np.round(np.maximum(distance - SLACK, 0)) + SLACK
        first = np.argpartition(-bound, min(FIRST, len(bound)) - 1)[:FIRST]
        chosen = np.flatnonzero(bound >= self._values(first, mean).max())
        values = self._values(chosen, mean)
        block, pixel = np.nonzero(values == values.max())
        row, column = np.divmod(pixel, BLOCK)
        top, left = np.divmod(chosen[block], self.columns)
        y, x = top * BLOCK + row, left * BLOCK + column
        first = np.lexsort((x, y))[0]
        return int(x[first]), int(y[first])

    def _values(self, blocks: np.ndarray, mean: np.ndarray) -> np.ndarray:
        distance = np.round(((self.tags[:, blocks] - mean[..., None]) ** 2).sum(0) ** 0.5)
        return self.heat[blocks] - distance
