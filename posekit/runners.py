"""`posekit.load`: a model by name on PyTorch, ONNX Runtime or OpenVINO. `posekit.Predictor` takes them all.

    posekit.load("rtmo_tiny", "scenes", backend="onnxruntime")    exported in memory
    posekit.load("rtmo_s", "rtmo_s.onnx", backend="openvino")     a file of `posekit.export.export`, or a published one

Published RTMO files (mmdeploy) have the form of ours: see posekit/export/rtmo.py. The half pixel from their pixel
*centres* on integers to COCO pixels is added here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from posekit import models
from posekit.export import FACTS, graph, needed
from posekit.input_spec import InputSpec
from posekit.layouts import from_record
from posekit.models.fusion import in_bf16
from posekit.pixels import from_pixel_index
from posekit.poses import Poses
from posekit.training import weights as torch_weights

PUBLISHED = {"pad": 114, "align": "centre", "pixel_centre": 0.0, "mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}
PRECISIONS = ("f32", "bf16")
_cores: list = []
_cores_lock = threading.Lock()


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    backend: str = "torch",
    precision: str = "f32",
    fuse: bool = False,
    threads: int = 1,
    size: int | tuple[int, int] | None = None,
    **overrides,
) -> nn.Module:
    """A model in evaluation mode, for `Predictor`.

    Args:
        weights: None = random; "scenes" = our reference model, trained on drawn people; "published" or
            "published:VARIANT" = downloaded, see `posekit.models.published`; "hf:ORG/NAME"; a run folder; or a file
            (.safetensors, a published checkpoint, or an exported .onnx for the other backends).
        backend: "torch", "onnxruntime" or "openvino".
        precision: "f32" or, with torch and OpenVINO, "bf16", which is fast on processors that have it. What computes
            pixels stays in f32 all the same: 8 bits are too few for them.
        fuse: the copy for deployment, `model.fuse()`, whose last bits differ; exported graphs always are of it.
        threads: how many an exported graph may use; torch has its own, `torch.set_num_threads`.
        size: of what an exported graph sees, see `posekit.export.graph`.
        overrides: go to the model's builder.

    Raises:
        ValueError: an unknown name, backend or precision; weights or a file of another model (the sentence says what
            differs); a size that the model cannot see.
        FileNotFoundError: no such weights. ConnectionError: they cannot be downloaded.
        ModuleNotFoundError: the backend's package is missing.
    """
    if backend not in ("torch", *BACKENDS):
        raise ValueError(f"backend is {backend!r}; choose one of torch, {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    exported = str(weights).endswith(".onnx")
    if backend == "torch":
        if exported:
            raise ValueError(f"{weights} is an exported graph; give backend='onnxruntime' or 'openvino'")
        model = torch_weights.load(name, weights, **overrides)
        model = model.fuse() if fuse else model
        return in_bf16(model) if precision == "bf16" else model
    if not exported:
        model = torch_weights.load(name, weights, **overrides)
        session = BACKENDS[backend](graph(model, size), precision, threads)
        return Exported(session, model.to("meta"))  # the session has the weights
    session = BACKENDS[backend](existing(weights), precision, threads)
    if session.facts is None and "dets" not in session.outputs:
        raise ValueError(f"{weights} is neither of posekit.export nor an RTMO in the form of published files")
    facts = session.facts or {"model": "RTMO", "num_keypoints": session.outputs["keypoints"][2]}
    keypoints = {"num_keypoints": facts["num_keypoints"]} if facts["num_keypoints"] else {}  # a detector has none
    with torch.device("meta"):
        model = models.build(name, **keypoints | overrides)
    if facts["model"] != type(model).__name__:
        raise ValueError(f"{weights} is an exported {facts['model']} and {name} is a {type(model).__name__}")
    network = Exported(session, model)
    model.input = network.input  # which decides how some decode
    return network


class Session(NamedTuple):
    """A graph that is ready to run. `run`: its inputs, in order -> its outputs, in order, all numpy arrays; `inputs`,
    `outputs`: names -> shapes, None for sides that may vary; `facts`: of `posekit.export.graph`, None for files of
    others."""

    run: Callable[[list[np.ndarray]], list[np.ndarray]]
    inputs: dict[str, list]
    outputs: dict[str, list]
    facts: dict | None


class Exported(nn.Module):
    """A graph in the place of the model that it was made of, whose `decode` reads what the graph puts out."""

    def __init__(self, session: Session, model: nn.Module) -> None:
        super().__init__()
        self.session, (self.batch, _, *self.sides) = session, next(iter(session.inputs.values()))
        spec = session.facts["input"] if session.facts else PUBLISHED | {"size": self.sides}
        self.input = InputSpec(**{name: tuple(x) if isinstance(x, list) else x for name, x in spec.items()})
        self.num_keypoints, known = model.num_keypoints, (session.facts or {}).get("layout")
        self.layout = from_record(known) if known else None
        self.crop_size, self.stride = getattr(model, "crop_size", None), getattr(model, "stride", None)
        self.published = "dets" in session.outputs
        self.decode_outputs = decode_published if self.published else model.decode

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """images (B, 3, H, W) RGB as `input` says, padding_mask (B, H, W) True = padding.

        Raises:
            ValueError: another height or width than the graph's.
        """
        if any(side and side != given for side, given in zip(self.sides, images.shape[2:], strict=True)):
            expected, given = (" x ".join(map(str, sides)) for sides in (self.sides, images.shape[2:]))
            raise ValueError(
                f"this graph sees {expected} pixels (height x width), not {given}: export one of that size"
            )
        inputs = [images.flip(1) if self.published else images]
        if len(self.session.inputs) > 1:
            inputs.append(torch.zeros_like(images[:, 0], dtype=torch.bool) if padding_mask is None else padding_mask)
        arrays = [np.ascontiguousarray(value.numpy()) for value in inputs]
        if self.batch != 1:
            values = map(torch.from_numpy, self.session.run(arrays))
        else:  # a published form that takes one image at a time: rows of zeros are nobody
            ones = [self.session.run([array[i : i + 1] for array in arrays]) for i in range(len(images))]
            values = (pad_sequence([torch.from_numpy(x[0]) for x in part], True) for part in zip(*ones, strict=True))
        return dict(zip(self.session.outputs, values, strict=True))

    def decode(self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1, **options) -> list[Poses]:
        """As the model's own `decode`; what the graph has decided is decided."""
        return self.decode_outputs(outputs, image_sizes, **options)


