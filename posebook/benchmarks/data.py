"""CPU time of data: reading and augmenting photographs, mosaics, drawing people, crops and their decoding."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from posebook.benchmarks.timing import cpu_ms
from posekit.data.augment import Augment
from posekit.data.coco import CocoFolder
from posekit.data.crops import box_matrices, crop_people
from posekit.data.drawn.scenes import Scenes, draw
from posekit.data.heatmaps import heatmap_targets
from posekit.data.loader import Loader
from posekit.data.mosaic import MIXES, Mosaic
from posekit.data.transforms import invert, normalise
from posekit.files import root
from posekit.input_spec import IMAGENET
from posekit.layouts import COCO
from posekit.models.heatmap_decoding import crop_poses
from posekit.poses import Poses, join

LIMITS = {"photograph": 5.0, "mosaic of photographs": 15.0, "mosaic of drawn scenes": 1.0}  # ms
CROP, HEATMAP, KEYPOINTS, LEAST_RATIO = (192, 256), (48, 64), 17, 8.0
GOLDEN = "tests/golden/vitpose/decode.npz"


def in_memory(dataset):
    """A data set that keeps its images and targets: what is left of the time is the augmentation."""
    dataset.image, dataset.target = functools.cache(dataset.image), functools.cache(dataset.target)
    return dataset


def photograph(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise with the 1/f spectrum of natural images: its JPEG is about as large as a photograph's."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    planes = []
    for _ in range(3):
        spectrum = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
        planes.append(np.fft.irfft2(spectrum / frequency**1.1, s=(height, width)))
    grey, *tints = (plane / plane.std() for plane in planes)
    colour = np.stack([grey + 0.3 * tints[0], grey, grey + 0.3 * tints[1]], axis=2)
    return np.clip(128 + 50 * colour, 0, 255).astype(np.uint8)


def synthetic_folder(folder: Path, count: int = 4) -> CocoFolder:
    """A folder in COCO's format with `count` synthetic photographs of 640 x 480 and four people each."""
    rng = np.random.default_rng(1)
    rows, images = [], []
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.jpg"), photograph(640, 480, i), [cv2.IMWRITE_JPEG_QUALITY, 92])
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480})
        for _ in range(4):
            points = np.column_stack([rng.uniform(50, 590, 17), rng.uniform(50, 430, 17), np.full(17, 2)])
            row = {"id": len(rows), "image_id": i, "category_id": 1, "iscrowd": 0, "area": 90000}
            rows.append(row | {"keypoints": points.ravel().tolist(), "bbox": [50, 50, 540, 380]})
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "people.json").write_text(json.dumps(content))
    return CocoFolder(folder, with_people=True)


def loader() -> list[str]:
    """Decode, augment and collate a photograph of 640 x 480 for an input of 512 px; mosaics with MixUp."""
    epochs = iter(range(10**6))

    def epoch(dataset, augment: Augment, batch: int):
        batches = Loader(dataset, augment, batch, seed=0)
        return lambda: list(batches.epoch(next(epochs)))

    def mosaic(dataset, size: int, centre: str):
        policy, seeds = replace(MIXES["rtmo"], centre=centre), iter(range(10**6))
        mix = Mosaic(policy, dataset.layout, size=size)
        return lambda: mix.mix(dataset, (i := next(seeds)) % len(dataset), np.random.default_rng(i))

    with tempfile.TemporaryDirectory() as folder:
        files, drawn = synthetic_folder(Path(folder)), in_memory(Scenes(count=64, people=(4, 4), workers=1))
        photographs = in_memory(CocoFolder(folder, with_people=True))
        augment = Augment("released", files.layout, longest=512)
        n, batches = len(files), len(drawn) // 16
        calls = {"read and decode": lambda: [files.image(i) for i in range(n)], "photograph": epoch(files, augment, n)}
        ms = {name: value / n for name, value in cpu_ms(calls, rounds=9, repeat=4).items()}
        calls = {"batch of 16 drawn": epoch(drawn, Augment("scenes", size=128), 16)}
        ms |= {name: value / batches for name, value in cpu_ms(calls, rounds=9, repeat=4).items()}
        calls = {f"mosaic of photographs, {c}": mosaic(photographs, 640, c) for c in ("released", "yolox")}
        calls |= {f"mosaic of drawn scenes, {c}": mosaic(drawn, 128, c) for c in ("released", "yolox")}
        calls["mosaic with reading, released"] = mosaic(files, 640, "released")
        ms |= cpu_ms(calls, rounds=9, repeat=24)
    slow = []
    for name, value in ms.items():
        limit = LIMITS.get(name.partition(",")[0], float("inf"))
        print(f"{name:40s} {value:7.3f} ms" + (f", limit {limit:g} ms" if np.isfinite(limit) else ""))
        slow += [f"{name} takes {value:.2f} ms, more than {limit:g}"] if value > limit else []
    return slow


