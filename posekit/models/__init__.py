"""The models, by name: `build("poet_r50")`. A paper's variants are a few numbers each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from posekit.models.heatmap_nets import simple_baseline_r50
from posekit.models.masked_autoencoder import mae_tiny
from posekit.models.poet import poet_r50, poet_tiny
from posekit.models.rtmo import rtmo, rtmo_r50, rtmo_tiny
from posekit.models.vitpose import vitpose, vitpose_tiny

PLUS_KEYPOINTS = (17, 14, 16, 17, 17, 133)  # ViTPose+'s data sets: COCO, AIC, MPII, AP-10K, APT-36K, COCO-WholeBody

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "poet_r50": poet_r50,
    "poet_dc5_r50": partial(poet_r50, dilate_last=True),
    "poet_tiny": poet_tiny,
    "poet_tiny_proposals": partial(poet_tiny, proposals=True, num_queries=12),  # an extension, not the paper
    "rtmo_t": partial(rtmo, "t"),
    "rtmo_s": partial(rtmo, "s"),
    "rtmo_m": partial(rtmo, "m"),
    "rtmo_l": partial(rtmo, "l"),
    "rtmo_r50": rtmo_r50,
    "rtmo_tiny": rtmo_tiny,
    "simple_baseline_r50": simple_baseline_r50,
    "vitpose_s": partial(vitpose, "s"),
    "vitpose_b": partial(vitpose, "b"),
    "vitpose_l": partial(vitpose, "l"),
    "vitpose_h": partial(vitpose, "h"),
    "vitpose_plus_s": partial(vitpose, "s", experts=6, num_keypoints=PLUS_KEYPOINTS),
    "vitpose_plus_b": partial(vitpose, "b", experts=6, num_keypoints=PLUS_KEYPOINTS),
    "vitpose_plus_l": partial(vitpose, "l", experts=6, num_keypoints=PLUS_KEYPOINTS),
    "vitpose_plus_h": partial(vitpose, "h", experts=6, num_keypoints=PLUS_KEYPOINTS),
    "vitpose_tiny": vitpose_tiny,
    "mae_tiny": mae_tiny,
}


def names() -> list[str]:
    """Names that `build` knows."""
    return sorted(BUILDERS)


def build(name: str, **overrides) -> nn.Module:
    """A new model with random weights; `overrides` go to its builder (for POET: `num_keypoints`, `num_queries`, ...).

    Raises:
        ValueError: an unknown name.
    """
    if name not in BUILDERS:
        raise ValueError(f"no model is called {name!r}; known: {', '.join(names())}")
    return BUILDERS[name](**overrides)
