"""RTMO's network: `forward_*.npz`, `keys/*.json` and the model's share of `components.npz`.

Weights by rule `plain` under the published names, loaded the way a published file is; the images are BGR, so ours are
their mirror in colour. N grid cells, K keypoints.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, nms

from golden.report import Report
from golden.rules import plain_tensor
from posekit import models
from posekit.models import checkpoints
from posekit.models.checkpoints_rtmo import CONSTANTS, published_name
from posekit.models.coordinate_classifier import EXPAND, GatedAttentionUnit, encode_places, sine_periods
from posekit.models.hybrid_encoder import grid_position
from posekit.models.rtmo import grid_priors, survivors

TIGHT, PIXELS = 1e-4, 2e-3  # tolerances of network outputs (relative to the array's largest value) and of places in px
KEPT = ("x_bins", "y_bins")  # entries that the weight rule leaves as the model made them


def keys(file: Path, report: Report) -> None:
    """`keys/*.json`: every published entry has its place in our model, with its shape, and fills all of it."""
    rows = [(name, tuple(shape)) for name, shape in report.fields(file)["rows"]]
    shapes = dict(rows)
    model = build_for(file.stem, shapes["head.head_module.out_kpt_vis.0.bias"][0])
    ours = {published_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: shape for name, shape in shapes.items() if name not in CONSTANTS}
    report.equal(file, "names", sorted(ours.keys() ^ theirs.keys())[:3], [])
    report.equal(file, "shapes", [n for n in ours if theirs.get(n) != ours[n]][:3], [])
    report.equal(file, "constants", sorted(shapes.keys() - theirs.keys()), sorted(CONSTANTS), "not weights: left out")
    state = {name: torch.full(shape, 0.5) for name, shape in rows}
    checkpoints.load_weights(model, state)  # raises where an entry is missing, unknown or of another shape
    loaded = sum(bool((value == 0.5).all()) for value in model.state_dict().values() if value.is_floating_point())
    counters = sum(name.endswith("num_batches_tracked") for name in shapes)
    report.equal(file, "entries that arrived", loaded, len(rows) - len(CONSTANTS) - counters)


def forward(file: Path, report: Report) -> None:
    """One variant and size: features, raw outputs, decoded boxes and proxies, the classifier, the people."""
    arrays = report.arrays(file)
    meta = json.loads(str(arrays["meta.json"]))
    model = build_for(meta["variant"], arrays["kpt_vis_logit"].shape[1])
    checkpoints.load_weights(model, published(model, meta["weight_salt"], meta.get("gain", 1.0)))
    generator = np.random.Generator(np.random.PCG64(meta["image_seed"]))
    shape = tuple(arrays["input.shape"].tolist())
    report.equal(file, "height and width", [meta["height"], meta["width"]], list(shape[2:]))
    pixels = generator.uniform(0, 255, shape).astype(np.float32)
    check = Summaries(file, report, arrays)
    check("input", torch.from_numpy(pixels), 1e-6)
    with torch.inference_mode():
        seen = capture(model, torch.from_numpy(pixels).flip(1))
        outputs = seen["outputs"]
        for name in ("backbone.c3", "backbone.c4", "backbone.c5", "neck.input_proj2", "neck.pos_enc"):
            check(name, seen[name])
        for name in ("neck.encoder_out", "neck.p4", "neck.p5"):
            check(name, seen[name])
        _compare_outputs(file, report, arrays, check, seen)
        _compare_classifier(file, report, arrays, check, model, outputs)
        _compare_people(file, report, arrays, meta, model, outputs)


def components(file: Path, report: Report) -> None:
    """`components.npz`: position codes, gated attention unit, priors, suppression."""
    arrays = report.arrays(file)
    period = sine_periods(2 * arrays["spe1d.dim_t"].size)
    report.compare(file, "spe1d.dim_t", period, arrays["spe1d.dim_t"], rtol=1e-5)
    code = encode_places(torch.from_numpy(arrays["spe1d.position"]), period)
    report.compare(file, "spe1d.out", code, arrays["spe1d.out"], atol=2e-5, note="cosines of some hundred radians")
    h, w = arrays["spe2d.hw"].tolist()
    expected = arrays["spe2d.out"]
    report.compare(file, "spe2d.out", grid_position(h, w, expected.shape[-1])[None], expected, atol=1e-6)

    weight = {
        name: torch.from_numpy(arrays[f"gau.param.{name}"]) for name in ("gamma", "beta", "o.weight", "uv.weight")
    }
    weight["norm_scale"] = torch.from_numpy(arrays["gau.param.ln.g"])
    weight["res_scale"] = torch.from_numpy(arrays["gau.param.res_scale.scale"])
    dim, wide = weight["o.weight"].shape
    unit = GatedAttentionUnit(dim, weight["gamma"].shape[1], wide // dim)
    unit.load_state_dict(weight)
    with torch.inference_mode():
        out = unit(torch.from_numpy(arrays["gau.x"]), torch.from_numpy(arrays["gau.pos_enc"]))
    size = float(np.abs(arrays["gau.out"]).max())
    report.compare(file, "gau.out", out, arrays["gau.out"], atol=1e-6 * size)

    sizes = [tuple(size) for size in arrays["priors.hw"].tolist()]
    priors = grid_priors(sizes, [16 * 2**level for level in range(len(sizes))])
    report.compare(file, "priors.out", priors[:, [0, 1, 2, 2]], arrays["priors.out"])

    boxes, scores = (torch.from_numpy(arrays[f"nms.{name}"]) for name in ("boxes", "scores"))
    for name in [name for name in arrays if name.startswith("nms.keep_thr")]:
        kept = nms(boxes, scores, float(name.removeprefix("nms.keep_thr")))
        report.compare(file, name, kept, arrays[name])


HANDLERS = [("forward_*.npz", forward), ("*_keys.json", keys), ("components*.npz", components)]


class Summaries:
    """Compares a tensor with the entries `name.shape`, `.stats`, `.idx` and `.val` of a file."""

    def __init__(self, file: Path, report: Report, arrays) -> None:
        self.file, self.report, self.arrays = file, report, arrays

    def __call__(self, name: str, value: Tensor, tolerance: float = TIGHT) -> None:
        """`tolerance` is relative to the largest value of the tensor (the shape and the places are exact)."""
        file, report, arrays = self.file, self.report, self.arrays
        ours, expected = value.numpy().astype(np.float64), arrays[f"{name}.stats"]
        report.equal(file, f"{name}.shape", list(ours.shape), arrays[f"{name}.shape"].tolist())
        size = max(abs(float(expected[2])), abs(float(expected[3])))
        stats = [ours.mean(), ours.std(), ours.min(), ours.max(), np.abs(ours).sum()]
        scale = np.array([1, 1, 1, 1, ours.size]) * size
        report.compare(file, f"{name}.stats", stats, expected, atol=tolerance * scale)
        picked = ours.reshape(-1)[arrays[f"{name}.idx"]]
        report.compare(file, f"{name}.val", picked, arrays[f"{name}.val"], atol=tolerance * size)


def build_for(variant: str, num_keypoints: int) -> nn.Module:
    """The RTMO of a variant's name, for example `s`, `crowdpose_s` or `rtmo_r50_hypothesis_keys`, evaluation mode."""
    words = variant.split("_")
    size = next(word for word in words if word in ("t", "s", "m", "l", "r50"))
    return models.build(f"rtmo_{size}", num_keypoints=num_keypoints).eval()


