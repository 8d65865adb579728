"""A model with trained weights, by name: `load("rtmo_tiny", "scenes")`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from posekit import models, runs
from posekit.files import relative, resolve
from posekit.models.checkpoints import load_weights
from posekit.training.recipes import from_record, plain_options

WEIGHTS = "data/weights"  # our own reference models, shipped with the repository


def load(name: str, weights: str | Path | None = None, **overrides) -> nn.Module:
    """A model in evaluation mode.

    weights: None = random; "scenes" = our reference model, trained on drawn people; a run folder; or a file
    (.safetensors, or a published checkpoint). `overrides` go to the model's builder. RTMO's and ViTPose's weights
    without a `run.json` beside them are taken for published ones, see `InputSpec.pixel_centre`.

    Raises:
        ValueError: an unknown name, or weights of another model (the sentence says what differs).
        FileNotFoundError: no such weights.
    """
    if weights is None:
        return models.build(name, **overrides).eval()
    path = weights_file(Path(WEIGHTS) / name if weights == "scenes" else weights)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {relative(path)}; train them, or give another path")
    record, recipe = path.with_name("run.json"), None
    if record.is_file():  # what the run changed about the model
        recipe = from_record({"model": name} | runs.load_run(record)["parameters"], relative(record))
        overrides = plain_options(recipe.model_options) | overrides
    model = models.build(name, **overrides)
    load_weights(model, path)
    if not recipe and name.startswith(("rtmo", "vitpose")):
        model.input = replace(model.input, pixel_centre=0.0)
    if recipe and recipe.size and model.input.fit == "letterbox":  # it sees pictures as it was trained to
        model.input = replace(model.input, size=recipe.size)
    return model.eval()


def weights_file(path: str | Path) -> Path:
    """The weights of a run folder, or the file itself."""
    path = resolve(path)
    return path / "model.safetensors" if path.is_dir() else path
