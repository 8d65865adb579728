"""ViTPose's layer-wise learning rates: depth and factor of parameters of S, B, L and H."""

from __future__ import annotations

from pathlib import Path

from golden.report import Report
from posekit.models.vit import SIZES
from posekit.training.parameter_groups import layer_id, layer_scale
from posekit.training.recipes import LAYER_DECAY


def layer_decay(file: Path, report: Report) -> None:
    """`layer_decay.json`: per size, names of parameters with their layer and the factor of their rate."""
    content = report.fields(file)
    for size in content:
        rows, short = content[size], size[0]
        depth = SIZES[short][1]
        layers = {name: layer_id(name, depth) for name in rows}
        report.equal(file, f"{size}: layers", layers, {name: row["layer_id"] for name, row in rows.items()})
        scales = [layer_scale(layer, depth, LAYER_DECAY[short]) for layer in layers.values()]
        report.compare(
            file, f"{size}: factors of the rate", scales, [row["lr_scale"] for row in rows.values()], rtol=1e-12
        )


HANDLERS = [("layer_decay.json", layer_decay)]