def published(model: nn.Module, salt: str = "", gain: float = 1.0) -> dict[str, Tensor]:
    """A published state dict for the model, filled by rule `plain`; `gain` for entries of two and more dimensions."""
    state = {}
    for name, value in model.state_dict().items():
        key, shape = published_name(name), tuple(value.shape)
        if name.endswith(KEPT):
            state[key] = value
        else:
            tensor = torch.from_numpy(np.asarray(plain_tensor(key, shape, salt)))
            state[key] = tensor * gain if len(shape) >= 2 and gain != 1 else tensor
    return state


def capture(model: nn.Module, images: Tensor) -> dict:
    """The model's outputs and what passed through it on the way."""
    seen: dict = {}

    def keep(*names: str):
        def hook(module, inputs, out) -> None:
            seen.update(zip(names, out if isinstance(out, list) else [out], strict=True))

        return hook

    handles = [
        model.backbone.register_forward_hook(keep("backbone.c3", "backbone.c4", "backbone.c5")),
        model.neck.input_proj[2].register_forward_hook(keep("neck.input_proj2")),
        model.neck.encoder.register_forward_hook(keep("neck.encoder_out")),
        model.neck.encoder.register_forward_hook(
            lambda module, inputs, out: seen.update({"neck.pos_enc": inputs[1][None]})
        ),
        model.neck.register_forward_hook(keep("neck.p4", "neck.p5")),
        model.head.register_forward_hook(keep("raw")),
    ]
    try:
        seen["outputs"] = model(images, proxies=True)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _compare_outputs(file, report, arrays, check, seen) -> None:
    """What the head gives for every cell."""
    outputs, raw = seen["outputs"], seen["raw"]
    report.compare(file, "priors", outputs["priors"][:, [0, 1, 2, 2]], arrays["priors"])
    pairs = {
        "cls_logit": outputs["cls_logits"][0, :, None], "bbox_raw": outputs["box_raw"][0],
        "kpt_offset_raw": raw["kpt_reg"][0], "kpt_vis_logit": outputs["vis_logits"][0],
    }  # fmt: skip
    for name, ours in pairs.items():
        size = float(np.abs(arrays[name]).max())
        report.compare(file, name, ours, arrays[name], atol=TIGHT * max(size, 1.0))
    tokens = torch.from_numpy(arrays["pose_vec.token_idx"])
    size = float(np.abs(arrays["pose_vec.val"]).max())
    report.compare(file, "pose_vec.val", outputs["pose_features"][0, tokens], arrays["pose_vec.val"], atol=TIGHT * size)
    check("pose_vec_all", outputs["pose_features"])
    report.compare(file, "bbox_decoded", outputs["boxes"][0], arrays["bbox_decoded"], atol=PIXELS)
    report.compare(file, "kpt_reg_decoded", outputs["proxy_keypoints"][0], arrays["kpt_reg_decoded"], atol=PIXELS)


