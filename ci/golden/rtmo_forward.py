"""RTMO's network: `forward_*.npz`, `keys/*.json` and the model's share of `components.npz`."""

HANDLERS = []
