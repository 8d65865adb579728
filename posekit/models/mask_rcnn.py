"""torchvision's Mask R-CNN as the person detector in front of a top-down model (He et al. 2017, arXiv 1703.06870): the
two-stage system of POET's Figure 1. It is not trained here; `weights="DEFAULT"` downloads torchvision's (COCO, box AP
37.9).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from posekit.poses import Poses

PERSON = 1  # torchvision's label


class PersonDetector:
    """`Predictor(model, detector=PersonDetector())`: called with images, returns `Poses` without keypoints.

    weights: torchvision's name of them, None = random. size: shortest and longest side in pixels to which images are
    resized; POET resized all to 512. threshold: people with a lower score are left out. network: another one with the
    interface of torchvision's detection models.
    """

    def __init__(
        self,
        weights: str | None = "DEFAULT",
        *,
        size: tuple[int, int] = (800, 1333),
        threshold: float = 0.05,
        device: str | torch.device = "cpu",
        network: nn.Module | None = None,
    ) -> None:
        if network is None:
            from torchvision.models.detection import maskrcnn_resnet50_fpn

            options = {"min_size": size[0], "max_size": size[1], "box_score_thresh": threshold}
            network = maskrcnn_resnet50_fpn(weights=weights, weights_backbone=None, **options)
        self.network, self.threshold, self.device = network.eval().to(device), threshold, device

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray]) -> list[Poses]:
        """images (H, W, 3) uint8 RGB -> people, best first; boxes in COCO pixels."""
        pixels = [torch.from_numpy(image).permute(2, 0, 1).to(self.device).float() / 255 for image in images]
        return [self.people(found) for found in self.network(pixels)]

    def people(self, found: dict[str, torch.Tensor]) -> Poses:
        kept = (found["labels"] == PERSON) & (found["scores"] >= self.threshold)
        boxes, scores = (found[name][kept].cpu().numpy() for name in ("boxes", "scores"))
        return Poses.of_boxes(boxes, scores).select(np.argsort(-scores, kind="stable"))
