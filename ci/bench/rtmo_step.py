"""CPU milliseconds of RTMO-s's training step, part by part: forward, assignment, losses, backward, and their shares.

    OMP_NUM_THREADS=1 python ci/bench/rtmo_step.py [pictures] [pixels] [people] [repeats]

Eight pictures of 640 x 640 with thirty people in all, unless told otherwise: minutes on one core. "losses" are the
terms without the coordinate classifier, which belongs to the model and has its own line; their backward is backward.
Process time, the smallest of the repeats. Exit status 1 when assignment + losses exceed 10 % of the step.
"""

from __future__ import annotations

import sys
import time

import torch

from posekit.layouts import COCO
from posekit.losses.rtmo import RtmoCriterion
from posekit.models.rtmo import rtmo

LARGEST_SHARE = 0.10


def crowd(pictures: int, pixels: int, people: int) -> list[dict[str, torch.Tensor]]:
    """Targets with `people` spread over the pictures: boxes of an eighth to a half of the picture, joints inside."""
    targets = []
    for count in torch.arange(people).remainder(pictures).bincount(minlength=pictures).tolist():
        size = (torch.rand(count, 2) * 0.375 + 0.125) * pixels
        low = torch.rand(count, 2) * (pixels - size)
        keypoints = low[:, None] + torch.rand(count, len(COCO), 2) * size[:, None]
        targets.append(
            {
                "keypoints": keypoints,
                "visibility": torch.randint(0, 3, (count, len(COCO))),
                "boxes": torch.cat([low, low + size], 1),
                "areas": 0.53 * size.prod(1),
                "ignore": torch.zeros(0, 4),
            }
        )
    return targets


def as_trained(outputs: dict, targets: list) -> dict:
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


class Clock:
    """Process time between calls, added up per name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.spent[name] = self.spent.get(name, 0.0) + 1e3 * (now - self.last)
        self.last = now


def step(model, criterion: RtmoCriterion, images: torch.Tensor, targets: list) -> dict[str, float]:
    """Milliseconds of the parts of one step."""
    clock = Clock()
    outputs = as_trained(model(images, proxies=True), targets)
    clock.lap("forward")
    classifier, assign = outputs["classifier"], criterion.assign

    def timed_classifier(*inputs):
        clock.lap("losses")
        result = classifier(*inputs)
        clock.lap("classifier on the positives")
        return result

    def timed_assign(*inputs):
        clock.lap("losses")
        result = assign(*inputs)
        clock.lap("assignment")
        print(f"  {int((result[0] >= 0).sum())} positives", flush=True)
        return result

    criterion.assign = timed_assign
    try:
        terms = criterion(outputs | {"classifier": timed_classifier}, targets)
    finally:
        del criterion.assign  # the class's own method comes back
    total = sum(criterion.weights[name] * value for name, value in terms.items())
    clock.lap("losses")
    total.backward()
    model.zero_grad(set_to_none=True)
    clock.lap("backward")
    return clock.spent


def main(pictures: int = 8, pixels: int = 640, people: int = 30, repeats: int = 2) -> int:
    """Prints the table; the exit status."""
    torch.manual_seed(0)
    model = rtmo("s").train().to(memory_format=torch.channels_last)
    criterion = RtmoCriterion(COCO.sigmas).at_stage(2, auxiliary=True)
    images = torch.rand(pictures, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
    people = max(people, pictures)  # everybody has a picture, every picture somebody
    targets = crowd(pictures, pixels, people)
    runs = [step(model, criterion, images, targets) for _ in range(repeats)]
    parts = {name: min(run[name] for run in runs) for name in runs[0]}
    total = sum(parts.values())
    print(f"rtmo_s, {pictures} x 3 x {pixels} x {pixels}, {people} people, {torch.get_num_threads()} thread(s)")
    for name in ("forward", "assignment", "classifier on the positives", "losses", "backward"):
        print(f"  {name:<28} {parts[name]:9.1f} ms {100 * parts[name] / total:6.1f} %")
    share = (parts["assignment"] + parts["losses"]) / total
    print(f"  {'step':<28} {total:9.1f} ms; assignment + losses {100 * share:.2f} %")
    return int(share > LARGEST_SHARE)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
