"""Published weights into our models: POET's own files, DETR's as a start, ResNet-50 backbones; RTMO's, ViTPose's
and the baselines' are translated in files of their own.

Our POET uses the names of the published state dicts (`transformer.encoder.layers.0.self_attn.in_proj_weight`,
`backbone.0.body.conv1.weight`, ...), so a POET file loads as it is. What can differ is the size, and then the error
says which one and how to build the model that fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from posekit.models import checkpoints_baselines as baselines
from posekit.models import checkpoints_rtmo as rtmo
from posekit.models import checkpoints_vitpose as vitpose
from posekit.models.checkpoint_files import Source, misfits, open_source, shapes_of, size_difference
from posekit.models.checkpoint_files import read as read
from posekit.torch_files import fitting

# DETR's heads and queries mean boxes; POET learns its own
HEADS = ("class_embed.", "bbox_embed.", "query_embed.", "kpt_embed.")
OF_KEYPOINTS = "kpt_embed.layers.2."  # centre, offsets and visibility of every keypoint
BACKBONE = "backbone.0.body."
WORDS = {
    "num_queries": "queries",
    "num_keypoints": "keypoints",
    "dim": "channels",
    "encoder_layers": "encoder layers",
    "decoder_layers": "decoder layers",
    "feedforward": "feed-forward channels",
}


@fitting
def load_weights(model: nn.Module, source: Source) -> None:
    """Load every weight of a model: a published POET, a file of ours, or a state dict. All or nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights are of another model or another size; the sentence lists what differs.
    """
    if vitpose.is_vitpose(model):
        return vitpose.load_vitpose(model, source)
    state, label = open_source(source)
    own = model.state_dict()
    if rtmo.is_published(state) and rtmo.is_rtmo(own):
        state = rtmo.from_published(state)
    state = baselines.from_published(model, state) or state
    state = _without_counters(rtmo.without_bins(state), own)
    differ = misfits(own, state)
    if not differ:
        model.load_state_dict(state)
        return None
    if any(name.startswith("bbox_embed.") for name in state):
        raise ValueError(f"{label} is of DETR, which predicts boxes: start a POET from it (start_from) instead")
    if rtmo.is_rtmo(own) and rtmo.is_rtmo(state):
        reason = f"another RTMO: {rtmo.difference(own, state)}"
    elif _kinds(own) == _kinds(state):
        sizes = size_difference(size(own), size(state), WORDS)
        reason = "another size: " + (sizes or "the widths of its layers differ from the model's")
    else:
        reason = "another model" if own.keys() & state.keys() else "another kind of model: it shares no name with this"
    raise ValueError(f"{label} is of {'; '.join([reason, *differ])}")


@fitting
def start_from(model: nn.Module, source: Source) -> list[str]:
    """Start training from what the file holds: a whole POET, a DETR, or the ResNet-50 of a pose estimator.

    Of a DETR with the same widths (DETR-R50) POET takes backbone, projection and transformer, of mmpose's estimators
    and torchvision's file the ResNet-50 (the paper's second set of experiments starts from mmpose). Other models: see
    `load_rtmo`, `start_vitpose`, `start_baseline`. Returns the names that keep their random start: none after a whole
    POET, its last layer after one of other keypoints.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights are of another kind or size.
    """
    if vitpose.is_vitpose(model):
        return vitpose.start_vitpose(model, source)
    state, label = open_source(source)
    own = model.state_dict()
    if rtmo.is_rtmo(own):
        return rtmo.load_rtmo(model, state, label)
    if type(model).__name__ in baselines.RULES:
        return baselines.start_baseline(model, state, label)
    if any(name.startswith("bbox_embed.") for name in state):
        own, taken = ({n: v for n, v in part.items() if not n.startswith(HEADS)} for part in (own, state))
        refusal = "is not of a DETR with the model's backbone and transformer"
    elif any(name.startswith(("transformer.", "kpt_embed.")) for name in state):
        last = OF_KEYPOINTS + "weight"
        if last not in own or last not in state or len(own[last]) == len(state[last]):
            load_weights(model, source)
            return []
        own, taken = ({n: v for n, v in part.items() if not n.startswith(OF_KEYPOINTS)} for part in (own, state))
        refusal = "is of a POET with other keypoints, and not only these differ"
    else:
        own = {name: value for name, value in own.items() if name.startswith(BACKBONE)}
        taken = _backbone(state)
        refusal = "does not hold the backbone of this model; ResNet-50 models take ResNet-50 weights"
    taken = _without_counters(taken, own)
    differ = misfits(own, taken)
    if differ or not own:
        raise ValueError(f"{label} {'; '.join([refusal, *differ])}")
    model.load_state_dict(taken, strict=False)
    return [name for name in model.state_dict() if name not in taken]


def size(state: Mapping[str, Tensor] | Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The size of a POET, read from the names and shapes of its state dict, as options of `build`.

    Takes tensors or their shapes; what cannot be read is left out (the number of heads leaves no trace).
    """
    shapes, result = shapes_of(state), {}
    if len(shapes.get("query_embed.weight", ())) == 2:
        result["num_queries"], result["dim"] = shapes["query_embed.weight"]
    last = max((name for name in shapes if name.startswith("kpt_embed.") and name.endswith(".weight")), default=None)
    if last:
        result["num_keypoints"] = (shapes[last][0] - 2) // 3
    for side in ("encoder", "decoder"):
        layers = {name.split(".")[3] for name in shapes if name.startswith(f"transformer.{side}.layers.")}
        if layers:
            result[f"{side}_layers"] = len(layers)
    if "transformer.encoder.layers.0.linear1.weight" in shapes:
        result["feedforward"] = shapes["transformer.encoder.layers.0.linear1.weight"][0]
    return result


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The ResNet-50 of a file, mmpose's (`backbone.*`), torchvision's (no prefix) or ours, under our names."""
    result = {}
    for name, value in state.items():
        stem = name.removeprefix(BACKBONE).removeprefix("backbone.")
        if stem != name or stem.startswith(("conv1.", "bn1.", "layer")):
            result[BACKBONE + stem] = value
    return result


def _without_counters(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the step counters of batch norm where the model's is frozen and has none."""
    return {name: value for name, value in state.items() if name in own or not name.endswith("num_batches_tracked")}


def _kinds(state: Mapping[str, Tensor]) -> set[str]:
    """The names with the numbers of the transformer's layers taken out: what a deeper model has in common."""
    return {re.sub(r"(transformer\..*?layers)\.\d+", r"\1", name) for name in state}
