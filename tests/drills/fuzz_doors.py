"""What `fuzz.py` writes and which doors it goes through: per kind a function that writes a file, and the doors."""

from __future__ import annotations

import functools
import io
import json
import math
import os
import socket
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import torch
from mutate import damaged, resized, text, tree
from PIL import Image
from safetensors.torch import save

from posekit import models, runs
from posekit.data import open_dataset
from posekit.data.images import MAX_PIXELS, as_array, read_image
from posekit.data.topdown import PersonCrops
from posekit.evaluation import evaluate
from posekit.layouts import LAYOUTS
from posekit.training.weights import load

torch.set_num_threads(1)
cv2.setNumThreads(0)
W, H = 64, 48
SCENE = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)


def person(number: int, image: int, **more) -> dict:
    rng = np.random.default_rng(number)
    points = np.column_stack([rng.integers(2, W - 2, 17), rng.integers(2, H - 2, 17), rng.integers(0, 3, 17)])
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [2, 2, W - 4, H - 4],
        "area": 900.5,
        "num_keypoints": int((points[:, 2] > 0).sum()),
        "keypoints": points.ravel().tolist(),
    } | more


def truth(crowdpose: bool = False) -> dict:
    names = list(LAYOUTS["coco"].keypoints)
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": [[1, 2], [6, 7]]}
    images = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in (1, 2, 3)]
    for row in images if crowdpose else ():
        row["crowdIndex"] = 0.2 * row["id"]
    people = [person(11, 1), person(12, 1, segmentation=[[1, 1, 9, 1, 9, 9]]), person(13, 2)]
    return {"info": {}, "images": images, "annotations": [*people, person(14, 2, iscrowd=1)], "categories": [category]}


def results() -> list[dict]:
    rows = [person(number, image) for number, image in ((11, 1), (12, 1), (13, 2), (14, 3))]
    return [
        {"image_id": r["image_id"], "category_id": 1, "score": 0.9 - 0.01 * r["id"], "keypoints": r["keypoints"]}
        for r in rows
    ]


def folder_of(folder: Path, annotations: bytes) -> Path:
    for number in (1, 2, 3):
        cv2.imwrite(str(folder / f"{number}.png"), SCENE)
    (folder / "people.json").write_bytes(annotations)
    (folder / "good.json").write_text(json.dumps(truth()))
    (folder / "results.json").write_text(json.dumps(results()))
    return folder


def write_annotations(rng, folder: Path) -> Path:
    return folder_of(folder, text(rng, truth(crowdpose=rng.random() < 0.2)))


def write_results(rng, folder: Path) -> Path:
    folder_of(folder, json.dumps(truth()).encode())
    (folder / "results.json").write_bytes(text(rng, results()))
    return folder


def write_boxes(rng, folder: Path) -> Path:
    folder_of(folder, json.dumps(truth()).encode())
    rows = [{"image_id": 1 + i % 3, "category_id": 1, "bbox": [4.5, 3, 20 + i, 30], "score": 0.5} for i in range(5)]
    (folder / "boxes.json").write_bytes(text(rng, rows))
    return folder


def data_folder(folder: Path, on_error: str, split: str) -> None:
    data = open_dataset(folder / "people.json", split, on_error=on_error)
    for i in range(len(data)):
        image, target = data.image(i), data.target(i)
        n, k = len(target["keypoints"]), len(data.layout)
        must(image.dtype == np.uint8 and image.ndim == 3, "an image")
        must(target["keypoints"].shape == (n, k, 2) and target["visibility"].shape == (n, k), "n people of K keypoints")
        must(target["boxes"].shape == (n, 4) and target["areas"].shape == (n,), "a box and an area each")
        must(set(np.unique(target["visibility"])) <= {0, 1, 2}, "COCO's flags")
        seen = target["visibility"] > 0
        must(np.isfinite(target["keypoints"][seen]).all(), "finite labelled keypoints")
        must(np.isfinite(target["boxes"]).all() and np.isfinite(target["areas"]).all(), "finite boxes")
    must(all(isinstance(number, int) for number in data.ids), "whole numbers as ids")
    again = json.loads(json.dumps(data.ground_truth, allow_nan=False))
    scores(evaluate(again, []))
    PersonCrops(data)


