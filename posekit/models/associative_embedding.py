"""Associative embedding: heatmaps that say where joints are and tags that say whose they are (Newell, Huang, Deng 2017,
arXiv 1611.05424), on ResNet-50 at several strides, on HRNet-W32, and as HigherHRNet (Cheng et al. 2020).

Bottom-up: one pass for the whole image, then grouping on the CPU (`tag_grouping.py`). Legend: B images of H x W pixels,
K keypoints, L tags of a joint (2 with the flip test), (h, w) maps. Frame: the middle of cell (r, c) of a map with
stride s is ((c + .5) s, (r + .5) s), COCO's frame of the network input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import Residual, ResNet50, TinyResNet
from posekit.models.fusion import fused
from posekit.models.tag_grouping import Grouping, group
from posekit.models.vitpose_heads import decoder_for
from posekit.poses import Poses, boxes_around

COARSEST = 32  # images are padded to multiples of the backbones' largest stride


class AssociativeEmbedding(nn.Module):
    """A backbone, deconvolutions, and a 1 x 1 convolution to K heatmaps and K tags.

    Args:
        backbone: (B, 3, H, W) -> (B, channels, H / stride, W / stride).
        doublings: deconvolutions, each of which halves the stride.
        higher: HigherHRNet's second scale, see `HigherHead`.
        grouping: how `decode` finds people.
    """

    fuse = fused

    def __init__(
        self,
        backbone: nn.Module,
        *,
        input: InputSpec,
        num_keypoints: int = 17,
        doublings: int = 3,
        filters: int = 256,
        higher: bool = False,
        grouping: Grouping | None = None,
    ) -> None:
        super().__init__()
        self.input, self.num_keypoints, self.stride = input, num_keypoints, backbone.stride // 2**doublings
        self.grouping = grouping or Grouping()
        if len(self.grouping.order) != num_keypoints:  # the order is COCO's
            self.grouping = replace(self.grouping, order=())
        self.backbone = backbone
        self.keypoint_head = decoder_for("classic", backbone.channels, 2 * num_keypoints, doublings, filters)
        self.higher = HigherHead(backbone.channels, num_keypoints) if higher else None

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) -> `heatmaps` (B, K, h, w) and `tags` (B, K, 1, h, w), raw numbers.

        HigherHRNet besides `heatmaps_fine` (B, K, 2 h, 2 w). The maps cover the image padded at the bottom and on the
        right to a multiple of 32 pixels; padding_mask is not used.
        """
        height, width = images.shape[2:]
        features = self.backbone(F.pad(images, (0, -width % COARSEST, 0, -height % COARSEST)))
        maps = self.keypoint_head(features)
        heatmaps, tags = maps.split(self.num_keypoints, 1)
        outputs = {"heatmaps": heatmaps, "tags": tags[:, :, None]}
        if self.higher is not None:
            outputs["heatmaps_fine"] = self.higher(torch.cat([features, maps], 1))
        return outputs

    @torch.no_grad()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Tensor,
        layer: int = -1,
        mode: str = "",
        enlarge: bool = True,
        max_people: int = 30,
    ) -> list[Poses]:
        """People per image, best first, in pixels of the network input, COCO's frame.

        image_sizes (B, 2) = (width, height) without padding. mode: of the grouping ("fast" or "paper"), "" = the
        model's own. enlarge: group on maps of the image's size, as published, or on the maps as they are. A person's
        box is drawn around its joints, its score is the mean value of its peaks. `layer` is not used: there is one.
        """
        grouping = replace(self.grouping, mode=mode) if mode else self.grouping
        heatmaps, tags = enlarged(outputs, self.stride if enlarge else 1)
        scale = 1.0 if enlarge else float(self.stride)
        sizes = torch.as_tensor(image_sizes).cpu().numpy()
        return [
            to_poses(*group(heat, tag, grouping), scale, size, max_people)
            for heat, tag, size in zip(heatmaps, tags, sizes, strict=True)
        ]


class HigherHead(nn.Module):
    """HigherHRNet's second scale: a deconvolution of features and first maps, four residual blocks, K heatmaps."""

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels + 2 * num_keypoints, channels, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.blocks = nn.Sequential(*(Residual(channels, channels) for _ in range(4)))
        self.final_layer = nn.Conv2d(channels, num_keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels + 2 K, h, w) -> (B, K, 2 h, 2 w)."""
        return self.final_layer(self.blocks(torch.relu(self.norm(self.deconv(x)))))


def enlarged(outputs: dict[str, Tensor], factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (B, K, H, W), the mean of both scales where there are two, and tags (B, K, H, W, L), on the CPU.

    `factor`: by which maps become larger than `tags`, bilinearly; 1 keeps their size.
    """
    tags = outputs["tags"].float()
    size = [factor * length for length in tags.shape[-2:]]

    def resize(maps: Tensor) -> Tensor:
        same = list(maps.shape[-2:]) == size
        return maps if same else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    scales = [resize(value.float()) for name, value in outputs.items() if name.startswith("heatmaps")]
    heatmaps = torch.stack(scales).mean(0) if len(scales) > 1 else scales[0]
    tags = resize(tags.flatten(1, 2)).unflatten(1, tags.shape[1:3])
    return heatmaps.cpu().numpy(), tags.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()


