"""Convolutional backbones: ResNet-50 (stride 32, or 16 with DC5), the same with three maps for RTMO, and a tiny one.

POET, "CNN backbone": F in R^(B x C x H/S x W/S) for images in R^(B x 3 x H x W), stride S. All classes keep their
layers under `body`, the name of published POET weights (`backbone.0.body.*`), and say `channels`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def resnet50_maps(maps: dict[str, str], pretrained: bool, **options) -> nn.ModuleDict:
    """torchvision's ResNet-50 as the maps of some stages, {stage: name}; `pretrained` downloads ImageNet weights
    (torchvision's V1, as the paper's)."""
    from torchvision.models import ResNet50_Weights, resnet50
    from torchvision.models._utils import IntermediateLayerGetter

    network = resnet50(weights=ResNet50_Weights.IMAGENET1K_V1 if pretrained else None, **options)
    return IntermediateLayerGetter(network, maps)


class ResNet50(nn.Module):
    """ResNet-50 without its classifier, batch norm frozen, conv1 and layer1 not trained.

    `dilate_last` is POET's DC5: the last stage dilates instead of striding, so the stride is 16, not 32.
    `frozen`: False trains everything, batch norms included, as the heatmap baselines do.
    """

    channels = 2048

    def __init__(self, dilate_last: bool = False, pretrained: bool = False, frozen: bool = True) -> None:
        super().__init__()
        from torchvision.ops.misc import FrozenBatchNorm2d

        norm = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
        options = {"replace_stride_with_dilation": [False, False, dilate_last], "norm_layer": norm}
        self.body = resnet50_maps({"layer4": "features"}, pretrained, **options)
        self.stride = 16 if dilate_last else 32
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(not frozen or name.startswith(("layer2", "layer3", "layer4")))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 2048, H / stride, W / stride)."""
        return self.body(images)["features"]


class ResNet50Pyramid(nn.Module):
    """ResNet-50 with the maps of its last three stages; nothing is frozen."""

    channels = (512, 1024, 2048)

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        self.body = resnet50_maps({f"layer{stage}": f"c{stage + 1}" for stage in (2, 3, 4)}, pretrained)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> C3, C4, C5 at strides 8, 16 and 32."""
        return list(self.body(images).values())


class TinyResNet(nn.Module):
    """A residual network of some 0.4 M parameters for images of 128 to 256 pixels, stride 16.

    Two strided 3x3 convolutions, then one residual stage per entry of `widths`, `blocks` deep; every stage but the
    first halves the resolution.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96), blocks: tuple[int, ...] = (1, 1, 2)) -> None:
        super().__init__()
        layers = [*convolution(3, 16, stride=2), nn.ReLU(), *convolution(16, widths[0], stride=2), nn.ReLU()]
        width = widths[0]
        for stage, (out, depth) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(depth):
                layers.append(Residual(width, out, stride=2 if stage and not block else 1))
                width = out
        self.body = nn.Sequential(*layers)
        self.channels, self.stride = width, 2 * 2 ** len(widths)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[-1], H / stride, W / stride)."""
        return self.body(images)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, outputs, stride)
        self.conv2, self.bn2 = convolution(outputs, outputs)
        nn.init.zeros_(self.bn2.weight)  # the block starts as its shortcut: deeper nets train from the first step
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(outputs)
