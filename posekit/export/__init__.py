"""A model as one ONNX file, weights included: for ONNX Runtime, OpenVINO and whatever else reads ONNX.

A graph takes what the model takes, `images` (B, 3, H, W) float32 normalised as `model.input` says, any B, and gives
what its `forward` gives, under the same names; the model's own `decode` reads it. So nothing is decoded by two codes.
Two families decode in the graph, where nothing but tensors is needed for it:

- POET has a second input, `padding_mask` (B, H, W) bool, True = padding, and ends in what `POET.people` returns.
- RTMO has the form of published files, see posekit/export/rtmo.py.

The file says what `posekit.load(NAME, "FILE.onnx", backend="onnxruntime")` must know of it.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from posekit.data.transforms import frame_of
from posekit.export import rtmo
from posekit.files import replacing
from posekit.input_spec import InputSpec
from posekit.layouts import to_record
from posekit.models.fusion import PRECISE, fused
from posekit.models.rtmo import RTMO, check_sides
from posekit.protocols import PoseModel

FACTS = "posekit"  # the name of our entry in a file's metadata
OPSET = 17  # before 16, tracing has no words for norms along an axis
LIMIT = 2**31  # bytes of a file in ONNX's format
EXAMPLE = (64, 96)  # height and width of what is traced where any will do


def export(model: PoseModel, path: str | Path, size: int | tuple[int, int] | None = None, **options) -> Path:
    """Write the model to `path`; returns the path. Arguments and errors are those of `graph`."""
    data = graph(model, size, **options)
    with replacing(path) as file:
        file.write(data)
    return Path(path)


def graph(model: PoseModel, size: int | tuple[int, int] | None = None, **options) -> bytes:
    """The model in ONNX's format.

    `size`: side of a square or (height, width) in pixels, default: the model's own. A model that fits the shorter side
    of an image (POET, associative embedding, OpenPose) takes images of any height and width, unless a size is given:
    then images are letterboxed. `options` are RTMO's, see `rtmo.Deployed`; other models have none.

    Raises:
        ValueError: a size that is not a multiple of 32, or another one than a top-down model's; a model that finds no
            poses, or an RTMO that has no grey to fill padding with; weights of more than 2 GB.
        ModuleNotFoundError: the package `onnx` is missing.
    """
    name = type(model).__name__
    if not hasattr(model, "decode"):
        raise ValueError(f"{name} finds no poses: there is nothing to export")
    if sum(4 * parameter.numel() for parameter in model.parameters()) >= LIMIT:
        raise ValueError(f"the weights of this {name} are larger than 2 GB, more than a file in ONNX's format can hold")
    onnx, spec = needed("onnx"), graph_input(model, size)
    width, height = frame_of(spec.size)
    if isinstance(model, RTMO):
        network = rtmo.Deployed(model, (height, width), **options)
        spec = replace(spec, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
        arguments = {"input": torch.zeros(network.batch, 3, height, width)}
        made = traced(onnx, network, arguments, rtmo.OUTPUTS, network.axes)
        precise = ("/people/",)
    else:
        network, free = Raw(model, **options), spec.fit == "shortest"
        if spec.fit == "crop":
            width, height = model.crop_size
        images = torch.zeros(2, 3, *EXAMPLE) if free else torch.zeros(2, 3, height, width)
        arguments = {"images": images, "padding_mask": images[:, 0] > 0}
        sides = {2: "height", 3: "width"} if free else {}
        axes = {"images": {0: "batch"} | sides}
        axes["padding_mask"] = {0: "batch"} | {axis - 1: side for axis, side in sides.items()}
        with torch.no_grad():
            values = network(*arguments.values())
        for output, value in zip(network.names, values, strict=True):  # OpenPose's first axis is that of its stages
            axes[output] = {axis: "batch" for axis in (0, 1) if value.shape[axis] == len(images)}
        made = traced(onnx, network, arguments, network.names, axes)
        precise = tuple(f"/model/{start.replace('.', '/')}" for start in PRECISE.get(name, ()))
    facts = {"model": name, "input": asdict(spec), "num_keypoints": model.num_keypoints}
    layout = getattr(model, "layout", None)  # of what was trained here
    facts["layout"] = to_record(layout) if layout else None
    facts["seam"] = seam(made.graph, precise)
    onnx.helper.set_model_props(made, {FACTS: json.dumps(facts)})
    onnx.checker.check_model(made)
    return made.SerializeToString()


def traced(onnx, network: nn.Module, arguments: dict[str, Tensor], outputs: Sequence[str], axes: dict):
    """The network as an ONNX model; `axes`: name -> {axis that may vary: its name}."""
    file = io.BytesIO()
    with warnings.catch_warnings():  # sizes that tracing takes for constants are constants
        for category in (torch.jit.TracerWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings("ignore", category=category)
        # Traced, not captured: capturing needs the shapes of everything behind the suppression, which nobody knows
        names = {"input_names": list(arguments), "output_names": list(outputs), "dynamic_axes": axes}
        torch.onnx.export(network, tuple(arguments.values()), file, dynamo=False, opset_version=OPSET, **names)
    return onnx.load_from_string(file.getvalue())


def graph_input(model: PoseModel, size: int | tuple[int, int] | None) -> InputSpec:
    """What a graph of the model sees: its crops, images of any size, or letterboxes of one (height, width)."""
    spec, name = model.input, type(model).__name__
    if spec.fit == "crop":
        if size not in (None, model.crop_size[::-1]):
            raise ValueError(f"this {name} sees crops of (height, width) = {model.crop_size[::-1]}, not of {size}")
        return spec
    if spec.fit == "shortest" and size is None:
        return spec
    width, height = frame_of(spec.size if size is None else size)
    check_sides(name, max(height, 1), max(width, 1))
    if isinstance(model, RTMO) and spec.pad is None:
        raise ValueError("an exported RTMO has no padding mask; give the model's InputSpec a grey, pad=114")
    return replace(spec, fit="letterbox", size=(height, width))


class Raw(nn.Module):
    """A fused copy of a model with its outputs as tracing wants them, a tuple; `names`: theirs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.names = fused(model).cpu().float(), []

    def forward(self, images: Tensor, padding_mask: Tensor) -> tuple[Tensor, ...]:
        """images (B, 3, H, W), padding_mask (B, H, W), which ends in the graph only if the model reads it."""
        outputs = self.model(images, padding_mask)
        if hasattr(self.model, "people"):
            outputs = self.model.people(outputs)
        self.names[:] = outputs
        return tuple(outputs.values())


def seam(made, precise: tuple[str, ...]) -> list[str]:
    """The tensors in which an ONNX graph's dense network ends: `precise` nodes and all behind them want 32 bits."""
    images = made.input[0].name
    dense, behind, cut = {images}, set(), set()
    for node in made.node:  # in the order of computation
        given = set(node.input)
        if behind & given or node.name.startswith(precise):
            behind.update(node.output)
            cut |= dense & given
        elif dense & given and node.op_type != "Shape":
            dense.update(node.output)
    return sorted(cut - {images})


def needed(name: str):
    """The package of this name, or one sentence that says how to get it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"this needs the package {name}: pip install 'posekit[export]'") from error
