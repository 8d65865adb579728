"""POET: a image in, a set of poses out (Stoffl, Vidal and Mathis 2021, arXiv 2103.12115, Fig. 2).

CNN features -> encoder -> decoder with learned object queries -> one pose vector and one class per query:

    pose (2 + 3 K) = [xc, yc, dx_1, dy_1, v_1, ..., dx_K, dy_K, v_K], all in (0, 1)

Centre (xc, yc) relative to the image's size; offset = 2 (dx - 1/2), so in (-1, 1) of the image's size; v is the
probability that the joint can be seen. Legend: B images, L decoder layers, Q queries, C = 3 classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import ResNet50, TinyResNet
from posekit.models.fusion import fused
from posekit.models.proposals import DenseHead, Proposals
from posekit.models.transformer import Maps, Transformer, image_position, sine_position
from posekit.poses import Poses


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class POET(nn.Module):
    """See the module's docstring.

    `wiring="released"`: the position code joins queries and keys of every layer and the decoder starts from zeros, as
    in the published weights. `wiring="paper"`: besides, the position code is part of the encoder's input and the
    object queries are the decoder's input, as the paper's text says.
    # differs from paper: the text adds the queries to the encoder's output, which have another length; nobody can.

    `proposals=True` replaces the learned queries by ones chosen from the encoder's tokens: an extension, not the paper.
    `transformer`: further arguments of `Transformer`.
    """

    fuse = fused

    def __init__(
        self,
        backbone: nn.Module,
        *,
        input: InputSpec,
        num_keypoints: int = 17,
        num_queries: int = 25,
        dim: int = 256,
        wiring: str = "released",
        proposals: bool = False,
        **transformer,
    ) -> None:
        super().__init__()
        if wiring not in ("released", "paper"):
            raise ValueError(f"wiring is {wiring!r}; choose 'released' or 'paper'")
        if dim % 4:
            raise ValueError(f"{dim} channels: the position code needs a multiple of 4")
        self.input, self.num_keypoints, self.num_queries, self.wiring = input, num_keypoints, num_queries, wiring
        self.transformer = Transformer(dim, **transformer)
        # differs from paper: three logits, 0 = person without a visible joint, 1 = person, 2 = nobody (two in the text)
        self.class_embed = nn.Linear(dim, 3)
        self.kpt_embed = MLP(dim, dim, dim, 2 + 3 * num_keypoints)
        self.dense_head = DenseHead(dim, num_keypoints) if proposals else None
        self.proposals = Proposals(dim, num_queries) if proposals else None
        if not proposals:
            self.query_embed = nn.Embedding(num_queries, dim)
        self.input_proj = nn.Conv2d(backbone.channels, dim, kernel_size=1)
        self.backbone = nn.Sequential(backbone)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None, attention: bool = False) -> dict[str, Tensor]:
        """images (B, 3, H, W) normalised, padding_mask (B, H, W) True = padding.

        Returns `logits` (L, B, Q, 3) and `pose` (L, B, Q, 2 + 3 K) of every decoder layer, the last is the result.
        With `attention`: `encoder_attention` (Le, B, heads, S, S), `decoder_attention` (L, B, heads, Q, S) and
        `feature_size` (h, w), S = h w. With `proposals`: `dense_logits` (B, S, 3) and `dense_pose` (B, S, 2 + 3 K),
        which the criterion treats as one more layer.
        """
        features = self.input_proj(self.backbone(images))
        (batch, dim), (h, w) = features.shape[:2], features.shape[2:]
        if padding_mask is None:
            padding, mask = torch.zeros(1, h, w, dtype=torch.bool, device=images.device), None
        else:
            padding = F.interpolate(padding_mask[None].float(), size=(h, w))[0].bool()
            mask = ~padding.flatten(1)[:, None, None]
        position = image_position(padding, dim).to(features.dtype)
        tokens = features.flatten(2).transpose(1, 2)
        if self.wiring == "paper":
            tokens = tokens + position
        encoder_maps: Maps = [] if attention else None
        decoder_maps: Maps = [] if attention else None
        memory = self.transformer.encode(tokens, position, mask, encoder_maps)
        if self.proposals is not None and self.dense_head is not None:
            dense = self.dense_head(memory, padding)
            logits, pose = self.proposals(self, dense, memory, position, mask, decoder_maps)
            outputs = {"logits": logits, "pose": pose, "dense_logits": dense[0], "dense_pose": dense[1].sigmoid()}
        else:
            queries = self.query_embed.weight.expand(batch, -1, -1)
            start = queries if self.wiring == "paper" else torch.zeros_like(queries)
            states = self.transformer.decode(start, queries, memory, position, mask, decoder_maps)
            # differs from paper: the released code passes all numbers through a sigmoid, the text does not say so
            outputs = {"logits": self.class_embed(states), "pose": self.kpt_embed(states).sigmoid()}
        if attention:
            outputs["encoder_attention"], outputs["decoder_attention"] = map(torch.stack, (encoder_maps, decoder_maps))
            outputs["feature_size"] = torch.tensor([h, w])
        return outputs

    def people(self, outputs: dict[str, Tensor], layer: int = -1) -> dict[str, Tensor]:
        """What one decoder layer says of the queries: `scores` (B, Q), `visibility` (B, Q, K), and relative to the
        image's size `keypoints` (B, Q, K, 2) and `centers` (B, Q, 2). An exported graph ends here."""
        logits, pose = outputs["logits"][layer].float(), outputs["pose"][layer].float()
        # differs from the released code: there the score is the larger of classes 0 and 1, and a row of class 0 is not
        # counted by COCO; here every row is a person, scored by class 1
        scores = logits.softmax(-1)[..., 1]
        centers, keypoints, visibility = split_pose(pose)
        return {"keypoints": keypoints, "visibility": visibility, "scores": scores, "centers": centers}

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1) -> list[Poses]:
        """Poses of one decoder layer, Q per image, best first; no threshold and no suppression, as in the paper.

        outputs: of `forward`, or of `people`. image_sizes (B, 2) = (width, height): the keypoints come out in pixels of
        an image of that size.
        """
        found = outputs if "keypoints" in outputs else self.people(outputs, layer)
        size = torch.as_tensor(image_sizes, dtype=torch.float32, device=found["scores"].device)[:, None]
        arrays = (found["keypoints"] * size[:, :, None], found["visibility"], found["scores"], found["centers"] * size)
        result = []
        for points, seen, score, center in zip(*(array.cpu().numpy() for array in arrays), strict=True):
            poses = Poses(points, seen, score, centers=center)
            result.append(poses.select(np.argsort(-score, kind="stable")))
        return result


