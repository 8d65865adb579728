"""A data set as a reader might have labelled it: drawn people, as files, with keypoints that no published set has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from posekit.data.drawn.scenes import Scenes
from posekit.files import read_json, write_bytes
from posekit.layouts import COCO

SIDES = ("left", "right")
# A keypoint is the mean of these joints of COCO.
FIVE = {"head": ("nose",)} | {
    f"{side}_{name}": (f"{side}_{joint}",) for name, joint in (("hand", "wrist"), ("foot", "ankle")) for side in SIDES
}
SEGMENTS = {"upper_arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "thigh": ("hip", "knee")}
SEGMENTS |= {"shin": ("knee", "ankle")}
TWENTY_SIX = {name: (name,) for name in COCO.keypoints} | {"neck": ("left_shoulder", "right_shoulder")}
TWENTY_SIX |= {f"{s}_{name}": (f"{s}_{a}", f"{s}_{b}") for name, (a, b) in SEGMENTS.items() for s in SIDES}
LIMBS = {
    5: [(0, 1), (0, 2), (0, 3), (0, 4)],
    26: [*COCO.limbs, (17, 0)],
}
LABELS = {5: FIVE, 26: TWENTY_SIX}
SPLITS = {"train": 1, "val": 1_000_003}  # seeds of the streams


def write_labelled(folder: str | Path, keypoints: int, images: int, val_images: int, size: int = 256) -> Path:
    """Draws people into `folder`, labelled with 5 or 26 keypoints of our own; a folder that is there is kept.

    Layout as COCO's: annotations/person_keypoints_train.json and _val.json, train/ and val/ with JPEGs of `size`
    pixels, one to four people in each. A keypoint between two joints is labelled where both are, and visible where
    both are.

    Raises:
        ValueError: another number of keypoints.
    """
    folder = Path(folder)
    if keypoints not in LABELS:
        raise ValueError(f"keypoints is {keypoints}: drawn people are labelled with {' or '.join(map(str, LABELS))}")
    for split, count in (("train", images), ("val", val_images)):
        target = folder / "annotations" / f"person_keypoints_{split}.json"
        if target.is_file() and len(read_json(target)["images"]) == count:
            continue
        work = folder / f".{split}"
        path = Scenes("people", SPLITS[split], count, people=(1, 4)).write_coco(work, size)
        truth = relabelled(read_json(path), keypoints)
        path.unlink()
        (folder / split).mkdir(parents=True, exist_ok=True)
        for image in (work / "images").iterdir():
            os.replace(image, folder / split / image.name)
        write_bytes(target, json.dumps(truth).encode())  # last: a folder with annotations is whole
    return folder


def relabelled(truth: dict, keypoints: int) -> dict:
    """A COCO file of 17 joints as one of our own keypoints."""
    names = LABELS[keypoints]
    places = [[COCO.keypoints.index(joint) for joint in joints] for joints in names.values()]
    for row in truth["annotations"]:
        joints = np.reshape(row["keypoints"], (-1, 3))
        points = np.array([[*joints[ends, :2].mean(0), joints[ends, 2].min()] for ends in places])
        points[points[:, 2] == 0] = 0
        row |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
    limbs = [[a + 1, b + 1] for a, b in LIMBS[keypoints]]
    truth["categories"][0] |= {"keypoints": list(names), "skeleton": limbs}
    return truth
