"""Exported RTMO files on ONNX Runtime or OpenVINO, called as `Predictor` is and with the same result.

    OnnxRunner("rtmo_s.onnx")("photo.jpg")     Poses in COCO pixels of the image

Files of posekit/export.py and published ones (mmdeploy) are read alike: `input` (B, 3, H, W) blue green red from 0 to
255, `dets` (B, N, 5), `keypoints` (B, N, K, 3), pixel *centres* on integers. The half pixel to COCO pixels is added
here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posekit.inference import Predictor
from posekit.input_spec import InputSpec
from posekit.poses import Poses, from_pixel_index

FACTS = "posekit"  # the name of our entry in the file's metadata
PUBLISHED = {"pad": 114, "align": "centre", "centre": 0.0}  # of files without one
PRECISIONS = ("f32", "bf16")
_cores: list = []
_cores_lock = threading.Lock()


class Runner:
    """An exported file that is called as `Predictor` is."""

    def __init__(self, network: Exported, threshold: float) -> None:
        self.network, self.predictor = network, Predictor(network, size=network.size, threshold=threshold)

    def __call__(self, images, batch_size: int = 1) -> Poses | list[Poses]:
        """Poses for one image, or a list of them for several; batches are as large as the file allows."""
        fixed = self.network.batch
        return self.predictor(images, min(batch_size, fixed) if isinstance(fixed, int) else batch_size)


class OnnxRunner(Runner):
    """A file on ONNX Runtime, on the CPU. `threads`: how many it may use; `threshold`: people below are left out.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: the package `onnxruntime` is missing.
    """

    def __init__(self, path: str | Path, threads: int = 1, threshold: float = 0.0) -> None:
        onnxruntime = needed("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # it warns of constants that it cannot fold
        session = onnxruntime.InferenceSession(existing(path), options, providers=["CPUExecutionProvider"])
        facts = session.get_modelmeta().custom_metadata_map.get(FACTS)
        shape, keypoints = session.get_inputs()[0].shape, session.get_outputs()[1].shape[2]

        def run(images: np.ndarray) -> list[np.ndarray]:
            return session.run(["dets", "keypoints"], {"input": images})

        super().__init__(Exported(run, shape, keypoints, facts), threshold)


class OpenVinoRunner(Runner):
    """A file on OpenVINO, on the CPU. `precision="bf16"` is for processors that have it: fast, boxes move by 1 / 256.

    With bf16 the network computes in it, but suppression and coordinate classifier do not: 8 bits are too few for
    pixels and for angles of position codes (joints would land tens of pixels away).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another precision; bf16 for a file of which this package does not know where the network ends.
        ModuleNotFoundError: the package `openvino` is missing.
    """

    def __init__(self, path: str | Path, precision: str = "f32", threads: int = 1, threshold: float = 0.0) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
        openvino = needed("openvino")
        core, path = openvino_core(), existing(path)
        model = core.read_model(path)
        entry = ["framework", FACTS]
        facts = model.get_rt_info(entry).astype(str) if model.has_rt_info(entry) else None
        shape = [side.get_length() if side.is_static else None for side in model.input(0).partial_shape]
        keypoints = model.output(1).partial_shape[2]
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        if precision == "f32":
            parts = [core.compile_model(model, "CPU", options)]
        else:
            seam = json.loads(facts).get("seam") if facts else None
            if not seam:
                raise ValueError(f"{path} is not of posekit.export, so nothing says where bf16 must end; use f32")
            first, second = before(openvino, model, seam), after(openvino, core.read_model(path), seam)
            fast = options | {"INFERENCE_PRECISION_HINT": precision}
            parts = [core.compile_model(first, "CPU", fast), core.compile_model(second, "CPU", options)]
        requests = [part.create_infer_request() for part in parts]

        def run(images: np.ndarray) -> list[np.ndarray]:
            values = []
            for request in requests:  # the second part wants the images too: it counts them
                request.infer(dict(enumerate([images, *values])), share_inputs=True)
                values = [request.get_output_tensor(i).data for i in range(len(request.model_outputs))]
            return [value.copy() for value in values]

        super().__init__(Exported(run, shape, keypoints.get_length(), facts), threshold)


class Exported(nn.Module):
    """What `Predictor` wants of a model, for a function (B, 3, H, W) BGR -> dets, keypoints, all numpy.

    `shape`: of the function's input, B a number if it is fixed; `facts`: how images lie in it, JSON, or None.
    """

    def __init__(self, run: Callable, shape: list, keypoints: int, facts: str | None) -> None:
        super().__init__()
        facts = PUBLISHED | (json.loads(facts) if facts else {})
        self.run, self.num_keypoints, self.batch, self.size = run, keypoints, shape[0], (shape[2], shape[3])
        scale = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}
        see = {"pad": facts["pad"], "align": facts["align"], "pixel_centre": facts["centre"]}
        self.input = InputSpec(size=max(self.size), **see, **scale)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """images (B, 3, H, W) RGB from 0 to 255."""
        dets, keypoints = self.run(np.ascontiguousarray(images.flip(1).numpy()))
        return {"dets": torch.from_numpy(dets), "keypoints": torch.from_numpy(keypoints)}

    def decode(self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1) -> list[Poses]:
        """As `RTMO.decode`; rows with score 0 are nobody."""
        poses = []
        for dets, people, size in zip(outputs["dets"], outputs["keypoints"], image_sizes, strict=True):
            there = dets[:, 4] > 0
            boxes, people = from_pixel_index(dets[there, :4]), people[there]
            boxes = torch.minimum(boxes.clamp(min=0), size.to(boxes).repeat(2))
            found = from_pixel_index(people[..., :2]), people[..., 2], dets[there, 4], boxes
            poses.append(Poses(*(x.numpy() for x in found)))
        return poses


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


def needed(name: str):
    """The package of this name, or one sentence that says how to get it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"this needs the package {name}: pip install 'posekit[export]'") from error
