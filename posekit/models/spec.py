"""What a model takes, and the way back: the size of its input, how an image is fitted in, how pixels are scaled, and
its poses in pixels of the original images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from posekit.poses import HALF_PIXEL, Poses

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: RGB, `(pixel / 255 - mean) / std`.

    `fit="letterbox"`: longest side to `size`, padded to a square; `fit="shortest"`: shortest side to `size`, longest
    at most `longest`, batches padded at the bottom and on the right.

    Of a letterbox: `pad` is the grey value (0 to 255) that fills the padding; None marks it in the padding mask
    instead. `align`: the image touches the "topleft" corner or lies in the "centre" (that needs a `pad`).

    `fit="crop"`: people cut out of the image, one each (`posekit.data.crops`).

    `pixel_centre`: the number that the weights learnt for the centre of an image's first pixel. 0.5: COCO's convention.
    0: published RTMO and ViTPose, whose training takes COCO's numbers for pixel indices, so that their keypoints lie
    half a pixel lower.
    """

    size: int
    fit: str = "letterbox"
    longest: int = 1333
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    pad: int | None = None
    align: str = "topleft"
    pixel_centre: float = HALF_PIXEL


def decode(model, outputs: dict, batch: dict, layer: int = -1) -> list[Poses]:
    """The poses of a batch in pixels of the original images.

    `outputs`: the model's; `batch`: `sizes` (B, 2) and `to_original` (B, 2, 3), as `transforms.make_batch` and `Loader`
    give them. Weights that count pixel centres as integers are converted to COCO's convention here; of crops the
    matrices hold that already.
    """
    shift = 0.0 if model.input.fit == "crop" else model.input.pixel_centre - HALF_PIXEL
    poses = model.decode(outputs, batch["sizes"], layer=layer)
    back = np.asarray(batch["to_original"].cpu()) + np.float32([0, 0, shift])
    return [one.transform(matrix) for one, matrix in zip(poses, back, strict=True)]


def finite(poses: list[Poses]) -> list[Poses]:
    """The same without people who have a number that is not finite; a warning counts them."""
    fine = [one.finite() for one in poses]
    if lost := sum(int((~kept).sum()) for kept in fine):
        warnings.warn(
            f"{lost} of {sum(map(len, poses))} poses hold NaN or infinity and are left out: the weights or these "
            "images are damaged; load other weights, or look at the images",
            stacklevel=2,
        )
    return [one.select(kept) for one, kept in zip(poses, fine, strict=True)]
