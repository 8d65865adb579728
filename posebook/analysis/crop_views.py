"""Top-down models on single people's crops: the crops, the poses found on them, masked autoencoders' reconstructions.

Coordinates: COCO pixels of the crop. Crops are uint8 (H, W, 3) RGB of the model's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from posekit.data import transforms
from posekit.data.crops import box_matrices, crop_people
from posekit.data.transforms import normalise
from posekit.poses import Poses

BATCH = 64


@dataclass
class CropView:
    """`image` uint8 (H, W, 3) and what is annotated on it, one person."""

    image: np.ndarray
    pose: Poses


@dataclass
class Reconstruction:
    """What a masked autoencoder makes of a crop, all uint8 (H, W, 3).

    `visible`: the crop with masked patches in grey. `reconstructed`: the model's patches where they were masked.
    `brightness`: every masked patch in its own mean brightness. `masked` (h, w) bool; `error`: mean squared error on
    the masked patches; of normalised ones, 1 is the error of `brightness`.
    """

    image: np.ndarray
    visible: np.ndarray
    reconstructed: np.ndarray
    brightness: np.ndarray
    masked: np.ndarray
    error: float


def crop_view(data, index: int, size: tuple[int, int]) -> CropView:
    """The person of image `index` with the most labelled joints, of several the largest; `size` (width, height).

    Raises ValueError: the image has no person with a labelled joint.
    """
    target = data.target(index)
    labelled = (np.asarray(target["visibility"]) > 0).sum(1)
    if not labelled.any():
        raise ValueError(f"image {index} of {data.name} has no person with a labelled joint; choose another one")
    who = [np.lexsort((target["areas"], labelled))[-1]]
    matrices = box_matrices(target["boxes"][who], size, udp=True)
    (crop,) = crop_people(data.image(index), matrices, size)
    points = transforms.transform_points(matrices[0], np.float32(target["keypoints"][who]))
    visibility = np.asarray(target["visibility"])[who]
    points = np.where(visibility[..., None] > 0, points, np.nan).astype(np.float32)
    whole = np.array([[0, 0, *size]], np.float32)
    return CropView(crop, Poses(points, np.float32(visibility == 2), np.ones(1, np.float32), whole))


def typical(errors: np.ndarray) -> tuple[int, int, float]:
    """Whom to follow on a page: (person, joint, mean error), neither the best nor the worst, by a rule.

    Of the people with the most labelled joints the one whose mean error is the median (of an even number the lower),
    and of this person's labelled joints the one whose error is. errors: (n, K), NaN where a joint is not labelled.

    Raises ValueError: nobody has a labelled joint.
    """
    labelled = np.isfinite(errors).sum(1)
    if not labelled.any():
        raise ValueError(f"none of {len(errors)} people has a labelled joint; look at more images")
    whole = np.flatnonzero(labelled == labelled.max())
    means = np.nanmean(errors[whole], 1)
    person = int(whole[np.argsort(means, kind="stable")[(len(whole) - 1) // 2]])
    joint = int(np.argsort(errors[person], kind="stable")[(labelled.max() - 1) // 2])  # NaN comes last
    return person, joint, float(np.nanmean(errors[person]))


@torch.inference_mode()
def forward(model, crops: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
    """Outputs of a top-down model, in evaluation mode, on crops uint8 (n, H, W, 3), `BATCH` at a time."""
    device, model = next(model.parameters()).device, model.eval()
    for start in range(0, len(crops), BATCH):
        yield model(normalise(crops[start : start + BATCH], model.input.mean, model.input.std, device))


@torch.inference_mode()
def find_poses(model, crops: np.ndarray) -> list[Poses]:
    """The poses that a top-down model finds on crops uint8 (n, H, W, 3), one person each."""
    crops, found = np.asarray(crops), []
    for outputs in forward(model, crops):
        sizes = torch.tensor(crops.shape[2:0:-1]).repeat(min(BATCH, len(crops) - len(found)), 1)
        found += model.decode(outputs, sizes)
    return found


@torch.inference_mode()
def reconstruct(model, views: Iterable[CropView]) -> list[Reconstruction]:
    """What a masked autoencoder in evaluation mode makes of crops; it masks the same patches every time."""
    crops = np.stack([one.image for one in views])
    images = normalise(crops, model.input.mean, model.input.std)
    outputs, made = model(images), model.reconstruct(images)
    means, masked = F.avg_pool2d(images, model.stride).mean(1, keepdim=True), made["masked"][:, None]
    means, pixels = (torch.kron(part, torch.ones(model.stride, model.stride)) for part in (means, masked.float()))
    parts = (made["reconstructed"], torch.where(pixels > 0, means, images))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.input.mean, model.input.std))
    bytes_of = ((part * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8) for part in parts)
    reconstructed, brightness = (part.permute(0, 2, 3, 1).numpy() for part in bytes_of)
    visible = np.where(pixels[:, 0, :, :, None] > 0, np.uint8(150), crops)
    errors = (outputs["patches"] - outputs["true_patches"]).square().mean(-1)
    errors = [float(error[gone].mean()) for error, gone in zip(errors, outputs["masked"], strict=True)]
    rows = zip(crops, visible, reconstructed, brightness, masked[:, 0].numpy(), errors, strict=True)
    return [Reconstruction(*row) for row in rows]
