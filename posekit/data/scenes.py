"""`Scenes` under the name by which scripts of the first version import it; the code is in `posekit.data.drawn`."""

from posekit.data.drawn.scenes import Scenes

__all__ = ["Scenes"]
