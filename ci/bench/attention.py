"""What ViTPose's attention variants cost in training: memory, CPU time and multiply-adds, crops of 256 x 192, stride 8.

    OMP_NUM_THREADS=1 python ci/bench/attention.py [--size s] [--batch 1] [--variants full window ...]

768 tokens a crop, so full attention keeps 768 x 768 scores per head and block. Each row is a process of its own. One
training step (forward, backward) is measured with two kernels: `scores`, which keeps the scores for the backward pass
as the paper's code did, and `fused`, which computes them again piece by piece and keeps none.

    peak    largest resident memory of the process during the step, less that before it (weights and gradients are
            there before), MB: what the operating system counted, buffers of the kernels included
    kept    MB that the forward pass keeps for the backward pass, every storage counted once
    CPU     seconds of one step, of the process, not of the clock
    GMAC    multiply-adds of the forward pass of one crop, 10^9

Exit status 1 when a windowed variant does not save at least a quarter of full attention's peak in the column `scores`,
or when a windowed variant needs more than full attention with the fused kernel (by more than a quarter).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from posekit.models.vitpose import vitpose

VARIANTS = {
    "full": ("full", (8, 8)),
    "window": ("window", (8, 8)),
    "shift": ("shift", (8, 8)),
    "pool": ("pool", (8, 8)),
    "shift+pool": ("shift+pool", (8, 8)),
    "shift+pool 16x12": ("shift+pool", (16, 12)),
}
KERNELS = {"scores": SDPBackend.MATH, "fused": SDPBackend.FLASH_ATTENTION}
MB = 2**20


def resident() -> float:
    """Largest resident memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MB if sys.platform == "darwin" else 1024)


def kept(model: torch.nn.Module, images: torch.Tensor) -> float:
    """MB that a forward pass keeps, weights left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(images)["heatmaps"]
    total = sum(sizes.values()) / MB
    del outputs
    return total


def measure(variant: str, kernel: str, size: str, batch: int) -> dict[str, float]:
    """One row, in this process."""
    attention, window = VARIANTS[variant]
    torch.manual_seed(0)
    model = vitpose(size, ratio=2, attention=attention, window=window, drop_path=0.0).train()
    images = torch.randn(batch, 3, 256, 192)
    for parameter in model.parameters():  # gradients are there before the step, so that the step alone is measured
        parameter.grad = torch.zeros_like(parameter)
    row = {}
    with sdpa_kernel(KERNELS[kernel]):
        before = resident()
        model(images)["heatmaps"].square().mean().backward()
        row["peak"] = resident() - before
        start = time.process_time()
        model(images)["heatmaps"].square().mean().backward()
        row["cpu"] = time.process_time() - start
        row["kept"] = kept(model, images)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images[:1])
    row["gmac"] = counter.get_total_flops() / 2e9
    return row


def main() -> int:
    """Prints the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", default="s", choices=["s", "b", "l", "h"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--row", nargs=2, metavar=("VARIANT", "KERNEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*options.row, options.size, options.batch)))
        return 0
    print(f"ViTPose-{options.size.upper()}, {options.batch} crop(s), {torch.get_num_threads()} thread(s)")
    print(f"{'':18}{'scores kept':^28}{'fused':^28}")
    print(f"{'attention':18}" + f"{'peak MB':>10}{'kept MB':>10}{'CPU s':>8}" * 2 + f"{'GMAC':>8}")
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for variant in options.variants:
        rows[variant] = {}
        for kernel in KERNELS:
            command = [sys.executable, __file__, "--size", options.size, "--batch", str(options.batch)]
            answer = subprocess.run([*command, "--row", variant, kernel], capture_output=True, text=True, check=True)
            rows[variant][kernel] = json.loads(answer.stdout)
        cells = [f"{row['peak']:10.0f}{row['kept']:10.0f}{row['cpu']:8.2f}" for row in rows[variant].values()]
        print(f"{variant:18}{''.join(cells)}{rows[variant]['scores']['gmac']:8.2f}", flush=True)
    status = 0
    full = rows.get("full")
    for variant, row in rows.items():
        if full is None or variant == "full":
            continue
        if row["scores"]["peak"] > 0.75 * full["scores"]["peak"]:
            print(f"{variant} saves less than a quarter of full attention's memory where scores are kept")
            status = 1
        if row["fused"]["peak"] > 1.25 * full["fused"]["peak"]:
            print(f"{variant} needs more memory than full attention with the fused kernel")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