def _compare_classifier(file, report, arrays, check, model, outputs) -> None:
    """The classifier on a few cells step by step, on all cells, and on given features with sharp heatmaps."""
    module, places = model.classifier, outputs["priors"][:, :2]
    tokens = torch.from_numpy(arrays["dcc.token_idx"])
    features, boxes, grids = outputs["pose_features"][0, tokens], outputs["boxes"][0, tokens], places[tokens]
    center_size = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, EXPAND * (boxes[:, 2:] - boxes[:, :2])], 1)
    report.compare(file, "dcc.bbox_cs", center_size, arrays["dcc.bbox_cs"], atol=PIXELS)
    report.compare(file, "dcc.grids", grids, arrays["dcc.grids"])
    before = module.pose_to_kpts(features).unflatten(1, (model.num_keypoints, -1))
    check("dcc.kpt_feats_before_gau", before)
    check("dcc.kpt_feats_after_gau", module.keypoint_features(features))
    for axis, bins, layer in zip((0, 1), module.bins(boxes, grids), (module.x_fc, module.y_fc), strict=True):
        offsets = bins - grids[:, axis : axis + 1]
        check(f"dcc.{'xy'[axis]}_bin_enc", layer(encode_places(offsets, module.dim_t)))
        check(f"dcc.{'xy'[axis]}_logits", module.logits(module.keypoint_features(features), offsets, layer))
    _compare_people_of_cells(file, report, arrays, "dcc", module(features, boxes, grids))
    every = module(outputs["pose_features"][0], outputs["boxes"][0], places)["keypoints"]
    report.compare(file, "dcc.keypoints_all_tokens", every, arrays["dcc.keypoints_all_tokens"], atol=PIXELS)

    center, size = torch.from_numpy(arrays["dcc_sharp.bbox_cs"]).split(2, 1)
    half = size / EXPAND / 2
    boxes = torch.cat([center - half, center + half], 1)
    features, grids = (torch.from_numpy(arrays[f"dcc_sharp.{name}"]) for name in ("pose_vec", "grids"))
    sharp = module(features, boxes, grids)
    _compare_people_of_cells(file, report, arrays, "dcc_sharp", sharp)
    for axis in "xy":
        name = f"dcc_sharp.{axis}_heatmap0"
        report.compare(file, name, sharp[f"heatmap_{axis}"][0], arrays[name], atol=1e-4)


