"""SimpleBaseline: a crop of one person in, a heatmap per keypoint out, by ResNet-50 and three deconvolutions (Xiao, Wu,
Wei 2018, arXiv 1804.06208, Fig. 2).

Legend: M crops of H x W pixels, K keypoints, heatmaps H / 4 x W / 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import ResNet50, TinyResNet
from posekit.models.fusion import fused
from posekit.models.heatmap_decoding import crop_poses
from posekit.models.vitpose_heads import decoder_for
from posekit.poses import Poses


class SimpleBaseline(nn.Module):
    """See the module's docstring. `crop_size` = (width, height); `doublings`: deconvolutions of `filters` channels."""

    fuse = fused

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_keypoints: int = 17,
        crop_size: tuple[int, int] = (192, 256),
        doublings: int = 3,
        filters: int = 256,
    ) -> None:
        super().__init__()
        self.input, self.num_keypoints, self.crop_size = InputSpec(max(crop_size), fit="crop"), num_keypoints, crop_size
        self.stride = backbone.stride // 2**doublings
        self.backbone = backbone
        self.keypoint_head = decoder_for("classic", backbone.channels, num_keypoints, doublings, filters)

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised crops (M, 3, H, W) -> `heatmaps` (M, K, H / stride, W / stride), not squashed."""
        return {"heatmaps": self.keypoint_head(self.backbone(images))}

    @torch.no_grad()
    def decode(
        self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1, method: str = "quarter"
    ) -> list[Poses]:
        """One person per crop, in COCO pixels of the crop; see `heatmap_decoding.crop_poses`.

        image_sizes (M, 2) = (width, height) of the crops. `layer` is not used: there is one.
        """
        return crop_poses(outputs["heatmaps"], image_sizes, method, self.input.udp)


def simple_baseline_r50(pretrained: bool = False, **overrides) -> SimpleBaseline:
    """SimpleBaseline-R50 at 256 x 192: 34.00 M parameters, 5.4 GMAC per person."""
    return SimpleBaseline(ResNet50(pretrained=pretrained, frozen=False), **overrides)


def simple_baseline_tiny(**overrides) -> SimpleBaseline:
    """For crops of 96 x 64 pixels (height x width) on two CPU cores: stride 4, 0.5 M parameters."""
    options = {"crop_size": (64, 96), "doublings": 2, "filters": 48} | overrides
    return SimpleBaseline(TinyResNet(), **options)
