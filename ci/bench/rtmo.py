"""RTMO-s on one thread: torch eager, bf16, ONNX Runtime and OpenVINO in one run, and what people cost.

    OMP_NUM_THREADS=1 python ci/bench/rtmo.py [repeats] [pixels]

One picture of 640 x 640 and its decoding, 7 repeats unless told otherwise: a minute of an idle core. Process time,
medians, the variants in turn within a repeat. Then the same for 0, 1, 5 and 13 people, torch eager against the exported
graphs. What a person costs does not depend on the picture, so it is the slope on one of 128 x 128 with up to 39 people,
where the network's own scatter does not hide it; thirteen times that, as a share of the time of an empty picture.

Weights are random, and cost does not depend on them. How many people are found does: boxes are made the squares of
their cells, which do not overlap, and the bias of the score puts the threshold halfway between the n-th and the next
best cell. So exactly n cells pass, wherever the picture's noise put them, and suppression drops none.

Exit status 1 when exported fp32 is not 1.3 times, or OpenVINO bf16 not 2 times as fast as eager fp32, or when 13 people
add 2 % of the time or more to the exported graph, or 5 % in eager mode. bf16 counts only where the processor has it.
"""

from __future__ import annotations

import copy
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from posekit.export import export
from posekit.models.rtmo import RTMO, rtmo
from posekit.runners import OnnxRunner, OpenVinoRunner

PEOPLE = (0, 1, 5, 13)
SMALL, MANY = 128, (0, 13, 26, 39)  # pixels and people of the pictures that say what a person costs
THRESHOLD = 0.1
FASTER = {"ONNX Runtime": 1.3, "OpenVINO fp32": 1.3, "OpenVINO bf16": 2.0}  # than eager, at least
SLOPE = {"torch eager": 0.05, "ONNX Runtime": 0.02, "OpenVINO fp32": 0.02, "OpenVINO bf16": 0.02}  # of 13 people, below


@torch.no_grad()
def awake(model: RTMO, images: torch.Tensor) -> None:
    """Change the batch norms so that random weights tell the places of `images` apart; boxes become the cells."""
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    model.train()(images, proxies=False)
    model.eval()
    for layer in model.head.out_bbox:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


@torch.no_grad()
def with_people(model: RTMO, images: torch.Tensor, people: int) -> None:
    """Change the scores so that `decode` finds exactly so many in `images`; see the module's docstring."""
    best = model(images, proxies=False)["cls_logits"].flatten().topk(people + 1).values
    border = best[0] + 0.1 if people == 0 else best[-2:].mean()
    for layer in model.head.out_cls:
        layer.bias += math.log(THRESHOLD / (1 - THRESHOLD)) - border


def variants(model: RTMO, images: torch.Tensor, folder: str, among: tuple[str, ...]) -> dict:
    """Name -> a function that runs the picture and says how many people it found."""
    size = torch.tensor([[images.shape[3], images.shape[2]]])
    path = export(model, Path(folder) / "rtmo.onnx", tuple(images.shape[2:]), score_threshold=THRESHOLD)
    bgr = np.ascontiguousarray(images.flip(1).numpy())  # RTMO-s takes numbers from 0 to 255

    def eager() -> int:
        return len(model.decode(model(images, proxies=False), size)[0])

    def exported(runner):
        return lambda: int((runner.network.run(bgr)[0][0, :, 4] > 0).sum())

    made = {"torch eager": lambda: eager}
    if "torch bf16, channels last" in among:
        other = model.fuse().to(memory_format=torch.channels_last)
        last = images.contiguous(memory_format=torch.channels_last)

        def bf16() -> int:
            with torch.autocast("cpu", torch.bfloat16):
                outputs = other(last, proxies=False)
            return len(other.decode(outputs, size)[0])

        made["torch bf16, channels last"] = lambda: bf16
    made |= {
        "ONNX Runtime": lambda: exported(OnnxRunner(path)),
        "OpenVINO fp32": lambda: exported(OpenVinoRunner(path)),
        "OpenVINO bf16": lambda: exported(OpenVinoRunner(path, "bf16")),
    }
    return {name: make() for name, make in made.items() if name in among}


