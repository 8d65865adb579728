"""RTMO's reference values, mmpose 1.3.2 (Lu et al. 2023): geometry and schedule; the rest in rtmo_*.py.

The published matrices act on pixel indices, ours on COCO's frame; the formulas are the same, so the numbers are
compared as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from golden.checks import Check, Directory, Entries
from golden.rtmo_forward import components, forward, keys
from golden.rtmo_losses import loss_components, simota, target_heatmaps
from golden.rtmo_steps import losses
from posekit import models
from posekit.data import transforms
from posekit.data.augment import Augment
from posekit.data.mosaic import paste
from posekit.models.checkpoints_rtmo import published_name
from posekit.training.parameter_groups import parameter_groups
from posekit.training.recipes import recipe
from posekit.training.schedules import averaging_momentum, rate

ATOL = 1e-3  # px; the reference solves for its matrices in float32


def geometry(file: Path, directory: Directory) -> Iterator[Check]:
    """All lists of `geometry.json`."""
    fields = directory.open(file)
    for number, row in enumerate(fields.get("letterbox", [])):
        yield from _letterbox(fields, f"letterbox {number}: {row['image_wh'][0]}x{row['image_wh'][1]}", row)
    for number, row in enumerate(fields.get("perspective_matrix", [])):
        end = np.add(row["center"], row["translate"])
        ours = transforms.move_about(row["center"], end, row["scale"], row["rot_deg"], row["shear_deg"])
        ours = np.vstack([ours, [0, 0, 1]])
        yield fields.check(f"perspective_matrix {number}", ours, row["matrix"], atol=ATOL)
    for number, row in enumerate(fields.get("affine_matrix", [])):
        # a region of `scale` pixels turned about `center`, brought upright into the output: its width counts
        width, height = row["output_wh"]
        factor = width / row["scale"][0]
        ours = transforms.move_about(row["center"], (width / 2, height / 2), factor, -row["rot_deg"], (0, 0))
        yield fields.check(f"affine_matrix {number}", ours, row["matrix"], atol=ATOL)
    for number, row in enumerate(fields.get("mosaic_paste", [])):  # on a canvas of twice 640 pixels
        shown, cut = paste(row["loc"], row["center_xy"], row["patch_wh"], (1280, 1280))
        yield fields.equal(f"mosaic_paste {number}: {row['loc']}, canvas", list(shown), row["paste_xyxy"])
        yield fields.equal(f"mosaic_paste {number}: {row['loc']}, patch", list(cut), row["crop_xyxy"])


def _letterbox(fields: Entries, name: str, row: dict) -> Iterator[Check]:
    """The centred letterbox as `Augment` draws it, there and back."""
    (width, height), size = row["image_wh"], np.array(row["input_wh"])
    augment = Augment("none", size=tuple(row["input_wh"][::-1]), pad=114, align="centre")
    matrix, frame, _ = augment.draw(width, height, np.random.default_rng(0))
    back = transforms.invert(matrix)
    inside = transforms.transform_points(matrix, np.array(row["points"]))
    original = transforms.transform_points(back, np.array(row["points_in_input"]))
    resized = matrix[[0, 1], [0, 1]] * (width, height)
    extent = size * back[[0, 1], [0, 1]]
    yield fields.equal(f"{name}, input", list(frame), row["input_wh"])
    yield fields.check(f"{name}, matrix", matrix, row["warp_2x3"], atol=ATOL)
    yield fields.check(f"{name}, points", inside, row["points_in_input"], atol=ATOL)
    yield fields.check(f"{name}, points back", original, row["points_back"], atol=ATOL)
    yield fields.check(f"{name}, picture in the input", resized, row["resized_wh"], atol=ATOL)
    (centre,) = transforms.transform_points(back, size[None] / 2)
    yield fields.check(f"{name}, centre", centre, row["input_center"], atol=ATOL)
    yield fields.check(f"{name}, extent of the input", extent, row["input_scale"], atol=ATOL)


def schedule(file: Path, directory: Directory) -> Iterator[Check]:
    """`schedule.json`: rates of every epoch (ten steps each) and of every parameter, momentum of the average."""
    fields = directory.open(file)
    for name in [name for name in fields if name not in ("rtmo_s_param_groups_lr_wd", "ema_momentum_by_step")]:
        yield from _rates(fields, name, fields[name])
    ours = recipe("rtmo_s")
    if "rtmo_s_param_groups_lr_wd" in fields:
        yield from _groups(fields, fields["rtmo_s_param_groups_lr_wd"])
    if "ema_momentum_by_step" in fields:
        momenta = fields["ema_momentum_by_step"]
        average = [averaging_momentum(int(n), 1 - ours.ema, ours.ema_ramp) for n in momenta]
        yield fields.check("momentum of the average", average, list(momenta.values()), rtol=1e-9)


def _rates(fields: Entries, name: str, expected: dict) -> Iterator[Check]:
    """The learning rate of the recipe `rtmo_<name>`, step by step."""
    length, epochs = expected["epoch_length"], expected["max_epochs"]
    ours = replace(recipe(f"rtmo_{name}"), steps=length * epochs, warmup=5 * length)
    starts = [rate(step, ours, ours.lr) for step in range(0, length * epochs, length)]
    yield fields.check(f"{name}: rate at the start of epochs", starts, expected["lr_first_iter_of_epoch"], rtol=1e-9)
    for key, values in expected.items():
        if key.startswith("lr_all_iters_epochs_"):
            first = int(key.split("_")[4]) * length
            rates = [rate(step, ours, ours.lr) for step in range(first, first + len(values))]
            yield fields.check(f"{name}: rate from step {first} on", rates, values, rtol=1e-9)


def _groups(fields: Entries, expected: dict[str, list[float]]) -> Iterator[Check]:
    """Learning rate and weight decay of every parameter of RTMO-s."""
    model, ours = models.build("rtmo_s"), recipe("rtmo_s")
    name_of = {id(parameter): published_name(name) for name, parameter in model.named_parameters()}
    found = {
        name_of[id(parameter)]: [group["lr"], group["weight_decay"]]
        for group in parameter_groups(model, ours)
        for parameter in group["params"]
    }
    names = sorted(found.keys() & expected.keys())
    ours, reference = [found[name] for name in names], [expected[name] for name in names]
    yield fields.equal("names of parameters", sorted(found.keys() ^ expected.keys())[:3], [])
    yield fields.check("rate and decay of parameters", ours, reference, rtol=1e-12)


FILES = {
    "forward_*.npz": (forward,),
    "*_keys.json": (keys,),
    "components*.npz": (components, loss_components),
    "simota*.npz": (simota,),
    "dcc_target_heatmap*.npz": (target_heatmaps,),
    "loss_*.npz": (losses,),
    "geometry*.json": (geometry,),
    "schedule*.json": (schedule,),
}
