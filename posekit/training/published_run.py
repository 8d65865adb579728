"""Published weights as a run folder, so that what scores and draws our own runs scores and draws them as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from posekit import runs
from posekit.files import relative, resolve, save_tensors
from posekit.models import published
from posekit.models.sizes import parameters
from posekit.training.loop import WEIGHTS
from posekit.training.recipes import RECIPES, Recipe
from posekit.training.summary import stride_of
from posekit.training.weights import load

FOLDERS = {published.COCO: "data/coco", published.CROWDPOSE: "data/crowdpose"}  # where the data belong


def published_run(name: str, folder: str | Path = "", dataset: str = "") -> str:
    """A run folder that holds published weights; returns its path. One that is there already is left as it is.

    Args:
        name: MODEL or MODEL:VARIANT, see `posekit.models.published`. folder: by default data/runs/published/NAME.
        dataset: what the run is scored on by default: the data set of its published AP.

    Raises:
        ValueError: no such weights, or no AP of keypoints. ConnectionError: they cannot be downloaded.
    """
    model, _, variant = name.partition(":")
    entry = published.find(model, variant)
    if entry.ap is None:
        raise ValueError(f"of {name} no AP is published ({entry.protocol}): there is nothing to compare with")
    folder = resolve(folder or f"data/runs/published/{name.replace(':', '_')}")
    dataset = dataset or FOLDERS[entry.data]
    recipe = replace(RECIPES.get(model, Recipe(model)), dataset=dataset, images=0, val_images=0, note="")
    recipe = replace(recipe, model_options=dict(entry.options), weights=f"published{':' + variant if variant else ''}")
    with runs.Run.open(folder, vars(recipe), data={"name": entry.data}, makes=(WEIGHTS,)) as run:
        if run.before != "done":
            network = load(model, recipe.weights)
            size = parameters(network)
            run.record["summary"] = {"parameters": round(1e6 * size), "trainable": round(1e6 * size)}
            run.record["summary"] |= {"stride": stride_of(network), "dataset": entry.data, "command": ""}
            facts = ("url", "ap", "data", "protocol", "source", "licence")
            run.record["published"] = {fact: getattr(entry, fact) for fact in facts}
            note = {"model": model, "keypoints": str(network.num_keypoints)}
            save_tensors(run.path(WEIGHTS), network.state_dict(), note)
    return relative(folder)
