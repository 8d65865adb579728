"""What a model wants to see: the picture's size, how it is fitted in, and how its pixels are scaled."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Input:
    """What a model wants to see: RGB, `(pixel / 255 - mean) / std`.

    `fit="letterbox"`: longest side to `size`, padded to a square; `fit="shortest"`: shortest side to `size`, longest
    at most `longest`, batches padded at the bottom and on the right.

    Of a letterbox: `pad` is the grey value (0 to 255) that fills the padding; None marks it in the padding mask
    instead. `align`: the picture touches the "topleft" corner or lies in the "centre" (that needs a `pad`).

    `pixel_centre`: the number that the weights learnt for the middle of a picture's first pixel. 0.5: COCO's frame, as
    everywhere in this book. 0: published RTMO and ViTPose, whose training hands COCO's numbers on as pixel indices, so
    that what they say of a picture lies half a pixel lower.
    """

    size: int
    fit: str = "letterbox"
    longest: int = 1333
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    pad: int | None = None
    align: str = "topleft"
    pixel_centre: float = 0.5
