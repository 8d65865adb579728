"""From a run folder to everything that its figures need: one forward pass, every decoder layer scored.

Tables 1 and 2 of POET (Stoffl et al. 2021) need COCO's ten numbers, Figure 8 the AP per decoder layer, Figure 9b the
centres, Figure 10 the visibility; all are written as small files, so that reports read files and run no model.
Legend: I images, L decoder layers, Q poses per image, K keypoints. Coordinates: COCO pixels of the original images.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from posekit import locks, runs
from posekit.data import notes
from posekit.data.images import read_or_skip
from posekit.data.topdown import PersonCrops
from posekit.data.transforms import decode, make_batch
from posekit.evaluation import evaluate, evaluate_by_people, per_joint_oks
from posekit.evaluation.centers import VISIBLE, compare_centers
from posekit.evaluation.pairing import pair_people
from posekit.evaluation.run_tables import annotation_ids, columns, joints, matches, visibility_numbers
from posekit.files import plain, read_json, relative, resolve, write_bytes, write_json
from posekit.poses import Poses, drop_not_finite
from posekit.protocols import PoseDataset
from posekit.provenance import provenance
from posekit.topdown import THRESHOLD, poses_of_boxes
from posekit.training.datasets import DATA_PARAMETERS, open_data
from posekit.training.found_boxes import boxes_of
from posekit.training.loop import WEIGHTS
from posekit.training.recipes import Recipe, from_record
from posekit.training.validation import numbers_of, rows_of, scoring
from posekit.training.weights import trained_model

NO_POSES = "{run} holds {model}, which finds no keypoints, so there is no AP: give it to a ViTPose as its weights"


def evaluate_run(
    run: str | Path,
    dataset: str = "",
    split: str = "val",
    images: int = 0,
    folder: str | Path | None = None,
    on_error: str = "raise",
    device: str = "auto",
    report: Callable[[str], None] = print,
    boxes: str = "truth",
    data_options: dict | None = None,
) -> dict:
    """Scores the weights of a run folder, or of shipped weights, and writes what was found; returns the metrics.

    Args:
        run: a folder with `model.safetensors` and `run.json`. dataset: "" = what the run was trained on, of several
            the first, "people" = drawn people, or the path of a folder in COCO's format. images: at most so many; 0 =
            as many as the run used of its own data, all of another folder.
        folder: where the files go; None = the run's own folder. on_error: "skip" leaves out and counts images and
            annotations of a COCO folder that cannot be used, as does the run's recipe on its own data. data_options: of
            a COCO folder, as in `Recipe.data_options`; None = the recipe's for its own data, none for another folder.
        boxes: whom a top-down model looks at. "truth" = annotated boxes; the path of a COCO detections file; or a run
            folder of a detector or a one-stage model, whose `predictions.json` tells where people are.

    Files: `predictions.json` (COCO result rows of the last layer), `metrics.json` (what is returned), `layers.csv` (the
    ten numbers per decoder layer; a model without layers counts as one), `matches.csv` (a row per annotated person with
    the prediction that it was paired with, one to one by the largest sum of OKS), `visibility.csv` (a row per joint of
    these people: annotated flag 0, 1, 2 and predicted visibility). Centre columns are empty where the model predicts
    none or the person has none. Where images have a `crowdIndex`, the numbers go on with the AP of its three bands.
    `run.json` of another folder tells what was evaluated; in the run's own folder it gets an entry `evaluation`. A
    detector's numbers are those of its bounding boxes, and its files `predictions.json` and `metrics.json` alone.

    Raises:
        FileNotFoundError: no run, or no weights in it. ValueError: data that cannot be used (one sentence), a `folder`
            that holds another training run, or a model that finds no keypoints. InUseError: another process writes in
            `folder`.
    """
    run = resolve(run)
    runs.load_run(run)  # there is one, before a folder is made
    folder = run if folder is None else resolve(folder)
    own = folder.resolve() == run.resolve()
    parameters = dict(zip(DATA_PARAMETERS, (str(dataset), split, images, on_error, data_options), strict=True))
    with locks.writing(folder):
        record = runs.load_run(run)
        if not own and (folder / "run.json").exists() and "evaluated" not in runs.load_run(folder)["parameters"]:
            raise ValueError(f"{relative(folder)} holds a training run; give the evaluation a folder of its own")
        check_weights(run, record)
        recipe = from_record(record["parameters"], relative(run / "run.json"))
        data = open_data(recipe, **parameters)
        model = trained_model(recipe, run, data, parameters["dataset"])
        if not hasattr(model, "decode"):
            raise ValueError(NO_POSES.format(run=relative(run), model=recipe.model))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        weights = hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()[:12]
        parameters = {"model": recipe.model, "evaluated": relative(run), "weights": weights} | parameters
        parameters |= {"boxes": str(boxes)} if model.input.fit == "crop" else {}
        made = provenance(parameters, seed=record["provenance"]["seed"], data=data, device=device)
        start = time.monotonic()
        seen, layers = forward(model.to(device), data, recipe, device, report, str(boxes))
        ids = [data.ids[i] for i in seen]
        pairs = zip(layers[-1], ids, strict=True)
        rows = [row for poses, image_id in pairs for row in rows_of(poses, image_id, data.category_id)]
        if model.num_keypoints:
            metrics, tables = score(data, seen, layers, recipe.loss_options.get("visible", "released"))
            results = {name: metrics[name] for name in tables["layers.csv"].columns[1:]}
        else:
            results, tables = numbers_of(data, rows, detector=True), {}
            metrics = results | {"images": len(seen), "skipped_because": notes.left_out_of(data)}
        made["seconds"] = round(time.monotonic() - start, 3)

        write_json(folder / "predictions.json", rows, indent=None)
        for name, table in tables.items():
            write_bytes(folder / name, table.to_csv(index=False, lineterminator="\n").encode())
        before = read_json(folder / "metrics.json") if own and (folder / "metrics.json").exists() else {}
        write_json(folder / "metrics.json", before | metrics)  # training's numbers of the last epoch stay
        noticed = {"notes": notes.notes_of(data), "left_out": notes.left_out_of(data)}
        if own:
            record |= {"evaluation": made | noticed}
        else:
            record = {"folder": relative(folder), "status": "done", "reason": None, "sessions": 1, **noticed}
            record |= {"results": results, "parameters": made.pop("parameters"), "provenance": made}
        write_json(folder / "run.json", record)
        return metrics


def check_weights(run: Path, record: dict) -> None:
    """Raises FileNotFoundError for a run folder without weights, in a sentence that says why and what to do."""
    if (run / WEIGHTS).is_file():
        return
    name, evaluated = relative(run), record["parameters"].get("evaluated")
    if evaluated:
        raise FileNotFoundError(f"there are no weights in {name}: it holds the evaluation of {evaluated}; give that")
    raise FileNotFoundError(
        f"there are no weights in {name}: its run is {record['status']}, not done; 10_train with the same parameters "
        f"and run_dir = {name} goes on with it"
    )


def forward(
    model, data, recipe: Recipe, device, report: Callable[[str], None], boxes: str = "truth"
) -> tuple[list[int], list[list[Poses]]]:
    """One pass over the data: indices of the images seen (I,), and per layer the poses of every image.

    A model whose outputs carry no layers (POET's do: `logits` (L, B, Q, C)) counts as one layer.
    """
    if model.input.fit == "crop":
        people = PersonCrops(data, boxes_of(boxes, data))
        # annotated boxes are one per person already; detected ones may be several
        threshold = None if boxes == "truth" else THRESHOLD
        found = poses_of_boxes(model, people.by_image(), data.layout.sigmas, threshold, device)
        return list(range(len(data))), [list(found)]
    options = {"size": recipe.size, "longest": recipe.max_size, "device": device}
    batch_size = 50 if model.input.fit == "letterbox" else 2
    seen, layers, clock = [], [], time.monotonic()
    with torch.inference_mode():
        for first in range(0, len(data), batch_size):
            images = {i: read_or_skip(data, i) for i in range(first, min(first + batch_size, len(data)))}
            images = {i: image for i, image in images.items() if image is not None}
            if not images:
                continue
            batch = make_batch(list(images.values()), model.input, **options)
            outputs = model(batch["images"], batch["padding_mask"])
            count = len(outputs["logits"]) if "logits" in outputs and outputs["logits"].ndim == 4 else 1
            layers = layers or [[] for _ in range(count)]
            for layer, poses in enumerate(layers):
                poses += drop_not_finite(decode(model, outputs, batch, layer - count))
            seen += images
            if time.monotonic() - clock > 20:
                report(f"{len(seen)} of {len(data)} images")
                clock = time.monotonic()
    if not seen:
        raise ValueError(f"no image of {data.name} could be read: {'; '.join(data.skipped[:3])}")
    return seen, layers


def score(
    data: PoseDataset, seen: list[int], layers: list[list[Poses]], visible: str = "released"
) -> tuple[dict, dict]:
    """(metrics, {file name: table}) of the poses of every layer; `seen`: which images of `data` they belong to.

    visible: of which joints an annotated centre is the mean (`centers.true_centers`). Numbers are None where there is
    nobody to find.
    """
    options = scoring(data)
    ids = [data.ids[i] for i in seen]
    found = [columns(poses, ids) for poses in layers]
    results = [evaluate(data.ground_truth, detections, **options) for detections in found]
    pairs = pair_people(layers[-1], [data.target(i) for i in seen], data.layout.sigmas)
    skipped = notes.left_out_of(data)
    last = results[-1]
    metrics = last.known | {
        "images": len(seen),
        "people": int((~last.ignored_people[0]).sum()),
        "area_scale": data.area_scale,
        "sigmas": notes.sigmas_of(data),
        "by_people": {
            people: {name: None if value < 0 else value for name, value in row.items()}
            for people, row in evaluate_by_people(data.ground_truth, found[-1], **options).items()
        },
        "oks_per_joint": dict(zip(data.layout.keypoints, per_joint_oks(last).tolist(), strict=True)),
        "unpaired": pairs.unpaired,
        "skipped": len(skipped),
        "skipped_because": skipped,
    }
    if len(pairs):
        metrics["visibility"] = visibility_numbers(pairs)
    if np.isfinite(pairs.centers).any():
        boxes = pairs.boxes
        centers = compare_centers(pairs.centers, pairs.true_keypoints, pairs.true_visibility, boxes, visible)
        metrics["centers"] = centers.summary() | {"of": VISIBLE[visible][1]}
    tables = {
        "layers.csv": pd.DataFrame([{"layer": n} | result.known for n, result in enumerate(results, 1)]),
        "matches.csv": matches(pairs, ids, annotation_ids(data.ground_truth), visible),
        "visibility.csv": joints(pairs, data.layout.keypoints),
    }
    return plain(metrics), tables
