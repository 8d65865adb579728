"""Pixels for a notebook: PNG where lines and text are sharp and small, JPEG where photographs would be large."""

from __future__ import annotations

import io
from pathlib import Path


def image_file(path: Path, width: int = 850, alt: str = ""):
    """A figure's PNG file, at most `width` pixels wide, as an IPython image; alt: what stands in its place."""
    from IPython.display import Image
    from PIL import Image as Pixels

    picture, buffer = Pixels.open(path).convert("RGB"), io.BytesIO()
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Pixels.Resampling.LANCZOS)
    picture.save(buffer, "PNG", optimize=True)
    png = buffer.getvalue()
    small = jpeg(png, 88)
    kind, data = ("png", png) if len(png) < len(small) else ("jpeg", small)
    return Image(data=data, format=kind, alt=alt)


def jpeg(png: bytes, quality: int) -> bytes:
    """PNG as JPEG, colours at full resolution."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
