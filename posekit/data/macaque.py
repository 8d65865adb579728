"""MacaquePose (Labuguen et al. 2021) in COCO's format: POET's second data set, split as its paper says (Stoffl et al.
2021, "Macaque pose": 80 % to train on, boxes from the segmentation masks).

annotations.csv has a row per image: its file name, the animals' keypoints and the animals' masks, both JSON. An animal
is a list: of {"name": "left eye", "position": [x, y] or null}, and of polygons {"segment": [[x, y], ...]}.
Coordinates: pixels of the image.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from posekit.data.images import DataError, header_size
from posekit.files import write_json
from posekit.layouts import COCO

SHARE = 0.8  # of the images are trained on


def convert(folder: str | Path, seed: int = 0, share: float = SHARE) -> tuple[Path, Path]:
    """Writes annotations/macaque_train.json and ..._val.json beside annotations.csv and images/; returns their paths.

    Animals without a labelled keypoint, or without a mask, are left out; a line says how many.

    Raises:
        DataError: annotations.csv or an image is missing, or a row cannot be read; the sentence names it.
    """
    folder, rows = Path(folder), []
    try:
        with open(folder / "annotations.csv", newline="", encoding="utf-8-sig") as file:
            csv.field_size_limit(2**31 - 1)
            rows = list(csv.reader(file))[1:]
    except OSError as error:
        raise DataError(f"{folder / 'annotations.csv'} cannot be read: {error.strerror}") from None
    images, people, lost = [], [], 0
    for number, row in enumerate(rows, 1):
        try:
            name, keypoints, masks = row[:3]
            animals = list(zip(json.loads(keypoints), json.loads(masks), strict=True))
            found = [_annotation(joints, polygons) for joints, polygons in animals]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{folder / 'annotations.csv'}, row {number}: not as published ({error})") from None
        path = folder / "images" / name
        if not path.is_file():
            raise DataError(f"{folder / 'annotations.csv'}, row {number}: there is no image '{path}'")
        width, height = header_size(path.read_bytes(), path)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for one in filter(None, found):
            people.append(one | {"id": len(people) + 1, "image_id": number, "category_id": 1, "iscrowd": 0})
        lost += found.count(None)
    if lost:
        print(f"{lost} animals without a labelled keypoint or without a mask are left out")
    order = np.random.default_rng(seed).permutation(len(images))
    trained = {images[i]["id"] for i in order[: round(share * len(images))]}
    category = {"id": 1, "name": "macaque", "keypoints": COCO.keypoints}
    category["skeleton"] = [[a + 1, b + 1] for a, b in COCO.limbs]
    written = []
    for split, mine in (("train", True), ("val", False)):
        content = {
            "images": [one for one in images if (one["id"] in trained) == mine],
            "annotations": [one for one in people if (one["image_id"] in trained) == mine],
            "categories": [category],
        }
        written.append(folder / "annotations" / f"macaque_{split}.json")
        write_json(written[-1], content, indent=None)
    return written[0], written[1]


def _annotation(joints: list[dict], polygons: list[dict]) -> dict | None:
    """Keypoints, box and area of an animal; None without a labelled joint or a mask."""
    named = {joint["name"].strip().lower().replace(" ", "_"): joint["position"] for joint in joints}
    if unknown := set(named) - set(COCO.keypoints):
        raise ValueError(f"unknown keypoints {', '.join(sorted(unknown))}")
    labelled = [named.get(name) for name in COCO.keypoints]
    outlines = [np.array(one["segment"], float).reshape(-1, 2) for one in polygons if one["segment"]]
    if not any(labelled) or not outlines:
        return None
    corners = np.concatenate(outlines)
    (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
    triples = [[*map(float, place[:2]), 2] if place else [0, 0, 0] for place in labelled]
    return {
        "keypoints": [value for triple in triples for value in triple],
        "num_keypoints": sum(map(bool, labelled)),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(sum(map(_area, outlines))),
        "segmentation": [outline.ravel().tolist() for outline in outlines],
    }


def _area(outline: np.ndarray) -> float:
    """Of a polygon (n, 2), pixels^2 (the shoelace formula)."""
    x, y = outline.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
