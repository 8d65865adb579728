"""Time of `posekit.evaluation.evaluate` against pycocotools, from two JSON files on disk to ten numbers.

`python ci/bench/eval.py` draws a problem of the size of COCO's validation set (5,000 images, 11,000 people,
100,000 detections), scores it with both in one warm process, checks that all ten numbers are equal and prints
CPU seconds and their ratio. Exit status 1 if a number differs by more than 1e-12 or the ratio is below
`--at-least`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from posekit.evaluation import evaluate
from posekit.layouts import COCO


def problem(images: int, people: int, detections: int, seed: int) -> tuple[dict, list[dict]]:
    """COCO ground truth and result rows: hidden and unlabelled joints, near misses, duplicates, noise."""
    rng = np.random.default_rng(seed)
    k = len(COCO)
    where = rng.choice(images * 54 // 100, people)  # COCO: 54 % of the validation images show somebody
    size = np.exp(rng.normal(4.6, 0.8, people)).clip(12, 600)
    corner = rng.random((people, 2)) * (640, 480)
    points = corner[:, None] + rng.random((people, k, 2)) * size[:, None, None] * (0.6, 1)
    seen = rng.choice(3, (people, k), p=(0.35, 0.1, 0.55))
    seen[rng.random(people) < 0.42] = 0  # COCO: 42 % of the annotated people have no labelled keypoint
    crowd = rng.random(people) < 0.02
    outline = points[:, rng.permutation(k)].reshape(people, -1)
    annotations = [
        {
            "id": i + 1,
            "image_id": int(where[i]) + 1,
            "category_id": 1,
            "iscrowd": int(crowd[i]),
            "area": round(float(size[i] ** 2 * 0.35), 4),
            "num_keypoints": int((seen[i] > 0).sum()),
            "bbox": np.round([*points[i].min(0), *np.ptp(points[i], axis=0)], 2).tolist(),
            "segmentation": [np.round(outline[i], 2).tolist()],
            "keypoints": np.concatenate([np.round(points[i]) * (seen[i] > 0)[:, None], seen[i][:, None]], 1)
            .astype(int)
            .ravel()
            .tolist(),
        }
        for i in range(people)
    ]
    per_image = [np.flatnonzero(where == i) for i in range(images)]
    rows = []
    for number in range(detections):
        image = number % images
        if len(per_image[image]) and rng.random() < 0.4:
            person = rng.choice(per_image[image])
            sure = rng.random()
            pose = points[person] + rng.normal(0, size[person] * 0.12 * (1 - sure), (k, 2))
            score = 0.2 + 0.7 * sure
        else:
            pose = rng.random(2) * (640, 480) + rng.normal(0, 60, (k, 2))
            score = 0.5 * rng.random()
        triples = np.concatenate([np.round(pose, 3), np.round(rng.random((k, 1)), 3)], 1)
        rows.append(
            {"image_id": image + 1, "category_id": 1, "keypoints": triples.ravel().tolist(), "score": float(score)}
        )
    sizes = {"width": 640, "height": 480}
    return {
        "images": [{"id": i + 1, "file_name": f"{i + 1:012d}.jpg", **sizes} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }, rows


def with_pycocotools(ground_truth: str, detections: str) -> np.ndarray:
    from pycocotools.coco import COCO as Annotations
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations(ground_truth)
        scorer = COCOeval(annotations, annotations.loadRes(detections), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return np.array(scorer.stats)


def with_posekit(ground_truth: str, detections: str) -> np.ndarray:
    return np.array(list(evaluate(ground_truth, detections).stats.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--people", type=int, default=11000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in turn; the fastest counts")
    parser.add_argument("--at-least", type=float, default=15.0, help="smallest ratio that passes")
    options = parser.parse_args()
    ground_truth, rows = problem(options.images, options.people, options.detections, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, content in (("ground_truth", ground_truth), ("detections", rows)):
            paths.append(str(Path(folder) / f"{name}.json"))
            Path(paths[-1]).write_text(json.dumps(content))
        warm, warm_rows = problem(50, 110, 1000, 1)
        small = [str(Path(folder) / name) for name in ("a.json", "b.json")]
        for path, content in zip(small, (warm, warm_rows), strict=True):
            Path(path).write_text(json.dumps(content))
        del ground_truth, rows
        scorers = {"pycocotools": with_pycocotools, "posekit": with_posekit}
        seconds, stats = dict.fromkeys(scorers, float("inf")), {}
        for scorer in scorers.values():
            scorer(*small)
        for _ in range(options.repeat):  # in turn, so that a slow minute of the machine hits both
            for name, scorer in scorers.items():
                start = time.process_time()
                stats[name] = scorer(*paths)
                seconds[name] = min(seconds[name], time.process_time() - start)
    difference = np.abs(stats["pycocotools"] - stats["posekit"]).max()
    ratio = seconds["pycocotools"] / seconds["posekit"]
    print(
        f"{options.images} images, {options.people} people, {options.detections} detections, JSON included\n"
        f"AP {stats['posekit'][0]:.6f}; largest difference of the ten numbers {difference:.1e}\n"
        f"CPU seconds: pycocotools {seconds['pycocotools']:.2f}, posekit {seconds['posekit']:.3f}; "
        f"ratio {ratio:.1f}"
    )
    return 0 if difference <= 1e-12 and ratio >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