def drawing(count: int = 400) -> list[str]:
    """Images of drawn people per CPU second, without a limit."""
    indices = iter(range(10**6))
    sizes = {size: lambda size=size: draw("people", 1, next(indices), size) for size in (128, 192, 256)}
    for size, ms in cpu_ms(sizes, 1, count).items():
        print(f"{size} px: {1000 / ms:.0f} images per CPU second ({ms:.2f} ms each)")
    return []


def crop_case(people: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """An image, boxes (n, 4) x0 y0 x1 y1 and heatmaps (n, K, h, w) with a noisy peak each."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (people, 2)) * (500, 280)
    extent = rng.uniform(0.5, 1, (people, 2)) * (130, 190)
    points = rng.uniform(0.1, 0.9, (people, KEYPOINTS, 2)) * CROP
    maps, _ = heatmap_targets(points, np.ones((people, KEYPOINTS)), CROP, HEATMAP)
    maps = 0.8 * maps + rng.normal(0, 0.01, maps.shape)
    return photograph(640, 480), np.hstack([corner, corner + extent]), torch.from_numpy(maps).float()


def in_image(maps: torch.Tensor, to_original: np.ndarray) -> Poses:
    """The poses on heatmaps of crops, in pixels of the image."""
    poses = zip(crop_poses(maps, CROP), to_original, strict=True)
    return join([pose.transform(matrix) for pose, matrix in poses])


def crop_calls(image: np.ndarray, boxes: np.ndarray, maps: torch.Tensor, processor) -> dict:
    """Box -> normalised crop and heatmaps -> joints in the image, ours and by transformers' `processor`."""
    outputs = SimpleNamespace(heatmaps=maps)
    back = invert(box_matrices(boxes, CROP, udp=True)).astype(np.float32)
    rows = [np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()]
    return {
        ("ours", "crop"): lambda: normalise(crop_people(image, box_matrices(boxes, CROP, udp=True), CROP), *IMAGENET),
        ("ours", "decode"): lambda: in_image(maps, back),
        ("transformers", "crop"): lambda: processor(image, boxes=rows, return_tensors="pt").pixel_values,
        ("transformers", "decode"): lambda: processor.post_process_pose_estimation(outputs, boxes=rows),
    }


def decoding_errors(processor) -> dict[str, np.ndarray]:
    """Distance in pixels (N, K) to the published decoder on the golden maps, of ours and transformers'."""
    known = np.load(root() / GOLDEN)
    maps, boxes = torch.from_numpy(known["heatmaps"].astype(np.float32)), known["boxes"]
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    back = invert(box_matrices(corners, CROP, udp=True)).astype(np.float32)
    ours = in_image(maps, back).keypoints
    found = processor.post_process_pose_estimation(SimpleNamespace(heatmaps=maps), boxes=[boxes.tolist()])[0]
    theirs = np.stack([person["keypoints"].numpy() for person in found])
    pairs = {"ours": ours, "transformers": theirs}
    return {name: np.linalg.norm(points - known["pub_udp11"], axis=-1) for name, points in pairs.items()}


def crops() -> list[str]:
    """Cropping and decoding must cost at most an eighth of transformers' and lie closer to the published decoder."""
    try:
        import transformers
    except ImportError:
        return ["transformers is not installed, so there is nothing to compare with: pip install 'posekit[dev]'"]
    processor, missed = transformers.VitPoseImageProcessor(), []
    for people in (1, 20):
        ms = cpu_ms(crop_calls(*crop_case(people), processor), rounds=7, repeat=4)
        for (who, part), value in ms.items():
            print(f"{people:3d} people  {who:13s} {part:7s} {value / people:7.3f} ms per person")
        ours, theirs = (sum(ms[who, part] for part in ("crop", "decode")) for who in ("ours", "transformers"))
        print(f"{people:3d} people  {theirs / ours:.1f} times cheaper")
        missed += [f"{people} people: less than {LEAST_RATIO:g} times cheaper"] if theirs / ours < LEAST_RATIO else []
    errors = decoding_errors(processor)
    for name, error in errors.items():
        print(f"to the published decoder: {name:13s} mean {error.mean():.5f} px, largest {error.max():.4f} px")
    further = errors["ours"].mean() >= errors["transformers"].mean()
    return missed + (["ours is further from the published decoder than transformers"] if further else [])
