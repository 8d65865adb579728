"""The training loop: any model with a criterion, on any data set, on any device.

Lightning Fabric moves it to the device, precision and number of processes at hand. Everything that can interrupt a run
leaves a folder from which the same call goes on, and on the CPU ends with the same weights, bit for bit: the order of
the data and all augmentation depend only on (seed, epoch, index), and `resume.ckpt` holds the rest.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from posekit import runs
from posekit.data import notes
from posekit.files import read_json, relative, save_tensors, write_json
from posekit.layouts import to_record
from posekit.protocols import Criterion
from posekit.provenance import seed_everything
from posekit.training import checkpoint, interruption, processes, recipe_fields, schedules
from posekit.training.parameter_groups import parameter_groups
from posekit.training.pretrain import pretrain
from posekit.training.recipes import Recipe
from posekit.training.summary import summary
from posekit.training.validation import Validation, validate

CHECKPOINT = "resume.ckpt"
WEIGHTS = "model.safetensors"
SHORTEST = 50  # batches between two validations, at least: seven photographs in one batch are not scored at every step


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    checkpoint_seconds: float = 60,
    validate_every: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, float]:
    """Runs a recipe in a run folder, or goes on with the run that is there; returns the final metrics.

    A run that is done is not run again: its metrics are read. `validate_every`: epochs between two validations, each
    with its row in the log, its checkpoint and its line for `report`; 0 = one, or as many as make 50 batches where the
    data set is tiny. The end is always validated. A terminal gets a progress bar besides.

    Ctrl-C and SIGTERM stop between two batches, after the state has been saved; a second one stops at once and leaves
    the last regular checkpoint.

    Raises:
        FloatingPointError: a loss that is not a number; the sentence names the epoch, the step and the images.
        KeyboardInterrupt: it was stopped; the sentence says where.
        InUseError: another process writes in the folder. ValueError: several devices from a notebook.
    """
    from posekit.training.build import prepare

    recipe_fields.check_device(recipe.precision, accelerator)
    fabric = processes.start(accelerator, devices, recipe.precision)
    seed_everything(recipe.seed)
    parts = prepare(recipe, rank=fabric.global_rank, world=fabric.world_size)
    facts = {"seed": recipe.seed, "data": parts.train.dataset, "device": fabric.device, "dtype": recipe.precision}
    with interruption.deferred() as stop:
        with fabric.rank_zero_first():  # it may move another run aside, and alone writes
            same = {"defaults": vars(Recipe(recipe.model)), "makes": (WEIGHTS,)}
            run = runs.Run.open(folder, vars(recipe), writes=fabric.is_global_zero, **same, **facts)
        with run:
            if run.before == "done":
                report(f"{relative(run.folder)} is done: nothing to train")
                notes.report_notes(parts, run.record, report)
                return read_json(run.path("metrics.json"))
            run.record["summary"] = summary(recipe, parts)
            try:
                loop = Loop(recipe, run, fabric, parts, stop, report)
                loop.resume()
                notes.report_notes(parts, run.record, report)
                loop.fit(checkpoint_seconds, validate_every)
                metrics = loop.finish()
                notes.report_left_out(parts, run.record, report)
            except KeyboardInterrupt as error:
                report(str(error) or interruption.AT_ONCE)
                raise
            except RuntimeError as error:
                if stop.signal and "data worker" in str(error):  # they got the signal as well
                    raise KeyboardInterrupt(interruption.AT_ONCE) from error
                raise
            run.end()
            if run.writes:
                run.path(CHECKPOINT).unlink(missing_ok=True)  # only now does the record say "done"
    return metrics


class Loop:
    """One training run in progress: weights, optimiser, average, position in the data."""

    def __init__(self, recipe: Recipe, run: runs.Run, fabric, parts, stop: interruption.Stop, report: Callable) -> None:
        self.recipe, self.run, self.fabric, self.data, self.stop, self.report = recipe, run, fabric, parts, stop, report
        model = parts.model.to(fabric.device)
        optimizer = torch.optim.AdamW(parameter_groups(model, recipe), fused=True)
        if fabric.device.type == "cpu":
            model = model.to(memory_format=torch.channels_last)
        self.plain = model  # without Fabric's wrapper: state dict, `decode`
        self.step = self.epoch = self.batch = 0  # optimiser steps; epochs done; batches done in this epoch
        self.held = 0  # batches whose gradients wait for the next step
        self.opened = 0  # the step at which this epoch began: it decides how the images are augmented
        self.seconds = 0.0
        self.sums: dict[str, float] = {}  # of the training terms in this epoch
        self.images = 0
        self.validated: Validation | None = None  # at the last row of the log
        if not run.path(CHECKPOINT).exists():
            self.pretrain()  # before `setup`, which gives all processes the weights of the first
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.average = None
        if recipe.ema:
            from torch.optim.swa_utils import AveragedModel

            self.average = AveragedModel(model, multi_avg_fn=schedules.averaging(recipe), use_buffers=True)

    # --- state ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes `resume.ckpt`; of several processes one does."""
        if self.fabric.is_global_zero:
            checkpoint.save(self, self.run.path(CHECKPOINT))

    def resume(self) -> None:
        """Takes up `resume.ckpt` where there is one; the log goes back to where that was written."""
        found = self.run.path(CHECKPOINT).exists()
        if found:
            checkpoint.take_up(self, self.run.path(CHECKPOINT))
            self.report(f"resumed at step {self.step} of {self.recipe.steps} (epoch {self.epoch + 1})")
        if self.fabric.is_global_zero:  # of an epoch that has ended and was not validated, no row counts
            rows = self.epoch - (self.images > 0 and not self.batch)
            runs.truncate_log(self.run.path("log.csv"), rows if found else 0)

    def pretrain(self) -> None:
        """The recipe's `backbone_steps` on joint heatmaps; their time counts in the log's minutes."""
        if self.recipe.backbone_steps:
            start = time.monotonic()
            backbone, keypoints, steps = self.plain.backbone[0], self.plain.num_keypoints, self.recipe.backbone_steps
            pretrain(backbone, self.data.train, keypoints, steps, self.recipe.lr_backbone, self.report, self.check)
            self.seconds += time.monotonic() - start

    @property
    def best_weights(self) -> nn.Module:
        """The averaged weights where the recipe asks for them and averaging has begun, else the model's own.

        Until then the average holds what the model was built with; its first update copies the model.
        """
        averaged = self.average is not None and bool(self.average.n_averaged)
        return self.average.module if averaged else self.plain

    # --- the loop ------------------------------------------------------------------------------------------------

    def fit(self, checkpoint_seconds: float, validate_every: int) -> None:
        from tqdm import tqdm

        if not validate_every:
            validate_every = math.ceil(SHORTEST / max(len(self.data.train), 1))
        bar = tqdm(total=self.recipe.steps, initial=self.step, unit="step", disable=not sys.stderr.isatty())
        clock = saved = time.monotonic()
        while True:
            ended = self.step >= self.recipe.steps
            if self.images and (ended or not self.batch and self.epoch % validate_every == 0):
                self.end_interval()
                clock = saved = time.monotonic()  # the log's minutes are of training alone
            if ended:
                break
            self.model.train(not self.data.train_in_eval_mode)
            self.opened = self.opened if self.batch else self.step
            late = self.data.late is not None and schedules.is_late(self.opened, self.recipe)
            loader = self.data.late if late else self.data.train
            for batch in loader.epoch(self.epoch, start=self.batch):
                self.train_batch(batch)
                bar.update(self.step - bar.n)
                now = time.monotonic()
                self.seconds, clock = self.seconds + now - clock, now
                if self.step >= self.recipe.steps:
                    break
                if self.held:  # between two batches of one step nothing is saved
                    continue
                if (stopping := self.stopping()) or now - saved > checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
                if stopping:
                    self.check()
            if not self.batch:
                raise notes.unreadable_error(loader.dataset)
            self.epoch, self.batch = self.epoch + 1, 0
        bar.close()

    def stopping(self) -> bool:
        """Was a stop asked for, of several processes by any, so that all stop at the same batch?"""
        return processes.agreed(self.fabric, bool(self.stop.signal))

    def check(self) -> None:
        """Leaves with KeyboardInterrupt when a stop was asked for; what is not saved by then will be done again."""
        if self.stopping():
            steps = f"at step {self.step} of {self.recipe.steps}" if self.step else "before the first step"
            raise KeyboardInterrupt(f"interrupted {steps}; the same call goes on from there")

    def end_interval(self) -> None:
        """Validates, then writes a row of the log (training terms: means since the last row) and the checkpoint."""
        self.save()  # a stop while validating leaves this state
        self.validated = self.validate()
        for trouble in self.validated.troubles:
            self.report(f"epoch {self.epoch}, step {self.step}: {trouble}")
        row = self.log_row()
        self.sums, self.images = {}, 0
        if self.fabric.is_global_zero:
            runs.append_row(self.run.path("log.csv"), row)
            self.run.save(step=self.step, epoch=self.epoch, **{n: row[n] for n in row if n.partition("_")[0] == "AP"})
        self.save()
        self.report(line(row, self.recipe.steps))

    def train_batch(self, batch: dict) -> None:
        """Forward, loss, backward and, every `accumulate` batches, one optimiser step."""
        recipe, where = self.recipe, f"epoch {self.epoch + 1}, step {self.step + 1}"
        self.batch, self.held = batch["number"] + 1, self.held + 1
        stepping, last = self.held >= recipe.accumulate, self.batch == len(self.data.train)
        batch = self.fabric.to_device(batch)
        images = batch["images"].contiguous(memory_format=torch.channels_last)
        try:
            with self.fabric.no_backward_sync(self.model, enabled=not (stepping or last)):  # a checkpoint follows
                outputs = self.model(images, batch["padding_mask"], **forward_kwargs(batch["targets"]))
                losses = self.criterion(self.plain)(outputs, batch["targets"])
                total = losses.total
                values = torch.stack([total, *losses.terms.values()]).detach().cpu().tolist()
                if not math.isfinite(values[0]):
                    raise FloatingPointError("the loss is " + str(values[0]))
                self.fabric.backward(total / recipe.accumulate)
        except FloatingPointError as error:
            names = ", ".join(str(target["image_id"]) for target in batch["targets"])
            raise FloatingPointError(
                f"{where}, images {names}: {error}. The run stops; its last checkpoint is kept. "
                "Lower lr, or clip, or look at these images."
            ) from error
        for name, value in zip(["total", *losses.terms], values, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + value * len(images)
        self.images += len(images)
        if not stepping:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = schedules.rate(self.step, recipe, group["base_lr"])
        if recipe.clip:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.held = self.step + 1, 0
        if self.average is not None and (self.step >= recipe.warmup or recipe.ema_ramp):
            self.average.update_parameters(self.plain)

    def criterion(self, model: nn.Module) -> Criterion:
        """That of a model's outputs at this step: the averaged weights have modules of their own."""
        stage, late = schedules.stage(self.step, self.recipe), schedules.is_late(self.step, self.recipe)
        return self.data.criterion(model, stage, late)

    # --- validation and the end --------------------------------------------------------------------------------------

    def validate(self) -> Validation:
        """Scores the weights that the run would ship now."""
        model = self.best_weights
        return validate(model, self.data, self.fabric, self.criterion(model), self.sums, self.check)

    def log_row(self) -> dict:
        head = {"epoch": self.epoch, "step": self.step, "minutes": round(self.seconds / 60, 4)}
        backbone = [g["lr"] for g in self.optimizer.param_groups if g["name"] == "backbone"]
        first = self.optimizer.param_groups[0]["lr"]
        rates = {"lr": first, "lr_backbone": backbone[0] if backbone else first}
        terms = {"train_" + name: value / max(self.images, 1) for name, value in self.sums.items()}
        return head | rates | terms | self.validated.numbers

    def finish(self) -> dict[str, float]:
        """Writes the weights, the predictions and the metrics of the end."""
        self.fabric.barrier()  # one process writes the log
        metrics = runs.read_log(self.run.path("log.csv"))[-1]  # None where there is nobody to find
        validated = self.validated or self.validate()
        if self.fabric.is_global_zero:
            keypoints = self.plain.num_keypoints
            note = {"model": self.recipe.model, "keypoints": str(keypoints)}
            if isinstance(keypoints, int) and keypoints:
                note["layout"] = json.dumps(to_record(self.data.train.dataset.layout))
            save_tensors(self.run.path(WEIGHTS), self.best_weights.state_dict(), note)
            for index, (name, rows) in enumerate(validated.rows.items()):
                write_json(
                    self.run.path(f"predictions_{name}.json" if index else "predictions.json"), rows, indent=None
                )
            write_json(self.run.path("metrics.json"), metrics)
            self.run.save(**metrics)
        return metrics


def forward_kwargs(targets: list[dict]) -> dict[str, torch.Tensor]:
    """What the model must know of its batch: `dataset` (M,) where the crops are of several data sets."""
    return {"dataset": torch.stack([target["dataset"] for target in targets])} if "dataset" in targets[0] else {}


def line(row: dict, steps: int) -> str:
    """A row of the log in one line, with the time that is left of `steps`; a dash for a number that there is not."""

    def number(name: str) -> str:
        return "–" if row.get(name) is None else f"{row[name]:.3f}"

    left = row["minutes"] / max(row["step"], 1) * (steps - row["step"])
    parts = [f"epoch {row['epoch']:>3}", f"step {row['step']:>6}/{steps}"]
    parts += [f"train {number('train_total')}", f"val {number('val_total')}"]
    parts += [f"{name} {number(name)}" for name in row if name in ("AP", "AP50") or name.startswith("AP_")]
    return "  ".join([*parts, f"{row['minutes']:.1f} min, {left:.1f} min to go"])
