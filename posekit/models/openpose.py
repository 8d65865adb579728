"""OpenPose, the COCO network: heatmaps of 18 body parts and fields along the limbs between them, refined stage by stage
(Cao et al. 2017, arXiv 1611.08050, Fig. 3).

Written from the paper. The people are assembled in `part_affinity.py`. Legend: B images, S stages, P = 18 parts, E = 19
limbs, (h, w) maps of stride 8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.backbones import convolution
from posekit.models.fusion import fused
from posekit.models.part_affinity import LIMBS, PARTS, TO_COCO, assemble
from posekit.poses import Poses

COARSEST = 8


class OpenPose(nn.Module):
    """See the module's docstring.

    Args:
        trunk: (B, 3, H, W) -> (B, features, H / 8, W / 8).
        stages: of which the first sees the features alone, the others the last stage's maps as well.
        width, kernel, depth: of the convolutions of the later stages; first: (channels, 1 x 1 channels) of the first.
    """

    fuse = fused
    stride = 8

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        *,
        input: InputSpec,
        num_keypoints: int = len(TO_COCO),
        stages: int = 6,
        width: int = 128,
        kernel: int = 7,
        depth: int = 5,
        first: tuple[int, int] = (128, 512),
    ) -> None:
        super().__init__()
        if num_keypoints != len(TO_COCO):
            raise ValueError(
                f"OpenPose's parts and limbs are those of COCO's {len(TO_COCO)} keypoints, not {num_keypoints}"
            )
        self.input, self.num_keypoints, self.trunk = input, num_keypoints, trunk
        outputs = {"pafs": 2 * len(LIMBS), "heatmaps": len(PARTS) + 1}
        inputs = features + sum(outputs.values())
        self.branches = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    _branch(inputs if stage else features, count, width, kernel, depth, width)
                    if stage
                    else _branch(features, count, first[0], 3, 3, first[1])
                    for stage in range(stages)
                )
                for name, count in outputs.items()
            }
        )

    def forward(self, images: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) -> `pafs` (S, B, 2 E, h, w), x and y of a limb in turn, and `heatmaps` (S, B,
        P + 1, h, w), the last the background, raw numbers of every stage.

        The maps cover the image padded at the bottom and on the right to a multiple of 8; padding_mask is not used.
        """
        height, width = images.shape[2:]
        features = self.trunk(F.pad(images, (0, -width % COARSEST, 0, -height % COARSEST)))
        maps: dict[str, list[Tensor]] = {name: [] for name in self.branches}
        x = features
        for stages in zip(*self.branches.values(), strict=True):
            made = [branch(x) for branch in stages]
            for name, value in zip(maps, made, strict=True):
                maps[name].append(value)
            x = torch.cat([*made, features], 1)
        return {name: torch.stack(values) for name, values in maps.items()}

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], image_sizes: Tensor, layer: int = -1) -> list[Poses]:
        """People per image, best first, in pixels of the network input, COCO's frame, as COCO's 17 keypoints.

        image_sizes (B, 2) = (width, height) without padding; layer: the stage whose maps are read. Missing keypoints
        lie at (0, 0) with visibility 0; others' visibility is their peak, cut to [0, 1].
        """
        sizes = torch.as_tensor(image_sizes).tolist()
        maps = []
        for name in ("heatmaps", "pafs"):
            large = F.interpolate(outputs[name][layer].float(), scale_factor=self.stride, mode="bicubic")
            maps.append(large.cpu().numpy())
        return [
            assemble(heat[:, : int(height), : int(width)], field[:, : int(height), : int(width)])
            for heat, field, (width, height) in zip(*maps, sizes, strict=True)
        ]


def _branch(inputs: int, outputs: int, width: int, kernel: int, depth: int, last: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(inputs, width, kernel, padding=kernel // 2), nn.ReLU()]
        inputs = width
    branch = nn.Sequential(*layers, nn.Conv2d(width, last, 1), nn.ReLU(), nn.Conv2d(last, outputs, 1))
    for layer in branch:  # the layers are many and have no batch norm: keep the size of what passes
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(branch[-1].weight, std=0.01)
    return branch


def openpose_coco(pretrained: bool = False, **overrides) -> OpenPose:
    """VGG-19 up to conv4_2, two convolutions, six stages: 52.31 M parameters, 263 GMAC for 512 x 512.

    `pretrained`: torchvision's VGG-19. Input: shortest side 368.
    """
    from torchvision.models import VGG19_Weights, vgg19

    features = vgg19(weights=VGG19_Weights.IMAGENET1K_V1 if pretrained else None).features[:23]
    own = (nn.Conv2d(512, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 128, 3, padding=1), nn.ReLU())
    return OpenPose(nn.Sequential(*features, *own), 128, **{"input": InputSpec(size=368, fit="shortest")} | overrides)


def openpose_tiny(**overrides) -> OpenPose:
    """For images of 128 pixels on two CPU cores: three stages of 3 x 3 convolutions, 0.6 M parameters.

    # differs from paper: batch norms in the trunk, which starts from random weights.
    """
    trunk = [layer for i, o, s in ((3, 24, 2), (24, 48, 2), (48, 64, 2), (64, 64, 1)) for layer in _step(i, o, s)]
    options = {"stages": 3, "width": 48, "kernel": 3, "depth": 3, "first": (48, 96)} | overrides
    return OpenPose(nn.Sequential(*trunk), 64, input=InputSpec(size=128), **options)


def _step(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [*convolution(inputs, outputs, stride), nn.ReLU()]
