"""One training on several devices: a process for each, by Lightning Fabric; all do the same steps at the same time."""

from __future__ import annotations

import torch


def start(accelerator: str, devices: int, precision: str):
    """The `Fabric` of this process, after it has started the others.

    Raises:
        ValueError: several devices in a notebook, which cannot start its like.
    """
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    try:
        fabric.launch()
    except TypeError as error:
        raise ValueError(
            f"devices is {devices}, and a notebook is one process that cannot start others like itself: take devices=1 "
            "here, or put the call of train() into a script and start that with python or torchrun"
        ) from error
    return fabric


def agreed(fabric, wish: bool) -> bool:
    """Does any process wish so? All must ask at the same point of their work."""
    if fabric.world_size == 1:
        return wish
    return bool(fabric.all_reduce(torch.tensor(float(wish), device=fabric.device), reduce_op="sum"))
