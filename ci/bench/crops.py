"""CPU time per person to crop and to decode, against transformers' VitPoseImageProcessor, in one run.

    python ci/bench/crops.py

Both get the same picture of 640 x 480, boxes and heatmaps: box -> normalised crop, heatmaps -> joints in the picture.
The network between them is left out. Process time, one thread, median of interleaved rounds. Ours must cost at most an
eighth, for 1 and for 20 people in a picture, and lie closer to the published decoder on the golden maps; exit status 1
if not. Needs transformers (extra `dev`).
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from loader import photograph

from posekit.data.crops import box_matrices, cut_out
from posekit.data.heatmaps import heatmap_targets
from posekit.data.transforms import invert, normalise
from posekit.models.heatmap_decoding import picture_poses
from posekit.models.spec import IMAGENET

WANTED = 8.0
SIZE, HEATMAP, KEYPOINTS = (192, 256), (48, 64), 17
GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "vitpose" / "decode.npz"


def scene(people: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """A picture, boxes (n, 4) x0 y0 x1 y1 and heatmaps (n, K, h, w) with a noisy peak each."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (people, 2)) * (500, 280)
    extent = rng.uniform(0.5, 1, (people, 2)) * (130, 190)
    points = rng.uniform(0.1, 0.9, (people, KEYPOINTS, 2)) * SIZE
    maps, _ = heatmap_targets(points, np.ones((people, KEYPOINTS)), SIZE, HEATMAP)
    maps = 0.8 * maps + rng.normal(0, 0.01, maps.shape)
    return photograph(640, 480), np.hstack([corner, corner + extent]), torch.from_numpy(maps).float()


def ours(image: np.ndarray, boxes: np.ndarray, maps: torch.Tensor) -> dict:
    """Crop, decode, and both, as functions without arguments."""
    crops = cut_out(image, boxes, SIZE)
    return {
        "crop": lambda: normalise(cut_out(image, boxes, SIZE).pixels, *IMAGENET),
        "decode": lambda: picture_poses(maps, crops.to_original, crops.boxes, SIZE),
    }


def theirs(image: np.ndarray, boxes: np.ndarray, maps: torch.Tensor, processor) -> dict:
    """The same by transformers."""
    rows = [np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()]
    outputs = SimpleNamespace(heatmaps=maps)
    return {
        "crop": lambda: processor(image, boxes=rows, return_tensors="pt").pixel_values,
        "decode": lambda: processor.post_process_pose_estimation(outputs, boxes=rows),
    }


def milliseconds(calls: dict[str, dict], rounds: int = 7) -> dict[str, dict[str, float]]:
    """Median CPU milliseconds of each call, the methods in turn in every round."""
    times = {method: {part: [] for part in parts} for method, parts in calls.items()}
    for round_ in range(rounds + 1):
        for method, parts in calls.items():
            for part, call in parts.items():
                repeat = 20 if method == "ours" else 2
                begin = time.process_time()
                for _ in range(repeat):
                    call()
                if round_:  # the first round warms up
                    times[method][part].append((time.process_time() - begin) / repeat)
    return {m: {part: 1e3 * float(np.median(ts)) for part, ts in parts.items()} for m, parts in times.items()}


def agreement(processor) -> dict[str, np.ndarray]:
    """Distance in picture pixels (N, K) to the published decoder on the golden maps, of ours and theirs."""
    known = np.load(GOLDEN)
    maps, boxes = torch.from_numpy(known["heatmaps"].astype(np.float32)), known["boxes"]
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    back = invert(box_matrices(corners, SIZE, udp=True)).astype(np.float32)
    mine = picture_poses(maps, back, corners, SIZE).keypoints
    found = processor.post_process_pose_estimation(SimpleNamespace(heatmaps=maps), boxes=[boxes.tolist()])[0]
    other = np.stack([person["keypoints"].numpy() for person in found])
    return {
        name: np.linalg.norm(points - known["pub_udp11"], axis=-1)
        for name, points in (("ours", mine), ("transformers", other))
    }


def main() -> int:
    try:
        import transformers
    except ImportError:
        print("transformers is not installed, so there is nothing to compare with: pip install 'posekit[dev]'")
        return 2
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    processor = transformers.VitPoseImageProcessor()
    good = True
    for people in (1, 20):
        image, boxes, maps = scene(people)
        calls = {"ours": ours(image, boxes, maps), "transformers": theirs(image, boxes, maps, processor)}
        cost = milliseconds(calls)
        for method, parts in cost.items():
            each = ", ".join(f"{part} {value / people:6.3f}" for part, value in parts.items())
            print(f"{people:3d} people  {method:13s} {sum(parts.values()) / people:7.3f} ms per person ({each})")
        ratio = sum(cost["transformers"].values()) / sum(cost["ours"].values())
        good &= ratio >= WANTED
        print(f"{people:3d} people  {ratio:.1f} times cheaper (at least {WANTED:g} wanted)")
    distances = agreement(processor)
    for name, distance in distances.items():
        print(f"to the published decoder: {name:13s} mean {distance.mean():.5f} px, largest {distance.max():.4f} px")
    good &= bool(distances["ours"].mean() < distances["transformers"].mean())
    print("as wanted" if good else "NOT as wanted", f"(transformers {transformers.__version__})")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
