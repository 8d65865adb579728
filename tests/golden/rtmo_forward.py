"""RTMO's network: `forward_*.npz`, `keys/*.json` and the model's share of `components.npz`.

Weights by rule `plain` under the published names, loaded the way a published file is; the images are BGR, so ours are
their mirror in colour. N grid cells, K keypoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from golden.checks import Check, Directory, Entries
from golden.rules import hooked, plain_tensor
from posekit import models
from posekit.models import checkpoints
from posekit.models.checkpoints_rtmo import CONSTANTS, published_name
from posekit.models.coordinate_classifier import EXPAND, GatedAttentionUnit, encode_places, sine_periods
from posekit.models.rtmo import grid_priors, survivors
from posekit.models.rtmo_pyramid import grid_position

OUTPUT, PIXELS = 1e-4, 2e-3  # tolerances of network outputs (of the array's largest value) and of positions in px
KEPT = ("x_bins", "y_bins")  # entries that the weight rule leaves as the model made them


def keys(file: Path, directory: Directory) -> Iterator[Check]:
    """`keys/*.json`: every published entry has its place in our model, with its shape, and fills all of it."""
    known = directory.open(file)
    shapes = {name: tuple(shape) for name, shape in known["rows"]}
    model = build_for(file.stem, shapes["head.head_module.out_kpt_vis.0.bias"][0])
    ours = {published_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: shape for name, shape in shapes.items() if name not in CONSTANTS}
    yield known.equal("names", sorted(ours.keys() ^ theirs.keys())[:3], [])
    yield known.equal("shapes", [name for name in ours if theirs.get(name) != ours[name]][:3], [])
    constants = sorted(shapes.keys() - theirs.keys())
    yield known.equal("constants", constants, sorted(CONSTANTS), "not weights: left out")
    state = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    checkpoints.load_weights(model, state)  # raises where an entry is missing, unknown or of another shape
    loaded = sum(bool((value == 0.5).all()) for value in model.state_dict().values() if value.is_floating_point())
    counters = sum(name.endswith("num_batches_tracked") for name in shapes)
    yield known.equal("entries that arrived", loaded, len(shapes) - len(CONSTANTS) - counters)


def forward(file: Path, directory: Directory) -> Iterator[Check]:
    """One variant and size: features, raw outputs, decoded boxes and proxies, the classifier, the people."""
    known = directory.open(file)
    meta = json.loads(str(known["meta.json"]))
    model = filled(meta, known["kpt_vis_logit"].shape[1])
    shape = tuple(known["input.shape"].tolist())
    yield known.equal("height and width", [meta["height"], meta["width"]], list(shape[2:]))
    pixels = pixels_for(meta, shape)
    yield from check_summary(known, "input", torch.from_numpy(pixels), 1e-6)
    with torch.inference_mode():
        seen = capture(model, torch.from_numpy(pixels).flip(1))
        for name in [name for name in seen if "." in name]:
            yield from check_summary(known, name, seen[name])
        yield from _check_outputs(known, seen)
        yield from _check_classifier(known, model, seen["outputs"])
        yield from _check_people(known, meta, model, seen["outputs"])


def components(file: Path, directory: Directory) -> Iterator[Check]:
    """`components.npz`: position codes, gated attention unit, priors, suppression."""
    known = directory.open(file)
    period = sine_periods(2 * known["spe1d.dim_t"].size)
    yield known.check("spe1d.dim_t", period, rtol=1e-5)
    code = encode_places(torch.from_numpy(known["spe1d.position"]), period)
    yield known.check("spe1d.out", code, atol=2e-5, note="cosines of some hundred radians")
    h, w = known["spe2d.hw"].tolist()
    yield known.check("spe2d.out", grid_position(h, w, known["spe2d.out"].shape[-1])[None], atol=1e-6)

    names = {name: name for name in ("gamma", "beta", "o.weight", "uv.weight")}
    names |= {"norm_scale": "ln.g", "res_scale": "res_scale.scale"}
    weight = {ours: torch.from_numpy(known[f"gau.param.{theirs}"]) for ours, theirs in names.items()}
    dim, wide = weight["o.weight"].shape
    unit = GatedAttentionUnit(dim, weight["gamma"].shape[1], wide // dim)
    unit.load_state_dict(weight)
    with torch.inference_mode():
        out = unit(torch.from_numpy(known["gau.x"]), torch.from_numpy(known["gau.pos_enc"]))
    yield known.check("gau.out", out, atol=1e-6 * largest(known["gau.out"]))

    sizes = [tuple(size) for size in known["priors.hw"].tolist()]
    priors = grid_priors(sizes, [16 * 2**level for level in range(len(sizes))])
    yield known.check("priors.out", priors[:, [0, 1, 2, 2]])

    boxes, scores = (torch.from_numpy(known[f"nms.{name}"]) for name in ("boxes", "scores"))
    for name in [name for name in known if name.startswith("nms.keep_thr")]:
        yield known.check(name, nms(boxes, scores, float(name.removeprefix("nms.keep_thr"))))


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def check_summary(known: Entries, name: str, value: Tensor, tolerance: float = OUTPUT) -> Iterator[Check]:
    """A tensor against the entries `name.shape`, `.stats`, `.idx` and `.val`.

    `tolerance` is relative to the largest value of the tensor (the shape is exact).
    """
    ours, expected = value.numpy().astype(np.float64), known.get(f"{name}.stats")
    if expected is None:
        yield known.check(f"{name}.stats", ours)
        return
    yield known.equal(f"{name}.shape", list(ours.shape), known[f"{name}.shape"].tolist())
    size = max(abs(float(expected[2])), abs(float(expected[3])))
    stats = [ours.mean(), ours.std(), ours.min(), ours.max(), np.abs(ours).sum()]
    yield known.check(f"{name}.stats", stats, atol=tolerance * size * np.array([1, 1, 1, 1, ours.size]))
    yield known.check(f"{name}.val", ours.reshape(-1)[known[f"{name}.idx"]], atol=tolerance * size)


def build_for(variant: str, num_keypoints: int) -> nn.Module:
    """The RTMO of a variant's name, for example `s`, `crowdpose_s` or `rtmo_r50_hypothesis_keys`, evaluation mode."""
    size = next(word for word in variant.split("_") if word in ("t", "s", "m", "l", "r50"))
    return models.build(f"rtmo_{size}", num_keypoints=num_keypoints).eval()


