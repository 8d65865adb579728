"""RTMO's reference values: mmpose 1.3.2 (Lu et al. 2023). `components.npz` holds arrays of network and losses."""

from __future__ import annotations

from golden.rtmo_data import geometry, schedule
from golden.rtmo_forward import components, forward, keys
from golden.rtmo_losses import loss_components, simota, target_heatmaps
from golden.rtmo_steps import losses

FILES = {
    "forward_*.npz": (forward,),
    "*_keys.json": (keys,),
    "components*.npz": (components, loss_components),
    "simota*.npz": (simota,),
    "dcc_target_heatmap*.npz": (target_heatmaps,),
    "loss_*.npz": (losses,),
    "geometry*.json": (geometry,),
    "schedule*.json": (schedule,),
}
