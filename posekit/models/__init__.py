"""The models, by name: `build("poet_r50")`. A paper's variants are a few numbers each."""

from __future__ import annotations

from functools import partial
from importlib import import_module

from torch import nn

PLUS_KEYPOINTS = (17, 14, 16, 17, 17, 133)  # ViTPose+'s data sets: COCO, AIC, MPII, AP-10K, APT-36K, COCO-WholeBody
PLUS = {"experts": 6, "num_keypoints": PLUS_KEYPOINTS}

# name: (module, function, arguments); a module is imported when a model of it is built
BUILDERS: dict[str, tuple[str, str, dict]] = {
    "poet_r50": ("poet", "poet_r50", {}),
    "poet_dc5_r50": ("poet", "poet_r50", {"dilate_last": True}),
    "poet_tiny": ("poet", "poet_tiny", {}),
    "poet_tiny_proposals": ("poet", "poet_tiny", {"proposals": True, "num_queries": 12}),  # an extension
    **{f"rtmo_{size}": ("rtmo", "rtmo", {"size": size}) for size in "tsml"},
    "rtmo_r50": ("rtmo", "rtmo_r50", {}),
    "rtmo_tiny": ("rtmo", "rtmo_tiny", {}),
    **{f"ae_r50_stride{stride}": ("associative_embedding", "ae_r50", {"stride": stride}) for stride in (4, 8, 16, 32)},
    "ae_hrnet_w32": ("associative_embedding", "ae_hrnet", {}),
    "ae_hrnet_w48": ("associative_embedding", "ae_hrnet", {"width": 48}),
    "ae_higherhrnet_w32": ("associative_embedding", "ae_hrnet", {"higher": True}),
    "ae_tiny": ("associative_embedding", "ae_tiny", {}),
    "openpose_coco": ("openpose", "openpose_coco", {}),
    "openpose_tiny": ("openpose", "openpose_tiny", {}),
    "simple_baseline_r50": ("simple_baseline", "simple_baseline_r50", {}),
    "simple_baseline_tiny": ("simple_baseline", "simple_baseline_tiny", {}),
    **{f"rtmpose_{size}": ("rtmpose", "rtmpose", {"size": size}) for size in "tsml"},
    "rtmpose_tiny": ("rtmpose", "rtmpose_tiny", {}),
    "rtmdet_nano": ("rtmdet", "rtmdet_nano", {}),
    "rtmdet_tiny": ("rtmdet", "rtmdet_tiny", {}),
    **{f"yolox_pose_{size}": ("yolox_pose", "yolox_pose", {"size": size}) for size in "tsml"},
    "yolox_pose_tiny": ("yolox_pose", "yolox_pose_tiny", {}),
    **{f"vitpose_{size}": ("vitpose", "vitpose", {"size": size}) for size in "sblh"},
    **{f"vitpose_plus_{size}": ("vitpose", "vitpose", {"size": size, **PLUS}) for size in "sblh"},
    "vitpose_tiny": ("vitpose", "vitpose_tiny", {}),
    "mae_tiny": ("masked_autoencoder", "mae_tiny", {}),
}


def names() -> list[str]:
    """Names that `build` knows."""
    return sorted(BUILDERS)


def build(name: str, **overrides) -> nn.Module:
    """A new model with random weights; `overrides` go to its builder (for POET: `num_keypoints`, `num_queries`, ...).

    Raises:
        ValueError: an unknown name.
    """
    check_name(name)
    return builder(name)(**overrides)


def check_name(name: str) -> None:
    """Raises ValueError for a name that `build` does not know."""
    if name not in BUILDERS:
        raise ValueError(f"no model is called {name!r}; known: {', '.join(names())}")


def builder(name: str) -> partial:
    """The function behind a name, with the arguments that make this model of it."""
    module, function, arguments = BUILDERS[name]
    return partial(getattr(import_module(f"posekit.models.{module}"), function), **arguments)