def split_pose(pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """pose (..., 2 + 3 K) -> centre (..., 2), keypoints (..., K, 2), visibility (..., K), relative to the image."""
    center, rest = pose[..., :2], pose[..., 2:].unflatten(-1, (-1, 3))
    return center, center[..., None, :] + 2 * (rest[..., :2] - 0.5), rest[..., 2]


def poet_r50(dilate_last: bool = False, pretrained: bool = False, **overrides) -> POET:
    """POET-R50 (stride 32) or, with `dilate_last`, POET-DC5-R50 (stride 16): 41.3 M trained parameters."""
    return POET(ResNet50(dilate_last, pretrained), **{"input": InputSpec(size=800, fit="shortest")} | overrides)


def poet_tiny(widths: tuple[int, ...] = (24, 48, 96), blocks: tuple[int, ...] = (1, 1, 2), **overrides) -> POET:
    """POET at a size that two CPU cores train in minutes: images of 128 pixels, 64 image tokens."""
    size = {"num_queries": 20, "dim": 128, "encoder_layers": 2, "decoder_layers": 3, "feedforward": 256}
    options = {"input": InputSpec(size=128), "dropout": 0.0, "pre_norm": True, "wiring": "paper"} | size | overrides
    model = POET(TinyResNet(widths, blocks), **options)
    if model.proposals is None:
        spread_queries(model)
    return model


@torch.no_grad()
def spread_queries(model: POET, sharpness: float = 2.0) -> None:
    """Another start for the learned queries: each is the position code of a point, and looks at tokens near it.

    The points cover the image evenly (a sequence of low discrepancy), and the cross-attention's key weights equal
    its query weights, so that equal positions match. Only the start differs: all of it is learned as before.
    """
    queries, dim = model.query_embed.weight.shape
    count = torch.arange(queries) + 0.5
    x, y = (0.1 + 0.8 * (count * step % 1) for step in (0.7548776662, 0.5698402910))  # the plastic number's powers
    model.query_embed.weight.copy_(sine_position(x, y, dim))
    for layer in model.transformer.decoder.layers:
        weight = layer.multihead_attn.in_proj_weight
        weight[:dim] *= sharpness
        weight[dim : 2 * dim] = weight[:dim]
