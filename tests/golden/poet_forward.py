"""POET's forward pass, losses and gradient norms: `forward_*.npz`, `forward_*.json`, `forward_targets_*.npz`.

B images, Q queries, L decoder layers, C channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golden.checks import Check, Directory, Entries
from golden.poet_losses import check_losses, criterion_for, named_losses, pack, weighted_total
from golden.rules import by_rule, hooked, images, shapes_of
from posekit import models
from posekit.losses.matching import hungarian
from posekit.models import checkpoints

# Suggested by the reference: largest absolute difference of the outputs under each weight rule
OUTPUT = {"plain": 1e-5, "spread": 1e-3}
# Tensors whose summaries are in the json: our names
STAGES = {
    "feature": "feature",
    "position": "position",
    "projected": "projected",
    "memory": "memory",
    "decoder_stack": "states",
}
RUNS = 3  # float32 runs that measure how certain a gradient is


def build_for(options: dict[str, int], dilate_last: bool = False) -> nn.Module:
    """POET-R50 or POET-DC5-R50 of that size, random weights, evaluation mode."""
    return models.build("poet_dc5_r50" if dilate_last else "poet_r50", **options).eval()


def fill(model: nn.Module, rule: str) -> None:
    """Load the weights of rule `plain` or `spread` under their published names."""
    checkpoints.load_weights(model, by_rule(shapes_of(model), rule))


def forward(file: Path, directory: Directory) -> Iterator[Check]:
    """One variant: outputs of all layers, intermediate tensors, parameter counts, losses, gradient norms."""
    name = file.stem.removeprefix("forward_")
    arrays, fields = directory.together(file, file.with_name(f"forward_{name}.json"))
    yield fields.equal("variant", name)
    tolerance, valid = OUTPUT.get(fields["weight_rule"], 1e-3), arrays["valid_hw"].tolist()
    pixels, mask = images(fields["image_rule"], fields["image_seed"], fields["shape"], valid)
    yield arrays.equal("valid_hw", valid, fields["valid_hw"])
    yield fields.equal("image_crc32", zlib.crc32(pixels.astype("<f4").tobytes()))
    yield fields.check("image_first5", pixels.ravel()[:5], atol=1e-6)

    model = build_for(_options(name, directory, arrays), dilate_last=fields["dilation5"])
    fill(model, fields["weight_rule"])
    parameters = list(model.parameters())
    yield fields.equal("num_queries", arrays["pred_logits"].shape[2])
    yield fields.equal("params_total", sum(p.numel() for p in parameters))
    yield fields.equal("params_trainable", sum(p.numel() for p in parameters if p.requires_grad))

    captured = capture(model, torch.from_numpy(pixels), torch.from_numpy(mask))
    yield from _check_arrays(arrays, captured, tolerance)
    yield from _check_summaries(fields, captured, tolerance)
    targets_file = file.with_name(f"forward_targets_{name}.npz")
    if targets_file in directory:
        yield from _check_losses(directory.open(targets_file), fields, model, captured, pixels, mask)
    elif "losses" in fields:
        raise FileNotFoundError(f"{targets_file.name} is missing")
    captured = capture(model.double(), torch.from_numpy(pixels).double(), torch.from_numpy(mask))
    note = "ratio: our float64 run is as far from the reference's float32 as its own was"
    for ours, theirs in (("logits", "pred_logits"), ("pose", "pred_kpts")):
        distance = np.abs(captured[ours].detach().numpy() - arrays[theirs]).max()
        ratio = max(distance, 1e-7) / max(fields["float64_max_abs_diff"][theirs], 1e-7)
        yield fields.at_most(f"float64_max_abs_diff.{theirs}", max(ratio, 1 / ratio), 3.0, note)


def capture(model: nn.Module, pixels: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The model's outputs and its intermediate tensors (feature maps as (B, C, h, w))."""
    seen, states = {}, []

    def keep_memory(inputs, options, out) -> None:
        seen.update(position=inputs[1], memory=out, mask=~options["mask"])

    hooks = {
        model.backbone: lambda inputs, options, out: seen.update(feature=out),
        model.input_proj: lambda inputs, options, out: seen.update(projected=out),
        model.transformer.encoder.layers[-1]: keep_memory,
        model.transformer.decoder.norm: lambda inputs, options, out: states.append(out),
    }
    with hooked(hooks):
        outputs = model(pixels, mask)
    h, w = seen["feature"].shape[-2:]
    for name in ("position", "memory"):
        seen[name] = seen[name].transpose(1, 2).unflatten(2, (h, w))
    seen |= {"mask": seen["mask"].reshape(-1, h, w), "states": torch.stack(states)}
    return seen | {"logits": outputs["logits"], "pose": outputs["pose"]}


def _options(name: str, directory: Directory, arrays: Entries) -> dict[str, int]:
    """The model's size: from the outputs, and what they do not show from the key list of the same variant."""
    decoder_layers, _, queries, _ = arrays["pred_logits"].shape
    lists = [path for path in directory.folder.glob("keys_*.json") if name.startswith(path.stem.removeprefix("keys_"))]
    options = {}
    if lists:
        longest = max(lists, key=lambda path: len(path.stem))
        rows = directory.open(longest.relative_to(directory.folder))["rows"]
        options = checkpoints.size({key: tuple(shape) for key, shape in rows})
    num_keypoints = (arrays["pred_kpts"].shape[-1] - 2) // 3
    return options | {"num_queries": queries, "decoder_layers": decoder_layers, "num_keypoints": num_keypoints}


