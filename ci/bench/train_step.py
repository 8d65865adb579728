"""Milliseconds of CPU time of one training step, part by part: data, forward, matching + loss, backward, optimiser.

    OMP_NUM_THREADS=1 python ci/bench/train_step.py [MODEL ...]

`poet_r50` takes two pictures of 512 x 512, `poet_tiny` sixteen drawn ones of 128 x 128. Process time, the median of
several steps. Exit status 1 when matching + loss exceed 3 % of the step of poet_r50, or 5 % of that of poet_tiny.
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
import torch

from posekit import models
from posekit.data import open_dataset
from posekit.data.augment import Augment
from posekit.data.loader import Loader
from posekit.losses.poet import PoetCriterion
from posekit.training.parameter_groups import two_rates

CASES = {  # pictures, pixels, augmentation, steps, largest share of matching + loss
    "poet_r50": (2, 512, "paper", 4, 0.03),
    "poet_tiny": (16, 128, "scenes", 15, 0.05),
    "poet_tiny_proposals": (16, 128, "scenes", 15, None),
}
PARTS = ("data", "forward", "matching + loss", "backward", "optimiser")


def steps(name: str, cache: str) -> np.ndarray:
    """(steps, 5) CPU seconds of the parts; `cache`: a folder for the drawn pictures."""
    pictures, size, policy, count, _ = CASES[name]
    torch.manual_seed(0)
    model = models.build(name).train().to(memory_format=torch.channels_last)
    criterion = PoetCriterion()
    optimizer = torch.optim.AdamW(two_rates(model, 1e-4, 1e-5), fused=True)
    dataset = open_dataset("people", "train", count=pictures * (count + 2), size=size, cache=cache)
    dataset.image(0)  # drawn once, before the clock runs
    batches = Loader(dataset, Augment(policy, size=size), pictures).epoch(0)
    rows = []
    for _ in range(count + 2):
        clock = [time.process_time()]
        batch = next(batches)
        clock.append(time.process_time())
        outputs = model(batch["images"].contiguous(memory_format=torch.channels_last), batch["padding_mask"])
        clock.append(time.process_time())
        terms = criterion(outputs, batch["targets"])
        total = sum(criterion.weights[term] * value for term, value in terms.items())
        clock.append(time.process_time())
        total.backward()
        clock.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.append(time.process_time())
        rows.append(np.diff(clock))
    return np.array(rows[2:])


def main(names: list[str]) -> int:
    """Prints a table per model; the exit status."""
    status = 0
    for name in names:
        pictures, size, _, count, limit = CASES[name]
        with tempfile.TemporaryDirectory() as cache:
            parts = 1e3 * np.median(steps(name, cache), axis=0)
        share = parts[2] / parts.sum()
        print(f"{name}, {pictures} x 3 x {size} x {size}, median of {count} steps, {torch.get_num_threads()} thread(s)")
        for part, value in zip(PARTS, parts, strict=True):
            print(f"  {part:<16} {value:9.1f} ms {100 * value / parts.sum():6.1f} %")
        print(f"  {'step':<16} {parts.sum():9.1f} ms")
        if limit is not None and share > limit:
            print(f"  matching + loss take {100 * share:.1f} % of the step: more than {100 * limit:.0f} %")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(CASES)))