def decode_published(outputs: dict[str, Tensor], image_sizes: Tensor) -> list[Poses]:
    """The people of a graph in RTMO's published form, as `RTMO.decode` gives them; rows with score 0 are nobody."""
    poses = []
    for dets, people, size in zip(outputs["dets"], outputs["keypoints"], image_sizes, strict=True):
        there = dets[:, 4] > 0
        boxes, people = from_pixel_index(dets[there, :4]), people[there]
        boxes = torch.minimum(boxes.clamp(min=0), size.to(boxes).repeat(2))
        found = from_pixel_index(people[..., :2]), people[..., 2], dets[there, 4], boxes
        poses.append(Poses(*(x.numpy() for x in found)))
    return poses


def onnxruntime_session(file: str | bytes, precision: str, threads: int) -> Session:
    """A graph on ONNX Runtime, on the CPU, where it has no bf16."""
    if precision != "f32":
        raise ValueError("ONNX Runtime computes in f32 on a CPU; bf16 needs backend='openvino'")
    onnxruntime = needed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # it warns of constants that it cannot fold
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs, outputs = (
        {value.name: [side if isinstance(side, int) else None for side in value.shape] for value in values}
        for values in (session.get_inputs(), session.get_outputs())
    )
    facts = session.get_modelmeta().custom_metadata_map.get(FACTS)
    return Session(
        lambda arrays: session.run(list(outputs), dict(zip(inputs, arrays, strict=True))),
        inputs,
        outputs,
        json.loads(facts) if facts else None,
    )


def openvino_session(file: str | bytes, precision: str, threads: int) -> Session:
    """A graph on OpenVINO, on the CPU. With bf16 the dense network computes in it, but not what is behind the graph's
    seam: joints would land tens of pixels away.

    Raises:
        ValueError: bf16 for a file of others, of which nobody knows where the network ends.
    """
    openvino = needed("openvino")
    core = openvino_core()
    model = core.read_model(file)
    entry = ["framework", FACTS]
    facts = json.loads(model.get_rt_info(entry).astype(str)) if model.has_rt_info(entry) else None
    inputs, outputs = (
        {v.any_name: [side.get_length() if side.is_static else None for side in v.partial_shape] for v in values}
        for values in (model.inputs, model.outputs)
    )
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    fast = options | {"INFERENCE_PRECISION_HINT": precision}
    if precision == "f32" or facts and not facts["seam"]:
        parts = [core.compile_model(model, "CPU", fast)]
    elif facts:
        first, second = (take(openvino, core.read_model(file), facts["seam"]) for take in (before, after))
        parts = [core.compile_model(first, "CPU", fast), core.compile_model(second, "CPU", options)]
    else:
        raise ValueError("this file is not of posekit.export, so nothing says where bf16 must end; use f32")
    requests = [part.create_infer_request() for part in parts]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        values = []
        for request in requests:  # the second part wants the images too: it counts them
            request.infer(dict(enumerate([*arrays, *values])), share_inputs=True)
            values = [request.get_output_tensor(i).data for i in range(len(request.model_outputs))]
        return [value.copy() for value in values]

    return Session(run, inputs, outputs, facts)


BACKENDS: dict[str, Callable[[str | bytes, str, int], Session]] = {
    "onnxruntime": onnxruntime_session,
    "openvino": openvino_session,
}


def openvino_core():
    """The one OpenVINO core of this process; whoever compiles a model takes this one, and it is never freed.

    The CPU plugin sets an alternate signal stack for a core and, when the core is freed, the one before it. Two cores
    freed in the order in which they were made leave a stack that is gone: the next signal is a segmentation fault.

    Raises:
        ModuleNotFoundError: the package `openvino` is missing.
    """
    openvino = needed("openvino")
    with _cores_lock:  # two threads must not make one each
        if not _cores:
            _cores.append(openvino.Core())
        return _cores[0]


def before(openvino, model, seam: list[str]):
    """The part of an OpenVINO model that ends in the tensors `seam`."""
    outputs = at(model, seam)
    results = [openvino.op.Result(output) for output in outputs]
    return openvino.Model(results, model.get_parameters(), "network")


def after(openvino, model, seam: list[str]):
    """The rest of it: its input and then `seam`, in this order, become the inputs. Changes `model`."""
    inputs = []
    for output in at(model, seam):
        inputs.append(openvino.op.Parameter(output.element_type, output.partial_shape))
        for target in output.get_target_inputs():
            target.replace_source_output(inputs[-1].output(0))
    return openvino.Model(model.get_results(), [*model.get_parameters(), *inputs], "people")


def at(model, names: list[str]) -> list:
    """The outputs of nodes of an OpenVINO model that carry these names."""
    known = {name: output for node in model.get_ops() for output in node.outputs() for name in output.names}
    return [known[name] for name in names]


def existing(path: str | Path) -> str:
    """The path, as text.

    Raises:
        FileNotFoundError: there is no file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no exported model at {path}; posekit.export.export writes one")
    return str(path)
