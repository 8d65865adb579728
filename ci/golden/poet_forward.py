"""POET's forward pass, losses and gradient norms: `forward_*.npz`, `forward_*.json`, `forward_targets_*.npz`.

B images, Q queries, L decoder layers, C channels.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golden.poet_losses import compare_named, criterion_for, named_losses, pack, weighted_total
from golden.poet_model import build_for, fill, options_of
from golden.report import Report
from golden.rules import images
from posekit.losses.matching import hungarian

# Suggested by the golden files: largest absolute difference of the outputs under each weight rule
OUTPUT = {"plain": 1e-5, "spread": 1e-3}
# The summaries of whole tensors: name in the json -> name of the capture
STAGES = {
    "feature": "feature",
    "position": "position",
    "projected": "projected",
    "memory": "memory",
    "decoder_stack": "states",
}
RUNS = 3  # float32 runs that measure how certain a gradient is


def forward(file: Path, report: Report) -> None:
    """One variant: outputs of all layers, what lies between, parameter counts, losses, gradient norms."""
    name = file.stem.removeprefix("forward_").removeprefix("targets_")
    arrays_file, fields_file = file.with_name(f"forward_{name}.npz"), file.with_name(f"forward_{name}.json")
    if not (report.has(arrays_file) and report.has(fields_file)):
        report.fail(file, "replay", f"{arrays_file.name} and {fields_file.name} belong together; one is missing")
        return
    arrays, fields = report.arrays(arrays_file), report.fields(fields_file)
    report.equal(fields_file, "variant", name, fields["variant"])
    rule, tolerance = fields["weight_rule"], OUTPUT.get(fields["weight_rule"], 1e-3)
    pixels, mask = _inputs(arrays_file, fields_file, report, arrays, fields)
    model = build_for(_options(name, report, arrays), dilate_last=fields["dilation5"])
    report.equal(fields_file, "num_queries", arrays["pred_logits"].shape[2], fields["num_queries"])
    fill(model, rule)
    parameters = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    report.equal(fields_file, "params_total", sum(n for n, _ in parameters), fields["params_total"])
    trained = sum(n for n, trains in parameters if trains)
    report.equal(fields_file, "params_trainable", trained, fields["params_trainable"])

    captured = capture(model, torch.from_numpy(pixels), torch.from_numpy(mask))
    _compare_arrays(arrays_file, report, arrays, captured, tolerance)
    _compare_summaries(fields_file, report, fields, captured, tolerance)
    targets_file = file.with_name(f"forward_targets_{name}.npz")
    if report.has(targets_file):
        _compare_losses(targets_file, fields_file, report, fields, model, captured, pixels, mask)
    elif "losses" in fields:
        report.fail(fields_file, "losses", f"{targets_file.name} is missing")
    model.double()
    captured = capture(model, torch.from_numpy(pixels).double(), torch.from_numpy(mask))
    for ours, theirs in (("logits", "pred_logits"), ("pose", "pred_kpts")):
        exact = fields["float64_max_abs_diff"][theirs]
        distance = np.abs(captured[ours].detach().numpy() - arrays[theirs]).max()
        ratio = max(distance, 1e-7) / max(exact, 1e-7)
        report.at_most(
            fields_file,
            f"float64_max_abs_diff.{theirs}",
            max(ratio, 1 / ratio),
            3.0,
            "ratio: our float64 run is as far from the reference's float32 as its own was",
        )


def capture(model: nn.Module, pixels: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The model's outputs and what passed through it on the way (feature maps as (B, C, h, w))."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.backbone.register_forward_hook(lambda module, inputs, out: seen.update(feature=out)),
        model.input_proj.register_forward_hook(lambda module, inputs, out: seen.update(projected=out)),
    ]
    encode, decode = model.transformer.encode, model.transformer.decode

    def spy_encode(tokens, position, attends, *rest):
        memory, maps = encode(tokens, position, attends, *rest)
        seen.update(position=position, memory=memory, attends=attends)
        return memory, maps

    def spy_decode(*inputs):
        states, maps = decode(*inputs)
        seen.update(states=states)
        return states, maps

    model.transformer.encode, model.transformer.decode = spy_encode, spy_decode
    try:
        outputs = model(pixels, mask)
    finally:
        del model.transformer.encode, model.transformer.decode  # the class's own methods come back
        for handle in handles:
            handle.remove()
    h, w = seen["feature"].shape[-2:]
    for name in ("position", "memory"):
        seen[name] = seen[name].transpose(1, 2).unflatten(2, (h, w))
    seen["mask"] = ~seen.pop("attends").reshape(-1, h, w)
    return seen | {"logits": outputs["logits"], "pose": outputs["pose"]}


def _inputs(arrays_file, fields_file, report, arrays, fields) -> tuple[np.ndarray, np.ndarray]:
    """Images and padding mask by rule, with the file's own checks of them."""
    valid = arrays["valid_hw"].tolist()
    report.equal(arrays_file, "valid_hw", valid, fields["valid_hw"])
    pixels, mask = images(fields["image_rule"], fields["image_seed"], fields["shape"], valid)
    report.equal(fields_file, "image_crc32", zlib.crc32(pixels.astype("<f4").tobytes()), fields["image_crc32"])
    report.compare(fields_file, "image_first5", pixels.ravel()[:5], fields["image_first5"], atol=1e-6)
    return pixels, mask


