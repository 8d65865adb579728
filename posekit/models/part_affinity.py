"""From heatmaps and part affinity fields to people: OpenPose's greedy assembly (Cao et al. 2017, sections 2.3 and 2.4).

    peaks of every part  ->  pairs of parts scored along each limb by the field  ->  one-to-one, best first  ->  people

Legend: P = 18 parts (COCO's 17 keypoints and the neck), E = 19 limbs, (H, W) maps of the size of the network input.
Inside, pixel (r, c) is x = c, y = r; `assemble` adds the half pixel of COCO's frame.
"""

from __future__ import annotations

import numpy as np

from posekit.pixels import from_pixel_index
from posekit.poses import Poses, boxes_around

PARTS = (
    "nose neck r_shoulder r_elbow r_wrist l_shoulder l_elbow l_wrist r_hip r_knee r_ankle l_hip l_knee l_ankle r_eye "
    "l_eye r_ear l_ear"
).split()
TO_COCO = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)  # part of each of COCO's keypoints
LIMBS = tuple(
    tuple(map(int, limb.split("-")))
    for limb in "1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17 2-16 5-17".split()
)
CLOSING = (17, 18)  # limbs that never begin a person: ear to shoulder
PEAK, ALIGNED = 0.05, 0.05  # the smallest peak; the smallest field along a limb that counts
SHARE = 0.95  # of a limb's samples that must be aligned
MOST, FEWEST_JOINTS, LOWEST_SCORE = 127, 3, 0.4


def peaks(heatmap: np.ndarray) -> np.ndarray:
    """(n, 3) x, y, value of the strict local maxima of a map (H, W), row by row, at most 127.

    x and y are the centroid of the positive values within three pixels.
    """
    height, width = heatmap.shape
    around = np.pad(heatmap, 1, constant_values=-np.inf)
    others = [around[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in NEIGHBOURS]
    y, x = np.nonzero((heatmap > PEAK) & np.logical_and.reduce([heatmap > other for other in others]))
    y, x = y[:MOST], x[:MOST]
    padded, offsets = np.pad(heatmap, 3).clip(min=0), np.arange(-3, 4)
    windows = padded[y[:, None, None] + offsets[:, None] + 3, x[:, None, None] + offsets + 3]
    total = windows.sum((1, 2))
    shift_x, shift_y = (windows * offsets).sum((1, 2)) / total, (windows * offsets[:, None]).sum((1, 2)) / total
    return np.stack([x + shift_x, y + shift_y, heatmap[y, x]], 1)


NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def limb_scores(field: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) scores of limbs between peaks (n, 3) and (m, 3), from the field (2, H, W) along the line between them.

    The mean of the aligned samples where more than 95 % of them are; a bit above 0.05 for two peaks so close that the
    field says nothing; else 0.
    """
    height, width = field.shape[1:]
    delta = second[None, :, :2] - first[:, None, :2]
    length, longest = np.linalg.norm(delta, axis=-1), np.abs(delta).max(-1)
    count = np.clip(np.round(np.sqrt(5 * longest)), 5, 25)
    step = np.arange(25)
    share = np.minimum(step / count[..., None], 1)  # (n, m, 25)
    points = first[:, None, None, :2] + share[..., None] * delta[:, :, None]
    x = np.round(points[..., 0]).astype(int).clip(0, width - 1)
    y = np.round(points[..., 1]).astype(int).clip(0, height - 1)
    unit = delta / np.maximum(length, 1e-6)[..., None]
    dots = field[0, y, x] * unit[..., None, 0] + field[1, y, x] * unit[..., None, 1]
    counted = step < count[..., None]
    aligned = (dots > ALIGNED) & counted
    number = aligned.sum(-1)
    mean = (dots * aligned).sum(-1) / np.maximum(number, 1)
    near = length < np.sqrt(width * height) / 150
    return np.where(number / count > SHARE, mean, np.where(near, ALIGNED + 1e-6, 0.0))


def one_to_one(scores: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs (row, column, score) with a positive score, greedily from the best on, each row and column once."""
    rows, columns = np.nonzero(scores > 0)
    taken_rows, taken_columns, pairs = set(), set(), []
    for i in np.argsort(-scores[rows, columns], kind="stable"):
        row, column = int(rows[i]), int(columns[i])
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column, float(scores[row, column])))
    return pairs


def join_limbs(limbs: list[list[tuple[int, int, float]]]) -> list[tuple[dict[int, int], float]]:
    """People as ({part: peak}, sum of the limbs' scores).

    A limb belongs to the person that has its first part; nobody has it: it begins a new person, unless it is one of
    those from ear to shoulder, which only close what is there.
    """
    people: list[tuple[dict[int, int], float]] = []
    for number, ((a, b), pairs) in enumerate(zip(LIMBS, limbs, strict=True)):
        for first, second, score in pairs:
            owner = next((i for i, (parts, _) in enumerate(people) if parts.get(a) == first), None)
            if owner is not None:
                parts, total = people[owner]
                if b not in parts:
                    parts[b] = second
                    people[owner] = parts, total + score
            elif number not in CLOSING:
                people.append(({a: first, b: second}, score))
    return people


def assemble(heatmaps: np.ndarray, pafs: np.ndarray) -> Poses:
    """The people of one image, best first, COCO's keypoints and frame.

    heatmaps (P, H, W) or with the background after them, pafs (2 E, H, W), x and y of a limb in turn. People have at
    least three parts and a score of 0.4, the sum of their peaks and limbs by the number of parts.
    """
    found = [peaks(heatmaps[part]) for part in range(len(PARTS))]
    limbs = []
    for limb, (a, b) in enumerate(LIMBS):
        both = len(found[a]) and len(found[b])
        field = pafs[2 * limb : 2 * limb + 2]
        limbs.append(one_to_one(limb_scores(field, found[a], found[b])) if both else [])
    rows, scores = [], []
    for parts, total in join_limbs(limbs):
        joints = np.zeros((len(PARTS), 3))
        for part, peak in parts.items():
            joints[part] = found[part][peak]
        score = (total + joints[:, 2].sum()) / len(parts)
        if len(parts) >= FEWEST_JOINTS and score >= LOWEST_SCORE:
            rows.append(joints[list(TO_COCO)])
            scores.append(score)
    if not rows:
        return Poses.nobody(len(TO_COCO))
    people, order = np.stack(rows).astype(np.float32), np.argsort(-np.array(scores), kind="stable")
    seen = people[..., 2] > 0
    keypoints = np.where(seen[..., None], from_pixel_index(people[..., :2]), 0).astype(np.float32)
    poses = Poses(keypoints, people[..., 2].clip(0, 1), np.array(scores, np.float32), boxes_around(keypoints, seen))
    return poses.select(order)
