"""ViTPose's reference values: ViTAE-Transformer/ViTPose (`pub_*`, targets, decoding, losses, augmentation) and
transformers (`hf_*`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from golden.checks import Check, Directory
from golden.vitpose_crops import augment, crop, decode, decode_edge, flip, targets
from golden.vitpose_forward import attention, forward, keys, manifest, positions
from posekit.models.vit import SIZES
from posekit.training.parameter_groups import layer_id, layer_scale
from posekit.training.recipes import LAYER_DECAY


def layer_decay(file: Path, directory: Directory) -> Iterator[Check]:
    """`layer_decay.json`: per size, names of parameters with their layer and the factor of their learning rate."""
    fields = directory.open(file)
    for size in fields:
        rows, depth = fields[size], SIZES[size[0]][1]
        layers = {name: layer_id(name, depth) for name in rows}
        scales = [layer_scale(layer, depth, LAYER_DECAY[size[0]]) for layer in layers.values()]
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
