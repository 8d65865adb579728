"""ViTPose's golden files: each module of `PARTS` replays what it knows, by its own `HANDLERS`.

References: ViTAE-Transformer/ViTPose (`pub_*`, targets, decoding, losses, augmentation) and transformers (`hf_*`).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

TITLE = "ViTPose"
PARTS = [
    import_module(f"golden.{name}")
    for name in ("vitpose_forward", "vitpose_crops", "vitpose_groups")
    if find_spec(f"golden.{name}")
]
HANDLERS = [handler for part in PARTS for handler in part.HANDLERS]
