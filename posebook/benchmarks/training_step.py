"""CPU milliseconds of one training step, part by part, and the share of what is not the network."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import pandas as pd
import torch

from posekit import models
from posekit.data import open_dataset
from posekit.data.augment import Augment
from posekit.data.loader import Loader
from posekit.layouts import COCO
from posekit.losses.poet import PoetCriterion
from posekit.losses.rtmo import RtmoCriterion
from posekit.training.parameter_groups import parameter_groups
from posekit.training.recipes import Recipe

POET = {  # images, pixels, augmentation, steps, largest share of matching + loss
    "poet_r50": (2, 512, "paper", 4, 0.03),
    "poet_tiny": (16, 128, "scenes", 15, 0.05),
    "poet_tiny_proposals": (16, 128, "scenes", 15, 1.0),
}
RTMO_SHARE = 0.10


class Clock:
    """CPU seconds of the parts of one step, `laps`; CPU time adds up all threads."""

    def __init__(self) -> None:
        self.laps, self.last = [], time.process_time()

    def lap(self, part: str) -> None:
        """The time since the last lap belonged to `part`."""
        now = time.process_time()
        self.laps.append((part, now - self.last))
        self.last = now


def poet_step() -> list[str]:
    """POET's matching and loss must stay a small share of the step."""
    slow = []
    for name, (images, size, policy, steps, limit) in POET.items():
        torch.manual_seed(0)
        model = models.build(name).train().to(memory_format=torch.channels_last)
        criterion = PoetCriterion()
        optimizer = torch.optim.AdamW(parameter_groups(model, Recipe(name, lr=1e-4, lr_backbone=1e-5)), fused=True)
        clocks = []
        with tempfile.TemporaryDirectory() as cache:
            dataset = open_dataset("people", "train", count=images * (steps + 2), size=size, cache=cache)
            dataset.image(0)  # drawn once, before the clock runs
            batches = Loader(dataset, Augment(policy, size=size), images).epoch(0)
            for _ in range(steps + 2):
                clocks.append(Clock())
                batch = next(batches)
                clocks[-1].lap("data")
                outputs = model(batch["images"].contiguous(memory_format=torch.channels_last), batch["padding_mask"])
                clocks[-1].lap("forward")
                total = criterion(outputs, batch["targets"]).total
                clocks[-1].lap("matching + loss")
                total.backward()
                clocks[-1].lap("backward")
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                clocks[-1].lap("optimiser")
        slow += _report(f"{name}, {images} x 3 x {size} x {size}", clocks[2:], ["matching + loss"], limit)
    return slow


def rtmo_step(images: int = 8, pixels: int = 640, people: int = 30, steps: int = 3) -> list[str]:
    """RTMO-s's assignment and losses, without the coordinate classifier, must stay below a tenth of the step."""
    torch.manual_seed(0)
    model = models.build("rtmo_s").train().to(memory_format=torch.channels_last)
    criterion = RtmoCriterion(model.classifier, COCO.sigmas, stage=2, auxiliary=True)
    batch = torch.rand(images, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
    targets, clocks = crowd(images, pixels, people), []
    assign = criterion.assign

    def timed_assign(*inputs):
        clocks[-1].lap("losses")
        found = assign(*inputs)
        clocks[-1].lap("assignment")
        return found

    criterion.assign = timed_assign
    model.classifier.register_forward_pre_hook(lambda *_: clocks[-1].lap("losses"))
    model.classifier.register_forward_hook(lambda *_: clocks[-1].lap("classifier on the positives"))
    for _ in range(steps):
        clocks.append(Clock())
        outputs = _as_trained(model(batch, proxies=True), targets)
        clocks[-1].lap("forward")
        total = criterion(outputs, targets).total
        clocks[-1].lap("losses")
        total.backward()
        model.zero_grad(set_to_none=True)
        clocks[-1].lap("backward")
    title = f"rtmo_s, {images} x 3 x {pixels} x {pixels}, {people} people"
    return _report(title, clocks[1:], ["assignment", "losses"], RTMO_SHARE)


def _report(title: str, clocks: list[Clock], parts: list[str], limit: float) -> list[str]:
    """Print the median of every part; a sentence when `parts` together take more than `limit` of the step."""
    laps = pd.DataFrame([(i, part, cpu) for i, clock in enumerate(clocks) for part, cpu in clock.laps])
    ms = 1000 * laps.groupby([0, 1], sort=False)[2].sum().groupby(level=1, sort=False).median()
    share = ms[parts].sum() / ms.sum()
    print(f"{title}, median of {len(clocks)} steps, {torch.get_num_threads()} thread(s)")
    for name, value in ms.items():
        print(f"  {name:<28} {value:9.1f} ms {100 * value / ms.sum():6.1f} %")
    print(f"  {'step':<28} {ms.sum():9.1f} ms; {' + '.join(parts)} {100 * share:.2f} %")
    return [f"{title}: {' + '.join(parts)} take more than {100 * limit:.0f} % of the step"] if share > limit else []


def crowd(images: int, pixels: int, people: int) -> list[dict[str, torch.Tensor]]:
    """Targets with `people` spread over the images: boxes of an eighth to a half of the image, joints inside."""
    targets = []
    for count in map(len, np.array_split(np.arange(people), images)):
        size = (torch.rand(count, 2) * 0.375 + 0.125) * pixels
        low = torch.rand(count, 2) * (pixels - size)
        target = {"keypoints": low[:, None] + torch.rand(count, len(COCO), 2) * size[:, None]}
        target |= {"visibility": torch.randint(0, 3, (count, len(COCO))), "boxes": torch.cat([low, low + size], 1)}
        targets.append(target | {"areas": 0.53 * size.prod(1), "ignore": torch.zeros(0, 4)})
    return targets


def _as_trained(outputs: dict, targets: list) -> dict:
    """Boxes and proxies where a trained model has them, on the person nearest to the prior, so that all have positives.

    Without it a person of a random model gets a single prior. The graph stays.
    """
    places, boxes, poses = outputs["priors"][:, :2], [], []
    for target in targets:
        middle = (target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2
        nearest = torch.cdist(places, middle).argmin(1)
        boxes.append(target["boxes"][nearest] + torch.randn(4))
        poses.append(target["keypoints"][nearest] + torch.randn(2))
    wanted = {"boxes": torch.stack(boxes), "proxy_keypoints": torch.stack(poses)}
    return outputs | {name: value + (0 * outputs[name]) for name, value in wanted.items()}
