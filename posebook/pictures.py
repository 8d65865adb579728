"""Pixels for a notebook: PNG where lines and text are sharp and small, JPEG where photographs would be large."""

from __future__ import annotations

import io
from pathlib import Path


def image_file(path: Path, width: int = 850):
    """A figure's PNG file, at most `width` pixels wide, as an IPython image."""
    from IPython.display import Image
    from PIL import Image as Pixels

    picture, buffer = Pixels.open(path).convert("RGB"), io.BytesIO()
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Pixels.Resampling.LANCZOS)
    picture.save(buffer, "PNG", optimize=True)
    png = buffer.getvalue()
    small = jpeg(png, 88)
    return Image(data=png, format="png") if len(png) < len(small) else Image(data=small, format="jpeg")


def jpeg(png: bytes, quality: int) -> bytes:
    """PNG as JPEG, colours at full resolution."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