def opened(folder: Path) -> None:
    data_folder(folder, "raise", "val")


def opened_with_skips(folder: Path) -> None:
    data_folder(folder, "skip", "val")


def opened_to_train(folder: Path) -> None:
    data_folder(folder, "skip", "train")


def scored(folder: Path) -> None:
    scores(evaluate(folder / "people.json", folder / "results.json"))


def scores(result) -> None:
    must(all(v == -1 or (math.isfinite(v) and 0 <= v <= 1) for v in result.stats.values()), f"shares: {result.stats}")
    str(result)
    result.matches()


def boxes(folder: Path) -> None:
    people = PersonCrops(open_dataset(folder / "good.json", "val"), folder / "boxes.json")
    must(np.isfinite(people.boxes).all() and np.isfinite(people.scores).all(), "finite boxes")
    for i in range(len(people)):
        people.target(i)


def must(right: bool, what: str) -> None:
    if not right:
        raise AssertionError(f"a clean result that is not {what}")


def image_files() -> list[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = SCENE[..., 0].astype(np.uint16) * 257
    made = [
        (".jpg", SCENE, {"quality": 90, "exif": exif}),
        (".jpg", SCENE, {"progressive": True}),
        (".png", SCENE, {}),
        (".png", deep, {}),
        (".png", SCENE, {"exif": exif}),
        (".tif", SCENE, {}),
        (".tif", SCENE, {"exif": exif}),
        (".tif", SCENE, {"compression": "tiff_lzw"}),
        (".tif", SCENE, {"compression": "tiff_adobe_deflate"}),
        (".tif", deep, {}),
        (".gif", SCENE, {}),
        (".bmp", SCENE, {}),
        (".webp", SCENE, {"exif": exif}),
        (".ppm", SCENE, {}),
        (".jp2", SCENE, {}),
        (".avif", SCENE, {}),
    ]
    files = []
    for suffix, pixels, options in made:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, Image.registered_extensions()[suffix], **options)
        files.append((suffix, buffer.getvalue()))
    return files


def write_image(rng, folder: Path) -> Path:
    files = image_files()
    suffix, raw = files[rng.integers(len(files))]
    path = folder / f"1{suffix}"
    how = rng.integers(20)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 2:
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif how == 3:
        path.symlink_to(["/dev/zero", "/dev/tty", path.name, "nowhere"][rng.integers(4)])
    elif how == 4:
        path.write_bytes([b"", b"\xff\xd8", raw[:30], bytes(1000), b"\x89PNG\r\n\x1a\n"][rng.integers(5)])
    elif how == 5:
        with open(path, "wb") as file:
            file.write(raw)
            file.truncate(2**36)
    elif how < 12:
        path.write_bytes(resized(rng, raw))
    else:
        path.write_bytes(damaged(rng, raw))
    content = truth()
    content["images"] = [{"id": 1, "file_name": path.name, "width": W, "height": H}]
    content["annotations"] = content["annotations"][:2]
    (folder / "people.json").write_text(json.dumps(content))
    return path


def read_as_stored(path: Path) -> None:
    is_image(read_image(path))


def read_upright(path: Path) -> None:
    is_image(as_array(path))


def read_by_pillow(path: Path) -> None:
    try:
        opened = Image.open(path) if path.is_file() else None  # what this raises is not ours
    except Exception:
        return
    if opened is not None:
        is_image(as_array(opened))


def read_in_a_folder(path: Path) -> None:
    data = open_dataset(path.parent / "people.json", "val", on_error="skip")
    must(data.image(0).shape == (H, W, 3), "an image as the annotations say")


def is_image(array: np.ndarray) -> None:
    must(array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8, "an image")
    must(0 < array[..., 0].size <= MAX_PIXELS, "of a size allowed")


