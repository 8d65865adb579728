"""Checkpoint files as plain state dicts, and why a state dict does not fit a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from posekit.torch_files import ForeignObjects, read_torch

Source = str | Path | Mapping[str, Tensor]  # a file, or a state dict


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
    if isinstance(state, Mapping):
        wrapped = (state.get(wrapping) for wrapping in ("model", "state_dict", "model_state_dict"))
        state = next((inner for inner in wrapped if isinstance(inner, Mapping)), state)
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {str(name).removeprefix("module."): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path.name} holds no weights: no tensor under 'model', 'state_dict' or at the top")
    for name, value in tensors.items():
        _check_tensor(name, value, path)
    return tensors


def open_source(source: Source) -> tuple[dict[str, Tensor], str]:
    """A state dict of its own, and what error sentences call it."""
    if isinstance(source, Mapping):
        return dict(source), "this state dict"
    return read(source), f"the checkpoint {Path(source).name}"


def misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """A clause each about entries of the model that are missing, unknown ones and other shapes; none where all fits."""
    shapes = [
        f"{name}: {tuple(state[name].shape)}, the model has {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    missing, unknown = [name for name in own if name not in state], [name for name in state if name not in own]
    clauses = (("entries are missing", missing), ("are unknown", unknown), ("have another shape", shapes))
    return [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})" for what, names in clauses if names
    ]


def size_difference(own: Mapping, theirs: Mapping, words: Mapping[str, str]) -> str:
    """Which options in `words` differ, and those that would make them equal; "" where none does."""
    differ = [name for name in words if name in own and name in theirs and own[name] != theirs[name]]
    has = " and ".join(f"{theirs[name]} {words[name]} (the model has {own[name]})" for name in differ)
    options = ", ".join(f"{name}={theirs[name]}" for name in differ)
    return f"{has}, so build the model with {options}" if differ else ""


def shapes_of(state: Mapping[str, Tensor] | Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of a state dict, or the shapes that were given."""
    return {name: tuple(getattr(value, "shape", value)) for name, value in state.items()}


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
