"""Time of `posekit.evaluation.evaluate` against pycocotools, from two JSON files on disk to ten numbers, and from what
they hold: ground truth as a dictionary for both, detections as rows for pycocotools and as arrays for posekit."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import tempfile
from pathlib import Path

import numpy as np

from posebook.benchmarks.timing import cpu_ms
from posekit.evaluation import evaluate
from posekit.layouts import COCO

LEAST_RATIO = {"files": 30.0, "memory": 45.0}  # of pycocotools' time and ours
LARGEST_DIFFERENCE = 1e-12


def problem(images: int, people: int, detections: int, seed: int) -> tuple[dict, list[dict]]:
    """COCO ground truth and result rows: occluded and unlabelled joints, near misses, duplicates, noise."""
    rng = np.random.default_rng(seed)
    k = len(COCO)
    where = rng.choice(images * 54 // 100, people)  # COCO: 54 % of the validation images show somebody
    size = np.exp(rng.normal(4.6, 0.8, people)).clip(12, 600)
    points = (rng.random((people, 2)) * (640, 480))[:, None] + rng.random((people, k, 2)) * size[:, None, None]
    visibility = rng.choice(3, (people, k), p=(0.35, 0.1, 0.55))
    visibility[rng.random(people) < 0.42] = 0  # COCO: 42 % of the annotated people have no labelled keypoint
    crowd = rng.random(people) < 0.02
    annotations = []
    for i in range(people):
        labelled = visibility[i] > 0
        triples = np.column_stack([np.round(points[i]) * labelled[:, None], visibility[i]]).astype(int)
        row = {"id": i + 1, "image_id": int(where[i]) + 1, "category_id": 1, "iscrowd": int(crowd[i])}
        row |= {"area": round(float(size[i] ** 2 * 0.35), 4), "num_keypoints": int(labelled.sum())}
        row |= {"bbox": np.round([*points[i].min(0), *np.ptp(points[i], axis=0)], 2).tolist()}
        row |= {"segmentation": [np.round(points[i].ravel(), 2).tolist()], "keypoints": triples.ravel().tolist()}
        annotations.append(row)
    per_image = [np.flatnonzero(where == i) for i in range(images)]
    rows = []
    for number in range(detections):
        image = number % images
        if len(per_image[image]) and rng.random() < 0.4:
            person, sure = rng.choice(per_image[image]), rng.random()
            pose, score = points[person] + rng.normal(0, size[person] * 0.12 * (1 - sure), (k, 2)), 0.2 + 0.7 * sure
        else:
            pose, score = rng.random(2) * (640, 480) + rng.normal(0, 60, (k, 2)), 0.5 * rng.random()
        triples = np.column_stack([np.round(pose, 3), np.round(rng.random(k), 3)]).ravel().tolist()
        rows.append({"image_id": image + 1, "category_id": 1, "keypoints": triples, "score": float(score)})
    listed = [{"id": i + 1, "file_name": f"{i + 1:012d}.jpg", "width": 640, "height": 480} for i in range(images)]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}]
    return {"images": listed, "annotations": annotations, "categories": categories}, rows


def with_pycocotools(ground_truth: str | dict, detections: str | list) -> np.ndarray:
    """pycocotools' ten numbers, from paths or from what the files hold."""
    from pycocotools.coco import COCO as Annotations
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = Annotations(ground_truth if isinstance(ground_truth, str) else None)
        if isinstance(ground_truth, dict):
            annotations.dataset = ground_truth
            annotations.createIndex()
            detections = [dict(row) for row in detections]  # it writes into them
        scorer = COCOeval(annotations, annotations.loadRes(detections), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return np.array(scorer.stats)


def scoring(images: int = 5000, people: int = 11_000, detections: int = 100_000, rounds: int = 3) -> list[str]:
    """COCO's validation set in size: ten equal numbers, 30 times as fast as pycocotools from files, 45 from memory."""
    content, stats = problem(images, people, detections, seed=0), {}
    truth, rows = content
    arrays = {name: np.array([row[name] for row in rows]) for name in ("image_id", "keypoints", "score")}
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.json") for name in ("ground_truth", "detections")]
        for path, one in zip(paths, content, strict=True):
            Path(path).write_text(json.dumps(one))

        def ours(*given) -> None:
            stats["posekit"] = np.array(list(evaluate(*given).stats.values()))

        def theirs(*given) -> None:
            stats["pycocotools"] = with_pycocotools(*given)

        calls = {
            ("pycocotools", "files"): lambda: theirs(*paths),
            ("posekit", "files"): lambda: ours(*paths),
            ("pycocotools", "memory"): lambda: theirs(truth, rows),
            ("posekit", "memory"): lambda: ours(truth, arrays),
        }
        gc.freeze()  # the collector would go through the rows of `content` in the middle of a run
        ms = cpu_ms(calls, rounds, warmup=0)
        gc.unfreeze()
    difference = np.abs(stats["pycocotools"] - stats["posekit"]).max()
    print(f"{images} images, {people} people, {detections} detections; CPU seconds, medians of {rounds} rounds")
    print(f"AP {stats['posekit'][0]:.6f}; largest difference of the ten numbers {difference:.1e}")
    missed = [f"a number differs by {difference:.1e}"] if difference > LARGEST_DIFFERENCE else []
    for source, least in LEAST_RATIO.items():
        reference, own = (ms[name, source] / 1000 for name in ("pycocotools", "posekit"))
        print(f"from {source}: pycocotools {reference:.3f}, posekit {own:.3f}; ratio {reference / own:.1f}")
        if reference / own < least:
            missed.append(f"from {source} ours is {reference / own:.1f} times as fast, less than {least:g}")
    return missed
