"""Any folder in COCO's keypoint format: pictures and one JSON (Lin et al. 2014,
cocodataset.org/#format-data).

Real COCO (`annotations/person_keypoints_val2017.json`, `val2017/`) or a folder that somebody made (one JSON
with keypoints, pictures in `images/` or beside it). The number of keypoints comes from the file. A problem is
one sentence that names the file and the id.

Frame: COCO's pixels, (0, 0) the top-left corner of the picture as stored: the EXIF orientation is ignored,
because COCO annotated the stored pixels. n people, K keypoints, m crowd regions.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from posekit.data.pictures import DataError, check_size, quick_check, read_image
from posekit.layouts import LAYOUTS, Layout, layout_for

SYNONYMS = {"head": "top_head"}  # CrowdPose's own files differ in this one name


class CocoFolder:
    """A data set read from `root`: a folder, or the path of its JSON.

    `split`: "train" or "val". `annotations`, `images`: file and folder, if they are not where they are
    usually found. `layout`: a `Layout` or the name of one, if the file's own keypoint names are not to be
    used. `with_people`: keep only images with at least one labelled, non-crowd person (for training).
    `count`: only the first so many images.

    `on_error="raise"`: the first bad entry stops with a `DataError`. `"skip"`: bad annotations and images are
    left out, and `skipped` lists a sentence for each; pictures are then looked at (header and end, not
    decoded) at once.

    Attributes: `name`, `layout`, `ids` (image ids, in the file's order), `note` (what a reader should know,
    or ""), `skipped`, `area_scale` 1.0, `fingerprint`: sha256 of annotation file and ids, shortened to 12
    digits.
    """

    area_scale = 1.0

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        layout: Layout | str | None = None,
        on_error: str = "raise",
        with_people: bool = False,
        count: int | None = None,
    ) -> None:
        if split not in ("train", "val"):
            raise ValueError(f"a data set has the splits 'train' and 'val', not '{split}'")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', not '{on_error}'")
        self.root, self.split, self.on_error = Path(root), split, on_error
        self.skipped: list[str] = []
        notes: list[str] = []
        if self.root.is_file():
            self.root, annotations = self.root.parent, self.root
            if self.root.name == "annotations":
                self.root = self.root.parent
        if not self.root.is_dir():
            raise DataError(f"there is no folder '{self.root}'")
        self.name = self.root.resolve().name
        self.file, self._data = find_annotations(self.root, split, annotations, notes)
        self.layout = find_layout(self.file, self._data, layout, notes)
        self._read(with_people, count, notes)
        self.folder = find_images(self.root, split, images, self._images)
        self._check_files()
        self.note = "; ".join(notes)

    def __len__(self) -> int:
        return len(self._images)

    def __repr__(self) -> str:
        return f"CocoFolder({self.name}, {self.split}: {len(self)} images, {len(self.layout)} keypoints)"

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self._images]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.file.read_bytes())
        digest.update(json.dumps(self.ids).encode())
        return digest.hexdigest()[:12]

    def path(self, i: int) -> Path:
        """Where the picture of image i lies."""
        return self.folder / self._images[i]["file_name"]

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises DataError for a missing, truncated, unreadable or wrongly sized
        picture."""
        row, path = self._images[i], self.path(i)
        pixels = read_image(path, f"image {row['id']}")
        check_size(row, path, pixels.shape[1], pixels.shape[0])
        return pixels

    def target(self, i: int) -> dict[str, np.ndarray]:
        """The people of image i, in pixels of the image:

        `keypoints` (n, K, 2) f32, `visibility` (n, K) uint8 in {0, 1, 2}, `boxes` (n, 4) f32 xyxy, `areas`
        (n,) f32, `ignore` (m, 4) f32 xyxy: crowd regions. People without a labelled joint are among the n.
        """
        rows = self._people.get(self._images[i]["id"], [])
        people = [row for row in rows if not row["iscrowd"]]
        triples = np.array([row["keypoints"] for row in people], np.float32).reshape(
            len(people), len(self.layout), 3
        )
        return {
            "keypoints": np.ascontiguousarray(triples[..., :2]),
            "visibility": triples[..., 2].astype(np.uint8),
            "boxes": _corners([row["bbox"] for row in people]),
            "areas": np.array([row["area"] for row in people], np.float32),
            "ignore": _corners([row["bbox"] for row in rows if row["iscrowd"]]),
        }

    @property
    def ground_truth(self) -> dict:
        """The COCO dictionary of the images in use: images, annotations (crowds too) and categories, in image
        pixels.

        Segmentations are left out: keypoint scoring does not use them, and they are most of the file.
        """
        rows = [row for image in self._images for row in self._people.get(image["id"], [])]
        return {"images": self._images, "annotations": rows, "categories": self._categories}

    def problem(self, sentence: str) -> None:
        """Stop with the sentence, or note it and go on, as `on_error` says."""
        if self.on_error == "raise":
            raise DataError(sentence)
        self.skipped.append(sentence)

    def _read(self, with_people: bool, count: int | None, notes: list[str]) -> None:
        data, k = self._data, len(self.layout)
        del self._data
        categories = [row for row in data.get("categories", []) if row.get("keypoints")]
        known = {row["id"] for row in categories}
        self._categories = categories or [
            {"id": 1, "name": "person", "keypoints": list(self.layout.keypoints)}
        ]
        self._images = []
        for row in data["images"]:
            if not {"id", "file_name", "width", "height"} <= row.keys():
                self.problem(
                    f"{self.file}: image {row.get('id', '?')} lacks one of id, file_name, width and height"
                )
            else:
                self._images.append(row)
        images = {row["id"]: row for row in self._images}
        if len(images) < len(self._images):
            raise DataError(f"{self.file}: two images have the same id; ids must be unique")
        if not all(isinstance(key, int) for key in images):
            raise DataError(f"{self.file}: image ids must be whole numbers; '{next(iter(images))}' is not")
        self._people, no_area, seen, labelled = {}, 0, 0, set()
        for number, row in enumerate(data["annotations"]):
            if known and row.get("category_id") not in known:
                continue
            row.pop("segmentation", None)
            row.setdefault("id", number + 1)
            row.setdefault("iscrowd", 0)
            fault = self._fault(row, images, k)
            if fault:
                self.problem(
                    f"{self.file}: annotation {row['id']} (image {row.get('image_id', '?')}) {fault}"
                )
                continue
            flags = row["keypoints"][2::3]
            row["num_keypoints"] = sum(flag > 0 for flag in flags)
            if "bbox" not in row:
                row["bbox"] = _box_around(row["keypoints"])
            if "area" not in row:
                row["area"] = row["bbox"][2] * row["bbox"][3] * 0.53
                no_area += 1
            self._people.setdefault(row["image_id"], []).append(row)
            if row["num_keypoints"] and not row["iscrowd"]:
                labelled.add(row["image_id"])
                seen += 2 in flags
        if no_area:
            notes.append(
                f"{no_area} annotations have no area: 0.53 of the box is taken, as CrowdPose's scorer does"
            )
        if labelled and not seen:
            notes.append(
                "no joint is marked v = 2 (seen): POET's losses, which train seen joints only, find nothing"
            )
        if with_people:
            self._images = [row for row in self._images if row["id"] in labelled]
        self._images = self._images[:count]
        if not self._images:
            raise DataError(
                f"{self.file}: no image{' with labelled people' if with_people else ''} is left to use"
            )

    def _fault(self, row: dict, images: dict, k: int) -> str | None:
        """What is wrong with an annotation, or None."""
        if row.get("image_id") not in images:
            return "belongs to an image that the file does not list"
        values = row.get("keypoints")
        if values is None:
            if row["iscrowd"] and "bbox" in row:
                row["keypoints"] = [0] * (3 * k)
                return None
            return "lacks 'keypoints'"
        if len(values) != 3 * k:
            return f"has {len(values)} keypoint numbers, but the {k} keypoints of layout '{self.layout.name}' need {3 * k}"
        try:
            finite = (
                np.isfinite(
                    np.array(
                        [
                            values,
                        ],
                        float,
                    )
                ).all()
                and np.isfinite(row.get("bbox", 0.0)).all()
            )
        except (TypeError, ValueError):
            return "holds something other than numbers"
        if not finite or not np.isfinite(row.get("area", 0.0)):
            return "holds a number that is not finite (NaN or infinity)"
        if not set(values[2::3]) <= {0, 1, 2}:
            return f"has visibility flags {sorted(set(values[2::3]))}; COCO knows 0, 1 and 2"
        if "bbox" in row and len(row["bbox"]) != 4:
            return f"has a bbox of {len(row['bbox'])} numbers; it needs x, y, width and height"
        return None

    def _check_files(self) -> None:
        """Every picture is there (one listing of the folder); with on_error="skip", also that it looks
        whole."""
        present, keep = set(os.listdir(self.folder)), []
        for i, row in enumerate(self._images):
            path = self.path(i)
            if row["file_name"] not in present and not path.is_file():
                self.problem(f"image {row['id']}: there is no picture '{path}'")
                continue
            try:
                if self.on_error == "skip":
                    quick_check(row, path)
                keep.append(row)
            except DataError as error:
                self.problem(str(error))
        self._images = keep
        if not keep:
            raise DataError(f"none of the pictures that {self.file} lists can be used: {self.skipped[-1]}")


