"""ViTPose's network on golden files: names and sizes, forward passes, attention variants, resampled positions."""

from __future__ import annotations

HANDLERS = []