@functools.cache
def small(name: str) -> bytes:
    """A model's weights in half precision as safetensors."""
    state = models.build(name).state_dict()
    return save({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()})


MODELS = ("rtmo_tiny", "vitpose_tiny", "poet_tiny")


def write_weights(rng, folder: Path) -> tuple[str, Path]:
    name = MODELS[rng.integers(len(MODELS))]
    raw = small(name)
    length = struct.unpack_from("<Q", raw)[0]
    header, values = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    how = rng.integers(8)
    if how < 3:
        path = folder / "model.safetensors"
        changed = json.dumps(tree(rng, header)).encode() if how else damaged(rng, raw[8 : 8 + length])
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + values)
    elif how == 3:
        path = folder / "model.safetensors"
        path.write_bytes(damaged(rng, raw[: 8 + length + 100] if rng.random() < 0.5 else raw))
    else:
        path = folder / "model.pth"
        path.write_bytes(changed_archive(rng, name, how))
    return name, path


def changed_archive(rng, name: str, how: int) -> bytes:
    """What torch.save writes of a state dict, with changed shapes, a damaged pickle, compressed, or damaged bytes."""
    state = dict(models.build(name).state_dict())
    some = list(state)[rng.integers(len(state))]
    if how == 4:
        shapes = [(), (0,), (3,), (2, 3, 4, 5, 6), (2**40,), (1, 2**20, 2**20)]
        shape = shapes[rng.integers(len(shapes))]
        odd = [None, 3, "x", [1], {}, torch.zeros(2).to_sparse(), torch.zeros(1, dtype=torch.complex64)]
        wide = rng.random() < 0.7 and shape and 0 not in shape
        state[some] = torch.zeros(1).expand(shape) if wide else odd[rng.integers(7)]
        if rng.random() < 0.3:
            state[["x", 3, None, ("a",), f"module.{some}"][rng.integers(5)]] = state.pop(some)
    buffer, result = io.BytesIO(), io.BytesIO()
    torch.save({"model": state, "epoch": 3} if rng.random() < 0.5 else state, buffer)
    raw = buffer.getvalue()
    if how == 4:
        return raw
    if how == 5:
        return damaged(rng, raw)
    compression = zipfile.ZIP_DEFLATED if how == 6 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(result, "w", compression) as target:
        for entry in source.infolist():
            data = source.read(entry)
            if how == 7 and entry.filename.endswith("data.pkl"):
                data = damaged(rng, data)
            if how == 6 and entry.filename.endswith("data/0") and rng.random() < 0.7:
                data = bytes(100_000_000)
            target.writestr(entry.filename, data)
    return result.getvalue()


def loaded(given: tuple[str, Path]) -> None:
    name, path = given
    works(load(name, path))


def works(model) -> None:
    must(all(isinstance(value, torch.Tensor) for value in model.state_dict().values()), "a model")
    if model.input.fit != "crop" and model.input.size <= 512:
        with torch.inference_mode():
            model(torch.zeros(1, 3, 128, 128), torch.zeros(1, 128, 128, dtype=torch.bool))


def write_record(rng, folder: Path) -> tuple[str, Path]:
    name = MODELS[rng.integers(len(MODELS))]
    shipped = Path(__file__).parents[2] / "data/weights" / name
    (folder / "run.json").write_bytes(text(rng, json.loads((shipped / "run.json").read_text())))
    (folder / "model.safetensors").write_bytes((shipped / "model.safetensors").read_bytes())
    return name, folder


def told(given: tuple[str, Path]) -> None:
    must(isinstance(runs.footer(given[1]), str), "a line")


KINDS = {
    "annotations": (write_annotations, [opened, opened_with_skips, opened_to_train, scored]),
    "results": (write_results, [scored]),
    "boxes": (write_boxes, [boxes]),
    "images": (write_image, [read_as_stored, read_upright, read_by_pillow, read_in_a_folder]),
    "weights": (write_weights, [loaded]),
    "records": (write_record, [loaded, told]),
}