def filled(meta: dict, num_keypoints: int) -> nn.Module:
    """The model that a file's `meta.json` describes, with its weights."""
    model = build_for(meta["variant"], num_keypoints)
    checkpoints.load_weights(model, published(model, meta["weight_salt"], meta.get("gain", 1.0)))
    return model


def pixels_for(meta: dict, shape: tuple[int, ...]) -> np.ndarray:
    """The images (B, 3, H, W), BGR, that a file's `meta.json` describes."""
    return np.random.Generator(np.random.PCG64(meta["image_seed"])).uniform(0, 255, shape).astype(np.float32)


def published(model: nn.Module, salt: str = "", gain: float = 1.0) -> dict[str, Tensor]:
    """A published state dict for the model, filled by rule `plain`; `gain` for entries of two and more dimensions."""
    state = {published_name(name): value for name, value in model.state_dict().items()}
    for key, value in state.items():
        if not key.endswith(KEPT):
            tensor = torch.from_numpy(np.asarray(plain_tensor(key, tuple(value.shape), salt)))
            state[key] = tensor * gain if value.ndim >= 2 and gain != 1 else tensor
    return state


def capture(model: nn.Module, images: Tensor) -> dict:
    """The model's outputs and its intermediate tensors."""
    seen: dict = {}

    def keep(*names: str):
        def hook(inputs, options, out) -> None:
            seen.update(zip(names, out if isinstance(out, list) else [out], strict=True))

        return hook

    def keep_encoder(inputs, options, out) -> None:
        dim, h, w = out.shape[1:]
        seen.update({"neck.pos_enc": grid_position(h, w, dim)[None], "neck.encoder_out": out.flatten(2).mT})

    hooks = {
        model.backbone: keep("backbone.c3", "backbone.c4", "backbone.c5"),
        model.neck.input_proj[2]: keep("neck.input_proj2"),
        model.neck.encoder: keep_encoder,
        model.neck: keep("neck.p4", "neck.p5"),
        model.head: keep("raw"),
    }
    with hooked(hooks):
        seen["outputs"] = model(images, proxies=True)
    return seen


