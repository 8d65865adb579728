"""Published weights of the baselines (mmpose and mmdet) in our names.

Our submodules have the published names but for what wraps a backbone of torchvision or timm, and for what is grouped
otherwise here. RTMDet and YOLOX-Pose were trained on blue, green, red: the first convolution's channels change places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from posekit.models.checkpoint_files import misfits
from posekit.models.checkpoints_rtmo import swap_colours

RESNET = (r"^backbone\.(conv1|bn1|layer\d)\.", r"backbone.body.\1.")
HEAD = (r"^head\.(deconv_layers|final_layer)\.", r"keypoint_head.\1.")  # mmpose 1.x; 0.x has keypoint_head
HRNET = (r"^backbone\.(conv|bn|layer|transition|stage)(\d)\.", r"backbone.body.\1\2.")
GATED = ((r"^head\.gau\.ln\.g$", "head.gau.norm_scale"), (r"^head\.gau\.res_scale\.scale$", "head.gau.res_scale"))
RULES: dict[str, tuple[tuple[str, str], ...]] = {  # our class: (published, ours), all that fit are applied in turn
    "SimpleBaseline": (RESNET, HEAD),
    "AssociativeEmbedding": (
        HRNET,
        HEAD,
        (r"^keypoint_head\.final_layers\.0\.", "keypoint_head.final_layer."),
        (r"^keypoint_head\.final_layers\.1\.", "higher.final_layer."),
        (r"^keypoint_head\.deconv_layers\.0\.0\.0\.", "higher.deconv."),
        (r"^keypoint_head\.deconv_layers\.0\.0\.1\.", "higher.norm."),
    ),
    "RTMPose": (
        (r"^backbone\.stem\.", "backbone.body.model.stem."),
        *((rf"^backbone\.stage{n}\.", f"backbone.body.model.stages.{n - 1}.") for n in range(1, 5)),
        *GATED,
    ),
    "RTMDet": ((r"^bbox_head\.", "head."),),
    "YOLOXPose": ((r"^head\.head_module\.", "head."),),
}
BLOCKS = re.compile(r"^keypoint_head\.deconv_layers\.0\.([1-9])\.0\.")  # HigherHRNet's residual blocks, from 1 on
BLUE_FIRST = {"RTMDet": "backbone.stem.0.conv.weight", "YOLOXPose": "backbone.stem.conv.conv.weight"}
COUNTERS = ".num_batches_tracked"


def from_published(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights under our names, as our model wants them; None where the names are not a published baseline's.

    What holds no weight is left out: losses, image statistics, counters that the model does not have.
    """
    kind = type(model).__name__
    if kind not in RULES:
        return None
    renamed = {ours_of(kind, name): value for name, value in state.items()}
    if renamed.keys() == state.keys():
        return None
    renamed = {name: value for name, value in renamed.items() if not name.startswith(("data_preprocessor.", "loss"))}
    if (stem := renamed.get(BLUE_FIRST.get(kind, ""))) is not None:
        renamed[BLUE_FIRST[kind]] = swap_colours(stem) if stem.shape[1] == 12 else stem.flip(1)
    counters = {name: value for name, value in model.state_dict().items() if name.endswith(COUNTERS)}
    return counters | renamed  # older files have no counters


def ours_of(kind: str, name: str) -> str:
    """Our name of a published entry, for a model of the class `kind`."""
    name = BLOCKS.sub(lambda found: f"higher.blocks.{int(found[1]) - 1}.", name) if kind.startswith("Assoc") else name
    for pattern, ours in RULES[kind]:
        name = re.sub(pattern, ours, name)
    return name


def start_baseline(model: nn.Module, state: Mapping[str, Tensor], label: str) -> list[str]:
    """Start a baseline from another one, published or ours: the whole backbone, and of its head what fits.

    Returns the names that keep their random start.

    Raises:
        ValueError: the weights do not hold the model's backbone.
    """
    own, state = model.state_dict(), from_published(model, state) or dict(state)
    parts = ({name: value for name, value in part.items() if name.startswith("backbone.")} for part in (own, state))
    if differ := misfits(*parts):
        raise ValueError(f"{label} does not hold the backbone of this model; {'; '.join(differ)}")
    taken = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(taken, strict=False)
    return [name for name in own if name not in taken]
