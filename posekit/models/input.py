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
    """

    size: int
    fit: str = "letterbox"
    longest: int = 1333
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    pad: int | None = None
    align: str = "topleft"
