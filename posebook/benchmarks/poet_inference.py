"""What one image costs POET: PyTorch as DETR's modules are written, PyTorch at its best, and exported graphs.

Random weights, batch 1, one thread, CPU time, runs of all variants interleaved. Beside each time stands how far its
keypoints lie from those of the model itself; bf16 is also compared on drawn people with trained weights.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import posekit
from posebook.benchmarks.rtmo_speed import bf16_here, built
from posebook.benchmarks.timing import cpu_times
from posebook.benchmarks.training_step import crowd
from posekit.data import open_dataset
from posekit.losses.poet import PoetCriterion
from posekit.models.fusion import in_bf16
from posekit.models.transformer import Attention
from posekit.poses import Poses

# times as fast as plain eager modules, at least
WITH_BF16 = {"eager at best": 2.2, "exported": 2.7, "training step in bf16": 1.8}
WITHOUT = {"eager at best": 1.3, "exported": 1.3}
NO_BF16 = "not run: this CPU has no bf16 instructions"
PLAIN = "eager, plain modules"


class PlainAttention(nn.Module):
    """The attention of a POET by `nn.MultiheadAttention`, which makes the maps: softmax between two products."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        dim = attention.out_proj.in_features
        self.attention = nn.MultiheadAttention(dim, attention.heads, attention.dropout, batch_first=True)
        self.attention.load_state_dict(attention.state_dict())

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, maps=None) -> Tensor:
        """As `Attention.forward`; masks are not needed here."""
        return self.attention(query, key, value)[0]


def plain(model: nn.Module) -> nn.Module:
    """A copy of a POET as DETR is written: plain attention, batch norms by themselves, channels first."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, Attention):
                setattr(parent, name, PlainAttention(part))
    return model.eval()


def poet_inference(name: str = "poet_r50", size: int = 512, rounds: int = 9) -> list[str]:
    """POET-R50 at its best must beat plain eager modules: by more where the CPU has bf16 instructions."""
    bf16, own = bf16_here(), built(name, 0)
    models = {PLAIN: plain(own), "eager": own, "eager, fused": own.fuse(), "eager, fused, bf16": in_bf16(own.fuse())}
    for backend, precision in (("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")):
        torch.manual_seed(0)
        called = backend if precision == "f32" else f"{backend}, bf16"
        models[called] = posekit.load(name, backend=backend, precision=precision, size=size)
    images = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        timed = {called: model for called, model in models.items() if bf16 or not called.endswith("bf16")}
        times = cpu_times({called: lambda model=model: model(images) for called, model in timed.items()}, rounds)
        # Of runs side by side: a slow minute of the machine hits both
        ratios = {called: float(np.median(times[PLAIN] / ms)) for called, ms in times.items()}
        exact = keypoints(own, own(images), images)
        print(f"  {name}, 1 x 3 x {size} x {size}, random weights, median of {rounds}; px: joints, against eager")
        for called, model in models.items():
            cost = (
                f"{np.median(times[called]):8.0f} ms {ratios[called]:5.2f} x"
                if called in times
                else f"time {NO_BF16}; emulated"
            )
            moved = (keypoints(own, model(images), images) - exact).norm(dim=-1)
            print(f"  {called:<20} {cost}; at most {moved.max():.1e} px, {moved.mean():.1e} px in the mean")
    best = {
        "eager at best": max(ratio for called, ratio in ratios.items() if called.startswith("eager, fused")),
        "exported": max(ratio for called, ratio in ratios.items() if called.startswith(("onnxruntime", "openvino"))),
    }
    if bf16:
        best["training step in bf16"] = training_ratio(name, size)
    print(f"  training step in bf16: {best['training step in bf16']:.2f} x" if bf16 else f"  training step: {NO_BF16}")
    for tiny in ("poet_tiny", "rtmo_tiny", "vitpose_tiny"):
        people, found, moved = bf16_distances(tiny)
        print(f"  {tiny} on drawn people, openvino, bf16 against f32: {found} people of {people};", end=" ")
        print(f"joints at most {moved.max():.2f} px apart, {moved.mean():.3f} px in the mean")
    return [
        f"{name}, {called}: {best[called]:.2f} times as fast as plain eager modules, less than {limit}"
        for called, limit in (WITH_BF16 if bf16 else WITHOUT).items()
        if best[called] < limit
    ]


def keypoints(own: nn.Module, outputs: dict[str, Tensor], images: Tensor) -> Tensor:
    """(B, Q, K, 2) px of what a POET or a graph of it puts out."""
    people = outputs if "keypoints" in outputs else own.people(outputs)
    return people["keypoints"] * torch.tensor(images.shape[:1:-1])


def bf16_distances(name: str, count: int = 24) -> tuple[int, int, np.ndarray]:
    """What bf16 moves on OpenVINO, with trained weights on drawn people: how many people f32 and bf16 find above a
    score of 0.3, and how far each joint of the first lies from that of the nearest of the second, px of the image."""
    data = open_dataset("people", "val", count=count)
    images, targets = [np.array(data.image(i)) for i in range(count)], [data.target(i) for i in range(count)]
    annotated = [
        Poses(t["keypoints"], t["visibility"] > 0, np.ones(len(t["boxes"]), np.float32), t["boxes"]) for t in targets
    ]
    exact, rounded = (
        posekit.Predictor(
            posekit.load(name, "scenes", backend="openvino", precision=precision),
            threshold=0.3,
            detector=(lambda _: annotated) if name.startswith("vitpose") else None,
        )(images, batch_size=count)
        for precision in ("f32", "bf16")
    )
    moved = [np.zeros(0)]
    for one, other in zip(exact, rounded, strict=True):
        if len(one) and len(other):
            apart = np.linalg.norm(one.keypoints[:, None] - other.keypoints, axis=-1)
            moved.append(np.take_along_axis(apart, apart.mean(-1).argmin(1)[:, None, None], 1).ravel())
    return sum(map(len, exact)), sum(map(len, rounded)), np.concatenate(moved)


def training_ratio(name: str, size: int, rounds: int = 3) -> float:
    """How many times as fast a training step of two images is in bf16 as one of plain modules in f32."""
    images, criterion = torch.randn(2, 3, size, size), PoetCriterion()
    targets = [target | {"size": (size, size)} for target in crowd(2, size, 6)]

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = model(images)
        criterion(outputs, targets).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    own = built(name, 0).train()
    calls = {}
    for bf16, model in enumerate((plain(own).train(), own.to(memory_format=torch.channels_last))):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
        calls[bf16] = partial(step, model, optimizer, bool(bf16))
    times = cpu_times(calls, rounds)
    return float(np.median(times[0] / times[1]))
