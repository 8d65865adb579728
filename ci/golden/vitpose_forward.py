"""ViTPose's network on golden files: names and sizes, forward passes, attention variants, resampled positions.

Weights by rule `plain` under the names of whoever ran the reference: the authors' (`pub_*`) or transformers' (`hf_*`),
and loaded the way such a file is. `manifest.json` says what was run.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golden.report import Report
from golden.rules import plain_tensor
from posekit.layouts import COCO
from posekit.models import checkpoints
from posekit.models.checkpoints_vitpose import published_names
from posekit.models.vit import ViT, resample_positions
from posekit.models.vitpose import flip_test, vitpose
from posekit.models.windows import Attention

OUTPUT = 2e-5  # suggested by the golden files: largest absolute difference of features and heatmaps
MANIFEST = Path("manifest.json")
# Our names as transformers spells them; a query, key and value there are one tensor here
SPELLED = (
    (r"^backbone\.pos_embed$", "backbone.embeddings.position_embeddings"),
    (r"^backbone\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"^backbone\.blocks\.", "backbone.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"^backbone\.last_norm\.", "backbone.layernorm."),
    (r"^keypoint_head\.deconv_layers\.0\.", "head.deconv1."),
    (r"^keypoint_head\.deconv_layers\.1\.", "head.batchnorm1."),
    (r"^keypoint_head\.deconv_layers\.3\.", "head.deconv2."),
    (r"^keypoint_head\.deconv_layers\.4\.", "head.batchnorm2."),
    (r"^keypoint_head\.final_layer\.", "head.conv."),
)


def hugging_face_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes that transformers' model of this size has."""
    result = {}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        for pattern, new in SPELLED:
            name = re.sub(pattern, new, name)
        if ".attn.qkv." in name:
            stem, kind = name.split("attn.qkv.")
            for part in ("query", "key", "value"):
                result[f"{stem}attention.attention.{part}.{kind}"] = (shape[0] // 3, *shape[1:])
        else:
            result[name] = shape
    return result


def by_rule(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Rule `plain` for a list of names and shapes."""
    return {name: torch.from_numpy(np.asarray(plain_tensor(name, shape))) for name, shape in shapes.items()}


def normal(seed: int, shape: list[int], dtype=np.float32) -> Tensor:
    """The inputs of the golden files."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape), dtype=dtype))


def keys(file: Path, report: Report) -> None:
    """`keys.json`: parameters and names of all sizes and both decoders, transformers' and the authors'."""
    table = report.fields(file)
    for name in [name for name in table if re.fullmatch(r"(small|base|large|huge)_(classic|simple)", name)]:
        size, decoder = name.split("_")
        with torch.device("meta"):
            model = vitpose(size[0], decoder=decoder)
        theirs = table[name]
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        shapes = hugging_face_shapes(model)
        report.equal(file, f"{name} parameters", trained, theirs["n_params"])
        report.equal(file, f"{name} number of entries", len(shapes), theirs["n_keys"])
        if "keys" in theirs:
            expected = {key: tuple(shape) for key, shape in theirs["keys"].items()}
            report.equal(file, f"{name} names and shapes", _differing(shapes, expected), [], "transformers'")
            with torch.device("meta"):
                short = vitpose(size[0], decoder=decoder, depth=1)
            ours = {key: tuple(value.shape) for key, value in short.state_dict().items()}
            expected = {key: tuple(shape) for key, shape in theirs["published_keys_one_block"].items()}
            report.equal(file, f"{name} published names and shapes", _differing(ours, expected), [], "the authors'")
    if "moe_small_one_layer" in table:
        with torch.device("meta"):
            model = vitpose("s", depth=1, experts=6)
        expected = {key: tuple(shape) for key, shape in table["moe_small_one_layer"].items()}
        differ = _differing(hugging_face_shapes(model), expected)
        report.equal(file, "moe_small_one_layer names and shapes", differ, [])


def manifest(file: Path, report: Report) -> None:
    """`manifest.json`: every case that it describes has a file here, and no other option than those we know."""
    cases = report.fields(file)
    known = {
        "hidden", "embed_dim", "layers", "depth", "heads", "num_heads", "simple", "experts", "part", "ratio",
        "input_seed", "input_shape", "layer_norm_eps", "dataset_index", "state_dict",
        "dim", "H", "W", "window", "shift", "stored", "keys",
    }  # fmt: skip
    for name in cases:
        report.equal(file, f"{name} has its file", report.has(file.with_name(f"{name}.npz")), True)
        report.equal(file, f"{name} options", sorted(cases[name].keys() - known), [])


def forward(file: Path, report: Report) -> None:
    """`hf_*.npz`, `pub_*.npz`: heatmaps, features (`_features`) or the flip test (`_flipmerge`) of one case."""
    name, kind = re.fullmatch(r"(.*?)(_features|_flipmerge|)", file.stem).groups()
    case = report.fields(file.with_name(MANIFEST.name))[name]
    model, images = _model(name, _frozen(case))
    index = case.get("dataset_index")
    dataset = 0 if index is None else torch.tensor(index)
    with torch.inference_mode():
        if isinstance(model, ViT):
            ours = model(images)
        elif kind == "_features":
            tokens, grid = model.backbone.embed(images)
            ours = model.backbone.encode(tokens, grid, dataset).transpose(1, 2)[..., None]
        elif kind == "_flipmerge":
            ours = flip_test(model, images, COCO.flip, dataset)["heatmaps"]
        else:
            ours = model(images, dataset=dataset)["heatmaps"]
    _compare(file, report, report.arrays(file), ours.numpy())


def attention(file: Path, report: Report) -> None:
    """`attn_variants.npz`: full, windowed, shifted and pooled attention, in float64."""
    arrays, case = report.arrays(file), report.fields(file.with_name(MANIFEST.name))[file.stem]
    grid, window, shift = (case["H"], case["W"]), tuple(case["window"]), tuple(case["shift"])
    cells = grid[0] * grid[1]
    tokens = normal(case["input_seed"], [1, cells, case["dim"]]).double()
    none = (0, 0)
    variants = {
        "full": (None, none, False), "window": (window, none, False), "shift": (window, shift, False),
        "window_pool": (window, none, True), "shift_pool": (window, shift, True),
    }  # fmt: skip
    for name, options in variants.items():
        module = Attention(case["dim"], case["heads"], *options)
        report.equal(file, f"{name} names", [f"attn.{key}" for key in module.state_dict()], case["keys"])
        shapes = {f"attn.{key}": tuple(value.shape) for key, value in module.state_dict().items()}
        module.load_state_dict({key.removeprefix("attn."): value for key, value in by_rule(shapes).items()})
        with torch.inference_mode():
            ours = module.double()(tokens, grid)[0, :: cells // len(arrays[name])]
        report.compare(file, name, ours, arrays[name], atol=2e-6, note="float64 against stored float32")


def positions(file: Path, report: Report) -> None:
    """`pos_resample.npz`: the table of a 14 x 14 grid, seed 3, for 16 x 12."""
    expected = report.arrays(file)["value"]
    table = normal(3, [1, 197, expected.shape[-1]])
    report.compare(file, "value", resample_positions(table, (14, 14), (16, 12)), expected, atol=1e-6)


HANDLERS = [
    ("manifest.json", manifest),
    ("keys.json", keys),
    ("hf_*.npz", forward),
    ("pub_base*.npz", forward),
    ("pub_stride*.npz", forward),
    ("attn_variants.npz", attention),
    ("pos_resample.npz", positions),
]


@lru_cache(maxsize=4)
def _model(name: str, case: tuple) -> tuple[nn.Module, Tensor]:
    """The case's network with its weights, and its images."""
    case = dict(case)
    images = normal(case["input_seed"], case["input_shape"])
    if "ratio" in case:  # a backbone alone, its names without prefix
        model = ViT(case["embed_dim"], case["depth"], case["num_heads"], ratio=case["ratio"])
        model.load_state_dict(by_rule({key: tuple(value.shape) for key, value in model.state_dict().items()}))
        return model.eval(), images
    options = {
        "dim": case.get("hidden") or case["embed_dim"], "depth": case.get("layers") or case["depth"],
        "heads": case.get("heads") or case["num_heads"], "experts": case.get("experts", 0),
        "part": case.get("part", 0), "decoder": "simple" if case["simple"] else "classic",
        "eps": case["layer_norm_eps"],
    }  # fmt: skip
    model = vitpose("b", **options)
    if name.startswith("hf_"):
        state = published_names(by_rule(hugging_face_shapes(model)))
    else:
        state = by_rule({key: tuple(value.shape) for key, value in model.state_dict().items()})
    checkpoints.load_weights(model, state)
    return model.eval(), images


def _frozen(case: dict) -> tuple:
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in case.items())


def _compare(file: Path, report: Report, arrays, ours: np.ndarray) -> None:
    """A tensor (M, channels, ..., ...) against what is stored of it."""
    report.equal(file, "shape", list(ours.shape), arrays["shape"].tolist())
    report.compare(file, "value", ours.reshape(-1)[arrays["index"]], arrays["value"], atol=OUTPUT)
    flat = ours.reshape(*ours.shape[:2], -1)
    report.compare(file, "channel_mean", flat.mean(-1), arrays["channel_mean"], atol=OUTPUT)
    report.compare(file, "channel_std", flat.std(-1), arrays["channel_std"], atol=OUTPUT)
    if "channel_max" in arrays:
        report.compare(file, "channel_max", flat.max(-1), arrays["channel_max"], atol=OUTPUT)
        report.compare(file, "channel_argmax", flat.argmax(-1), arrays["channel_argmax"])
    if "first_float16" in arrays:
        half = arrays["first_float16"].astype(np.float32)
        report.compare(file, "first_float16", ours[0], half, atol=OUTPUT + np.abs(half) / 1024, note="stored as halves")


def _differing(ours: dict, theirs: dict) -> list[str]:
    """The first names that only one has, or that have other shapes."""
    names = [name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)]
    return sorted(names)[:3]