def _check_outputs(known: Entries, seen: dict) -> Iterator[Check]:
    """What the head gives for every cell."""
    outputs = seen["outputs"]
    yield known.check("priors", outputs["priors"][:, [0, 1, 2, 2]])
    pairs = {
        "cls_logit": outputs["cls_logits"][0, :, None],
        "bbox_raw": outputs["box_raw"][0],
        "kpt_offset_raw": seen["raw"]["kpt_reg"][0],
        "kpt_vis_logit": outputs["vis_logits"][0],
    }
    for name, ours in pairs.items():
        yield known.check(name, ours, atol=OUTPUT * max(largest(known.get(name, ours)), 1.0))
    features = outputs["pose_features"]
    picked = features[0, torch.from_numpy(known["pose_vec.token_idx"])]
    yield known.check("pose_vec.val", picked, atol=OUTPUT * largest(known["pose_vec.val"]))
    yield from check_summary(known, "pose_vec_all", features)
    yield known.check("bbox_decoded", outputs["boxes"][0], atol=PIXELS)
    yield known.check("kpt_reg_decoded", outputs["proxy_keypoints"][0], atol=PIXELS)


def _check_classifier(known: Entries, model: nn.Module, outputs: dict) -> Iterator[Check]:
    """The classifier on a few cells step by step, on all cells, and on given features with sharp heatmaps."""
    module, places = model.classifier, outputs["priors"][:, :2]
    tokens = torch.from_numpy(known["dcc.token_idx"])
    features, boxes, grids = outputs["pose_features"][0, tokens], outputs["boxes"][0, tokens], places[tokens]
    center_size = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, EXPAND * (boxes[:, 2:] - boxes[:, :2])], 1)
    yield known.check("dcc.bbox_cs", center_size, atol=PIXELS)
    yield known.check("dcc.grids", grids)
    before, after = module.pose_to_kpts(features), module.keypoint_features(features)
    yield from check_summary(known, "dcc.kpt_feats_before_gau", before.unflatten(1, (model.num_keypoints, -1)))
    yield from check_summary(known, "dcc.kpt_feats_after_gau", after)
    for axis, bins, layer in zip((0, 1), module.bins(boxes, grids), (module.x_fc, module.y_fc), strict=True):
        offsets = bins - grids[:, axis : axis + 1]
        encoded = layer(encode_places(offsets, module.dim_t))
        yield from check_summary(known, f"dcc.{'xy'[axis]}_bin_enc", encoded)
        yield from check_summary(known, f"dcc.{'xy'[axis]}_logits", module.logits(after, offsets, layer))
    yield from _check_decoded(known, "dcc", module(features, boxes, grids))
    every = module(outputs["pose_features"][0], outputs["boxes"][0], places)["keypoints"]
    yield known.check("dcc.keypoints_all_tokens", every, atol=PIXELS)

    if "dcc_sharp.pose_vec" in known:
        center, size = torch.from_numpy(known["dcc_sharp.bbox_cs"]).split(2, 1)
        half = size / EXPAND / 2
        features, grids = (torch.from_numpy(known[f"dcc_sharp.{name}"]) for name in ("pose_vec", "grids"))
        sharp = module(features, torch.cat([center - half, center + half], 1), grids)
        yield from _check_decoded(known, "dcc_sharp", sharp)
        for axis in "xy":
            yield known.check(f"dcc_sharp.{axis}_heatmap0", sharp[f"heatmap_{axis}"][0], atol=1e-4)


