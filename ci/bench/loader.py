"""Milliseconds of CPU time to decode, augment and collate one photograph of 640 x 480 for a 512 pixel input.

    python ci/bench/loader.py [FOLDER]     a folder in COCO's format; without it, one synthetic photograph

Process time, one thread, the median of several rounds. Prints the parts and the whole, which must stay below 5
ms. Then the same for mosaics: four photographs and a fifth by MixUp, 640 pixels, which must stay below 15 ms
besides reading, and drawn pictures of 128 pixels, 1 ms (also without mosaic, a batch of 16). Exit status 1 if
something does not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from posekit.data.augment import Augment, coarse_dropout
from posekit.data.coco import CocoFolder
from posekit.data.loader import Loader, stack_items
from posekit.data.mosaic import Mosaic
from posekit.layouts import COCO

LIMIT = 5.0
MOSAIC_LIMIT, DRAWN_LIMIT = 15.0, 1.0
BATCH = 8


def milliseconds(call, rounds: int = 9, repeat: int = 8) -> float:
    """Median CPU milliseconds of one call, all threads together."""
    call()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(repeat):
            call()
        times.append((time.process_time() - begin) / repeat)
    return 1e3 * float(np.median(times))


def photograph(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise with the 1/f spectrum of natural pictures: its JPEG is about as large as a photograph's."""
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


def synthetic_folder(root: Path, count: int = 4) -> None:
    """A folder in COCO's format with `count` synthetic photographs of 640 x 480 and four people each."""
    rng = np.random.default_rng(1)
    rows, images = [], []
    for i in range(count):
        cv2.imwrite(str(root / f"{i}.jpg"), photograph(640, 480, i), [cv2.IMWRITE_JPEG_QUALITY, 92])
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480})
        for _ in range(4):
            points = np.column_stack([rng.uniform(50, 590, 17), rng.uniform(50, 430, 17), np.full(17, 2)])
            rows.append(
                {
                    "id": len(rows),
                    "image_id": i,
                    "category_id": 1,
                    "keypoints": points.ravel().tolist(),
                    "iscrowd": 0,
                    "bbox": [50, 50, 540, 380],
                    "area": 90000,
                }
            )
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}]
    (root / "people.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


class Drawn:
    """64 random pictures of 128 px in memory, with four people each: what a cached set of drawn scenes
    costs."""

    layout, name, ids = COCO, "drawn", list(range(64))

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 255, (64, 128, 128, 3), dtype=np.uint8)
        self.people = {
            "keypoints": rng.uniform(0, 128, (4, 17, 2)).astype(np.float32),
            "visibility": np.full((4, 17), 2, np.uint8),
            "boxes": np.tile(np.float32([9, 9, 90, 90]), (4, 1)),
            "areas": np.full(4, 900, np.float32),
            "ignore": np.zeros((0, 4), np.float32),
        }

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> np.ndarray:
        return self.pixels[i]

    def target(self, i: int) -> dict[str, np.ndarray]:
        return self.people


def report(data: CocoFolder) -> float:
    """Print the parts for the pictures of `data`; returns the whole, in ms per picture, for POET's 512 px
    training."""
    augment = Augment("released", data.layout, longest=512)
    n = len(data)
    rng = np.random.default_rng(0)
    pixels, targets = [data.image(i) for i in range(n)], [data.target(i) for i in range(n)]
    quiet = Augment("released", data.layout, longest=512)
    quiet.steps = replace(quiet.steps, dropout_p=0.0)

    def augmented(with_steps):
        return [with_steps(pixels[i], targets[i], rng) for i in range(n)]

    items = [(image, target, back, i, None, []) for i, (image, target, back) in enumerate(augmented(augment))]
    loader = Loader(data, augment, min(BATCH, n), seed=0)
    epochs = iter(range(10**6))
    parts = {
        "read and decode": milliseconds(lambda: [data.image(i) for i in range(n)]) / n,
        "people": milliseconds(lambda: [data.target(i) for i in range(n)]) / n,
        "warp and keypoints": milliseconds(lambda: augmented(quiet)) / n,
        "coarse dropout (half of them)": milliseconds(lambda: [coarse_dropout(item[0], rng) for item in items]) / n / 2,
        "collate and normalise": milliseconds(lambda: loader._finish(stack_items(items))) / n,
    }
    whole = milliseconds(lambda: list(loader.epoch(next(epochs)))) / n
    for name, value in {**parts, "whole, through the loader": whole}.items():
        print(f"{name:32s} {value:7.3f} ms per picture")
    return whole


class InMemory:
    """The pictures of a data set, read once: what is left is the augmentation."""

    def __init__(self, data) -> None:
        self.layout, self.name, self.ids = data.layout, data.name, data.ids
        self.pixels = [data.image(i) for i in range(len(data))]
        self.people = [data.target(i) for i in range(len(data))]

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> np.ndarray:
        return self.pixels[i]

    def target(self, i: int) -> dict[str, np.ndarray]:
        return self.people[i]


def mosaics(data, size: int, centre: str) -> float:
    """Milliseconds per mosaic with MixUp of pictures of `data`."""
    mosaic, seeds, n = Mosaic("rtmo", data.layout, size=size, centre=centre), iter(range(10**6)), len(data)
    return milliseconds(lambda: mosaic.mix(data, (i := next(seeds)) % n, np.random.default_rng(i)), repeat=24)


def report_mosaics(data, size: int, limit: float) -> bool:
    """Print both forms of the mosaic of pictures in memory, and whether they keep to the limit."""
    times = {centre: mosaics(data, size, centre) for centre in ("released", "yolox")}
    for centre, value in times.items():
        verdict = "within" if value <= limit else "ABOVE"
        print(f"{f'mosaic and MixUp, {size} px, {centre}':40s} {value:7.3f} ms, {verdict} the limit of {limit} ms")
    return max(times.values()) <= limit


def main(folder: str | None) -> int:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            synthetic_folder(Path(temporary))
        data = CocoFolder(folder or temporary, with_people=True)
        kilobytes = np.mean([data.path(i).stat().st_size for i in range(len(data))]) / 1e3
        source = f"pictures of {folder}" if folder else "synthetic photographs"
        print(f"{len(data)} {source}, {kilobytes:.0f} kB each")
        whole = report(data)
        fast = report_mosaics(InMemory(data), 640, MOSAIC_LIMIT)
        print(f"{'the same, released, with reading':40s} {mosaics(data, 640, 'released'):7.3f} ms")
    epochs = iter(range(10**6))
    drawn = Loader(Drawn(), Augment("scenes", size=128), 16)
    batch = milliseconds(lambda: list(drawn.epoch(next(epochs)))) / len(drawn)
    print(f"{'drawn pictures of 128 px':32s} {batch:7.3f} ms per batch of 16")
    fast = report_mosaics(Drawn(), 128, DRAWN_LIMIT) and fast
    print(f"{'within' if whole <= LIMIT else 'ABOVE'} the limit of {LIMIT} ms per photograph")
    return int(whole > LIMIT or not fast)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
