"""posekit: POET, RTMO and ViTPose in one small code base. Import what you need: `posekit.models`, `posekit.data`, ...

`import posekit` loads no deep-learning library; the sub-packages do, when they are imported.
"""

__version__ = "0.1.0"
