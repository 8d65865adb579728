"""COCO folders and result rows as other tools write them, for the tests of both doors: `CocoFolder`, `evaluate`."""

import json
from pathlib import Path

import cv2
import numpy as np

from posekit.layouts import COCO

W, H = 160, 120
SHAPE = np.random.default_rng(3).random((17, 2))
BOX = (40.0, 10.0, 60.0, 100.0)


def pose(box=BOX, v=2, k=17):
    points = np.round(SHAPE[:k] * box[2:] + box[:2], 1)
    return [value for x, y in points.tolist() for value in (x, y, v)]


def person(image, number, k=17, v=2, **changes):
    row = {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(BOX),
        "area": 3600.0,
        "num_keypoints": k if v else 0,
        "keypoints": pose(k=k, v=v),
    }
    return {key: value for key, value in (row | changes).items() if value is not ...}  # ... takes a field away


def truth(people, names=COCO.keypoints, **more):
    numbers = sorted({row["image_id"] for row in people if isinstance(row.get("image_id"), int)} | {1})
    images = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in numbers]
    category = {"id": 1, "name": "person", "keypoints": list(names)}
    return {"images": images, "annotations": people, "categories": [category]} | more


def found(image, shift=1.0, k=17, **changes):
    keypoints = [value + shift if i % 3 < 2 else 1 for i, value in enumerate(pose(k=k))]
    row = {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 0.9} | changes
    return {key: value for key, value in row.items() if value is not ...}


def write(root, data, name="people.json", where="images"):
    (root / where).mkdir(parents=True, exist_ok=True)
    for row in data["images"]:
        cv2.imwrite(str(root / where / Path(str(row["file_name"])).name), np.full((H, W, 3), 90, np.uint8))
    (root / name).write_text(json.dumps(data))
    return root


def said(owner, *words):
    text = "\n".join(owner.notes)
    assert all(word in text for word in words), text
    return True