def _options(name: str, report: Report, arrays) -> dict[str, int]:
    """The model's size: from the outputs, and what they do not show from the key list of the same variant."""
    decoder_layers, _, queries, _ = arrays["pred_logits"].shape
    options = {}
    lists = [path for path in report.folder.glob("keys_*.json") if name.startswith(path.stem.removeprefix("keys_"))]
    if lists:
        longest = max(lists, key=lambda path: len(path.stem))
        rows = report.fields(longest.relative_to(report.folder))["rows"]
        options = options_of({key: tuple(shape) for key, shape in rows})
    return options | {
        "num_queries": queries,
        "decoder_layers": decoder_layers,
        "num_keypoints": (arrays["pred_kpts"].shape[-1] - 2) // 3,
    }


def _compare_arrays(file, report, arrays, captured, tolerance) -> None:
    """Everything in the .npz."""
    kept = {name: value.detach().numpy() for name, value in captured.items()}
    report.compare(file, "pred_logits", kept["logits"], arrays["pred_logits"], atol=tolerance)
    report.compare(file, "pred_kpts", kept["pose"], arrays["pred_kpts"], atol=tolerance)
    report.compare(file, "feature_mask", kept["mask"], arrays["feature_mask"])
    for name, ours in (
        ("feature_every_64th", kept["feature"][:, ::64]),
        ("proj_every_16th", kept["projected"][:, ::16]),
    ):
        largest = float(np.abs(arrays[name]).max(initial=1.0))  # not normalised: the tolerance goes by their size
        report.compare(file, name, ours, arrays[name], atol=1e-5 * largest)
    position = np.broadcast_to(kept["position"], kept["memory"].shape)
    report.compare(file, "pos_every_16th", position[:, ::16], arrays["pos_every_16th"], atol=1e-6)
    report.compare(file, "memory_every_16th", kept["memory"][:, ::16], arrays["memory_every_16th"], atol=tolerance)
    report.compare(file, "hs_last_every_4th", kept["states"][-1][..., ::4], arrays["hs_last_every_4th"], atol=tolerance)


def _compare_summaries(file, report, fields, captured, tolerance) -> None:
    """Shape, mean, spread and size of whole tensors, and how different images and queries come out."""
    for stage, name in STAGES.items():
        summary, value = fields[stage], captured[name].detach().numpy().astype(np.float64)
        if stage == "position":
            value = np.broadcast_to(value, captured["memory"].shape)
        report.equal(file, f"{stage}.shape", list(value.shape), summary["shape"])
        ours = {"mean": value.mean(), "std": value.std(ddof=1), "min": value.min(), "max": value.max()}
        limit = 1e-6 if stage == "position" else tolerance / 10 * max(1.0, np.abs(value).max())
        for key in ours:
            report.compare(file, f"{stage}.{key}", ours[key], summary[key], atol=limit)
        report.compare(file, f"{stage}.abs_sum", np.abs(value).sum(), summary["abs_sum"], rtol=tolerance)
    pose = captured["pose"].detach().numpy().astype(np.float64)[-1]
    if "mean_abs_diff_between_images" in fields:
        report.compare(
            file,
            "mean_abs_diff_between_images",
            np.abs(pose[0] - pose[1]).mean(),
            fields["mean_abs_diff_between_images"],
            atol=tolerance / 10,
        )
    if "mean_std_between_queries" in fields:
        report.compare(
            file,
            "mean_std_between_queries",
            pose[0].std(0).mean(),
            fields["mean_std_between_queries"],
            atol=tolerance / 10,
        )


