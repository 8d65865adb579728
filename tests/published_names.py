"""The published names of our entries (mmpose's): the reverse of posekit.models.checkpoints_baselines and _vitpose."""

import re

RULES = {  # class: (ours, published), all that fit are applied in turn
    "SimpleBaseline": ((r"^backbone\.body\.", "backbone."), (r"^keypoint_head\.", "head.")),
    "AssociativeEmbedding": ((r"^backbone\.body\.", "backbone."),),
    "RTMPose": (
        (r"^backbone\.body\.model\.stem\.", "backbone.stem."),
        *((rf"^backbone\.body\.model\.stages\.{n}\.", f"backbone.stage{n + 1}.") for n in range(4)),
        (r"^head\.gau\.norm_scale$", "head.gau.ln.g"),
        (r"^head\.gau\.res_scale$", "head.gau.res_scale.scale"),
    ),
    "YOLOXPose": ((r"^head\.", "head.head_module."),),
    "ViTPose": (  # mmpretrain's transformer and mmpose's head
        (r"^backbone\.blocks\.(\d+)\.norm(\d)\.", r"backbone.layers.\1.ln\2."),
        (r"^backbone\.blocks\.(\d+)\.attn\.", r"backbone.layers.\1.attn."),
        (r"^backbone\.blocks\.(\d+)\.mlp\.fc1\.", r"backbone.layers.\1.ffn.layers.0.0."),
        (r"^backbone\.blocks\.(\d+)\.mlp\.fc2\.", r"backbone.layers.\1.ffn.layers.1."),
        (r"^backbone\.last_norm\.", "backbone.ln1."),
        (r"^backbone\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
        (r"^keypoint_head\.", "head."),
    ),
}


def published_names(kind, state):
    """A state dict of our class `kind` under its published names; tables of positions lose the class token's."""
    result = {}
    for ours, value in state.items():
        name = ours
        for pattern, new in RULES[kind]:
            name = re.sub(pattern, new, name)
        result[name] = value[:, 1:] if ours == "backbone.pos_embed" else value
    return result
