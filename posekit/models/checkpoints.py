"""Published weights into our models: POET's own files, DETR's as a start, and ResNet-50 backbones.

The models use the names of the published state dicts
(`transformer.encoder.layers.0.self_attn.in_proj_weight`, `backbone.0.body.conv1.weight`, ...), so a POET file
loads as it is. What can differ is the size, and then the error says which one and how to build the model that
fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from posekit.models import checkpoints_rtmo as rtmo
from posekit.models import checkpoints_vitpose as vitpose
from posekit.torch_files import ForeignObjects, fitting, read_torch

# DETR's heads and queries mean boxes; POET learns its own
DETR_ONLY = ("class_embed.", "bbox_embed.", "query_embed.")
BACKBONE = "backbone.0.body."


def read(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a `.pth`, `.pt`, `.ckpt` or `.safetensors` file, on the CPU.

    The usual wrappings are undone: {'model': ...} as POET and DETR save, {'state_dict': ...} as mmpose does,
    and the prefix `module.` of a model that was trained in parallel. No code of the file runs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no tensors, or holds objects of unknown kinds.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; check the path")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapping in ("model", "state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapping), Mapping):
            state = state[wrapping]
            break
    tensors = {}
    if isinstance(state, Mapping):
        tensors = {
            str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)
        }
    if not tensors:
        raise ValueError(f"{path.name} holds no weights: no tensor under 'model', 'state_dict' or at the top")
    for name, value in tensors.items():
        _check_tensor(name, value, path)
    return tensors


@fitting
def load_weights(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> None:
    """Load every weight of a model: a published POET, a file of ours, or a state dict. All or nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights are of another model or another size; the sentence lists what differs.
    """
    if vitpose.is_vitpose(model):
        return vitpose.load_vitpose(model, source)
    state, label = _state(source)
    own = model.state_dict()
    if rtmo.is_published(state):
        state = rtmo.from_published(state)
    state = rtmo.without_bins(state)
    state = _without_counters(state, own)
    missing, unknown, shapes = _differences(own, state)
    if not (missing or unknown or shapes):
        model.load_state_dict(state)
        return
    if any(name.startswith("bbox_embed.") for name in unknown):
        raise ValueError(
            f"{label} is of DETR, which predicts boxes: a POET can start from it (load_detr), but not be it"
        )
    if rtmo.is_rtmo(own) and rtmo.is_rtmo(state):
        sentence = f"{label} is of another RTMO: {rtmo.difference(own, state)}"
    elif _kinds(own) == _kinds(state):
        sentence = f"{label} is of another size: {_sizes(size(own), size(state))}"
    elif len(missing) == len(own):
        sentence = f"{label} is of another kind of model: it shares no name with this one"
    else:
        sentence = f"{label} is of another model"
    parts = [f"{len(missing)} entries are missing ({_some(missing)})"] if missing else []
    parts += [f"{len(unknown)} are unknown ({_some(unknown)})"] if unknown else []
    parts += [f"{len(shapes)} have another shape ({_some(shapes)})"] if shapes else []
    raise ValueError("; ".join([sentence, *parts]))


@fitting
def start_from(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> list[str]:
    """Start training from what the file holds: a whole POET, a DETR, or the ResNet-50 of a pose estimator.

    Returns the names that keep their random start (none after a whole POET).

    Raises:
        FileNotFoundError, ValueError: as `load_weights`, `load_detr` and `load_backbone`.
    """
    if vitpose.is_vitpose(model):
        return vitpose.start_vitpose(model, source)
    state, label = _state(source)
    if rtmo.is_rtmo(model.state_dict()):
        return rtmo.load_rtmo(model, state, label)
    if any(name.startswith("bbox_embed.") for name in state):
        return load_detr(model, source)
    if any(name.startswith(("transformer.", "kpt_embed.")) for name in state):
        load_weights(model, source)
        return []
    return load_backbone(model, source)


@fitting
def load_detr(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> list[str]:
    """Start a POET from a DETR of the same widths (DETR-R50): backbone, projection and transformer.

    Returns the names that keep their random start: the heads and the queries.

    Raises:
        ValueError: the weights are not of a DETR, or of one with other widths or layers.
    """
    state, label = _state(source)
    own = {name: value for name, value in model.state_dict().items() if not name.startswith((*DETR_ONLY, "kpt_embed."))}
    shared = _without_counters({k: v for k, v in state.items() if not k.startswith((*DETR_ONLY, "kpt_embed."))}, own)
    missing, unknown, shapes = _differences(own, shared)
    if missing or unknown or shapes:
        differs = [*missing, *unknown, *shapes]
        raise ValueError(
            f"{label} is not of a DETR with the model's backbone and transformer: "
            f"{len(differs)} entries differ ({_some(differs)})"
        )
    model.load_state_dict(shared, strict=False)
    return [name for name in model.state_dict() if name not in shared]


@fitting
def load_backbone(model: nn.Module, source: str | Path | Mapping[str, Tensor]) -> list[str]:
    """Start the ResNet-50 of a POET from an mmpose estimator (`backbone.*`) or from torchvision's file.

    The paper's second set of experiments starts from mmpose. Heads and classifiers are left out. Returns the
    names that keep their random start.

    Raises:
        ValueError: the weights are not of the model's backbone.
    """
    state, label = _state(source)
    own = {name: value for name, value in model.state_dict().items() if name.startswith(BACKBONE)}
    renamed = {}
    for name, value in state.items():
        stem = name.removeprefix(BACKBONE) if name.startswith(BACKBONE) else name.removeprefix("backbone.")
        if stem != name or stem.startswith(("conv1.", "bn1.", "layer")):  # torchvision's names have no prefix
            renamed[BACKBONE + stem] = value
    renamed = _without_counters(renamed, own)
    missing, unknown, shapes = _differences(own, renamed)
    if not own or missing or unknown or shapes:
        differs = [*missing, *unknown, *shapes]
        raise ValueError(
            f"{label} does not hold the backbone of this model: "
            f"{len(differs)} entries differ ({_some(differs)}); "
            "ResNet-50 models take ResNet-50 weights"
        )
    model.load_state_dict(renamed, strict=False)
    return [name for name in model.state_dict() if name not in renamed]


def size(state: Mapping[str, Tensor] | Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The size of a POET, read from the names and shapes of its state dict, as options of `build`.

    Takes tensors or their shapes; what cannot be read is left out (the number of heads leaves no trace).
    """
    shapes = {name: tuple(getattr(value, "shape", value)) for name, value in state.items()}
    result = {}
    if len(shapes.get("query_embed.weight", ())) == 2:
        result["num_queries"], result["dim"] = shapes["query_embed.weight"]
    last = max((name for name in shapes if name.startswith("kpt_embed.") and name.endswith(".weight")), default=None)
    if last:
        result["num_keypoints"] = (shapes[last][0] - 2) // 3
    for side in ("encoder", "decoder"):
        layers = {name.split(".")[3] for name in shapes if name.startswith(f"transformer.{side}.layers.")}
        if layers:
            result[f"{side}_layers"] = len(layers)
    if "transformer.encoder.layers.0.linear1.weight" in shapes:
        result["feedforward"] = shapes["transformer.encoder.layers.0.linear1.weight"][0]
    return result


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # SafetensorError, or what a header of its own kind makes the reader stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason[:200]  # it quotes the file, whatever that holds
        raise ValueError(f"{path.name} is not a whole safetensors file ({reason}); fetch it again") from error


