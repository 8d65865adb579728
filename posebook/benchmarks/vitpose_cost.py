"""What ViTPose costs on a CPU (Xu et al. 2022, Table 4 and Figure 1): memory of training, multiply-adds, time.

Each network is measured in a process of its own, because the largest memory of a process can only grow. One training
step (forward, backward) with one of two kernels: `scores` keeps the scores of attention for the backward pass, as the
paper's code did; `fused` computes them again piece by piece and keeps none. Weights are random, crops are noise.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from posebook.studies import study
from posekit.models import build

KERNELS = {"scores": SDPBackend.MATH, "fused": SDPBackend.FLASH_ATTENTION}
MB = 2**20


@dataclass(frozen=True)
class Case:
    """A network to be measured: `model` and `options` as `posekit.models.build` takes them, crops in a batch.

    `kind`: the study that it belongs to, "attention", "size" or "finetuning"; `kernel`: a key of `KERNELS`.
    """

    kind: str
    model: str
    variant: str
    options: Mapping = field(default_factory=dict)
    kernel: str = "fused"
    crops: int = 1


def cases(
    kind: str, model: str, variants: Mapping, kernels=("fused",), crops: int = 1, only=(), **options
) -> list[Case]:
    """The networks of a study.

    Args:
        variants: name -> changes to a recipe, as `posebook.studies` has them; `recipe` and `model_options` count.
        only: some of the variants; () = all. options: common to all, whatever a variant says.

    Raises ValueError: a variant or a kernel that there is not.
    """
    kernels, chosen = list(kernels), list(only) or list(variants)
    for known, names, what in ((variants, chosen, "variant"), (KERNELS, kernels, "kernel")):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no {what} {unknown[0]!r}; choose of {', '.join(known)}")
    own = {name: {**variants[name].get("model_options", {}), **options} for name in chosen}
    return [
        Case(kind, variants[name].get("recipe", model), name, own[name], kernel, crops)
        for name in chosen
        for kernel in kernels
    ]


def cost_rows(
    chosen: Iterable[Case], repeats=3, budget_s=1.0, threads=1, report: Callable = lambda row: None
) -> pd.DataFrame:
    """A row per case: its fields (with `window` in cells) and what `measure` found, one process after the other.

    Args: repeats, budget_s, threads: see `measure`. report: called with every row.

    Raises RuntimeError: a process that did not come to its end, such as for want of memory.
    """
    # A server that has imported torch forks the processes: no import is paid twice, and nothing measured is shared.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    rows = []
    for case in chosen:
        with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as process:
            try:
                found = process.submit(measure, case, repeats, budget_s).result()
            except Exception as error:
                raise RuntimeError(
                    f"{case.model} with attention {case.variant} and {case.crops} crop(s) was not measured ({error}): "
                    "if its process was killed, perhaps for its memory, take fewer crops"
                ) from error
        window = case.options.get("window") if case.options.get("attention", "full") != "full" else None
        row = {"kind": case.kind, "model": case.model, "variant": case.variant}
        row |= {"window": "x".join(map(str, window)) if window else "", "kernel": case.kernel, "crops": case.crops}
        rows.append(row | found | {"threads": threads})
        report(rows[-1])
    return pd.DataFrame(rows)


def measure(case: Case, repeats: int = 3, budget_s: float = 1.0) -> dict[str, float]:
    """A case in this process, which should be a fresh one.

    Args: repeats: at most so many steps and so many forward passes; none of either is begun after `budget_s` seconds of
        them, but one always runs. Seconds are CPU time: of one thread, what the clock of a quiet machine would show.

    Returns: params_m and trained_m (millions of parameters, and of those that are not frozen), gmac and
        gmac_transformer (10^9 multiply-adds of a crop's forward pass, in all and without the decoder), peak_mb (memory
        that the first training step of the batch adds to weights and gradients, by the operating system), kept_mb (what
        its forward pass keeps for the backward pass), weights_mb (weights, gradients, AdamW's two moments; counted),
        step_ms (a training step) and ms (a forward pass without gradients), medians per crop, per_s.
    """
    torch.manual_seed(0)
    with sdpa_kernel(KERNELS[case.kernel]):
        _step(build("vitpose_tiny"), torch.randn(1, 3, 96, 72))  # the libraries' own tens of MB, which they fetch once
        model = build(case.model, **case.options).train()
        images = torch.randn(case.crops, 3, *reversed(model.crop_size))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:  # gradients are there before the step: it alone is measured
            parameter.grad = torch.zeros_like(parameter)
        before, start = resident_mb(), time.process_time()
        kept = _step(model, images)
        times, peak = [time.process_time() - start], resident_mb() - before
        times += _times(lambda: _step(model, images), repeats - 1, budget_s - times[0])
        model.eval()
        with torch.inference_mode():
            passes = _times(lambda: model(images), max(repeats, 1), budget_s)
    step_s, forward_s = (statistics.median(part) / case.crops for part in (times, passes))
    params, learnt = (sum(part.numel() for part in parts) for parts in (model.parameters(), trained))
    costs = {"params_m": params / 1e6, "trained_m": learnt / 1e6, "weights_mb": 4 * (params + 3 * learnt) / MB}
    works = {"gmac": True, "gmac_transformer": False}
    costs |= {name: gmac(case.model, case.options, decoder) for name, decoder in works.items()}
    costs |= {"peak_mb": peak, "kept_mb": kept, "step_ms": 1000 * step_s, "ms": 1000 * forward_s}
    return costs | {"per_s": 1 / forward_s}


def _step(model: nn.Module, images: Tensor) -> float:
    """A training step; MB that its forward pass kept."""
    with keeping(model) as sizes:
        loss = model(images)["heatmaps"].square().mean()
    loss.backward()
    return sum(sizes.values()) / MB


def gmac(model: str, options: Mapping | None = None, decoder: bool = True) -> float:
    """10^9 multiply-adds of matrix products and convolutions of one crop's forward pass; nothing is computed for it.

    The paper calls them GFLOPs, and those of its study of attention leave the decoder out.
    """
    with torch.device("meta"):
        network = build(model, **options or {}).eval()
        images = torch.empty(1, 3, *reversed(network.crop_size))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        (network if decoder else network.backbone)(images)
    return counter.get_total_flops() / 2e9


def resident_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux counts in `getrusage` what the parent had when it started this process
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MB if sys.platform == "darwin" else 1024)


@contextmanager
def keeping(model: nn.Module):
    """What a forward pass inside keeps for the backward pass, weights left out: a dict with the bytes of each storage,
    full at the end."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes


def _times(work: Callable[[], None], repeats: int, budget_s: float) -> list[float]:
    """Seconds of CPU time of up to `repeats` calls; the first one does not ask for the budget."""
    times: list[float] = []
    while len(times) < repeats and (not times or sum(times) < budget_s):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return times


def attention_memory(model: str = "vitpose_s") -> list[str]:
    """Windowed attention must save memory where scores are kept, and cost none with the fused kernel (stride 8)."""

    def show(row: dict) -> None:
        print("{variant:16} {kernel:>7} {peak_mb:7.0f} MB {step_ms:8.1f} ms {gmac_transformer:7.2f} GMAC".format(**row))

    chosen = cases("attention", model, study("attention").published, KERNELS, drop_path=0.0)
    peak = cost_rows(chosen, 2, 4.0, 1, show).pivot(index="variant", columns="kernel", values="peak_mb")
    others = peak.drop(index="full")
    missed = [
        f"{name} saves less than a quarter of full attention's memory where scores are kept"
        for name in others.index[others.scores > 0.75 * peak.scores["full"]]
    ]
    fused = others.index[others.fused > 1.25 * peak.fused["full"]]
    return missed + [f"{name} needs more memory than full attention with the fused kernel" for name in fused]
