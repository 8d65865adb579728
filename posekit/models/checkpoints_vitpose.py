"""Published weights into our ViTPose: the authors' files, Hugging Face's, and masked autoencoders as a start.

Our names are those of the authors' `.pth` files. mmpose's and Hugging Face's are translated (and the latter's query,
key and value joined). A position table can be resampled for another crop size, patches of 14 pixels become patches of
16, and a plain feed-forward layer is shared out among ViTPose+'s experts such that nothing changes at the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.models.checkpoint_files import Source, misfits, open_source, shapes_of, size_difference
from posekit.models.vit import grid_of, resample_positions
from posekit.torch_files import fitting

BACKBONE = "backbone."
POSITIONS, PATCHES = "backbone.pos_embed", "backbone.patch_embed.proj.weight"
HEADS = ("keypoint_head.", "associate_keypoint_heads.")
# What files hold besides the network: the class token, the autoencoder's decoder and its norm (released: not used)
BESIDES = re.compile(r"(backbone\.)?(cls_token|mask_token|decoder_.*|norm\.\w+|head\.\w+|fc_norm\.\w+)$")
RENAMES = (  # transformers' and mmpose's names, in the order of application
    (r"^backbone\.embeddings\.position_embeddings$", POSITIONS),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (r"^backbone\.encoder\.layer\.(\d+)\.", r"backbone.blocks.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^backbone\.layernorm\.", "backbone.last_norm."),
    (r"^head\.deconv1\.", "keypoint_head.deconv_layers.0."),
    (r"^head\.batchnorm1\.", "keypoint_head.deconv_layers.1."),
    (r"^head\.deconv2\.", "keypoint_head.deconv_layers.3."),
    (r"^head\.batchnorm2\.", "keypoint_head.deconv_layers.4."),
    (r"^head\.conv\.", "keypoint_head.final_layer."),
    # mmpose 1.x, whose backbone is mmpretrain's
    (r"^backbone\.layers\.(\d+)\.ln(\d)\.", r"backbone.blocks.\1.norm\2."),
    (r"^backbone\.layers\.(\d+)\.attn\.", r"backbone.blocks.\1.attn."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r"backbone.blocks.\1.mlp.fc1."),
    (r"^backbone\.layers\.(\d+)\.ffn\.layers\.1\.", r"backbone.blocks.\1.mlp.fc2."),
    (r"^backbone\.ln1\.", "backbone.last_norm."),
    (r"^backbone\.patch_embed\.projection\.", "backbone.patch_embed.proj."),
    (r"^head\.(deconv_layers|final_layer)\.", r"keypoint_head.\1."),
)
WORDS = {
    "dim": "channels",
    "depth": "blocks",
    "patch": "pixels per patch",
    "experts": "experts",
    "part": "channels per expert",
    "num_keypoints": "keypoints",
}


def is_vitpose(model: nn.Module) -> bool:
    """Whether the model is a ViTPose, by its names."""
    names = [name for name, _ in model.named_parameters()]
    return PATCHES in names and any(name.startswith(HEADS) for name in names)


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of the authors' files, whoever saved it; other tensors keep theirs.

    Knows the authors' files, transformers' `VitPoseForPoseEstimation`, mmpose's, and backbones alone (masked
    autoencoders, timm): these get the prefix `backbone.`; their class token, decoder and last norm are left out.
    """
    result = {}
    no_slot = "backbone.layers.0.ln1.weight" in state and POSITIONS in state
    alone = "patch_embed.proj.weight" in state
    for name, value in state.items():
        for pattern, new in RENAMES:
            name = re.sub(pattern, new, name)
        if BESIDES.match(name):
            continue
        result[BACKBONE + name if alone else name] = value
    for kind in ("weight", "bias"):
        for name in [name for name in result if name.endswith(f".attention.attention.query.{kind}")]:
            stem = name.removesuffix(f"query.{kind}")
            parts = [result.pop(f"{stem}{part}.{kind}") for part in ("query", "key", "value")]
            result[stem.replace("attention.attention.", "attn.") + f"qkv.{kind}"] = torch.cat(parts)
    if no_slot:  # mmpose's table has no class token's place, which the authors add to every patch
        result[POSITIONS] = torch.cat([torch.zeros_like(result[POSITIONS][:, :1]), result[POSITIONS]], 1)
    return result


@fitting
def load_vitpose(model: nn.Module, source: Source, resample: bool = False) -> None:
    """Load every weight of a ViTPose, all or nothing: a file of the authors, of transformers, of ours, a state dict.

    `resample`: bring a position table for crops of another size to the model's (bicubic).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights are of another model or size; the sentence says what differs and what to do.
    """
    state, label = open_source(source)
    state, own = published_names(state), model.state_dict()
    if resample and POSITIONS in state:
        state[POSITIONS] = _positions(state[POSITIONS], model, label)
    if differ := misfits(own, state):
        raise ValueError(f"{label} {_reason(model, own, state, differ)}")
    model.load_state_dict(state)


