"""COCO annotations and result rows by hand, for the tests of the evaluator."""

import numpy as np


def person(number, image, points, seen=2, area=None, crowd=0, **more):
    """An annotation row; points (K, 2), seen a number or (K,)."""
    points = np.asarray(points, float)
    seen = np.broadcast_to(seen, len(points))
    low, size = points.min(0), np.ptp(points, axis=0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": crowd,
        "num_keypoints": int((seen > 0).sum()),
        "area": float(size.prod() if area is None else area),
        "bbox": [*low.tolist(), *size.tolist()],
        "keypoints": np.column_stack([points, seen]).ravel().tolist(),
    } | more


def found(image, points, score, category=1):
    points = np.asarray(points, float)
    return {
        "image_id": image,
        "category_id": category,
        "score": score,
        "keypoints": np.column_stack([points, np.ones(len(points))]).ravel().tolist(),
    }


def folder(images, people):
    return {
        "images": [{"id": i, "width": 640, "height": 480} for i in images],
        "annotations": people,
        "categories": [{"id": 1, "name": "person"}],
    }


def pose(seed=0, k=17, size=100.0, at=(50.0, 50.0)):
    return np.round(np.random.default_rng(seed).random((k, 2)) * size + at, 1)
