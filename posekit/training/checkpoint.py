"""Where a training run stands, to the last bit: all that decides what comes next, in one file.

On the CPU a run that takes it up ends with the weights that it would have had: the order of the data and every
augmentation are functions of (seed, epoch, index), and what is not a function of the step is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from posekit.files import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from posekit.training.loop import Loop

COUNTERS = ("step", "epoch", "batch", "held", "opened", "seconds", "sums", "images")


def save(loop: Loop, path: Path) -> None:
    """Writes the state between two batches (atomically: a full disk or a kill leaves the previous one).

    Gradients are part of it only where some batches of a step are done and others are not.
    """
    state = {"model": loop.plain.state_dict(), "optimizer": loop.optimizer.state_dict()}
    state |= {name: getattr(loop, name) for name in COUNTERS}
    state["random"] = torch.get_rng_state()
    if loop.average is not None:
        state["average"] = loop.average.state_dict()
    if loop.held:
        named = loop.plain.named_parameters()
        state["gradients"] = {name: parameter.grad for name, parameter in named if parameter.grad is not None}
    save_checkpoint(path, state)


def take_up(loop: Loop, path: Path) -> None:
    """Puts a freshly made loop where `save` was called.

    Raises:
        ValueError: the file is not whole.
    """
    state = load_checkpoint(path)
    loop.plain.load_state_dict(state["model"])
    loop.optimizer.load_state_dict(state["optimizer"])
    if loop.average is not None:
        loop.average.load_state_dict(state["average"])
    for name in COUNTERS:
        setattr(loop, name, state.get(name, 0))  # an older version's checkpoint lacks some
    gradients = state.get("gradients", {})
    for name, parameter in loop.plain.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
    torch.set_rng_state(state["random"])
