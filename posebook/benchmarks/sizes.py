"""How large every network is: parameters and multiply-adds, ours beside the published numbers."""

from __future__ import annotations

import pandas as pd
import torch
from torch import nn

from posekit.models.sizes import multiply_adds

# name: (published parameters in millions, published GMAC or None, height, width)
PUBLISHED = {
    "poet_r50": (41.3, None, 512, 512),  # those that are trained
    "rtmo_t": (None, None, 416, 416),
    "rtmo_s": (9.9, None, 640, 640),
    "rtmo_m": (22.6, None, 640, 640),
    "rtmo_l": (44.8, None, 640, 640),
    "vitpose_b": (90.0, 17.1, 256, 192),
    "ae_r50_stride4": (34.00, 29.0, 512, 512),
    "ae_r50_stride8": (32.95, 24.6, 512, 512),
    "ae_r50_stride16": (31.91, 23.5, 512, 512),
    "ae_r50_stride32": (23.58, 21.4, 512, 512),
    "ae_hrnet_w32": (28.54, 41.1, 512, 512),
    "openpose_coco": (52.31, 263.1, 512, 512),
    "simple_baseline_r50": (34.00, 5.43, 256, 192),
    "rtmpose_t": (3.34, 0.36, 256, 192),
    "rtmpose_s": (5.47, 0.68, 256, 192),
    "rtmpose_m": (13.59, 1.93, 256, 192),
    "rtmdet_nano": (0.99, 0.31, 320, 320),
    "yolox_pose_s": (10.8, None, 640, 640),
    "yolox_pose_m": (29.3, None, 640, 640),
    "yolox_pose_l": (61.3, None, 640, 640),
}


def sizes() -> list[str]:
    """Parameters and multiply-adds of every network, beside the published numbers; nothing is computed with data."""
    from posekit import models

    rows = []
    for name, (parameters, gmac, height, width) in PUBLISHED.items():
        with torch.device("meta"):
            model = models.build(name).eval()
        ours = (*counts(model), multiply_adds(model, height, width))
        rows.append((name, f"{height} x {width}", *ours, parameters, gmac))
    columns = ["network", "input", "M", "trained M", "M with statistics", "GMAC", "published M", "published GMAC"]
    table = pd.DataFrame(rows, columns=columns)
    print(table.to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    off = [row for _, row in table.iterrows() if not _same(row)]
    return [f"{row['network']} has {row['M']:.2f} M parameters, published {row['published M']}" for row in off]


def counts(model: nn.Module) -> tuple[float, float, float]:
    """Millions of parameters: all, those that are trained, and all with the running statistics of batch norms, which
    some authors count."""
    statistics = sum(value.numel() for name, value in model.named_buffers() if "running_" in name)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    parameters, trained = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    return parameters / 1e6, trained / 1e6, (parameters + statistics) / 1e6


def _same(row: pd.Series) -> bool:
    """Does one of the counts, rounded as the published number is, equal it?"""
    published = row["published M"]
    if pd.isna(published):
        return True
    digits = len(str(published).partition(".")[2])
    return published in [round(row[name], digits) for name in ("M", "trained M", "M with statistics")]