def _compare_losses(targets_file, fields_file, report, fields, model, captured, pixels, mask) -> None:
    """Losses of all layers, their total and the gradient norm of every module."""
    arrays = report.arrays(targets_file)
    vectors, counts = arrays["targets"], arrays["n_persons"]
    labels = arrays["labels"] if "labels" in arrays else np.ones(len(vectors), np.int64)
    people = pack(vectors, labels, counts)
    report.equal(
        targets_file,
        "persons",
        len(vectors),
        int(counts.sum()),
        f"drawn with seed {fields['target_seed']}; the losses in {fields_file.name} are theirs",
    )
    named, total = _losses(captured, people)
    compare_named(fields_file, report, named, fields["losses"], rtol=1e-3)
    report.compare(fields_file, "total", total.item(), fields["total"], rtol=1e-3)
    ours, reference = (
        _gradient_norms(model, total, fields["gradient_l2"]),
        np.array([*fields["gradient_l2"].values()]),
    )
    tolerance, note = np.full(len(reference), 1e-2), ""
    if (np.abs(ours / reference - 1) > tolerance).any():
        # Deep in the network a float32 gradient can be less certain than a percent: measure it on images that
        # differ in their last bit, and allow three times that, at most a tenth.
        noise = _gradient_noise(model, people, pixels, mask, fields["gradient_l2"])
        tolerance = np.clip(3 * noise, tolerance, 0.1)
        note = f"by the last bits of the images ours moves by {noise.max():.1%}"
    for i, module in enumerate(fields["gradient_l2"]):
        report.compare(
            fields_file,
            f"gradient_l2.{module}",
            ours[i],
            reference[i],
            rtol=tolerance[i],
            note=note if tolerance[i] > 1e-2 else "",
        )


def _losses(captured: dict[str, Tensor], people: dict) -> tuple[dict[str, Tensor], Tensor]:
    """Losses by name and their total, with the published coefficients and our own assignment."""
    logits, pose = captured["logits"], captured["pose"]
    criterion = criterion_for((pose.shape[-1] - 2) // 3)
    pairs = hungarian(sum(criterion.cost(logits, pose, people).values()), people["counts"])
    named = named_losses(criterion.losses(logits, pose, people, pairs), logits, people, pairs)
    return named, weighted_total(named, criterion.coefficients)


def _gradient_norms(model: nn.Module, total: Tensor, modules) -> np.ndarray:
    """L2 norm of the gradient of `total` for every module, frozen parameters left out."""
    model.zero_grad()
    total.backward()
    return np.array(
        [
            np.sqrt(
                sum(
                    parameter.grad.double().square().sum().item()
                    for name, parameter in model.named_parameters()
                    if name.startswith(module + ".") and parameter.grad is not None
                )
            )
            for module in modules
        ]
    )


def _gradient_noise(model: nn.Module, people: dict, pixels: np.ndarray, mask: np.ndarray, modules) -> np.ndarray:
    """Largest relative distance of two float32 runs on images that differ in their last bits, per module."""
    norms = []
    for seed in range(RUNS):
        wobble = 1 + 1e-7 * np.random.default_rng(seed).standard_normal(pixels.shape)
        captured = capture(model, torch.from_numpy((pixels * wobble).astype(np.float32)), torch.from_numpy(mask))
        norms.append(_gradient_norms(model, _losses(captured, people)[1], modules))
    return np.ptp(norms, axis=0) / np.mean(norms, axis=0)
