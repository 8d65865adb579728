"""RTMO's schedule: the learning rate of every epoch, of every parameter, and the average's momentum.

The file has ten steps per epoch: the recipes replay it at that length, and so are checked with it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from golden.report import Report
from posekit import models
from posekit.models.checkpoints_rtmo import published_name
from posekit.training.parameter_groups import parameter_groups
from posekit.training.recipes import Recipe, recipe
from posekit.training.schedules import averaging_momentum, rate

RECIPE_OF = {"s": "rtmo_s", "s_crowdpose": "rtmo_s_crowdpose"}


def schedule(file: Path, report: Report) -> None:
    """`schedule.json`: see the README beside it."""
    content = report.fields(file)
    for name, ours in RECIPE_OF.items():
        rates(file, report, name, recipe(ours), content[name])
    groups(file, report, content["rtmo_s_param_groups_lr_wd"])
    momenta = content["ema_momentum_by_step"]
    ours = recipe("rtmo_s")
    report.compare(
        file, "momentum of the average", [averaging_momentum(int(n), 1 - ours.ema, ours.ema_ramp) for n in momenta],
        list(momenta.values()), rtol=1e-9,
    )  # fmt: skip


def rates(file: Path, report: Report, name: str, ours: Recipe, expected: dict) -> None:
    """The learning rate of one recipe, step by step."""
    length, epochs = expected["epoch_length"], expected["max_epochs"]
    ours = replace(ours, steps=length * epochs, warmup=5 * length)

    def every(steps) -> list[float]:
        return [rate(step, ours, ours.lr) for step in steps]

    starts = range(0, length * epochs, length)
    report.compare(
        file, f"{name}: rate at the start of epochs", every(starts), expected["lr_first_iter_of_epoch"], rtol=1e-9
    )
    for key, values in expected.items():
        if key.startswith("lr_all_iters_epochs_"):
            first = int(key.split("_")[4]) * length
            report.compare(
                file, f"{name}: rate from step {first} on", every(range(first, first + len(values))), values, rtol=1e-9
            )


def groups(file: Path, report: Report, expected: dict[str, list[float]]) -> None:
    """Learning rate and weight decay of every parameter of RTMO-s."""
    model, ours = models.build("rtmo_s"), recipe("rtmo_s")
    name_of = {id(parameter): published_name(name) for name, parameter in model.named_parameters()}
    found = {
        name_of[id(parameter)]: [group["lr"], group["weight_decay"]]
        for group in parameter_groups(model, ours)
        for parameter in group["params"]
    }
    report.equal(file, "names of parameters", sorted(found.keys() ^ expected.keys())[:3], [])
    names = sorted(found.keys() & expected.keys())
    report.compare(
        file, "rate and decay of parameters", [found[n] for n in names], [expected[n] for n in names], rtol=1e-12
    )


HANDLERS = [("schedule.json", schedule)]
