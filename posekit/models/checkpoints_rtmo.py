"""Published RTMO weights (mmpose) in our names, and which RTMO a state dict is of.

The published names keep the nesting of their configuration; ours are shorter. That also tells the two apart: published
weights want blue, green, red, ours see red, green, blue, so the stem's input channels change places on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from posekit.models.checkpoint_files import misfits

PREFIXES = (  # published, ours; the first that fits counts
    ("neck.encoder.0.layers.0.self_attn.attn.", "neck.encoder.attention."),
    ("neck.encoder.0.layers.0.ffn.layers.0.0.", "neck.encoder.linear1."),
    ("neck.encoder.0.layers.0.ffn.layers.1.", "neck.encoder.linear2."),
    ("neck.encoder.0.layers.0.norms.0.", "neck.encoder.norm1."),
    ("neck.encoder.0.layers.0.norms.1.", "neck.encoder.norm2."),
    ("neck.projector.convs.", "neck.projector."),
    ("head.head_module.", "head."),
    ("head.dcc.gau.ln.g", "classifier.gau.norm_scale"),
    ("head.dcc.gau.res_scale.scale", "classifier.gau.res_scale"),
    ("head.dcc.sigma_fc.0.", "classifier.sigma_fc."),
    ("head.dcc.sigma_fc.2.scale", "classifier.sigma_scale"),
    ("head.dcc.", "classifier."),
    ("backbone.conv1.", "backbone.body.conv1."),  # of a ResNet-50
    ("backbone.bn1.", "backbone.body.bn1."),
    ("backbone.layer", "backbone.body.layer"),
)
BINS = ("head.dcc.x_bins", "head.dcc.y_bins")
# What the file holds besides weights: periods of the position codes, bins, and the OKS sigmas that belong to the losses
CONSTANTS = ("neck.sincos_pos_enc.dim_t", "head.dcc.spe.dim_t", *BINS, "head.loss_oks.sigmas")
OF_KEYPOINTS = ("out_kpt_reg.", "out_kpt_vis.", "pose_to_kpts.", "classifier.pos_enc", "sigma_fc.", "classifier.fc.")
STEM = "backbone.stem.conv.conv.weight"  # of CSPDarknet
STEM_WIDTHS = {24: "rtmo_t", 32: "rtmo_s", 48: "rtmo_m", 64: "rtmo_l", 16: "rtmo_tiny"}


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of mmpose's RTMO."""
    return any(name.startswith("head.head_module.") for name in state)


def is_rtmo(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of our RTMO."""
    return "head.out_bbox.0.weight" in state


def published_name(name: str) -> str:
    """The published name of one of our entries."""
    return _renamed(name, ((ours, theirs) for theirs, ours in PREFIXES))


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict as our model wants it; the constants are left out, the stem sees RGB."""
    kept = {name: value for name, value in state.items() if name not in CONSTANTS or name in BINS}
    result = without_bins({_renamed(name, PREFIXES): value for name, value in kept.items()})
    if STEM in result and result[STEM].ndim == 4 and result[STEM].shape[1] == 12:  # else it is refused for its shape
        result[STEM] = swap_colours(result[STEM])
    return result


def without_bins(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ours without bins of -1/2 to 1/2: files held these constants once, rounded to half precision."""
    bins = {"classifier.x_bins", "classifier.y_bins"}
    return {name: value for name, value in state.items() if name not in bins or not (value.abs() <= 0.5).all()}


def swap_colours(weight: Tensor) -> Tensor:
    """(out, 4 x 3, h, w) of a stem on 2 x 2 squares: first and third channel of every pixel change places."""
    return weight.unflatten(1, (4, 3)).flip(2).flatten(1, 2)


def load_rtmo(model: nn.Module, state: Mapping[str, Tensor], label: str) -> list[str]:
    """Start an RTMO from another one, published or ours, of other keypoints perhaps, or from YOLOX's backbone.

    Returns the names that keep their random start: those whose size depends on the keypoints where these differ, all
    but the backbone after a YOLOX.

    Raises:
        ValueError: the weights are not of an RTMO or YOLOX of the model's size.
    """
    own = model.state_dict()
    if is_published(state):
        state = from_published(state)
    elif is_rtmo(state):
        state = without_bins(state)
    else:  # YOLOX, published by mmdet
        state = from_published({name: value for name, value in state.items() if name.startswith("backbone.")})
    new: tuple[str, ...] = OF_KEYPOINTS if num_keypoints(own) != num_keypoints(state) else ()
    wanted = {name: value for name, value in own.items() if not any(part in name for part in new)}
    if all(name.startswith("backbone.") for name in state):
        wanted = {name: value for name, value in wanted.items() if name.startswith("backbone.")}
    taken = {name: value for name, value in state.items() if name in wanted}
    if differ := misfits(wanted, taken):
        sentence = f"{label} is not of an RTMO or a YOLOX of the model's size: {difference(own, state)}"
        raise ValueError("; ".join([sentence, *differ]))
    model.load_state_dict(taken, strict=False)
    return [name for name in own if name not in wanted]


def difference(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """What the model is, what the weights are of, and how to build the model that fits."""
    model, weights = describe(own), describe(theirs)
    options = ", ".join(f"{key}={value!r}" for key, value in weights.items() if key != "name" and model[key] != value)
    remedy = f"build {weights['name']}" + (f" with {options}" if options else "")
    return f"it holds {_sentence(weights)} and the model is {_sentence(model)}, so {remedy}"


def describe(state: Mapping[str, Tensor]) -> dict:
    """`name`, `num_keypoints`, `features` and `decoding` of an RTMO in our names."""
    levels = sum(name.startswith("head.out_bbox.") and name.endswith("weight") for name in state)
    name = "rtmo_r50" if STEM not in state else STEM_WIDTHS.get(len(state[STEM]), "an RTMO of another width")
    features = {3: (3, 4, 5), 2: (4, 5), 1: (4,)}.get(levels, ())
    if levels == 2 and not any(n.startswith("neck.pan_blocks.1.") for n in state):
        features = (3, 4)
    if "classifier.fc.weight" in state:
        decoding = "regression"
    elif "classifier.x_fc.bias" in state:
        decoding = "dcc"
    else:
        decoding = "cc" if "classifier.x_bins" in without_bins(state) else "cc+dba"
    return {"name": name, "num_keypoints": num_keypoints(state), "features": features, "decoding": decoding}


def num_keypoints(state: Mapping[str, Tensor]) -> int:
    """K of an RTMO, 0 if the weights say nothing about keypoints."""
    weight = state.get("head.out_kpt_vis.0.weight")
    return 0 if weight is None else len(weight)


def _renamed(name: str, prefixes: Iterable[tuple[str, str]]) -> str:
    fitting = ((before, after) for before, after in prefixes if name.startswith(before))
    before, after = next(fitting, ("", ""))
    return after + name.removeprefix(before)


def _sentence(facts: dict) -> str:
    levels = ", ".join(f"P{level}" for level in facts["features"])
    return f"{facts['name']} with {facts['num_keypoints']} keypoints, levels {levels} and decoding {facts['decoding']}"
