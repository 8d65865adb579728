"""A model with trained weights: by name, `load("rtmo_tiny", "scenes")`, or of a run, for the data to score."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from posekit import layouts, models, runs
from posekit.download import fetch
from posekit.files import relative, resolve
from posekit.models import published
from posekit.models.checkpoints import load_weights, read
from posekit.models.checkpoints_vitpose import size
from posekit.models.vitpose import merge_experts
from posekit.protocols import PoseDataset
from posekit.training.datasets import names_of
from posekit.training.recipes import WITHOUT_KEYPOINTS, Recipe, family_of, from_record, plain_options

WEIGHTS = "data/weights"  # our own reference models, shipped with the repository
# Models whose published weights have `InputSpec.pixel_centre` 0, and those among them that see crops without UDP
PIXEL_INDEX = ("rtmo", "vitpose", "simple_baseline", "rtmpose", "yolox_pose")
WITHOUT_UDP = ("simple_baseline", "rtmpose")


def load(name: str, weights: str | Path | None = None, **overrides) -> nn.Module:
    """A model in evaluation mode.

    weights: None = random; otherwise as `weights_file` takes them. `overrides` go to the model's builder. Weights
    without a `run.json` beside them are taken for published ones, as those of `published_run` are: see
    `InputSpec.pixel_centre`. The number of keypoints is that of the weights where their file notes it, and `layout` of
    the model then says what they are.

    Raises:
        ValueError: an unknown name, or weights of another model (the sentence says what differs).
        FileNotFoundError: no such weights. ConnectionError: they cannot be downloaded.
    """
    models.check_name(name)
    if weights is None:
        return models.build(name, **overrides).eval()
    if (named := str(weights).partition(":"))[0] == "published":
        overrides = dict(published.find(name, named[2]).options) | overrides
    path = weights_file(weights, name)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {relative(path)}{_remedy(weights)}")
    record, recipe, theirs = path.with_name("run.json"), None, True
    if record.is_file():  # what the run changed about the model
        run = runs.load_run(record)
        recipe, theirs = from_record({"model": name} | run["parameters"], relative(record)), "published" in run
        overrides = plain_options(recipe.model_options) | overrides
    noted = note_of(path)
    if keypoints := keypoints_of(path):
        overrides = {"num_keypoints": keypoints} | overrides
    model = models.build(name, **overrides)
    load_weights(model, path)
    if "layout" in noted:
        model.layout = layouts.from_record(json.loads(noted["layout"]))
    if theirs and name.startswith(PIXEL_INDEX):
        model.input = replace(model.input, pixel_centre=0.0, udp=not name.startswith(WITHOUT_UDP))
    if recipe and recipe.size and model.input.fit == "letterbox":  # it sees images as it was trained to
        model.input = replace(model.input, size=recipe.size)
    return model.eval()


def _remedy(weights: str | Path) -> str:
    """What to do where there are none, by what was asked for."""
    if weights != "scenes":
        return "; train them, or give another path"
    if not (shipped := sorted(path.parent.name for path in resolve(WEIGHTS).glob("*/model.safetensors"))):
        return (
            ': "scenes" are those in the book\'s repository, which this is not; run it there, or give "published" or '
            "the path of a file"
        )
    return f"; the weights that come with the book are those of {', '.join(shipped)}"


def weights_file(weights: str | Path, model: str = "") -> Path:
    """The file of weights: "scenes" = our reference weights of `model`, trained on drawn people; "published" or
    "published:VARIANT" = others' (`posekit.models.published`), downloaded if need be; "hf:ORG/NAME" = a repository of
    the Hugging Face hub; a run folder; or the file itself (.safetensors, a published checkpoint)."""
    kind, _, variant = str(weights).partition(":")
    if kind == "published":
        return published.find(model, variant).path()
    if kind == "hf":
        return fetch(str(weights))
    path = resolve(f"{WEIGHTS}/{model}" if weights == "scenes" else weights)
    return path / "model.safetensors" if path.is_dir() else path


def trained_model(recipe: Recipe, run: str | Path, data: PoseDataset, dataset: str = "") -> nn.Module:
    """The network of a run folder in evaluation mode, for the keypoints of `data`.

    A ViTPose that learned from several data sets becomes the plain one of `dataset`, one of their names or paths; for
    other data, of the first that has as many keypoints.

    Raises:
        ValueError: none has as many; or weights of another model.
    """
    if family_of(recipe.model) in WITHOUT_KEYPOINTS:
        return load(recipe.model, run)
    own = names_of(recipe.dataset)
    if len(own) == 1:
        trained = keypoints_of(run)
        if trained and trained != len(data.layout):
            raise ValueError(
                f"{relative(run)} finds {trained} keypoints and {data.name} has {len(data.layout)}: evaluate it "
                f"on data with {trained} keypoints, or train a model for these {len(data.layout)} with 10_train"
            )
        return load(recipe.model, run, num_keypoints=len(data.layout))
    counts = size(read(weights_file(run)))["num_keypoints"]
    whole = load(recipe.model, run, num_keypoints=counts)
    named = [i for i, (name, spec) in enumerate(own.items()) if dataset in (name, spec)]
    fitting = named or [i for i, count in enumerate(counts) if count == len(data.layout)]
    if not fitting:
        raise ValueError(
            f"{data.name} has {len(data.layout)} keypoints and the decoders of {recipe.dataset} have "
            f"{', '.join(map(str, counts))}: score it on one of these"
        )
    return merge_experts(whole, fitting[0]).eval()


def keypoints_of(run: str | Path) -> int | None:
    """How many keypoints the weights of a run find, as training noted it in their file; None if it did not."""
    noted = note_of(weights_file(run)).get("keypoints", "")
    return int(noted) if noted.isdecimal() else None


def note_of(path: Path) -> dict[str, str]:
    """What training has written into a file of weights: model, keypoints, layout; of others' files nothing."""
    from safetensors import SafetensorError, safe_open

    with suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
        return file.metadata() or {}
    return {}