def to_poses(joints: np.ndarray, scores: np.ndarray, scale: float, size: np.ndarray, max_people: int) -> Poses:
    """Joints (P, K, 3 + L) of maps -> `Poses`; people without a joint inside the image of `size` (W, H) are left out.

    Missing joints lie at (0, 0) with visibility 0; others' visibility is their peak, cut to [0, 1].
    """
    keypoints, visibility = joints[..., :2] * np.float32(scale), joints[..., 2].clip(0, 1)
    visibility = visibility * ((keypoints >= 0) & (keypoints <= size)).all(-1)
    found = visibility > 0
    keypoints = np.where(found[..., None], keypoints, 0).astype(np.float32)
    poses = Poses(keypoints, visibility.astype(np.float32), scores, boxes_around(keypoints, found))
    order = np.argsort(-scores, kind="stable")
    return poses.select(order[found.any(1)[order]][:max_people])


@torch.no_grad()
def flip_test(model: AssociativeEmbedding, images: Tensor, flip: Sequence[int]) -> dict[str, Tensor]:
    """Heatmaps of the images and of their mirror images averaged, tags of both side by side (L = 2).

    flip (K,): index of the mirrored keypoint, `Layout.flip`. The images' width must be a multiple of 32, or the mirror
    would move against the maps.

    Raises:
        ValueError: another width.
    """
    if images.shape[3] % COARSEST:
        raise ValueError(f"the flip test needs a width that is a multiple of {COARSEST}, not {images.shape[3]}: pad it")
    straight, mirrored = model(images), model(images.flip(-1))
    back = {name: value[:, list(flip)].flip(-1) for name, value in mirrored.items()}
    merged = {name: (value + back[name]) / 2 for name, value in straight.items() if name != "tags"}
    return merged | {"tags": torch.cat([straight["tags"], back["tags"]], 2)}


class HRNet(nn.Module):
    """timm's HRNet up to its finest branch, stride 4. `width`: 32 or 48 channels."""

    stride = 4

    def __init__(self, width: int = 32, pretrained: bool = False) -> None:
        super().__init__()
        import timm  # several seconds: only where it is used

        options = {"features_only": True, "out_indices": (1,), "feature_location": "", "pretrained": pretrained}
        self.body, self.channels = timm.create_model(f"hrnet_w{width}", **options), width
        fuse = self.body.stage4[-1].fuse_layers
        del fuse[1:]  # into the coarser branches, which nothing reads

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, width, H / 4, W / 4)."""
        return self.body(images)[0]


SPEC = InputSpec(
    size=512, fit="shortest"
)  # differs from mmpose: padded at the bottom and the right, not about the centre


def ae_r50(stride: int = 4, pretrained: bool = False, **overrides) -> AssociativeEmbedding:
    """ResNet-50 with 3, 2, 1 or no deconvolution for stride 4, 8, 16 or 32: 34.00, 32.95, 31.91 or 23.58 M parameters.

    Raises:
        ValueError: another stride.
    """
    return AssociativeEmbedding(
        ResNet50(pretrained=pretrained, frozen=False), **{"input": SPEC, "doublings": doublings_for(stride)} | overrides
    )


def ae_hrnet(width: int = 32, higher: bool = False, pretrained: bool = False, **overrides) -> AssociativeEmbedding:
    """HRNet-W32 or -W48 at stride 4; `higher`: HigherHRNet."""
    options = {"input": SPEC, "doublings": 0, "higher": higher} | overrides
    return AssociativeEmbedding(HRNet(width, pretrained), **options)


def ae_tiny(stride: int = 4, **overrides) -> AssociativeEmbedding:
    """For images of 128 pixels on two CPU cores: 1.1 M parameters at stride 4."""
    options = {"input": InputSpec(size=128), "doublings": doublings_for(stride), "filters": 48} | overrides
    return AssociativeEmbedding(TinyResNet((24, 48, 96, 128), (1, 1, 2, 2)), **options)


def doublings_for(stride: int) -> int:
    if stride not in (4, 8, 16, 32):
        raise ValueError(f"associative embedding has stride 4, 8, 16 or 32, not {stride}")
    return {4: 3, 8: 2, 16: 1, 32: 0}[stride]
