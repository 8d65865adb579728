"""ViTPose's reference values, of ViTAE-Transformer/ViTPose and transformers: the network; the rest in vitpose_crops.py.

Weights by rule `plain` under the names of whoever ran the reference: the authors' (`pub_*`) or transformers' (`hf_*`),
and loaded the way such a file is. `manifest.json` says what was run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golden.checks import Check, Directory
from golden.rules import by_rule, shapes_of
from golden.vitpose_crops import augment, crop, decode, decode_edge, flip, flip_order, targets
from posekit.models import checkpoints
from posekit.models.checkpoints_vitpose import published_names
from posekit.models.vit import SIZES, ViT, grid_of, resample_positions
from posekit.models.vitpose import flip_test, vitpose
from posekit.models.windows import Attention
from posekit.training.parameter_groups import layer_id, layer_scale
from posekit.training.recipes import RECIPES

OUTPUT = 2e-5  # suggested by the reference: largest absolute difference of features and heatmaps
ATTENTION = {"dim", "heads", "H", "W", "window", "shift", "keys", "stored", "input_seed"}
NETWORK = {  # options of a network in the manifest; `size` and `labels`: the crop and the number of keypoints
    "hidden",
    "embed_dim",
    "layers",
    "depth",
    "heads",
    "num_heads",
    "ratio",
    "experts",
    "part",
    "layer_norm_eps",
    "simple",
    "size",
    "labels",
    "dataset_index",
    "input_seed",
    "input_shape",
    "state_dict",
}
# Our names as transformers spells them; a query, key and value there are one tensor here
TRANSFORMERS = (
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


def transformers_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes that transformers' model of this size has."""
    result = {}
    for name, shape in shapes_of(model).items():
        for pattern, new in TRANSFORMERS:
            name = re.sub(pattern, new, name)
        if ".attn.qkv." in name:
            stem, kind = name.split("attn.qkv.")
            for part in ("query", "key", "value"):
                result[f"{stem}attention.attention.{part}.{kind}"] = (shape[0] // 3, *shape[1:])
        else:
            result[name] = shape
    return result


def normal(seed: int, shape: list[int]) -> Tensor:
    """The inputs of the reference."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape), np.float32))


def keys(file: Path, directory: Directory) -> Iterator[Check]:
    """`keys.json`: parameters and names of all sizes and both decoders, transformers' and the authors'."""
    table = directory.open(file)
    for name in [name for name in table if re.fullmatch(r"(small|base|large|huge)_(classic|simple)", name)]:
        size, decoder = name.split("_")
        model, theirs = _without_memory(size[0], decoder=decoder), table[name]
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        shapes = transformers_shapes(model)
        yield table.equal(f"{name} parameters", trained, theirs["n_params"])
        yield table.equal(f"{name} number of entries", len(shapes), theirs["n_keys"])
        if "keys" in theirs:
            yield table.equal(f"{name} names and shapes", _differing(shapes, theirs["keys"]), [], "transformers'")
        if "published_keys_one_block" in theirs:
            ours = shapes_of(_without_memory(size[0], decoder=decoder, depth=1))
            differ = _differing(ours, theirs["published_keys_one_block"])
            yield table.equal(f"{name} published names and shapes", differ, [], "the authors'")
    if "moe_small_one_layer" in table:
        ours = transformers_shapes(_without_memory("s", depth=1, experts=6))
        yield table.equal("moe_small_one_layer names and shapes", _differing(ours, table["moe_small_one_layer"]), [])


def manifest(file: Path, directory: Directory) -> Iterator[Check]:
    """`manifest.json`: every case that it describes has a file here, and no other option than those we know."""
    cases = directory.open(file)
    for name, case in cases.items():
        yield cases.equal(f"{name} has its file", file.with_name(f"{name}.npz") in directory, True)
        known = ATTENTION if name.startswith("attn_variants") else NETWORK
        yield cases.equal(
            f"{name} options", sorted(cases[name].keys() - known), [], "unknown options" * bool(case.keys() - known)
        )


def forward(file: Path, directory: Directory) -> Iterator[Check]:
    """`hf_*.npz`, `pub_*.npz`: heatmaps, features (`_features`) or the flip test (`_flipmerge`) of one case."""
    name, kind = re.fullmatch(r"(.*?)(_features|_flipmerge|)", file.stem).groups()
    case = directory.open(file.with_name("manifest.json"))[name]
    unknown = sorted(case.keys() - NETWORK)
    if unknown:
        raise ValueError(f"the manifest's {name} has the unknown option {', '.join(unknown)}")
    model = network(name, case)
    images = normal(case["input_seed"], case["input_shape"])
    dataset = 0 if case.get("dataset_index") is None else torch.tensor(case["dataset_index"])
    with torch.inference_mode():
        if isinstance(model, ViT):
            ours = model(images)
        elif kind == "_features":
            tokens, grid = model.backbone.embed(images)
            ours = model.backbone.encode(tokens, grid, dataset).transpose(1, 2)[..., None]
        elif kind == "_flipmerge":
            ours = flip_test(model, images, flip_order(model.num_keypoints), dataset)["heatmaps"]
        else:
            ours = model(images, dataset=dataset)["heatmaps"]
    known, ours = directory.open(file), ours.numpy()
    yield known.equal("shape", list(ours.shape), known["shape"].tolist())
    yield known.check("value", ours.reshape(-1)[known["index"]], atol=OUTPUT)
    flat = ours.reshape(*ours.shape[:2], -1)
    yield known.check("channel_mean", flat.mean(-1), atol=OUTPUT)
    yield known.check("channel_std", flat.std(-1), atol=OUTPUT)
    if "channel_max" in known:
        yield known.check("channel_max", flat.max(-1), atol=OUTPUT)
        yield known.check("channel_argmax", flat.argmax(-1))
    if "first_float16" in known:
        half = known["first_float16"].astype(np.float32)
        atol = OUTPUT + np.abs(half) / 1024
        yield known.check("first_float16", ours[0], half, atol=atol, note="stored as halves")


def network(name: str, case: dict) -> nn.Module:
    """The network of a case with its weights: ViTPose, or a backbone alone where the manifest names no decoder."""
    published = not name.startswith("hf_")
    options = {
        "dim": case.get("hidden") or case["embed_dim"],
        "depth": case.get("layers") or case["depth"],
        "heads": case.get("heads") or case["num_heads"],
        "ratio": case.get("ratio", 1),
        "experts": case.get("experts", 0),
        "part": case.get("part", 0),
        "eps": case.get("layer_norm_eps", 1e-6 if published else 1e-12),
        "crop_size": crop_size(name, case),
    }
    if "simple" not in case:  # its names without prefix
        model = ViT(**options)
        model.load_state_dict(by_rule(shapes_of(model)))
        return model.eval()
    decoder = "simple" if case["simple"] else "classic"
    model = vitpose("b", decoder=decoder, num_keypoints=case.get("labels", 17), **options)
    state = by_rule(shapes_of(model)) if published else published_names(by_rule(transformers_shapes(model)))
    checkpoints.load_weights(model, state)
    return model.eval()


def crop_size(name: str, case: dict) -> tuple[int, int]:
    """(width, height) of a case's crops: its `size`, in either order, which the inputs' shape decides, or that shape.

    Raises:
        ValueError: inputs of another size.
    """
    height, width = case["input_shape"][2:]
    size = case.get("size", [height, width])
    if sorted(size) != sorted([height, width]):
        raise ValueError(f"the manifest's {name} has size {size} and inputs of {height} x {width} pixels")
    return width, height


def attention(file: Path, directory: Directory) -> Iterator[Check]:
    """`attn_variants.npz`: full, windowed, shifted and pooled attention, in float64."""
    known, case = directory.open(file), directory.open(file.with_name("manifest.json"))[file.stem]
    grid, window, shift = (case["H"], case["W"]), tuple(case["window"]), tuple(case["shift"])
    tokens = normal(case["input_seed"], [1, grid[0] * grid[1], case["dim"]]).double()
    step = int(re.search(r"\d+", case.get("stored", "every 3rd token")).group())
    for name in ("full", "window", "shift", "window_pool", "shift_pool"):
        options = {"window": None if name == "full" else window, "pool": name.endswith("_pool")}
        options["shift"] = shift if name.startswith("shift") else (0, 0)
        module = Attention(case["dim"], case["heads"], **options)
        shapes = {f"attn.{key}": shape for key, shape in shapes_of(module).items()}
        yield known.equal(f"{name} names", list(shapes), case["keys"])
        module.load_state_dict({key.removeprefix("attn."): value for key, value in by_rule(shapes).items()})
        with torch.inference_mode():
            ours = module.double()(tokens, grid)[0, ::step]
        yield known.check(name, ours, atol=2e-6, note="float64 against stored float32")


def positions(file: Path, directory: Directory) -> Iterator[Check]:
    """`pos_resample.npz`: the table of a 14 x 14 grid, seed 3, for an upright grid."""
    known = directory.open(file)
    _, rows, channels = known["value"].shape
    table = normal(3, [1, 197, channels])
    # a float32 sum of sixteen products: with ATen's default kernels the last bits differ by 1.6e-6
    yield known.check("value", resample_positions(table, (14, 14), grid_of(rows)), atol=1e-5)


def _without_memory(size: str, **options) -> nn.Module:
    with torch.device("meta"):
        return vitpose(size, **options)


def _differing(ours: dict[str, tuple], theirs: dict[str, list]) -> list[str]:
    """The first names that only one has, or that have other shapes."""
    theirs = {name: tuple(shape) for name, shape in theirs.items()}
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))[:3]


def layer_decay(file: Path, directory: Directory) -> Iterator[Check]:
    """`layer_decay.json`: per size, names of parameters with their layer and the factor of their learning rate."""
    fields = directory.open(file)
    for size in fields:
        rows, depth = fields[size], SIZES[size[0]][1]
        layers = {name: layer_id(name, depth) for name in rows}
        scales = [layer_scale(layer, depth, RECIPES[f"vitpose_{size[0]}"].layer_decay) for layer in layers.values()]
        reference = [row["lr_scale"] for row in rows.values()]
        yield fields.equal(f"{size}: layers", layers, {name: row["layer_id"] for name, row in rows.items()})
        yield fields.check(f"{size}: factors of the rate", scales, reference, rtol=1e-12)


FILES = {
    "manifest.json": (manifest,),
    "keys*.json": (keys,),
    "hf_*.npz": (forward,),
    "pub_*.npz": (forward,),
    "attn_variants*.npz": (attention,),
    "pos_resample*.npz": (positions,),
    "crop*.npz": (crop,),
    "decode_edge*.npz": (decode_edge,),
    "decode*.npz": (decode,),
    "targets*.npz": (targets,),
    "flip*.npz": (flip,),
    "augment*.json": (augment,),
    "layer_decay*.json": (layer_decay,),
}