def timed(cells: dict, repeats: int) -> tuple[dict, dict]:
    """Median milliseconds of process time per cell, all cells in turn within a repeat; and what they returned."""
    times, found = {name: [] for name in cells}, {}
    with torch.inference_mode():
        for turn in range(repeats + 2):
            for name, run in cells.items():
                begin = time.process_time()
                found[name] = run()
                if turn >= 2:  # the first ones allocate
                    times[name].append(1e3 * (time.process_time() - begin))
    return {name: float(np.median(values)) for name, values in times.items()}, found


def compare(model: RTMO, images: torch.Tensor, repeats: int) -> bool:
    """Prints the table of variants; whether one is too slow."""
    with_people(model, images, 5)
    with tempfile.TemporaryDirectory() as folder:
        cells = variants(model, images, folder, ("torch eager", "torch bf16, channels last", *FASTER))
        times, found = timed(cells, repeats)
    failed, has_bf16 = False, torch.ops.mkldnn._is_mkldnn_bf16_supported()
    for name, value in times.items():
        faster = times["torch eager"] / value
        missed = faster < FASTER.get(name, 0) and (has_bf16 or "bf16" not in name)
        failed |= missed
        note = f" (less than {FASTER[name]})" if missed else ""
        print(f"  {name:<26} {value:8.1f} ms  {faster:5.2f} x  {found[name]} people{note}")
    return failed


def by_people(model: RTMO, images: torch.Tensor, numbers: tuple[int, ...], repeats: int) -> tuple[dict, dict]:
    """Variant -> milliseconds for these numbers of people; variant -> how many were found."""
    cells = {}
    with tempfile.TemporaryDirectory() as folder:
        for people in numbers:
            with_people(model, images, people)
            for name, run in variants(copy.deepcopy(model), images, folder, tuple(SLOPE)).items():
                cells[name, people] = run
        # The numbers of people of a variant side by side: a slow minute of the machine hits them alike
        times, found = timed({key: cells[key] for key in sorted(cells)}, repeats)
    return tuple({name: [part[name, n] for n in numbers] for name in SLOPE} for part in (times, found))


def picture(pixels: int) -> torch.Tensor:
    """Smooth noise (1, 3, pixels, pixels) from 0 to 255."""
    coarse = 255 * torch.rand(1, 3, pixels // 16, pixels // 16)
    return torch.nn.functional.interpolate(coarse, size=(pixels, pixels), mode="bilinear")


def main(repeats: int = 7, pixels: int = 640) -> int:
    """Prints two tables; the exit status."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, images, small = rtmo("s"), picture(pixels), picture(SMALL)
    awake(model, images)
    print(f"rtmo_s, 1 x 3 x {pixels} x {pixels}, one thread, median of {repeats} repeats")
    failed = compare(model, images, repeats)
    times, found = by_people(model, images, PEOPLE, repeats)
    awake(model, small)
    slopes, _ = by_people(model, small, MANY, 3 * repeats)
    print("people         " + "".join(f"{people:>12}" for people in PEOPLE) + "      a person  13 people add")
    for name, limit in SLOPE.items():
        each = np.polyfit(MANY, slopes[name], 1)[0]
        share = 13 * each / times[name][0]
        wrong = [f"{n} for {people}" for n, people in zip(found[name], PEOPLE, strict=True) if n != people]
        failed |= share >= limit or (bool(wrong) and "bf16" not in name)
        row = "".join(f"{ms:9.1f} ms" for ms in times[name]) + f"{each:11.3f} ms {100 * share:8.1f} %"
        note = f" ({100 * limit:.0f} % or more)" if share >= limit else ""
        print(f"{name:<15}{row}{note}" + (f"; found {', '.join(wrong)}" if wrong else ""))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
