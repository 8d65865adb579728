"""What lies where in a folder of COCO's format: the annotation file, the images, and which keypoints they have.

Real COCO is found by its own names; a folder that somebody made by looking for the one JSON that holds keypoints.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from posekit.data.coco_json import CocoFile, load, parts
from posekit.data.crowdpose import has_crowd_index
from posekit.data.images import DataError
from posekit.data.own_keypoints import with_pairs, with_sigmas
from posekit.layouts import LAYOUTS, SYNONYMS, Layout, layout_for, sigmas_for

# Folders of their own, as Roboflow writes
SPLIT_FOLDERS = {"train": ("train",), "val": ("valid", "val", "validation", "test")}


def find_annotations(root: Path, split: str, given: str | Path | None, notes: list[str]) -> tuple[Path, dict]:
    """The annotation file and its content: the one given, COCO's own name, or the only JSON with keypoints."""
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
    other = {"train": "val", "val": "train"}[split]
    beside = sorted([*root.glob("annotations/*.json"), *root.glob("*.json")])
    mine, theirs = (_own_folder(root, part) for part in (split, other))
    if not (beside or mine or theirs):
        raise DataError(
            f"there is no annotation file in '{root}': expected "
            f"annotations/person_keypoints_{split}2017.json, one *.json with keypoints there or in annotations/, "
            "or one in each of train/ and valid/"
        )
    named = [path for path in beside if split in path.stem]
    neutral = [path for path in beside if other not in path.stem]
    faults = []
    for paths in (named, neutral, mine, beside, theirs):
        usable = []
        for path in paths:
            try:
                usable.append((path, read_json(path)))
            except DataError as error:
                faults.append(error)
        if len(usable) > 1:
            names = ", ".join(path.name for path, _ in usable)
            raise DataError(f"'{root}' has several annotation files ({names}): say which with annotations=...")
        if usable:
            if paths is not named and paths is not mine:
                notes.append(f"{usable[0][0].name} serves as train and as val: scores are on the training images")
            return usable[0]
    raise faults[0]


def _own_folder(root: Path, split: str) -> list[Path]:
    """The JSON files of the first folder of the split that has any."""
    found = (sorted((root / name).glob("*.json")) for name in SPLIT_FOLDERS[split])
    return next((paths for paths in found if paths), [])


def read_json(path: Path) -> dict:
    """The content of a COCO keypoint file. Raises DataError if it is not JSON or holds no keypoints."""
    try:
        data = load(path)
        _, rows, _ = parts(data, str(path))
    except ValueError as error:
        raise DataError(str(error)) from None
    if not any(getattr(row, "keypoints", None) or isinstance(row, dict) and row.get("keypoints") for row in rows):
        raise DataError(
            f"{path} lacks 'keypoints': none of its {len(rows)} annotations has them "
            "(COCO's file of that kind is named person_keypoints_*.json)"
        )
    return data


def known_layout(given: Layout | str | None) -> Layout | None:
    """A layout by its name. Raises ValueError for an unknown one."""
    if isinstance(given, str):
        if given not in LAYOUTS:
            raise ValueError(f"unknown layout '{given}'; there are {', '.join(LAYOUTS)}")
        return LAYOUTS[given]
    return given


def find_layout(
    path: Path, file: CocoFile, given: Layout | None, notes: list[str], sigmas=None, flip_pairs=None
) -> tuple[Layout, str]:
    """The layout of the data and where its OKS sigmas come from: those given, else the file's own, else by `_named`."""
    layout, source = _named(path, file, given, notes)
    try:
        if sigmas is not None or file.categories[0].sigmas and given is None:
            source = f"{path.name}'s own" if sigmas is None else "given"
            layout = with_sigmas(layout, file.categories[0].sigmas if sigmas is None else sigmas)
        elif given is None and layout.name not in LAYOUTS:
            equal = "equal OKS sigmas" if (layout.sigmas == layout.sigmas[0]).all() else "OKS sigmas"
            notes.append(f"keypoints of its own: {equal} are used, {source}")
        if flip_pairs is not None:
            layout = with_pairs(layout, flip_pairs)
        own = given is None and layout.keypoints not in [one.keypoints for one in LAYOUTS.values()]
        if own or flip_pairs is not None:
            notes.append(flip_words(layout))
    except ValueError as error:
        raise DataError(str(error)) from None
    return layout, source


def _named(path: Path, file: CocoFile, given: Layout | None, notes: list[str]) -> tuple[Layout, str]:
    """The layout given, else the one that the file's categories name, else one with as many keypoints; and where its
    sigmas come from."""
    if given is not None:
        known = LAYOUTS.get(given.name)
        return given, given.name if known is not None and known.sigmas is given.sigmas else f"{given.name}, as given"
    first, k = file.categories[0], file.k
    if not first.keypoints:
        known = [layout for layout in LAYOUTS.values() if len(layout) == k]
        if known:
            notes.append(f"{path.name} does not name its {k} keypoints: layout '{known[0].name}' is assumed")
            return known[0], known[0].name
    names = first.keypoints or tuple(f"keypoint_{i}" for i in range(k))
    layout = layout_for([SYNONYMS.get(name, name) for name in names])
    if layout.name in LAYOUTS:
        return layout, layout.name
    crowdpose = has_crowd_index(file.images)
    sigmas, source = sigmas_for(first.keypoints, k, crowdpose)
    return replace(layout_for(names), limbs=first.limbs, sigmas=sigmas.copy()), source


def flip_words(layout: Layout) -> str:
    """What a horizontal flip does to keypoints that no known layout has."""
    pairs = [(a, b) for a, b in enumerate(layout.flip) if a < b]
    names = layout.keypoints
    rest = [name for i, name in enumerate(names) if layout.flip[i] == i]
    listed = ", ".join(rest[:8]) + (f" and {len(rest) - 8} more" if len(rest) > 8 else "")
    if not pairs:
        return f"no left_/right_ pairs among the keypoint names ({listed}): flips are left out"
    swapped = ", ".join(f"{names[a]}/{names[b]}" for a, b in pairs[:4]) + (" ..." if len(pairs) > 4 else "")
    alone = f"; these have no partner by name and keep their place: {listed}" if rest else ""
    return f"flips swap {swapped}{alone}"


def find_images(root: Path, split: str, given: str | Path | None, rows: list[dict], file: Path) -> Path:
    """The folder that holds the images: the one given, else the first usual one that has any of the first 50."""
    if given is not None:
        for folder in (root / given, Path(given)):
            if folder.is_dir():
                return folder
        raise DataError(f"there is no folder of images '{given}' in '{root}'")
    usual = [f"{split}2017", f"images/{split}2017", f"images/{split}", "images", split, f"{split}2014", "."]
    folders = [root / name for name in usual if (root / name).is_dir()]
    if file.parent not in (root, root / "annotations") and root in file.parents:  # train/, valid/ of their own
        folders = [*(path for path in (file.parent / "images", file.parent) if path.is_dir()), *folders]
    for folder in folders:
        if any(os.path.isfile(image_path(folder, row["file_name"])) for row in rows[:50]):
            return folder
    return folders[0]


def image_path(folder: Path, name: str) -> Path:
    """Where an image lies; the backslashes of a Windows path are folders unless a file is named so."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not os.path.isfile(path) else path


def is_inside(path: Path, folders: list[Path]) -> bool:
    """Does an image lie in one of these folders, links followed?"""
    real = os.path.realpath(path)
    return any(os.path.commonpath([root, real]) == root for root in map(os.path.realpath, folders))
