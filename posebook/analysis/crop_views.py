"""Single people as the reports show them: cut out, painted by a masked autoencoder, found by one decoder of several.

Frame: pixels of the crop, COCO's frame. Crops are uint8 (H, W, 3) RGB of the model's size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from posekit.data import transforms
from posekit.data.crops import cut_out
from posekit.data.transforms import normalise
from posekit.poses import Poses


@dataclass
class Closeup:
    """`image` uint8 (H, W, 3) and what is annotated on it, one person."""

    image: np.ndarray
    pose: Poses


@dataclass
class Painted:
    """What a masked autoencoder makes of a crop, all uint8 (H, W, 3).

    `seen`: the crop with what was hidden in grey. `painted`: its patches where they were hidden. `plain`: every hidden
    patch in its own mean brightness, which `painted` is given as well where targets are normalised. `hidden` (h, w)
    bool; `error`: mean squared error on the hidden patches; of normalised ones, 1 is the error of `plain`.
    """

    image: np.ndarray
    seen: np.ndarray
    painted: np.ndarray
    plain: np.ndarray
    hidden: np.ndarray
    error: float


def closeup(data, index: int, size: tuple[int, int]) -> Closeup:
    """The person of picture `index` with the most labelled joints, of several the largest; `size` (width, height).

    Raises:
        ValueError: the picture has no person with a labelled joint.
    """
    target = data.target(index)
    labelled = (np.asarray(target["visibility"]) > 0).sum(1)
    if not labelled.any():
        raise ValueError(f"picture {index} of {data.name} has no person with a labelled joint; choose another one")
    who = np.lexsort((target["areas"], labelled))[-1]
    crops = cut_out(data.image(index), target["boxes"][[who]], size)
    to_crop = transforms.invert(crops.to_original[0])
    points = transforms.transform_points(to_crop, np.float32(target["keypoints"][[who]]))
    visibility = np.asarray(target["visibility"])[[who]]
    points = np.where(visibility[..., None] > 0, points, np.nan).astype(np.float32)
    whole = np.array([[0, 0, *size]], np.float32)
    return Closeup(crops.pixels[0], Poses(points, np.float32(visibility == 2), np.ones(1, np.float32), whole))


def typical(errors: np.ndarray) -> tuple[int, int, float]:
    """Whom to follow on a page: (person, joint, mean error), neither the best nor the worst, by a rule.

    Of the people with the most labelled joints the one whose mean error is the median (of an even number the lower of
    the two in the middle), and of this person's labelled joints the one whose error is.

    Args: errors: (n, K) distances, NaN where a joint is not labelled.

    Raises:
        ValueError: nobody has a labelled joint.
    """
    labelled = np.isfinite(errors).sum(1)
    if not labelled.any():
        raise ValueError(f"none of {len(errors)} people has a labelled joint; look at more pictures")
    whole = np.flatnonzero(labelled == labelled.max())
    means = np.nanmean(errors[whole], 1)
    person = int(whole[np.argsort(means, kind="stable")[(len(whole) - 1) // 2]])
    joint = int(np.argsort(errors[person], kind="stable")[(labelled.max() - 1) // 2])  # NaN comes last
    return person, joint, float(np.nanmean(errors[person]))


@torch.inference_mode()
def find(model, closeups: Iterable[Closeup]) -> list[Poses]:
    """The poses that a ViTPose finds on crops of its size, one person each."""
    images = np.stack([one.image for one in closeups])
    outputs = model(normalise(images, model.input.mean, model.input.std))
    return model.decode(outputs, torch.tensor([images.shape[2:0:-1]] * len(images)))


@torch.inference_mode()
def paint(model, closeups: Iterable[Closeup]) -> list[Painted]:
    """What a masked autoencoder in evaluation mode paints; it hides the same patches every time."""
    crops = np.stack([one.image for one in closeups])
    images = normalise(crops, model.input.mean, model.input.std)
    outputs, made = model(images), model.reconstruct(images)
    means, hidden = F.avg_pool2d(images, model.stride).mean(1, keepdim=True), made["hidden"][:, None]
    means, mask = (torch.kron(part, torch.ones(model.stride, model.stride)) for part in (means, hidden.float()))
    parts = (made["painted"], torch.where(mask > 0, means, images))
    painted, plain = (_pixels(part, model.input) for part in parts)
    seen = np.where(mask[:, 0, :, :, None] > 0, np.uint8(150), crops)
    errors = (outputs["patches"] - outputs["true_patches"]).square().mean(-1)
    errors = [float(error[gone].mean()) for error, gone in zip(errors, outputs["hidden"], strict=True)]
    rows = zip(crops, seen, painted, plain, hidden[:, 0].numpy(), errors, strict=True)
    return [Painted(*row) for row in rows]


def _pixels(images: torch.Tensor, see) -> np.ndarray:
    """The inverse of `normalise`, rounded."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (see.mean, see.std))
    values = (images * std + mean).mul(255).round().clamp(0, 255)
    return values.to(torch.uint8).permute(0, 2, 3, 1).numpy()