def _check_decoded(known: Entries, prefix: str, people: dict) -> Iterator[Check]:
    yield known.check(f"{prefix}.keypoints", people["keypoints"], atol=PIXELS)
    yield known.check(f"{prefix}.sigmas", people["sigmas"], atol=1e-6)
    for axis in "xy":
        if f"{prefix}.{axis}_heatmap" in known:
            yield known.check(f"{prefix}.{axis}_heatmap", people[f"heatmap_{axis}"], atol=1e-5)


def _check_people(known: Entries, meta: dict, model: nn.Module, outputs: dict) -> Iterator[Check]:
    """`decode` under the thresholds of each case; ours in COCO's frame, so half a pixel comes off."""
    edge = np.array([meta["width"], meta["height"]] * 2, np.float32)
    for name in [entry.removesuffix(".scores") for entry in known if re.match(r"predict\S*\.scores", entry)]:
        threshold, iou = (
            float(name.split(key)[1]) if key in name else meta[default]
            for key, default in (("_thr", "score_thr"), ("_nms", "nms_thr"))
        )
        size = (meta["width"], meta["height"])
        (people,) = model.decode(outputs, [size], score_threshold=threshold, nms_iou=iou, max_people=10**6)
        first = len(known[f"{name}.keypoints"])
        yield known.check(f"{name}.scores", people.scores, atol=1e-5)
        _, cells = survivors(outputs["cls_logits"].sigmoid(), outputs["boxes"], threshold, iou, 10**6)
        uncut = outputs["boxes"][0, cells].numpy()
        boxes = uncut.clip(0, edge)  # the reference cuts to its own frame, decode to COCO's
        yield known.check(f"{name}.bboxes", boxes, atol=PIXELS)
        cut = (uncut + 0.5).clip(0, edge)
        yield known.check(f"{name}.bboxes of decode", people.boxes, cut, note="half a pixel on, then cut")
        keypoints = people.keypoints[:first] - 0.5
        yield known.check(f"{name}.keypoints", keypoints, atol=PIXELS)
        yield known.check(f"{name}.keypoint_scores", people.visibility[:first], atol=1e-5)
        # Margins: were scores and overlaps closer to their thresholds than our error, the selection would not hold.
        scores = outputs["cls_logits"][0].sigmoid()
        yield known.check(f"{name}.min_score_margin", (scores - threshold).abs().min(), atol=1e-5)
        candidates = outputs["boxes"][0, scores > threshold]
        overlaps = box_iou(candidates, candidates)[*torch.triu_indices(len(candidates), len(candidates), 1)]
        yield known.check(f"{name}.min_iou_margin", (overlaps - iou).abs().min(), atol=1e-5)
        if name == "predict":
            yield from _check_image_space(known, edge[:2].astype(np.float64), boxes, keypoints)


def _check_image_space(known: Entries, frame: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray) -> Iterator[Check]:
    """The reference's way back to the photograph (a centred letterbox, without half pixels)."""
    if "image_space.ori_wh" not in known:
        return
    photo = known["image_space.ori_wh"].astype(np.float64)
    center, scale = photo / 2, frame / min(frame / photo)
    yield known.check("image_space.input_center", center, atol=1e-3)
    yield known.check("image_space.input_scale", scale, atol=1e-3)
    for name, points in (("bboxes", boxes.reshape(-1, 2, 2)), ("keypoints", keypoints)):
        expected = known[f"image_space.{name}"]
        ours = (points / frame * scale + center - scale / 2)[: len(expected)].reshape(expected.shape)
        yield known.check(f"image_space.{name}", ours, atol=PIXELS * max(scale / frame))
