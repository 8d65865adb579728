"""What lies where in a folder of COCO's format: the annotation file, the pictures, and which keypoints they
have.

Real COCO is found by its own names; a folder that somebody made by looking for the one JSON that holds
keypoints.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from posekit.data.pictures import DataError
from posekit.layouts import LAYOUTS, Layout, layout_for

SYNONYMS = {"head": "top_head"}  # CrowdPose's own files differ in this one name


def find_annotations(root: Path, split: str, given: str | Path | None, notes: list[str]) -> tuple[Path, dict]:
    """The annotation file and its content: the one given, COCO's own name, or the only JSON with
    keypoints."""
    if given is not None:
        paths = [path for path in (root / given, root / "annotations" / given, Path(given)) if path.is_file()]
        if not paths:
            raise DataError(f"there is no annotation file '{given}' in '{root}'")
        return paths[0], read_json(paths[0])
    usual = [f"annotations/person_keypoints_{split}{year}.json" for year in ("2017", "2014", "")]
    usual += [f"{place}/crowdpose_{split}.json" for place in ("annotations", "json")]  # as CrowdPose unpacks
    for path in (root / name for name in usual):
        if path.is_file():
            return path, read_json(path)
    candidates = sorted([*root.glob("annotations/*.json"), *root.glob("*.json")])
    if not candidates:
        raise DataError(
            f"there is no annotation file in '{root}': expected "
            f"annotations/person_keypoints_{split}2017.json, "
            "or one *.json with keypoints there or in annotations/"
        )
    other = {"train": "val", "val": "train"}[split]
    mine = [path for path in candidates if split in path.stem]
    neutral = [path for path in candidates if other not in path.stem]
    for paths in (mine, neutral, candidates):
        usable, faults = [], []
        for path in paths:
            try:
                usable.append((path, read_json(path)))
            except DataError as error:
                faults.append(error)
        if len(usable) > 1:
            names = ", ".join(path.name for path, _ in usable)
            raise DataError(
                f"'{root}' has several annotation files ({names}): say which with annotations=..."
            )
        if usable:
            if paths is not mine:
                notes.append(
                    f"{usable[0][0].name} serves as train and as val: scores are on the training images"
                )
            return usable[0]
    raise faults[0]


def read_json(path: Path) -> dict:
    """The content of a COCO keypoint file. Raises DataError if it is not JSON or holds no keypoints."""
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict) or not {"images", "annotations"} <= data.keys():
        raise DataError(
            f"{path} is not a COCO annotation file: it needs the lists 'images' and 'annotations'"
        )
    if not any("keypoints" in row for row in data["annotations"]):
        raise DataError(
            f"{path} lacks 'keypoints': none of its {len(data['annotations'])} annotations has them "
            "(COCO's file of that kind is named person_keypoints_*.json)"
        )
    return data


def find_layout(path: Path, data: dict, given: Layout | str | None, notes: list[str]) -> Layout:
    """The layout given, else the one that the file's categories name, else one with as many keypoints."""
    if isinstance(given, Layout):
        return given
    if given is not None:
        if given not in LAYOUTS:
            raise ValueError(f"unknown layout '{given}'; there are {', '.join(LAYOUTS)}")
        return LAYOUTS[given]
    categories = [row for row in data.get("categories", []) if row.get("keypoints")]
    if categories:
        names = categories[0]["keypoints"]
        if any(row["keypoints"] != names for row in categories):
            raise DataError(
                f"{path}: its categories have different keypoints; posekit reads one layout at a time"
            )
        if len(set(names)) < len(names):
            raise DataError(f"{path}: its categories name a keypoint twice; names must differ")
    else:
        first = next(row for row in data["annotations"] if row.get("keypoints"))
        count = len(first["keypoints"]) // 3
        known = [layout for layout in LAYOUTS.values() if len(layout) == count]
        if known:
            notes.append(
                f"{path.name} does not name its {count} keypoints: layout '{known[0].name}' is assumed"
            )
            return known[0]
        names = [f"keypoint_{i}" for i in range(count)]
    layout = layout_for(names)
    if layout.name not in LAYOUTS:
        usual = layout_for([SYNONYMS.get(name, name) for name in names])
        layout = usual if usual.name in LAYOUTS else _own_layout(layout, categories)
    if layout.name not in LAYOUTS:
        notes.append(f"keypoints of its own: equal OKS sigmas {layout.sigmas[0]} are used")
        if (layout.flip == np.arange(len(layout))).all():
            notes.append("no left_/right_ pairs among the keypoint names: flips are left out")
    return layout


def _own_layout(layout: Layout, categories: list[dict]) -> Layout:
    """The unknown layout with the limbs of the file's skeleton (pairs counted from 1), if they make sense."""
    limbs = categories[0].get("skeleton", []) if categories else []
    valid = all(len(pair) == 2 and 1 <= min(pair) and max(pair) <= len(layout) for pair in limbs)
    return replace(layout, limbs=tuple((a - 1, b - 1) for a, b in limbs)) if valid else layout


def find_images(root: Path, split: str, given: str | Path | None, rows: list[dict]) -> Path:
    """The folder that holds the pictures: the one given, else the first usual one that has any of the first
    50."""
    if given is not None:
        for folder in (root / given, Path(given)):
            if folder.is_dir():
                return folder
        raise DataError(f"there is no picture folder '{given}' in '{root}'")
    usual = [f"{split}2017", f"images/{split}2017", f"images/{split}", "images", split, f"{split}2014", "."]
    folders = [root / name for name in usual if (root / name).is_dir()]
    for folder in folders:
        if any((folder / row["file_name"]).is_file() for row in rows[:50]):
            return folder
    return folders[0]
