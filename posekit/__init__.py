"""posekit: POET, RTMO and ViTPose in one small code base.

    import posekit

    poses = posekit.Predictor(posekit.load("poet_tiny", "scenes"))("image.jpg")

The sub-packages are imported when they are used: `import posekit` alone loads no deep-learning library.
"""

__version__ = "0.1.0"
__all__ = ["Predictor", "load"]


def __getattr__(name: str):
    if name == "Predictor":
        from posekit.inference import Predictor

        return Predictor
    if name == "load":
        from posekit.runners import load

        return load
    raise AttributeError(f"posekit has no attribute {name!r}; it has {', '.join(__all__)} and its modules")
