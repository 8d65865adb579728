"""Drawn people: a data set that is a pure function of (style, seed, index, size), with exact annotations.

A stand-in that teaches and tests the machinery; it is never called COCO. Boxes, areas and visibility come
from an id buffer painted beside the picture. COCO's area limits (32^2, 96^2 px) are meant on the nominal
`CANVAS` x `CANVAS` canvas whatever the size of the stored picture: `Scenes.area_scale` says by how much to
multiply them.

Visibility: 0 outside the picture (x = y = 0), 1 hidden, 2 seen. A joint is seen when the pixel at the joint
shows a piece of the same body that the joint belongs to (an elbow: upper arm or forearm). So a joint is
hidden by other people, by things, and by its own body: an arm behind the back, the far shoulder and hip in
profile, the nose of a head turned away, ears under long hair. Clothes do not hide joints.

Shapes: n people of a scene, K joints of the style's layout, S the size of the picture.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from posekit.data.drawn import background
from posekit.data.drawn.body_parts import dress, shows_table
from posekit.data.drawn.cache import load_or_draw, scaled
from posekit.data.drawn.placement import arrange
from posekit.data.drawn.render import CANVAS, Figures, paint_ids, paint_person, place
from posekit.data.drawn.skeleton import POINT, pose
from posekit.data.drawn.styles import STYLES, Style
from posekit.files import write_bytes

ID_SIZE = 256  # pixels of the id buffer, whatever the size of the picture
MIN_JOINTS, MIN_AREA = 4, 250.0  # every annotated person shows at least this many joints and square units
MAX_PEOPLE = 13

_SHOWS = {name: shows_table(style.layout) for name, style in STYLES.items()}
_JOINTS = {name: np.array([POINT[k] for k in style.layout.keypoints]) for name, style in STYLES.items()}


def draw(
    style: str, seed: int, index: int, size: int, people: tuple[int, int] | None = None
) -> tuple[np.ndarray, dict]:
    """Draw scene `index` of the stream (style, seed): the picture and its annotation.

    `people`: (fewest, most) in it; None: the style's own range.

    Returns:
        picture (size, size, 3) uint8 RGB, and a dict on the canvas (corner frame, `CANVAS` units wide,
        independent of `size`): `keypoints` (n, K, 2) float32, `visibility` (n, K) uint8, `boxes` (n, 4)
        float32 xyxy and `areas` (n,) float32 of what can be seen, `owner` (ID_SIZE, ID_SIZE) uint8: 0 or 1 +
        the person seen there.

    Raises:
        ValueError: unknown style, negative seed or index, or a range of people outside 1..13.
    """
    table, people = _check(style, people)
    if seed < 0 or index < 0 or size < 16:
        raise ValueError(f"seed {seed} and index {index} must not be negative, and size {size} at least 16 pixels")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([zlib.crc32(style.encode()), seed, index])))
    n = people[0] + int(rng.random() * (people[1] - people[0] + 1))

    bodies, look = pose(table, rng, n), dress(table, rng, n)
    height, centre = arrange(table, rng, bodies)
    behind = [background.thing(rng, table, (0.03, 0.22)) for _ in range(2 + int(9 * rng.random()))]
    front = [
        (int(rng.random() * (n + 1)), background.thing(rng, table, (0.05, 0.24)))
        for _ in range(int(2.0 * rng.random()))
    ]
    # Near people are mostly the larger ones, and stand in front.
    nearness = np.argsort(height * (0.6 + 0.8 * rng.random(n)), kind="stable")

    while True:
        figures = place(bodies, centre, height, look)
        annotation = _annotate(style, figures, nearness, front)
        lost = (annotation["visibility"] == 2).sum(1) < MIN_JOINTS
        lost |= annotation["areas"] < MIN_AREA
        if not lost.any():
            break
        # A person whom nobody can see would be an unfair label: move forward, elsewhere and a little away.
        for i in np.flatnonzero(lost):
            centre[i] = CANVAS * (0.15 + 0.7 * rng.random(2))
            height[i] = max(0.9 * height[i], 0.18 * CANVAS)
            nearness = np.append(nearness[nearness != i], i)

    picture = background.ground(rng, size, table.grounds)
    outlined = rng.random() < 0.6
    for thing in behind:
        background.paint_thing(picture, thing, outlined)
    for depth in range(n + 1):
        for at, thing in front:
            if at == depth:
                background.paint_thing(picture, thing, outlined)
        if depth < n:
            paint_person(picture, figures, look, nearness[depth])
    return background.develop(picture, rng), annotation


def _check(style: str, people) -> tuple[Style, tuple[int, int]]:
    if style not in STYLES:
        raise ValueError(f"no drawing style is called {style!r}; known: {', '.join(STYLES)}")
    low, high = people or STYLES[style].people
    if not 1 <= low <= high <= MAX_PEOPLE:
        raise ValueError(f"people={tuple(people)} must be a range (low, high) with 1 <= low <= high <= {MAX_PEOPLE}")
    return STYLES[style], (int(low), int(high))


def _annotate(style: str, figures: Figures, nearness: np.ndarray, front) -> dict:
    """Paint the id buffer and read visibility, boxes and areas off it (canvas units)."""
    n, unit = len(nearness), CANVAS / ID_SIZE
    ids = np.zeros((ID_SIZE, ID_SIZE, 2), np.uint8)
    for depth in range(n + 1):
        for at, thing in front:
            if at == depth:
                background.erase_ids(ids, thing)
        if depth < n:
            paint_ids(ids, figures, nearness[depth])
    owner = np.ascontiguousarray(ids[..., 0])

    joints = _JOINTS[style]
    xy = figures.points[:, joints, :2]
    inside = ((xy >= 0) & (xy < CANVAS)).all(-1)
    column, row = np.clip((xy / unit).astype(int), 0, ID_SIZE - 1).transpose(2, 0, 1)
    shown = ids[row, column]
    seen = shown[..., 0] == np.arange(1, n + 1)[:, None]
    seen &= _SHOWS[style][np.arange(len(joints)), shown[..., 1]]
    seen &= figures.facing[:, joints]
    visibility = np.where(inside, 1 + seen, 0).astype(np.uint8)

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


def segmentations(owner: np.ndarray, n: int, size: int) -> list[dict]:
    """COCO's compressed run-length masks of the n people of an `owner` buffer, at `size` x `size` pixels."""
    from pycocotools import mask

    owner = cv2.resize(owner, (size, size), interpolation=cv2.INTER_NEAREST)
    runs = mask.encode(np.asfortranarray(owner[..., None] == np.arange(1, n + 1)).astype(np.uint8, order="F"))
    return [{"size": [size, size], "counts": run["counts"].decode()} for run in runs]