def _check_arrays(arrays: Entries, captured: dict[str, Tensor], tolerance: float) -> Iterator[Check]:
    """Everything in the .npz."""
    ours = {name: value.detach().numpy() for name, value in captured.items()}
    yield arrays.check("pred_logits", ours["logits"], atol=tolerance)
    yield arrays.check("pred_kpts", ours["pose"], atol=tolerance)
    yield arrays.check("feature_mask", ours["mask"])
    raw = {"feature_every_64th": ours["feature"][:, ::64], "proj_every_16th": ours["projected"][:, ::16]}
    for name, value in raw.items():  # not normalised: the tolerance goes by their size
        yield arrays.check(name, value, atol=1e-5 * float(np.abs(arrays.get(name, value)).max(initial=1.0)))
    position = np.broadcast_to(ours["position"], ours["memory"].shape)
    yield arrays.check("pos_every_16th", position[:, ::16], atol=1e-6)
    yield arrays.check("memory_every_16th", ours["memory"][:, ::16], atol=tolerance)
    yield arrays.check("hs_last_every_4th", ours["states"][-1][..., ::4], atol=tolerance)


def _check_summaries(fields: Entries, captured: dict[str, Tensor], tolerance: float) -> Iterator[Check]:
    """Shape, mean, spread and size of whole tensors, and how different images and queries come out."""
    for stage, name in STAGES.items():
        summary, value = fields[stage], captured[name].detach().numpy().astype(np.float64)
        if stage == "position":
            value = np.broadcast_to(value, captured["memory"].shape)
        yield fields.equal(f"{stage}.shape", list(value.shape), summary["shape"])
        ours = {"mean": value.mean(), "std": value.std(ddof=1), "min": value.min(), "max": value.max()}
        limit = 1e-6 if stage == "position" else tolerance / 10 * max(1.0, np.abs(value).max())
        for key, number in ours.items():
            yield fields.check(f"{stage}.{key}", number, summary[key], atol=limit)
        yield fields.check(f"{stage}.abs_sum", np.abs(value).sum(), summary["abs_sum"], rtol=tolerance)
    pose = captured["pose"].detach().numpy().astype(np.float64)[-1]
    if len(pose) > 1:
        yield fields.check("mean_abs_diff_between_images", np.abs(pose[0] - pose[1]).mean(), atol=tolerance / 10)
    yield fields.check("mean_std_between_queries", pose[0].std(0).mean(), atol=tolerance / 10)


def _check_losses(targets: Entries, fields: Entries, model, captured, pixels, mask) -> Iterator[Check]:
    """Losses of all layers, their total and the gradient norm of every module."""
    vectors, counts = targets["targets"], targets["n_persons"]
    people = pack(vectors, targets.get("labels", np.ones(len(vectors), np.int64)), counts)
    note = f"drawn with seed {fields['target_seed']}; the losses in {fields.file} are theirs"
    yield targets.equal("persons", len(vectors), int(counts.sum()), note)
    named, total = losses_of(captured, people)
    yield from check_losses(fields, named, rtol=1e-3)
    yield fields.check("total", total.item(), rtol=1e-3)
    modules, reference = list(fields["gradient_l2"]), np.array([*fields["gradient_l2"].values()])
    ours = gradient_norms(model, total, modules)
    tolerance, note = np.full(len(reference), 1e-2), ""
    if (np.abs(ours / reference - 1) > tolerance).any():
        # Deep in the network a float32 gradient can be less certain than a percent: measure it on images that
        # differ in their last bit, and allow three times that, at most a tenth.
        norms = []
        for seed in range(RUNS):
            noisy = pixels * (1 + 1e-7 * np.random.default_rng(seed).standard_normal(pixels.shape))
            captured = capture(model, torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(mask))
            norms.append(gradient_norms(model, losses_of(captured, people)[1], modules))
        noise = np.ptp(norms, axis=0) / np.mean(norms, axis=0)
        tolerance = np.clip(3 * noise, tolerance, 0.1)
        note = f"by the last bits of the images ours moves by {noise.max():.1%}"
    for i, module in enumerate(modules):
        wide = note if tolerance[i] > 1e-2 else ""
        yield fields.check(f"gradient_l2.{module}", ours[i], reference[i], rtol=float(tolerance[i]), note=wide)


def losses_of(captured: dict[str, Tensor], people: dict) -> tuple[dict[str, Tensor], Tensor]:
    """Losses by name and their total, with the published coefficients and our own assignment."""
    logits, pose = captured["logits"], captured["pose"]
    criterion = criterion_for((pose.shape[-1] - 2) // 3)
    pairs = hungarian(sum(criterion.cost(logits, pose, people).values()), people["counts"])
    named = named_losses(criterion.losses(logits, pose, people, pairs), logits, people, pairs)
    return named, weighted_total(named, criterion.coefficients)


def gradient_norms(model: nn.Module, total: Tensor, modules: list[str]) -> np.ndarray:
    """L2 norm of the gradient of `total` for every module, frozen parameters left out."""
    model.zero_grad()
    total.backward()
    squares = {
        name: p.grad.double().square().sum().item() for name, p in model.named_parameters() if p.grad is not None
    }
    return np.sqrt([sum(x for name, x in squares.items() if name.startswith(f"{module}.")) for module in modules])
