"""Where a top-down model is told that people are: in annotations, in a detections file, or by another run.

A run may have looked at the same images at another size, as drawn people are kept at 128 and at 256 pixels: its boxes
are brought to the size of the images that are scored. Other images than these are refused, not scored as if they were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posekit import runs
from posekit.files import read_json, relative, resolve
from posekit.poses import Poses
from posekit.protocols import PoseDataset
from posekit.training.datasets import DATA_PARAMETERS, open_data
from posekit.training.recipes import from_record

SAME = 0.01  # of an image's width: boxes that differ less are of the same people


def scored_data(run: str | Path) -> PoseDataset:
    """The images that the predictions of a run folder, or of an evaluation in a folder of its own, are of."""
    record = runs.load_run(resolve(run))
    trained = record["parameters"].get("evaluated") or relative(resolve(run))
    recipe = from_record(runs.load_run(resolve(trained))["parameters"], f"{trained}/run.json")
    given = record.get("evaluation", record)["parameters"]
    options = {name: given[name] for name in DATA_PARAMETERS if name in given} if "evaluated" in given else {}
    return open_data(recipe, **options)


def boxes_of(boxes: str, data: PoseDataset) -> str | list[Poses]:
    """`boxes` of `training.evaluate.evaluate_run` as `posekit.data.topdown.PersonCrops` takes them.

    Raises:
        FileNotFoundError: neither "truth", nor a file, nor a run with predictions. ValueError: a run that has looked at
            other images.
    """
    if boxes == "truth" or resolve(boxes).is_file():
        return boxes if boxes == "truth" else str(resolve(boxes))
    predictions = resolve(boxes) / "predictions.json"
    if not predictions.is_file():
        raise FileNotFoundError(f"boxes is {boxes!r}: give 'truth', COCO detections, or a run with predictions.json")
    rows: dict[int, list[dict]] = {image_id: [] for image_id in data.ids}
    for row in read_json(predictions):
        rows.get(row["image_id"], []).append(row)
    scales = _scales(boxes, data)
    return [_people(rows[image], len(data.layout)).transform(scales[image] * np.eye(2, 3)) for image in data.ids]


def _people(rows: list[dict], keypoints: int) -> Poses:
    """Result rows of one image: of a detector, or of a one-stage model."""
    if not rows or "bbox" not in rows[0]:
        return Poses.from_coco(rows, keypoints)
    found = np.array([[*row["bbox"], row["score"]] for row in rows], np.float32)
    found[:, 2:4] += found[:, :2]
    return Poses.of_boxes(found[:, :4], found[:, 4])


def _scales(run: str, data: PoseDataset) -> dict[int, float]:
    """By image, how much larger it is here than where the run has looked at it."""
    theirs, scales = scored_data(run), {}
    known, own = (
        {row["id"]: (row["width"], row["height"]) for row in one.ground_truth["images"]} for one in (theirs, data)
    )
    for image in data.ids:
        if image not in known:
            raise ValueError(f"boxes is {run!r}, which has not looked at image {image} of {data.name}: score it there")
        (width, height), (here, tall) = known[image], own[image]
        scales[image] = here / width
        if abs(tall / height - scales[image]) > SAME:
            sizes = f"image {image} is {width} x {height} pixels there and {here} x {tall} here"
            raise ValueError(f"boxes is {run!r}, which has looked at other images than {data.name}: {sizes}")
    first = data.ids[0]
    one, other = (part.target(part.ids.index(first))["boxes"] for part in (theirs, data))
    if len(one) != len(other) or np.abs(scales[first] * one - other).max(initial=0.0) > SAME * own[first][0]:
        raise ValueError(f"boxes is {run!r}, whose image {first} shows other people than that of {data.name}")
    return scales