def find_annotations(root: Path, split: str, given: str | Path | None, notes: list[str]) -> tuple[Path, dict]:
    """The annotation file and its content: the one given, COCO's own name, or the only JSON with
    keypoints."""
    if given is not None:
        paths = [path for path in (root / given, root / "annotations" / given, Path(given)) if path.is_file()]
        if not paths:
            raise DataError(f"there is no annotation file '{given}' in '{root}'")
        return paths[0], read_json(paths[0])
    standard = [
        root / "annotations" / f"person_keypoints_{split}{year}.json" for year in ("2017", "2014", "")
    ]
    standard[-1] = root / "annotations" / f"person_keypoints_{split}.json"
    for path in standard:
        if path.is_file():
            return path, read_json(path)
    candidates = sorted([*root.glob("annotations/*.json"), *root.glob("*.json")])
    if not candidates:
        raise DataError(
            f"there is no annotation file in '{root}': expected annotations/person_keypoints_{split}2017.json, or one "
            "*.json with keypoints there or in annotations/"
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
            notes.append("no left_/right_ pairs among the keypoint names: do not flip these pictures")
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


def _corners(boxes: list) -> np.ndarray:
    """COCO's x, y, width, height -> (n, 4) float32 x0, y0, x1, y1."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _box_around(keypoints: list) -> list[float]:
    """x, y, width, height around the labelled keypoints."""
    points = np.array(keypoints, float).reshape(-1, 3)
    points = points[points[:, 2] > 0, :2]
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    return [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()]
