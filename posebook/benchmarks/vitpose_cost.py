"""What ViTPose costs on a CPU (Xu et al. 2022, Table 4 and Figure 1): memory of training, multiply-adds, time.

Each network is measured in a process of its own, because the largest memory of a process can only grow. One training
step (forward, backward) with one of two kernels: `scores` keeps the scores of attention for the backward pass, as the
paper's code did; `fused` computes them again piece by piece and keeps none.

    peak    largest resident memory of the process during its first step, less that before it, when weights and
            gradients are there already; counted by the operating system, buffers of the kernels included
    kept    what the forward pass keeps for the backward pass, every storage counted once

Weights are random: a dense network costs the same with any. Crops are noise.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

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
    kind: str,
    model: str,
    variants: Mapping[str, Mapping],
    kernels: Iterable[str] = ("fused",),
    crops: int = 1,
    only: Iterable[str] = (),
    **options,
) -> list[Case]:
    """The networks of a study.

    Args:
        variants: name -> changes to a recipe, as `posebook.studies` has them; the keys `recipe` (then the model of that
            name) and `model_options` count.
        only: some of the variants; () = all. options: common to all, whatever a variant says.

    Raises:
        ValueError: a variant or a kernel that there is not.
    """
    kernels = list(kernels)
    chosen = list(only) or list(variants)
    for known, names, what in ((variants, chosen, "variant"), (KERNELS, kernels, "kernel")):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no {what} {unknown[0]!r}; choose of {', '.join(known)}")
    found = []
    for name in chosen:
        own = {**variants[name].get("model_options", {}), **options}
        found += [Case(kind, variants[name].get("recipe", model), name, own, kernel, crops) for kernel in kernels]
    return found


def cost_rows(
    chosen: Iterable[Case], repeats: int = 3, budget_s: float = 1.0, threads: int = 1, report: Callable | None = None
) -> pd.DataFrame:
    """A row per case: its fields (with `window` in cells) and what `measure` found, one process after the other.

    Args: repeats, budget_s, threads: see `measure`. report: called with every row.

    Raises:
        RuntimeError: a process that did not come to its end, such as for want of memory.
    """
    # A server that has imported torch forks the processes: no import is paid twice, and nothing measured is shared.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    rows = []
    for case in chosen:
        there, here = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(here, asdict(case), repeats, budget_s, threads))
        process.start()
        here.close()
        try:
            found = there.recv()
        except EOFError:
            process.join()
            raise RuntimeError(
                f"{case.model} with attention {case.variant} and {case.crops} crop(s) stopped with exit code "
                f"{process.exitcode}; a negative one means that it was killed, perhaps for its memory: take fewer crops"
            ) from None
        process.join()
        window = case.options.get("window") if case.options.get("attention", "full") != "full" else None
        row = {"kind": case.kind, "model": case.model, "variant": case.variant}
        row |= {"window": "x".join(map(str, window)) if window else "", "kernel": case.kernel, "crops": case.crops}
        rows.append(row | found | {"threads": threads})
        if report:
            report(rows[-1])
    return pd.DataFrame(rows)


def _answer(pipe, case: dict, repeats: int, budget_s: float, threads: int) -> None:
    torch.set_num_threads(threads)
    pipe.send(measure(Case(**case), repeats, budget_s))


def measure(case: Case, repeats: int = 3, budget_s: float = 1.0) -> dict[str, float]:
    """A case in this process, which should be a fresh one.

    Args: repeats: at most so many steps and so many forward passes; none of either is begun after `budget_s` seconds of
        them, but one always runs. Seconds are CPU time: of one thread, what the clock of a quiet machine would show.

    Returns: params_m and trained_m (millions of parameters, and of those that are not frozen), gmac and
        gmac_transformer (10^9 multiply-adds of a crop's forward pass, in all and without the decoder), peak_mb and
        kept_mb of a training step of the whole batch, weights_mb (what is there before it and beside it: weights,
        gradients, AdamW's two moments, in float32; counted), step_ms (a training step) and ms (a forward pass without
        gradients), medians per crop, per_s (crops per second, forward passes).
    """
    torch.manual_seed(0)
    with sdpa_kernel(KERNELS[case.kernel]):
        _step(build("vitpose_tiny"), torch.randn(1, 3, 96, 72))  # the libraries' own tens of MB, which they fetch once
        model = build(case.model, **case.options).train()
        images = torch.randn(case.crops, 3, *reversed(model.crop_size))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:  # gradients are there before the step: it alone is measured
            parameter.grad = torch.zeros_like(parameter)
        kept, before = [], resident_mb()
        times = _times(lambda: kept.append(_step(model, images)), 1, budget_s)
        peak = resident_mb() - before
        times += _times(lambda: _step(model, images), repeats - 1, budget_s - times[0])
        model.eval()
        with torch.inference_mode():
            passes = _times(lambda: model(images), max(repeats, 1), budget_s)
    step_s, forward_s = (statistics.median(part) / case.crops for part in (times, passes))
    params, learnt = (sum(part.numel() for part in parts) for parts in (model.parameters(), trained))
    costs = {"params_m": params / 1e6, "trained_m": learnt / 1e6, "weights_mb": 4 * (params + 3 * learnt) / MB}
    costs["gmac"] = gmac(case.model, case.options)
    costs["gmac_transformer"] = gmac(case.model, case.options, decoder=False)
    costs |= {"peak_mb": peak, "kept_mb": kept[0], "step_ms": 1000 * step_s, "ms": 1000 * forward_s}
    return costs | {"per_s": 1 / forward_s}


def _step(model: nn.Module, images: Tensor) -> float:
    """A training step; MB that its forward pass kept."""
    with keeping(model) as sizes:
        loss = model(images)["heatmaps"].square().mean()
    total = sum(sizes.values()) / MB
    loss.backward()
    return total


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
    from posebook.studies import study

    def show(row: dict) -> None:
        parts = (f"{row['variant']:16} {row['kernel']:>7} {row['peak_mb']:7.0f} MB {row['step_ms'] / 1000:7.2f} s",)
        print(*parts, f"{row['gmac_transformer']:7.2f} GMAC", flush=True)

    chosen = cases("attention", model, study("attention").published, KERNELS, drop_path=0.0)
    peak = cost_rows(chosen, 2, 4.0, 1, show).pivot(index="variant", columns="kernel", values="peak_mb")
    others = peak.drop(index="full")
    missed = [
        f"{name} saves less than a quarter of full attention's memory where scores are kept"
        for name in others.index[others.scores > 0.75 * peak.scores["full"]]
    ]
    fused = others.index[others.fused > 1.25 * peak.fused["full"]]
    return missed + [f"{name} needs more memory than full attention with the fused kernel" for name in fused]
