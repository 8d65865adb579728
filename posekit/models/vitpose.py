"""ViTPose: a crop of one person in, a heatmap per keypoint out (Xu et al. 2022, arXiv 2204.12484, Fig. 2).

A plain vision transformer (`vit.py`), a small decoder (`vitpose_heads.py`). Several data sets share the transformer and
have a decoder each; ViTPose+ (arXiv 2212.04246) gives each a part of the feed-forward layers as well.

Legend: M crops of H x W pixels, K keypoints, heatmaps h x w = H / 4 x W / 4 for the published sizes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.fusion import fused
from posekit.models.heatmap_decoding import crop_poses, flip_merge
from posekit.models.vit import SIZES, ViT, sine_positions
from posekit.models.vitpose_heads import decoder_for
from posekit.poses import Poses


class ViTPose(nn.Module):
    """See the module's docstring.

    Args:
        crop_size: (width, height) in pixels.
        num_keypoints: K, or one K per data set.
        heatmap_stride: pixels of the crop per cell of the heatmap, a power of two below the transformer's stride.
        filters: channels inside the classic decoder.
        freeze: arguments of `ViT.freeze`; backbone: further arguments of `ViT`.
    """

    fuse = fused

    def __init__(
        self,
        *,
        crop_size: tuple[int, int] = (192, 256),
        num_keypoints: int | Sequence[int] = 17,
        decoder: str = "classic",
        heatmap_stride: int = 4,
        filters: int = 256,
        freeze: dict | None = None,
        **backbone,
    ) -> None:
        super().__init__()
        vit = ViT(crop_size=crop_size, **backbone)
        vit.freeze(**(freeze or {}))
        doublings = math.log2(vit.stride / heatmap_stride) if heatmap_stride > 0 else -1
        if doublings < 0 or doublings != int(doublings):
            raise ValueError(
                f"heatmaps of stride {heatmap_stride} do not come from features of stride {vit.stride} by doubling; "
                "choose that stride or its half, quarter, ..."
            )
        keypoints = (num_keypoints,) if isinstance(num_keypoints, int) else tuple(num_keypoints)
        self.input, self.crop_size, self.stride = InputSpec(size=max(crop_size), fit="crop"), crop_size, heatmap_stride
        self.decoder, self.keypoints, self.num_keypoints = decoder, keypoints, keypoints[0]
        self.backbone = vit
        heads = [decoder_for(decoder, vit.channels, count, int(doublings), filters) for count in keypoints]
        self.keypoint_head = heads[0]
        self.associate_keypoint_heads = nn.ModuleList(heads[1:])

    @property
    def heads(self) -> list[nn.Module]:
        """The decoders, one per data set."""
        return [self.keypoint_head, *self.associate_keypoint_heads]

    def forward(
        self, images: Tensor, padding_mask: Tensor | None = None, dataset: int | Tensor = 0
    ) -> dict[str, Tensor]:
        """Normalised crops (M, 3, H, W) -> `heatmaps` (M, K, h, w), not squashed.

        dataset: the data set of all crops, or (M,) int64 of each: it chooses the decoder, when there are several, and
        the expert, when there are some. Crops of several data sets get max(K) maps, zeros where theirs has fewer.
        # differs from the released code: there every decoder sees every crop and the loss picks, so their batch norms
        # count all data sets; here each counts its own, which is what it meets when used

        Raises:
            ValueError: a size that the stride does not divide, a data set that the model does not have.
        """
        indices = self._checked(dataset, len(images))
        features = self.backbone(images, dataset)
        if len(self.heads) == 1 or not indices:
            return {"heatmaps": self.keypoint_head(features)}
        if not isinstance(dataset, Tensor):
            return {"heatmaps": self.heads[dataset](features)}
        parts = {index: self.heads[index](features[dataset == index]) for index in indices}
        height, width = parts[indices[0]].shape[2:]
        heatmaps = parts[indices[0]].new_zeros(len(images), max(self.keypoints), height, width)
        for index, own in parts.items():
            heatmaps[dataset == index, : own.shape[1]] = own
        return {"heatmaps": heatmaps}

    def _checked(self, dataset: int | Tensor, crops: int) -> list[int]:
        """The numbers of the data sets in a batch, all of which the model has."""
        if isinstance(dataset, Tensor) and dataset.shape != (crops,):
            raise ValueError(f"dataset has shape {tuple(dataset.shape)}; {crops} crops need ({crops},)")
        indices = dataset.unique().tolist() if isinstance(dataset, Tensor) else [dataset]
        experts = [len(block.mlp.experts) for block in self.backbone.blocks[:1]]
        known = [count for count in experts if count] + [len(self.heads)] * (len(self.heads) > 1)
        wrong = [index for index in indices if index < 0 or known and index >= min(known)]
        if wrong:
            raise ValueError(f"there is no data set {wrong[0]}; the model has {min(known)}, numbered from 0")
        return indices

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Tensor,
        layer: int = -1,
        method: str = "dark",
        udp: bool = True,
        kernel: int = 11,
    ) -> list[Poses]:
        """One person per crop: `heatmaps` (M, K, h, w) -> M `Poses` in pixels of the crop, COCO's frame.

        image_sizes (M, 2) = (width, height) of the crops; `layer` is every model's argument, heatmaps have one. The
        others, visibility and scores: see `heatmap_decoding.crop_poses`. A crop whose maps are not finite has a pose of
        NaN: the other crops of the batch are not lost with it.
        """
        heatmaps = outputs["heatmaps"]
        broken = (~heatmaps.isfinite()).flatten(1).any(1)
        if not broken.any():
            return crop_poses(heatmaps, image_sizes, method, udp, kernel)
        poses = crop_poses(heatmaps.masked_fill(broken[:, None, None, None], 0.0), image_sizes, method, udp, kernel)
        for index in broken.nonzero()[:, 0].tolist():
            poses[index].keypoints[:] = float("nan")
        return poses


@torch.no_grad()
def flip_test(
    model: nn.Module, images: Tensor, flip: Sequence[int], dataset: int | Tensor = 0, shift: bool = False
) -> dict[str, Tensor]:
    """Heatmaps of the crops and of their mirror images, averaged: a model's outputs, only better.

    Args:
        flip: (K,) index of the mirrored keypoint, `Layout.flip`.
        shift: move the mirrored maps one cell to the right: needed after training on MSRA targets, not after UDP's.

    Raises:
        ValueError: a flip for another number of keypoints, or a model without heatmaps.
    """
    options = {} if isinstance(dataset, int) and dataset == 0 else {"dataset": dataset}  # of ViTPose alone
    straight = model(images, **options).get("heatmaps")
    if straight is None:
        raise ValueError(f"a flip test averages heatmaps, and a {type(model).__name__} has none: leave it out")
    if len(flip) != straight.shape[1]:
        raise ValueError(f"the flip has {len(flip)} keypoints and the heatmaps have {straight.shape[1]}")
    mirrored = model(images.flip(-1), **options)["heatmaps"]
    return {"heatmaps": flip_merge(straight, mirrored, flip, shift)}


@torch.no_grad()
def merge_experts(model: ViTPose, index: int) -> ViTPose:
    """The plain model of one data set: its experts joined with the shared layers, its decoder alone.

    Same heatmaps as `model(images, dataset=index)`, no expert left. The given model is not changed.
    """
    model._checked(index, 0)
    plain = copy.deepcopy(model)
    for block in plain.backbone.blocks:
        if len(block.mlp.experts):
            block.mlp = block.mlp.merged(index).train(block.training)
    head = index if len(model.heads) > 1 else 0
    plain.keypoint_head, plain.associate_keypoint_heads = plain.heads[head], nn.ModuleList()
    plain.keypoints, plain.num_keypoints = (model.keypoints[head],), model.keypoints[head]
    return plain


def vitpose(size: str = "b", **options) -> ViTPose:
    """ViTPose-S, -B, -L or -H: "s", "b", "l", "h"; `options` of `ViTPose`, also other numbers than the size's.

    Raises:
        ValueError: an unknown size, or arguments that do not fit together.
    """
    if size not in SIZES:
        raise ValueError(f"there is no ViTPose of size {size!r}; choose one of {', '.join(SIZES)}")
    names = ("dim", "depth", "heads", "drop_path", "part")
    return ViTPose(**dict(zip(names, SIZES[size], strict=True)) | options)


def vitpose_tiny(**overrides) -> ViTPose:
    """ViTPose at a size that two CPU cores train in minutes: crops of 96 x 72 pixels (height x width), 48 tokens.

    Patches of 12 pixels, heatmaps of 32 x 24 cells; 0.67 M parameters, 37 million multiply-adds a crop. Positions start
    as a masked autoencoder's do, as sines and cosines: the published start, normal numbers of 0.02, is for weights that
    come from one; beside random patches of 0.6 it is a whisper.
    """
    size = {"dim": 128, "depth": 4, "heads": 4, "mlp_ratio": 2.0, "drop_path": 0.0, "patch": 12, "padding": 0}
    head = {"crop_size": (72, 96), "heatmap_stride": 3, "filters": 32, "part": 32}
    model = vitpose("s", **size | head | overrides)
    with torch.no_grad():
        model.backbone.pos_embed.zero_()[:, 1:] = sine_positions(model.backbone.grid, model.backbone.channels)
    return model