def _read_pickle(path: Path):
    import argparse

    import numpy as np

    # POET's and DETR's files keep their arguments, mmpose's the data set's numbers as NumPy 1 writes arrays
    dtypes = {type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64, np.uint8, np.bool_)}
    rebuild = np.empty(0).__reduce__()[0]
    arrays = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    try:
        return read_torch(path, [argparse.Namespace, np.ndarray, np.dtype, *dtypes, *arrays])
    except ForeignObjects as error:
        raise ValueError(
            f"{path.name} is damaged or holds objects other than tensors, numbers and text, which are not "
            "loaded; if you trust it, save its state dict alone and load that"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path.name} is not a whole checkpoint ({error}); fetch it again") from error


def _check_tensor(name: str, value: Tensor, path: Path) -> None:
    """Raise ValueError for a tensor that no weights are: sparse, quantised, complex, without values, or one value that
    stands for more than the file holds."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
        kind = f"{value.dtype}, {value.layout}, on {value.device}"
        raise ValueError(f"{path.name}: entry '{name}' is no tensor of plain real numbers ({kind})")
    if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), path.stat().st_size):
        raise ValueError(f"{path.name}: entry '{name}' states the shape {tuple(value.shape)}, more than the file holds")


def _state(source: str | Path | Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    if isinstance(source, Mapping):
        return dict(source), "this state dict"
    return read(source), f"the checkpoint {Path(source).name}"


def _without_counters(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the step counters of batch norm where the model's is frozen and has none."""
    return {name: value for name, value in state.items() if name in own or not name.endswith("num_batches_tracked")}


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Names missing in `state`, names unknown to the model, and sentences about shapes that differ."""
    shapes = [
        f"{name}: {tuple(state[name].shape)}, the model has {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    return [name for name in own if name not in state], [name for name in state if name not in own], shapes


def _kinds(state: Mapping[str, Tensor]) -> set[str]:
    """The names with the numbers of the transformer's layers taken out: what a deeper model has in common."""
    return {re.sub(r"(transformer\..*?layers)\.\d+", r"\1", name) for name in state}


WORDS = {
    "num_queries": "queries",
    "num_keypoints": "keypoints",
    "dim": "channels",
    "encoder_layers": "encoder layers",
    "decoder_layers": "decoder layers",
    "feedforward": "feed-forward channels",
}


def _sizes(own: dict[str, int], theirs: dict[str, int]) -> str:
    """Which sizes differ, and the options of `build` that would make them equal."""
    differ = [name for name in WORDS if name in own and name in theirs and own[name] != theirs[name]]
    if not differ:
        return "the widths of its layers differ from the model's"
    has = " and ".join(f"{theirs[name]} {WORDS[name]} (the model has {own[name]})" for name in differ)
    return f"{has}, so build the model with {', '.join(f'{name}={theirs[name]}' for name in differ)}"


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
