"""What RTMO and the systems of its Figure 3 cost (Lu et al. 2023): time against people, with and without P3 (Table 4),
at the tiny scale.

The protocol is that of `timing`, with random weights. Who is found is pinned: of n people each gets five candidates
above the score threshold, of which suppression leaves one, so n survivors reach the coordinate classifier in every
backend. An exported graph gets two more inputs for that. Parts of the eager model: F = image to tensor and network, P =
threshold, suppression and classifier. A graph has one part, G. N cells; coordinates: pixels of the network's input.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import nn

from posebook.benchmarks import timing
from posebook.benchmarks.systems import drawn_scenes, poet_method, same_number, top_down_method
from posebook.benchmarks.timing import Method, Scene, Speed, Stage
from posekit import models
from posekit.data.transforms import normalise
from posekit.export import export, needed
from posekit.poses import Poses
from posekit.runners import load, openvino_core

FASTER = {"onnxruntime": 1.3, "openvino": 1.3, "openvino_bf16": 2.0}  # than eager, at least
FEATURES = ((4, 5), (3, 4, 5))  # Table 4
TINY_FEATURES = ((3, 4), (4, 5), (3, 4, 5))  # rtmo_tiny's own, then Table 4's
SOME = 4  # people where their number is not the question
SPOTS = 4  # people stand on a grid of 4 x 4 spots
REACH = 0.3  # a pinned box reaches so far beyond its cell, in images: neighbours of a cell fall to suppression


def speed_rows(
    model, sizes, people, repeats=30, warmup=3, budget_s=None, threads=1, scenes=2, seed=0, baselines=()
) -> Speed:
    """Three studies on this machine's CPU; the rows have a column `study`, the lines are those of "people".

    "people": `model` in every backend that is there, `baselines` by PyTorch and ONNX Runtime, with 0 to 13 people.
    "features": RTMO of each of `sizes` and rtmo_tiny with two and three feature maps, by ONNX Runtime. "tiny":
    rtmo_tiny and poet_tiny.

    Args: budget_s: seconds for the first two studies together, half each; see `timing.measure` for it and the others.
    """
    half = None if budget_s is None else budget_s / 2
    options = {"seed": seed, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        network = built(model, seed)
        drawn = drawn_scenes(people, scenes, network.input.size, seed)
        methods = backends(network, model, Path(folder), threads)
        for backend in ("eager", "onnxruntime"):
            methods |= baseline_methods(baselines, backend, Path(folder), threads, seed)
        for method, same in itertools.product(methods.values(), drawn.values()):
            timing.run_through(method, same[0])  # OpenVINO prepares itself anew for every number of people
        systems = list(methods)
        raw = {"people": timing.measure(methods, drawn, repeats, warmup, budget_s=half, **options)}
        drawn = drawn_scenes((SOME,), scenes, 128, seed)
        tiny, large = feature_methods(("tiny",), Path(folder), threads), feature_methods(sizes, Path(folder), threads)
        # small networks are over in milliseconds: more runs steady their medians
        parts = [timing.measure(tiny, drawn, 5 * repeats, warmup, **options)]
        if large:
            big = drawn_scenes((SOME,), scenes, 640, seed)
            parts.append(timing.measure(large, big, repeats, warmup, budget_s=half, **options))
        raw["features"] = pd.concat(parts)
        methods = {"poet_tiny_eager": poet_method(built("poet_tiny", seed))}
        methods |= backends(built("rtmo_tiny", seed), "rtmo_tiny", Path(folder), threads)
        raw["tiny"] = timing.measure(methods, drawn, 5 * repeats, warmup, **options)
    clock = timing.choose_clock(raw["people"], threads)
    rows = {study: timing.summary(table, clock) for study, table in raw.items()}
    settings = {"model": model, "weights": "random", "clock": clock, "threads": threads, "batch": 1}
    settings |= {"size": network.input.size, "candidates per person": 5, "flip test": False, "device": "cpu"}
    settings |= {"crops": "one batch", "precision": "float32 unless named"}
    settings |= {"rounds": int(raw["people"]["round"].max()) + 1, "seed": seed, "torch": torch.__version__}
    settings |= {name: version(name) for name in ("onnxruntime", "openvino")}
    lines = timing.in_order(timing.fit_lines(raw["people"], clock, seed), systems)
    joined = (pd.concat([t.assign(study=s) for s, t in tables.items()], ignore_index=True) for tables in (rows, raw))
    return Speed(*joined, lines, settings)


def built(name: str, seed: int, **options):
    """A model with random weights from a seed."""
    torch.manual_seed(seed)
    return models.build(name, **options).eval()


def backends(network, name: str, folder: Path, threads: int) -> dict[str, Method]:
    """`name`_`backend` -> method, for PyTorch, ONNX Runtime, OpenVINO and, where the CPU knows it, its bfloat16."""
    path = pinned_graph(network, folder / f"{name}.onnx")
    found = {
        "eager": grid_method(network),
        "onnxruntime": graph_method(onnxruntime_runner(path, threads), network),
        "openvino": graph_method(openvino_runner(path, threads), network),
    }
    if bf16_here():
        found["openvino_bf16"] = graph_method(openvino_runner(path, threads, "bf16"), network)
    return {f"{name}_{backend}": method for backend, method in found.items()}


def bf16_here() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is slower than float32."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def feature_methods(sizes: tuple[str, ...], folder: Path, threads: int) -> dict[str, Method]:
    """Such as "rtmo_s P4 P5" -> method by ONNX Runtime, for two and three feature maps of every size."""
    found = {}
    for size in sizes:
        for levels in TINY_FEATURES if size == "tiny" else FEATURES:
            network, name = built(f"rtmo_{size}", 0, features=levels), f"rtmo_{size} P" + " P".join(map(str, levels))
            path = pinned_graph(network, folder / f"{name.replace(' ', '_')}.onnx")
            found[name] = graph_method(onnxruntime_runner(path, threads), network)
    return found


def baseline_methods(names, backend: str, folder: Path, threads: int = 1, seed: int = 0) -> dict[str, Method]:
    """`name`_`backend` -> method: RTMPose behind RTMDet (both tiny for rtmpose_tiny), RTMO and YOLOX-Pose.

    backend: "eager" or "onnxruntime", whose graphs end where the network does; RTMO's go on to the people.
    """

    def network(name: str) -> nn.Module:
        model = built(name, seed)
        if backend == "eager":
            return model
        torch.manual_seed(seed)
        graph = load(name, backend=backend, threads=threads)
        graph.features = getattr(model, "features", ())
        return graph

    found = {}
    for name in names:
        if name.startswith("rtmpose"):
            detector = network("rtmdet_tiny" if name.endswith("tiny") else "rtmdet_nano")
            method = top_down_method(network(name), detector_stage(detector))
        elif name.startswith("rtmo") and backend != "eager":
            model = built(name, seed)
            path = pinned_graph(model, folder / f"{name}.onnx")
            method = graph_method(onnxruntime_runner(path, threads), model)
        else:
            method = grid_method(network(name))
        found[f"{name}_{backend}"] = method
    return found


def detector_stage(network) -> Stage:
    """A detector on the image, resized to its input; its boxes are pinned, and whoever follows takes the scene's."""
    method, size = grid_method(network), (side(network),) * 2

    def detect(scene: Scene, _) -> Poses:
        small = Scene(cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA), scene.boxes)
        return method["P"](small, method["F"](small, None))

    return detect


