"""Drawn people: a data set that is a pure function of (style, seed, index, size), with exact annotations.

A stand-in that teaches and tests the machinery; it is never called COCO. Boxes, areas and visibility come from an id
buffer painted beside the image. COCO's area limits (32^2, 96^2 px) are meant on the nominal `CANVAS` x `CANVAS` canvas
whatever the size of the stored image: `Scenes.area_scale` says by how much to multiply them.

Visibility: 0 outside the image (x = y = 0), 1 occluded, 2 visible. A joint is visible when the pixel at the joint shows
a part of the same body that the joint belongs to (an elbow: upper arm or forearm). So a joint is occluded by other
people, by objects, and by its own body: an arm behind the back, the far shoulder and hip in profile, the nose of a head
turned away, ears under long hair. Clothes do not occlude joints.

Shapes: n people of a scene, K joints of the style's layout, S the size of the image.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from posekit.data.crowdpose import crowd_index
from posekit.data.drawn import background
from posekit.data.drawn.body_parts import joint_part_table, sample_appearance
from posekit.data.drawn.cache import FIELDS, load_or_draw, scaled
from posekit.data.drawn.placement import sample_placement
from posekit.data.drawn.render import CANVAS, PlacedBodies, paint_ids, paint_person, place_bodies
from posekit.data.drawn.skeleton import POINT, sample_poses
from posekit.data.drawn.styles import STYLES, Style
from posekit.files import write_bytes

ID_SIZE = 256  # pixels of the id buffer, whatever the size of the image
MIN_JOINTS, MIN_AREA = 4, 250.0  # every annotated person shows at least this many joints and square units
MAX_PEOPLE = 13

_PARTS_OF_JOINT = {name: joint_part_table(style.layout) for name, style in STYLES.items()}
_JOINTS = {name: np.array([POINT[k] for k in style.layout.keypoints]) for name, style in STYLES.items()}


def draw(style: str, seed: int, index: int, size: int, people: tuple | None = None) -> tuple[np.ndarray, dict]:
    """Draw scene `index` of the stream (style, seed): the image and its annotation.

    `people`: (fewest, most) in it; None: the style's own range.

    Returns:
        image (size, size, 3) uint8 RGB, and a dict on the canvas (corner frame, `CANVAS` units wide,
        independent of `size`): `keypoints` (n, K, 2) float32, `visibility` (n, K) uint8, `boxes` (n, 4)
        float32 xyxy and `areas` (n,) float32 of what can be visible, `owner` (ID_SIZE, ID_SIZE) uint8: 0 or 1 +
        the person visible there.

    Raises:
        ValueError: unknown style, negative seed or index, or a range of people outside 1..13.
    """
    table, people = _check(style, people)
    if seed < 0 or index < 0 or size < 16:
        raise ValueError(f"seed {seed} and index {index} must not be negative, and size {size} at least 16 pixels")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([zlib.crc32(style.encode()), seed, index])))
    n = people[0] + int(rng.random() * (people[1] - people[0] + 1))

    bodies, appearance = sample_poses(table, rng, n), sample_appearance(table, rng, n)
    height, centre = sample_placement(table, rng, bodies)
    behind = [background.occluder(rng, table, (0.03, 0.22)) for _ in range(2 + int(9 * rng.random()))]
    front = []
    for _ in range(int(2.0 * rng.random())):
        front.append((int(rng.random() * (n + 1)), background.occluder(rng, table, (0.05, 0.24))))
    # Near people are mostly the larger ones, and stand in front.
    nearness = np.argsort(height * (0.6 + 0.8 * rng.random(n)), kind="stable")

    while True:
        placed = place_bodies(bodies, centre, height, appearance)
        annotation = _annotate(style, placed, nearness, front)
        lost = ((annotation["visibility"] == 2).sum(1) < MIN_JOINTS) | (annotation["areas"] < MIN_AREA)
        if not lost.any():
            break
        # A person whom nobody can see would be an unfair label: move forward, elsewhere and a little further away.
        for i in np.flatnonzero(lost):
            centre[i] = CANVAS * (0.15 + 0.7 * rng.random(2))
            height[i] = max(0.9 * height[i], 0.18 * CANVAS)
            nearness = np.append(nearness[nearness != i], i)

    image = background.draw_ground(rng, size, table.grounds)
    outlined = rng.random() < 0.6
    for occluder in behind:
        background.paint_occluder(image, occluder, outlined)
    for depth in range(n + 1):
        for at, occluder in front:
            if at == depth:
                background.paint_occluder(image, occluder, outlined)
        if depth < n:
            paint_person(image, placed, appearance, nearness[depth])
    return background.apply_camera(image, rng), annotation


def _check(style: str, people) -> tuple[Style, tuple[int, int]]:
    if style not in STYLES:
        raise ValueError(f"no drawing style is called {style!r}; known: {', '.join(STYLES)}")
    low, high = people or STYLES[style].people
    if not 1 <= low <= high <= MAX_PEOPLE:
        raise ValueError(f"people={tuple(people)} must be a range (low, high) with 1 <= low <= high <= {MAX_PEOPLE}")
    return STYLES[style], (int(low), int(high))


def _annotate(style: str, placed: PlacedBodies, nearness: np.ndarray, front) -> dict:
    """Paint the id buffer and read visibility, boxes and areas off it (canvas units)."""
    n, unit = len(nearness), CANVAS / ID_SIZE
    ids = np.zeros((ID_SIZE, ID_SIZE, 2), np.uint8)
    for depth in range(n + 1):
        for at, occluder in front:
            if at == depth:
                background.erase_ids(ids, occluder)
        if depth < n:
            paint_ids(ids, placed, nearness[depth])
    owner = np.ascontiguousarray(ids[..., 0])

    joints = _JOINTS[style]
    xy = placed.points[:, joints, :2]
    inside = ((xy >= 0) & (xy < CANVAS)).all(-1)
    column, row = np.clip((xy / unit).astype(int), 0, ID_SIZE - 1).transpose(2, 0, 1)
    shown = ids[row, column]
    visible = shown[..., 0] == np.arange(1, n + 1)[:, None]
    visible &= _PARTS_OF_JOINT[style][np.arange(len(joints)), shown[..., 1]]
    visible &= placed.facing[:, joints]
    visibility = np.where(inside, 1 + visible, 0).astype(np.uint8)

    areas = np.bincount(owner.ravel(), minlength=n + 1)[1:] * unit**2
    boxes = np.zeros((n, 4), np.float32)
    for i in range(n):
        x, y, w, h = cv2.boundingRect(cv2.compare(owner, i + 1, cv2.CMP_EQ))
        boxes[i] = x * unit, y * unit, (x + w) * unit, (y + h) * unit
    return {
        "keypoints": np.where(inside[..., None], xy, 0).astype(np.float32),
        "visibility": visibility,
        "boxes": boxes,
        "areas": areas.astype(np.float32),
        "owner": owner,
    }


class Scenes:
    """A data set of `count` drawn scenes of `size` x `size` pixels with `people` = (low, high) people each.

    `style`: "people" (17 COCO joints), "crowd" (14 CrowdPose joints, crowded on purpose; the images of `ground_truth`
    have a `crowdIndex`) or "macaque" (17 COCO joints); `people` None: the style's own range.

    `seed` names the stream: two data sets share no image when their seeds differ, so give validation a seed
    of its own. `cache`: a folder; the scenes are drawn once on `workers` processes (default: one per core),
    kept there as uint8 with a checksum and mapped into memory ever after; a damaged cache is drawn again.
    Without `cache` each scene is drawn when first asked for and kept in RAM.

    Targets and `ground_truth` are in pixels of the `size` x `size` image (corner frame). Evaluate with
    `area_scale`, so that medium and large mean what they mean on the 512 x 512 canvas.
    """

    def __init__(self, style="people", seed=0, count=1000, size=128, people=None, cache=None, workers=None):
        table, self.people = _check(style, people)
        if count < 1 or seed < 0 or size < 16:
            raise ValueError(f"count {count} must be at least 1, seed {seed} at least 0 and size {size} at least 16")
        self.style, self.seed, self.count, self.size = style, int(seed), int(count), int(size)
        self.layout = table.layout
        self.name = f"drawn {style}"
        self.ids = list(range(count))
        self.area_scale = (size / CANVAS) ** 2
        self.category_id, self.sigmas_from, self.notes, self.note = 1, table.layout.name, [], ""
        self._drawn: dict[int, tuple] = {}
        self._images = self._records = None
        if cache is not None:
            self._images, self._records = load_or_draw(draw, self._recipe, Path(cache), workers)
            self._starts = self._records["starts"].tolist()

    @property
    def _recipe(self) -> dict:
        values = {"style": self.style, "version": STYLES[self.style].version, "seed": self.seed, "count": self.count}
        return values | {"size": self.size, "people": list(self.people)}

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name what the images are."""
        return hashlib.sha256(json.dumps(self._recipe, sort_keys=True).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"Scenes({', '.join(f'{k}={v}' for k, v in self._recipe.items())})"

    def image(self, i: int) -> np.ndarray:
        """(size, size, 3) uint8 RGB, a read-only view."""
        return self._images[i] if self._images is not None else self._draw(i)[0]

    def target(self, i: int) -> dict[str, np.ndarray]:
        """Pixels: `keypoints` (n, K, 2), `visibility` (n, K), `boxes` (n, 4), `areas` (n,), `ignore` (0, 4).

        The arrays are views; copy before changing them.
        """
        if self._records is None:
            return dict(self._draw(i)[1])
        if i < 0:
            i += self.count
        part = slice(self._starts[i], self._starts[i + 1])
        return {name: self._records[name][part] for name in FIELDS} | {"ignore": _NO_BOXES}

    def _draw(self, i: int) -> tuple[np.ndarray, dict]:
        if not -self.count <= i < self.count:
            raise IndexError(f"scene {i} of a data set of {self.count}")
        i %= self.count
        if i not in self._drawn:
            image, annotation = draw(self.style, self.seed, i, self.size, self.people)
            image.setflags(write=False)
            target = scaled(annotation, self.size / CANVAS) | {"ignore": _NO_BOXES}
            for array in target.values():
                array.setflags(write=False)
            self._drawn[i] = image, target
        return self._drawn[i]

    @cached_property
    def ground_truth(self) -> dict:
        """A COCO dict (images, annotations, categories) in pixels of the image, without segmentation."""
        return _coco(STYLES[self.style], self.size, [self.target(i) for i in range(self.count)])

    def write_coco(self, folder: str | Path, size: int = CANVAS, extension: str = "jpg") -> Path:
        """Draw the scenes at `size` pixels into `folder`: `images/` and `annotations/person_keypoints.json`.

        A real COCO folder, as any other program reads it. Returns the path of the annotation file.
        """
        folder = Path(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        targets = []
        for i in range(self.count):
            image, annotation = draw(self.style, self.seed, i, size, self.people)
            path = folder / "images" / f"{i:012d}.{extension}"
            if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
                raise OSError(f"could not write {path}: is the disk full, or the extension {extension!r} unknown?")
            targets.append(scaled(annotation, size / CANVAS))
        path = folder / "annotations" / "person_keypoints.json"
        write_bytes(path, json.dumps(_coco(STYLES[self.style], size, targets, extension)).encode())
        return path


_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_BOXES.setflags(write=False)


def _coco(style: Style, size: int, targets: list[dict], extension: str = "jpg") -> dict:
    """The targets (pixels) of all images as a COCO dict."""
    images, annotations = [], []
    for image_id, target in enumerate(targets):
        images.append({"id": image_id, "file_name": f"{image_id:012d}.{extension}", "width": size, "height": size})
        if style.crowding:
            index = crowd_index(target["keypoints"], target["visibility"], target["boxes"], style.layout)
            images[-1]["crowdIndex"] = round(index, 4)
        joints = np.concatenate([target["keypoints"], target["visibility"][..., None]], axis=-1, dtype=np.float64)
        boxes = target["boxes"].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for rows, box, area in zip(joints, boxes, target["areas"], strict=True):
            row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            row |= {"keypoints": rows.ravel().tolist(), "num_keypoints": int((rows[:, 2] > 0).sum())}
            annotations.append(row | {"bbox": box.tolist(), "area": float(area)})
    names, limbs = list(style.layout.keypoints), [[a + 1, b + 1] for a, b in style.layout.limbs]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": limbs}
    description = f"drawn {style.name}: procedurally drawn, not photographs"
    return {
        "info": {"description": description, "version": str(style.version)},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
