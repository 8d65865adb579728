"""What a model takes: the size of its input, how an image is fitted in, and how pixels are scaled."""

from __future__ import annotations

from dataclasses import dataclass

from posekit.pixels import HALF_PIXEL

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class InputSpec:
    """What a model takes: RGB, `(pixel / 255 - mean) / std`.

    `fit="letterbox"`: longest side to `size`, padded to a square; `size` of an exported graph may be (height, width).
    `fit="shortest"`: shortest side to `size`, longest at most `longest`, batches padded at the bottom and on the right.

    Of a letterbox: `pad` is the grey value (0 to 255) that fills the padding; None marks it in the padding mask
    instead. `align`: the image touches the "topleft" corner or lies in the "centre" (that needs a `pad`).

    `fit="crop"`: people cut out of the image, one each (`posekit.data.crops`); `udp`: crops and heatmaps are measured
    from the first pixel's centre to the last one's. False: mmpose's way without UDP, where the middle of what is cut
    out lies on pixel W / 2 of the crop, half a pixel beside its middle.

    `pixel_centre`: the number that the weights learnt for the centre of an image's first pixel. 0.5: COCO's convention.
    0: published RTMO, ViTPose and mmpose's baselines, whose training takes COCO's numbers for pixel indices, so that
    their keypoints lie half a pixel lower.
    """

    size: int | tuple[int, int]
    fit: str = "letterbox"
    longest: int = 1333
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    pad: int | None = None
    align: str = "topleft"
    pixel_centre: float = HALF_PIXEL
    udp: bool = True