def side(network) -> int:
    """Of the square that a network sees, px."""
    size = network.input.size
    return size if isinstance(size, int) else size[0]


def grid_method(network) -> Method:
    """RTMO, YOLOX-Pose and RTMDet by PyTorch, nothing fused, or a graph of the last two, decoded by PyTorch."""

    def forward(scene: Scene, _) -> dict[str, torch.Tensor]:
        return network(normalise(scene.image[None], network.input.mean, network.input.std))

    def people(scene: Scene, outputs: dict[str, torch.Tensor]) -> Poses:
        scores, boxes = map(torch.from_numpy, pins(side(network), network.features, len(scene.boxes)))
        pinned = {"cls_logits": torch.logit(scores.clamp(min=1e-4))[None], "boxes": outputs["boxes"] + boxes}
        if "obj_logits" in outputs:  # YOLOX-Pose multiplies both
            pinned["obj_logits"] = torch.full_like(outputs["obj_logits"], 9.0)
        found = network.decode(outputs | pinned, torch.tensor([scene.image.shape[1::-1]]))[0]
        same_number(len(found), len(scene.boxes))
        return found

    return {"F": forward, "P": people}


def graph_method(runner, network) -> Method:
    """`runner`: dict of arrays -> dets (1, n, 5), of a graph by `pinned_graph`."""

    def run(scene: Scene, _) -> np.ndarray:
        pixels = np.ascontiguousarray(scene.image[:, :, ::-1].transpose(2, 0, 1), np.float32)[None]
        scores, boxes = pins(network.input.size, network.features, len(scene.boxes))
        found = runner({"input": pixels, "pinned_scores": scores[None, None], "pinned_boxes": boxes[None]})
        same_number(found.shape[1], len(scene.boxes))
        return found

    return {"G": run}