@fitting
def start_vitpose(model: nn.Module, source: Source) -> list[str]:
    """Start training from what the file holds: a ViTPose with any keypoints and crops, or a masked autoencoder.

    The whole transformer must fit but for the position table and the patches, which are resampled (bicubic). Of the
    decoders, what fits is taken. Returns the names that keep their random start.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the transformer is of another size, or there is none in the file.
    """
    state, label = open_source(source)
    state, own = published_names(state), model.state_dict()
    if [state[name].ndim for name in (POSITIONS, PATCHES) if name in state] != [3, 4]:
        raise ValueError(f"{label} holds no plain vision transformer: no position table and patch embedding are in it")
    if state[POSITIONS].shape[2] == own[POSITIONS].shape[2]:
        state[POSITIONS] = _positions(state[POSITIONS], model, label)
        weight, side = state[PATCHES], own[PATCHES].shape[-1]
        if weight.shape[-1] != side:
            state[PATCHES] = F.interpolate(weight.float(), size=(side, side), mode="bicubic").to(weight.dtype)
        state = _shared_out(state, own)
    optional = (BACKBONE + "last_norm.", BACKBONE + "knowledge_token")

    def required(part: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
        body = {name: value for name, value in part.items() if not name.startswith(HEADS)}
        return {name: value for name, value in body.items() if name in other or not name.startswith(optional)}

    body = required(state, own)
    if differ := misfits(required(own, state), body):
        raise ValueError(f"{label} {_reason(model, own, body, differ)}")
    taken = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(taken, strict=False)
    return [name for name in own if name not in taken]


def size(state: Mapping[str, Tensor] | Mapping[str, tuple[int, ...]]) -> dict:
    """The size of a ViTPose under published names, as options of `vitpose`, from tensors or their shapes.

    What cannot be read is left out: the number of heads and the ratio leave no trace. The minimal decoder is taken to
    enlarge four times.
    """
    shapes, result = shapes_of(state), {}
    if PATCHES in shapes:
        result["dim"], result["patch"] = shapes[PATCHES][0], shapes[PATCHES][-1]
    blocks = {name.split(".")[2] for name in shapes if name.startswith("backbone.blocks.")}
    if blocks:
        result["depth"] = len(blocks)
        experts = [name for name in shapes if re.match(r"backbone\.blocks\.0\.mlp\.experts\.\d+\.bias$", name)]
        result["experts"] = len(experts)
        if experts:
            result["part"] = shapes[experts[0]][0]
    finals = [name for name in shapes if name.startswith(HEADS) and name.endswith("final_layer.weight")]
    finals.sort(key=lambda name: int((re.search(r"\.(\d+)\.", name) or (0, -1))[1]))  # files are sorted by name
    if finals:
        kernel, deconvs = shapes[finals[0]][-1], any("deconv_layers" in name for name in shapes)
        result["decoder"] = "simple" if kernel == 3 else "classic" if deconvs else "minimal"
        counts = tuple(shapes[name][0] // (16 if result["decoder"] == "minimal" else 1) for name in finals)
        result["num_keypoints"] = counts[0] if len(counts) == 1 else counts
    return result


def _positions(table: Tensor, model: nn.Module, label: str) -> Tensor:
    new = model.backbone.grid
    if table.shape[1] == new[0] * new[1] + 1:
        return table
    try:
        return resample_positions(table, grid_of(table.shape[1]), new)
    except ValueError as error:
        raise ValueError(f"{label} has {error}, so it cannot be resampled") from error


def _shared_out(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain feed-forward layers for a model with experts: each expert starts with the last channels of the layer."""
    if any(".mlp.experts." in name for name in state):
        return state
    result = dict(state)
    for name in own:
        match = re.match(r"(backbone\.blocks\.\d+\.mlp)\.experts\.\d+\.(weight|bias)$", name)
        if match and f"{match[1]}.fc2.{match[2]}" in state:
            plain, part = state[f"{match[1]}.fc2.{match[2]}"], len(own[name])
            result[f"{match[1]}.fc2.{match[2]}"], result[name] = plain[:-part], plain[-part:].clone()
    return result


def _reason(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], differ: list[str]) -> str:
    """What is wrong with a file, and the remedy."""
    ours, theirs = size(own), size(state)
    if "dim" not in theirs:
        return "is of another kind of model: it has no ViT's patch embedding"
    if theirs.get("experts") and not ours["experts"]:
        return "has experts (ViTPose+) and the model has none: load it into a model with experts, then merge_experts"
    if sizes := size_difference(ours, theirs, WORDS):
        if {**ours, "num_keypoints": 0} == {**theirs, "num_keypoints": 0}:
            sizes += ", or start from it (start_from), which leaves the decoder new"
        return f"is of another size: {sizes}"
    if ours.get("decoder") != theirs.get("decoder") and "decoder" in theirs:
        decoder = theirs["decoder"]
        return f"has the {decoder} decoder and the model the {ours['decoder']}: build it with decoder={decoder!r}"
    if own.keys() == state.keys() and not misfits(own, {**state, POSITIONS: own[POSITIONS]}):
        rows, grid = state[POSITIONS].shape[1], model.backbone.grid
        return (
            f"has a position table of {rows - 1} cells and the model one of {grid[0]} x {grid[1]}: its crops have "
            "another size; load it with load_vitpose(..., resample=True), or build the model with that crop_size"
        )
    return "; ".join(["is of another model", *differ])