class Scenes:
    """A data set of `count` drawn scenes of `size` x `size` pixels with `people` = (low, high) people each.

    `style`: "people" (17 COCO joints), "crowd" (14 CrowdPose joints, crowded on purpose; the images of `ground_truth`
    have a `crowdIndex`) or "macaque" (17 COCO joints); `people` None: the style's own range.

    `seed` names the stream: two data sets share no picture when their seeds differ, so give validation a seed
    of its own. `cache`: a folder; the scenes are drawn once on `workers` processes (default: one per core),
    kept there as uint8 with a checksum and mapped into memory ever after; a damaged cache is drawn again.
    Without `cache` each scene is drawn when first asked for and kept in RAM.

    Targets and `ground_truth` are in pixels of the `size` x `size` picture (corner frame). Evaluate with
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
            self._images, self._records = load_or_draw(self._recipe, Path(cache), workers)
            self._starts = self._records["starts"].tolist()

    @property
    def _recipe(self) -> dict:
        return {
            "style": self.style,
            "version": STYLES[self.style].version,
            "seed": self.seed,
            "count": self.count,
            "size": self.size,
            "people": list(self.people),
        }

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name what the pictures are."""
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
        target = {name: self._records[name][part] for name in ("keypoints", "visibility", "boxes", "areas")}
        target["ignore"] = _NO_BOXES
        return target

    def _draw(self, i: int) -> tuple[np.ndarray, dict]:
        if not -self.count <= i < self.count:
            raise IndexError(f"scene {i} of a data set of {self.count}")
        i %= self.count
        if i not in self._drawn:
            picture, annotation = draw(self.style, self.seed, i, self.size, self.people)
            picture.setflags(write=False)
            target = scaled(annotation, self.size / CANVAS)
            for array in target.values():
                array.setflags(write=False)
            self._drawn[i] = picture, {**target, "ignore": _NO_BOXES}
        return self._drawn[i]

    @cached_property
    def ground_truth(self) -> dict:
        """A COCO dict (images, annotations, categories) in pixels of the picture, without segmentation."""
        return _coco(STYLES[self.style], self.size, [self.target(i) for i in range(self.count)], None)

    def write_coco(self, folder: str | Path, size: int = CANVAS, extension: str = "jpg") -> Path:
        """Draw the scenes at `size` pixels into `folder`: `images/` and `annotations/person_keypoints.json`.

        A real COCO folder, as any other program reads it; segmentations are compressed run-length masks.
        Returns the path of the annotation file.
        """
        folder = Path(folder)
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        targets, masks = [], []
        for i in range(self.count):
            picture, annotation = draw(self.style, self.seed, i, size, self.people)
            path = folder / "images" / f"{i:012d}.{extension}"
            if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]):
                raise OSError(f"could not write {path}: is the disk full, or the extension {extension!r} unknown?")
            targets.append(scaled(annotation, size / CANVAS))
            masks.append(segmentations(annotation["owner"], len(annotation["areas"]), size))
        path = folder / "annotations" / "person_keypoints.json"
        write_bytes(path, json.dumps(_coco(STYLES[self.style], size, targets, masks, extension)).encode())
        return path


_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_BOXES.setflags(write=False)


def _coco(style: Style, size: int, targets: list[dict], masks: list | None, extension: str = "jpg") -> dict:
    annotations = []
    images = [
        {"id": i, "file_name": f"{i:012d}.{extension}", "width": size, "height": size} for i in range(len(targets))
    ]
    if style.crowding:
        from posekit.evaluation.crowdpose import crowd_index

        for image, target in zip(images, targets, strict=True):
            index = crowd_index(target["keypoints"], target["visibility"], target["boxes"], style.layout)
            image["crowdIndex"] = round(index, 4)
    for image_id, target in enumerate(targets):
        joints = np.concatenate([target["keypoints"], target["visibility"][..., None]], axis=-1, dtype=np.float64)
        boxes = target["boxes"].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for i, (rows, box) in enumerate(zip(joints, boxes, strict=True)):
            row = {
                "id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                "keypoints": rows.ravel().tolist(), "num_keypoints": int((rows[:, 2] > 0).sum()),
                "bbox": box.tolist(), "area": float(target["areas"][i]),
            }  # fmt: skip
            if masks is not None:
                row["segmentation"] = masks[image_id][i]
            annotations.append(row)
    return {
        "info": {
            "description": f"drawn {style.name}: procedurally drawn, not photographs", "version": str(style.version)
        },
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(style.layout.keypoints),
             "skeleton": [[a + 1, b + 1] for a, b in style.layout.limbs]}
        ],
    }  # fmt: skip
