"""Training a backbone alone on joint heatmaps, before the set prediction begins.

POET starts from a backbone that already sees: ImageNet's in the first set of experiments, one trained on COCO keypoint
heatmaps in the second ("Implementation Details"). A tiny network on drawn people has neither, so it makes its own: one
1x1 convolution on the backbone's features predicts, for each joint type, where such joints are, four times finer than
the features. The head is thrown away, the backbone is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.data import notes
from posekit.data.loader import Loader

UPSCALE = 4  # heatmap cells per feature cell and side
SIGMA = 4.0  # pixels of the network input


def pretrain(
    backbone: nn.Module,
    loader: Loader,
    num_keypoints: int,
    steps: int,
    lr: float,
    report: Callable[[str], None] = print,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Trains `backbone` in place for `steps` batches of the loader; keeps nothing else.

    A run that is stopped on the way starts it again, and the same seed makes the same weights. `check` is called before
    every batch; what it raises ends the training.
    """
    device = next(backbone.parameters()).device
    head = nn.Conv2d(backbone.channels, num_keypoints * UPSCALE**2, kernel_size=1).to(device)
    nn.init.constant_(head.bias, -3.0)  # joints are rare
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-4, fused=True)
    backbone.train()
    step = epoch = 0
    while step < steps:
        before = step
        for batch in loader.epoch(epoch):
            if step >= steps:
                break
            check()
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / 100)
            images = batch["images"].to(device).contiguous(memory_format=torch.channels_last)
            logits = F.pixel_shuffle(head(backbone(images)), UPSCALE)
            loss = heatmap_loss(logits, batch["targets"], backbone.stride / UPSCALE)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % max(steps // 4, 1) == 0:
                report(f"backbone on heatmaps: step {step}/{steps}, loss {loss.item():.4f}")
        if step == before:
            raise notes.unreadable_error(loader.dataset)
        epoch += 1


def heatmap_loss(logits: Tensor, targets: list[dict[str, Tensor]], cell: float) -> Tensor:
    """Binary cross-entropy of logits (B, K, h, w) with Gaussians at labelled joints (v > 0); `cell`: its pixels."""
    wanted = torch.stack([heatmaps(t["keypoints"], t["visibility"], logits.shape[-2:], cell) for t in targets])
    weight = torch.tensor(5.0, device=logits.device)  # of the rare joint cells
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.device), pos_weight=weight)


def heatmaps(keypoints: Tensor, visibility: Tensor, shape: tuple[int, int], cell: float) -> Tensor:
    """keypoints (n, K, 2) pixels, visibility (n, K) -> (K, h, w): the largest Gaussian of any person, in [0, 1]."""
    h, w = shape
    if not len(keypoints):
        return torch.zeros(keypoints.shape[1], h, w)
    x, y = (torch.arange(n) * cell + cell / 2 for n in (w, h))
    gx = torch.exp(-((keypoints[..., 0, None].float() - x) ** 2) / (2 * SIGMA**2))
    gy = torch.exp(-((keypoints[..., 1, None].float() - y) ** 2) / (2 * SIGMA**2))
    seen = (visibility > 0).float()[..., None, None]
    return (gy[..., :, None] * gx[..., None, :] * seen).amax(0)