@functools.cache
def pins(size: int, features: tuple[int, ...], people: int) -> tuple[np.ndarray, np.ndarray]:
    """(scores (N,), what is added to boxes (N, 4) px) that make `people` people: each a cell and its four neighbours.

    The cell is the best of the five, and its box covers its neighbours' well enough to suppress them. All other cells
    get -1: added to the small scores of random weights it leaves nobody.
    """
    cells = count_cells(size, features)
    side = size // 2 ** features[0]  # cells of the finest level come first, row by row
    scores, boxes = np.full(cells, -1, np.float32), np.zeros((cells, 4), np.float32)
    spots = 5 * np.arange(people) % SPOTS**2  # along diagonals: the first few stand apart
    row, column = ((2 * at + 1) * side // (2 * SPOTS) for at in divmod(spots, SPOTS))
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        place = (row + down).clip(0, side - 1) * side + (column + right).clip(0, side - 1)
        scores[place] = 0.5 if down or right else 0.9
        boxes[place] = REACH * size * np.array([-1, -1, 1, 1])
    return scores, boxes


def count_cells(size: int, features: tuple[int, ...]) -> int:
    """N of a square image."""
    return sum((size // 2**level) ** 2 for level in features)


def pinned_graph(network, path: Path) -> Path:
    """Exports a model with two more inputs, added to what its suppression sees: scores (1, 1, N), boxes (1, N, 4)."""
    import onnx

    export(network, path, dynamic_batch=False)
    whole = onnx.load(path)
    graph, cells = whole.graph, count_cells(network.input.size, network.features)
    place = next(i for i, node in enumerate(graph.node) if node.op_type == "NonMaxSuppression")
    suppression = graph.node[place]
    for i, (name, shape) in enumerate({"pinned_boxes": (1, cells, 4), "pinned_scores": (1, 1, cells)}.items()):
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        graph.node.insert(place + i, onnx.helper.make_node("Add", [suppression.input[i], name], [f"{name}_sum"]))
        suppression.input[i] = f"{name}_sum"
    onnx.checker.check_model(whole)
    onnx.save(whole, path)
    return path


def onnxruntime_runner(path: Path, threads: int):
    """Arrays in, the first output out, by ONNX Runtime on the CPU."""
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(["dets"], arrays)[0]


def openvino_runner(path: Path, threads: int, precision: str = "f32"):
    """The same by OpenVINO; `precision`: "f32" or "bf16"."""
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino_core().compile_model(str(path), "CPU", options)
    return lambda arrays: compiled(arrays)["dets"]


def backend_speed(model: str = "rtmo_s", rounds: int = 7) -> list[str]:
    """Exported graphs must be faster than PyTorch, and 13 people cost hardly more than none."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        network = built(model, 0)
        scenes = drawn_scenes((0, 1, 5, 13), 1, network.input.size, 0)
        raw = timing.measure(backends(network, model, Path(folder), 1), scenes, rounds, warmup=2)
    lines = timing.fit_lines(raw, "cpu").set_index("method")
    missed = []
    for method, line in lines.iterrows():
        backend = method.removeprefix(f"{model}_")
        ratio, added = lines.a_ms[f"{model}_eager"] / line.a_ms, 13 * line.b_ms / line.a_ms
        print(f"  {backend:<16} {line.a_ms:8.1f} ms, {ratio:5.2f} x; 13 people add {100 * added:+.1f} %")
        limit = 0.05 if backend == "eager" else 0.02
        if 13 * line.b_low >= limit * line.a_ms:
            missed.append(f"13 people add {100 * added:.1f} % by {backend}, more than {100 * limit:.0f} %")
        if ratio < FASTER.get(backend, 0):
            missed.append(f"{backend} is {ratio:.2f} times as fast as eager, less than {FASTER[backend]}")
    return missed