def _compare_people_of_cells(file, report, arrays, prefix, people) -> None:
    report.compare(file, f"{prefix}.keypoints", people["keypoints"], arrays[f"{prefix}.keypoints"], atol=PIXELS)
    report.compare(file, f"{prefix}.sigmas", people["sigmas"], arrays[f"{prefix}.sigmas"], atol=1e-6)
    for axis in "xy":
        name = f"{prefix}.{axis}_heatmap"
        if name in arrays:
            report.compare(file, name, people[f"heatmap_{axis}"], arrays[name], atol=1e-5)


def _compare_people(file, report, arrays, meta, model, outputs) -> None:
    """`decode` under the thresholds of each case; ours in COCO's frame, so half a pixel comes off."""
    height, width = meta["height"], meta["width"]
    settings = {"predict": (meta["score_thr"], meta["nms_thr"])}
    settings |= {"predict_thr0.5": (0.5, meta["nms_thr"]), "predict_nms0.1": (meta["score_thr"], 0.1)}
    cases = {name: value for name, value in settings.items() if f"{name}.scores" in arrays}
    for name, (threshold, iou) in cases.items():
        (people,) = model.decode(outputs, [(width, height)], score_threshold=threshold, nms_iou=iou, max_people=10**6)
        first, edge = len(arrays[f"{name}.keypoints"]), np.array([width, height] * 2, np.float32)
        report.compare(file, f"{name}.scores", people.scores, arrays[f"{name}.scores"], atol=1e-5)
        _, cells = survivors(outputs["cls_logits"].sigmoid(), outputs["boxes"], threshold, iou, 10**6)
        uncut = outputs["boxes"][0, cells].numpy()
        boxes = uncut.clip(0, edge)  # the reference cuts to its own frame, decode to COCO's
        report.compare(file, f"{name}.bboxes", boxes, arrays[f"{name}.bboxes"], atol=PIXELS)
        cut = (uncut + 0.5).clip(0, edge)
        report.compare(file, f"{name}.bboxes of decode", people.boxes, cut, note="half a pixel on, then cut")
        keypoints = people.keypoints[:first] - 0.5
        report.compare(file, f"{name}.keypoints", keypoints, arrays[f"{name}.keypoints"], atol=PIXELS)
        seen = arrays[f"{name}.keypoint_scores"]
        report.compare(file, f"{name}.keypoint_scores", people.visibility[:first], seen, atol=1e-5)
        _compare_margins(file, report, arrays, name, outputs, threshold, iou)
        if name == "predict":
            _compare_image_space(file, report, arrays, meta, boxes, keypoints)


def _compare_margins(file, report, arrays, name, outputs, threshold, iou) -> None:
    """How close scores and overlaps come to their thresholds: were they closer than our error, nothing would hold."""
    scores, boxes = outputs["cls_logits"][0].sigmoid(), outputs["boxes"][0]
    margin = (scores - threshold).abs().min()
    report.compare(file, f"{name}.min_score_margin", margin, arrays[f"{name}.min_score_margin"], atol=1e-5)
    candidates = boxes[scores > threshold]
    overlaps = box_iou(candidates, candidates)[*torch.triu_indices(len(candidates), len(candidates), 1)]
    margin = (overlaps - iou).abs().min()
    report.compare(file, f"{name}.min_iou_margin", margin, arrays[f"{name}.min_iou_margin"], atol=1e-5)


def _compare_image_space(file, report, arrays, meta, boxes, keypoints) -> None:
    """The reference's way back to the photograph (a centred letterbox, without half pixels)."""
    photo = arrays["image_space.ori_wh"].astype(np.float64)
    frame = np.array([meta["width"], meta["height"]], np.float64)
    center, scale = photo / 2, frame / min(frame / photo)
    report.compare(file, "image_space.input_center", center, arrays["image_space.input_center"], atol=1e-3)
    report.compare(file, "image_space.input_scale", scale, arrays["image_space.input_scale"], atol=1e-3)
    for name, points in (("bboxes", boxes.reshape(-1, 2, 2)), ("keypoints", keypoints)):
        expected = arrays[f"image_space.{name}"]
        ours = (points / frame * scale + center - scale / 2)[: len(expected)].reshape(expected.shape)
        report.compare(file, f"image_space.{name}", ours, expected, atol=PIXELS * max(scale / frame))
