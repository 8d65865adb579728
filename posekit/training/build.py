"""From a recipe to what the training loop needs: data, model and criterion, for every family of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import nn

from posekit import models, runs
from posekit.data import DRAWN
from posekit.data.augment import Augment
from posekit.data.crop_augment import CropAugment
from posekit.data.loader import Loader
from posekit.data.mosaic import MIXES, Mosaic
from posekit.data.topdown import ConcatDataset, PersonCrops
from posekit.files import relative
from posekit.input_spec import InputSpec
from posekit.layouts import Layout
from posekit.protocols import Criterion, PoseDataset, PoseModel
from posekit.training.datasets import check_people, names_of, open_data
from posekit.training.recipe_fields import CHOICES
from posekit.training.recipes import WITHOUT_KEYPOINTS, Recipe, family_of, from_record, plain_options
from posekit.training.weights import load, weights_file

SEVERAL = ("vitpose", "mae")  # families that learn from people of several data sets in one batch


@dataclass
class Parts:
    """A model with random (or the recipe's) weights, its criteria, and its loaders.

    `criterion(model, stage, late)`: `build_criterion` for this recipe and its data, built once for the same arguments.
    `val`: a loader per data set, by name; the first one's numbers are the run's, those after the first `learned` are
    scored and no more. `late`: the training loader from the recipe's `late_at` on, or None. `forward_kwargs`: keyword
    arguments of the model's `forward` without which the criterion cannot be computed. `train_in_eval_mode`: the model
    is trained in evaluation mode. `start`: what the recipe's weights did not bring, a sentence, or "".
    """

    model: PoseModel
    criterion: Callable[[nn.Module, int, bool], Criterion]
    train: Loader
    val: dict[str, Loader]
    late: Loader | None = None
    forward_kwargs: dict[str, Any] = field(default_factory=dict)
    train_in_eval_mode: bool = False
    start: str = ""
    learned: int = 1


def prepare(recipe: Recipe, *, rank: int = 0, world: int = 1) -> Parts:
    """Opens the data, then builds the model for their keypoints. `rank` of `world` processes gets its share.

    Raises:
        ValueError: a recipe that does not hang together; one sentence.
    """
    family, names = family_of(recipe.model), names_of(recipe.dataset)
    if len(names) > 1 and family not in SEVERAL:
        raise ValueError(f"{recipe.model} learns from one data set at a time, not from {recipe.dataset}; choose one")
    train = [open_data(recipe, spec, "train") for spec in names.values()]
    watched = names_of(recipe.val_also) if recipe.val_also else {}
    if twice := names.keys() & watched.keys():
        raise ValueError(
            f"val_also names {', '.join(twice)}, which the run learns from and scores already: leave it out"
        )
    val = [open_data(recipe, spec, "val") for spec in names.values()]
    val += [open_data(recipe, spec, "val", recipe.val_images) for spec in watched.values()]
    keypoints = tuple(len(one.layout) for one in train)
    model, start = build_model(recipe, num_keypoints=keypoints[0] if len(keypoints) == 1 else keypoints)
    check_family(recipe, model, family)
    layout = train[0].layout
    for name, one in zip(watched, val[len(names) :], strict=True):
        if len(one.layout) != len(layout):
            raise ValueError(f"val_also: {name} has {len(one.layout)} keypoints, {recipe.dataset} {len(layout)}")
    build_criterion(recipe, model, layout)  # options that it does not know are an error here
    in_eval_mode = bool(recipe.distil or recipe.teacher) and distilled(recipe, model)
    if model.input.fit == "crop":
        train = [PersonCrops(one) for one in train]
    for spec, one in zip(names.values(), train, strict=True):
        if spec not in DRAWN:
            check_people(recipe, model, one, family)
    train = train[0] if len(train) == 1 else ConcatDataset(train)
    late = None
    if recipe.late_augment and recipe.late_at < 1:
        late = training_loader(recipe, train, model, recipe.late_augment, rank=rank, world=world)
    see = {"size": recipe.size, "max_size": recipe.max_size, "workers": recipe.workers}
    loader = training_loader(recipe, train, model, recipe.augment, rank=rank, world=world)
    val_loaders = {
        name: evaluation_loader(one, model, **see) for name, one in zip([*names, *watched], val, strict=True)
    }
    forward_kwargs = {"proxies": True} if family == "rtmo" else {}
    criterion = cache(lambda scored, stage, late: build_criterion(recipe, scored, layout, stage, late))
    return Parts(model, criterion, loader, val_loaders, late, forward_kwargs, in_eval_mode, start, len(names))


def build_model(recipe: Recipe, num_keypoints: int | tuple[int, ...]) -> tuple[nn.Module, str]:
    """The recipe's model, with its starting weights where it names some, and what these did not bring (or "").

    Several K: a head for each.
    """
    family = family_of(recipe.model)
    overrides = {} if family in WITHOUT_KEYPOINTS else {"num_keypoints": num_keypoints}
    model = with_options(models.build, recipe.model_options, recipe.model, field="model_options", **overrides)
    if not recipe.weights:
        return model, ""
    from posekit.models.checkpoints import start_from

    fresh = start_from(model, weights_file(recipe.weights, recipe.model))
    count, some = len(model.state_dict()), ", ".join(fresh[:3]) + ", ..." * (len(fresh) > 3)
    missing = f"{recipe.weights} lacks {len(fresh)} of {count} weights of the model, which start at random ({some})"
    return model, missing if fresh else ""


def distilled(recipe: Recipe, model: nn.Module) -> bool:
    """Lets the recipe's teacher teach the model, in place; returns whether it is trained in evaluation mode.

    Raises:
        ValueError: half a recipe, no teacher, or one for other keypoints or crops; one sentence.
    """
    from posekit.losses.distillation import hand_over, learn_token, teach

    if not recipe.distil:
        known = ", ".join(filter(None, CHOICES["distil"]))
        raise ValueError(f"teacher is {recipe.teacher!r}, but distil says not what it teaches: choose one of {known}")
    if not recipe.teacher:
        raise ValueError(f"distil is {recipe.distil!r}, but by whom? teacher names a run folder or weights")
    if family_of(recipe.model) != "vitpose":
        raise ValueError(f"only ViTPose is distilled, not {recipe.model}: leave distil and teacher out")
    teacher = load_teacher(recipe.teacher)
    for name, word in (("keypoints", "keypoints"), ("crop_size", "pixels of a crop"), ("stride", "pixels of a cell")):
        theirs, ours = getattr(teacher, name), getattr(model, name)
        if theirs != ours:
            raise ValueError(f"the teacher {recipe.teacher} and the student differ in {word}: {theirs} and {ours}")
    if recipe.distil == "learn_token":
        own, state = model.state_dict(), teacher.state_dict()
        new = own.keys() - state.keys() - {"backbone.knowledge_token"}
        if new or any(name not in own or own[name].shape != value.shape for name, value in state.items()):
            raise ValueError(
                f"the token is learnt inside the teacher {recipe.teacher}, and the recipe builds another model: give "
                "its model and model_options"
            )
        model.load_state_dict(state, strict=False)
        learn_token(model)
        return True
    if recipe.distil in ("token", "both"):
        hand_over(teacher, model)
    if recipe.distil in ("output", "both"):
        teach(model, teacher)
    return False


def load_teacher(source: str) -> nn.Module:
    """The ViTPose of a run folder, of weights with their `run.json`, or of published ones, whose size is read off them.

    Raises:
        ValueError: no such weights, or not a ViTPose's.
    """
    from posekit.models import checkpoints_vitpose as published
    from posekit.models.checkpoints import read
    from posekit.models.vit import SIZES, grid_of

    path = weights_file(source)
    if not path.is_file():
        raise ValueError(f"the teacher has no weights at {relative(path)}: train it first, or name another")
    state, record = published.published_names(read(path)), path.with_name("run.json")
    options = published.size(state)
    if record.is_file():
        name = from_record(runs.load_run(record)["parameters"], relative(record)).model
        options = {"num_keypoints": options.get("num_keypoints")}
    else:
        letter = [size for size, (dim, *_) in SIZES.items() if dim == options.get("dim")]
        name = f"vitpose_{letter[0]}" if letter else ""
    if not name.startswith("vitpose") or not options.get("num_keypoints"):
        raise ValueError(f"the teacher {relative(path)} is not a ViTPose, or has no run.json to say which one")
    if not record.is_file():
        grid = grid_of(state[published.POSITIONS].shape[1])
        options["crop_size"] = (grid[1] * options["patch"], grid[0] * options["patch"])
    return load(name, path, **options)


def build_criterion(recipe: Recipe, model: nn.Module, layout: Layout, stage: int = 1, late: bool = False) -> Criterion:
    """The recipe's criterion for the outputs of `model`, on its device; stage and late steps change RTMO's."""
    from posekit.losses.associative_embedding import AssociativeEmbeddingCriterion
    from posekit.losses.heatmap import HeatmapCriterion
    from posekit.losses.openpose import OpenPoseCriterion
    from posekit.losses.poet import PoetCriterion
    from posekit.losses.reconstruction import ReconstructionCriterion
    from posekit.losses.rtmdet import RtmdetCriterion
    from posekit.losses.rtmo import RtmoCriterion
    from posekit.losses.simcc import SimccCriterion
    from posekit.losses.yolox_pose import YoloxPoseCriterion

    options = recipe.loss_options
    match family_of(recipe.model):
        case "poet":
            criterion = with_options(PoetCriterion, options, len(layout))
        case "rtmo":
            criterion = with_options(
                RtmoCriterion, options, model.classifier, layout.sigmas, stage=stage, auxiliary=late
            )
        case "vitpose":
            criterion = with_options(HeatmapCriterion, options, output_weight=recipe.output_weight)
        case "simple":
            criterion = with_options(HeatmapCriterion, options)
        case "ae":
            criterion = with_options(AssociativeEmbeddingCriterion, options, model.stride)
        case "openpose":
            criterion = with_options(OpenPoseCriterion, options, model.stride)
        case "rtmpose":
            criterion = with_options(SimccCriterion, options, model.crop_size)
        case "rtmdet":
            criterion = with_options(RtmdetCriterion, options)
        case "yolox":
            criterion = with_options(YoloxPoseCriterion, options, layout.sigmas, auxiliary=late)
        case _:
            criterion = with_options(ReconstructionCriterion, options)
    return criterion.to(next(model.parameters()).device)


def check_family(recipe: Recipe, model: PoseModel, family: str) -> None:
    """What a recipe cannot ask of a family of models, in a sentence."""
    if recipe.backbone_steps and family != "poet":
        raise ValueError(f"backbone_steps is {recipe.backbone_steps}: only POET's backbones are trained alone first")
    odd = [size for size in (recipe.size or model.input.size, *recipe.sizes) if size % 32]
    names = {"rtmo": "RTMO", "yolox": "YOLOX-Pose", "rtmdet": "RTMDet"}
    if odd and (name := names.get(family)):
        raise ValueError(f"{name} sees images whose sides are multiples of 32, not {odd[0]}; change size or sizes")


def with_options(make: Callable, options: Mapping[str, Any], *first, field: str = "loss_options", **fixed) -> Any:
    """`make(*first, **fixed, **options)`, lists in `options` as tuples; `field`: what the recipe calls the options.

    Raises:
        ValueError: an option that `make` does not take, or that the recipe has a field for.
    """
    named = plain_options(options)
    what = first[0] if first and isinstance(first[0], str) else make.__name__
    if twice := sorted(named.keys() & fixed.keys()):
        raise ValueError(f"{field} of the recipe names {', '.join(twice)}, which comes from elsewhere: leave it out")
    try:
        return make(*first, **fixed, **named)
    except (TypeError, AttributeError, ArithmeticError, LookupError, RuntimeError) as error:
        word = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if word is None or word[1] not in named:
            if not named:
                raise
            raise ValueError(f"{field} of the recipe is {named}, of which {what} cannot be made: {error}") from error
        raise ValueError(f"{field} of the recipe names {word[1]!r}, which {what} does not know") from error


def training_loader(recipe: Recipe, dataset: PoseDataset, model: PoseModel, policy: str, **share: int) -> Loader:
    """Shuffled images under a policy of augment.py or mosaic.py, at the recipe's size or sizes; or shuffled crops of
    people under one of crop_augment.py."""
    spec: InputSpec = model.input
    size = recipe.size or spec.size
    if spec.fit == "crop":
        others = tuple(part.layout for part in getattr(dataset, "parts", ())[1:])
        augment = CropAugment(policy, dataset.layout, model.crop_size, model.stride, others=others)
    elif policy in MIXES:
        augment = Mosaic(policy, dataset.layout, size, pad=spec.pad or 0)
    elif spec.fit == "letterbox":
        augment = Augment(policy, dataset.layout, size=size, pad=spec.pad, align=spec.align)
    else:
        augment = Augment(policy, dataset.layout, longest=recipe.max_size)
    share |= {"seed": recipe.seed, "workers": recipe.workers}
    scale = {"mean": spec.mean, "std": spec.std}
    return Loader(dataset, augment, recipe.batch_size, drop_last=True, sizes=recipe.sizes, **scale, **share)


def evaluation_loader(
    dataset: PoseDataset, model: PoseModel, size: int = 0, max_size: int = 1333, batch_size: int = 0, workers: int = 0
) -> Loader:
    """Images in order, unaugmented, at the size that the model wants (or `size`); for a model that sees crops, those of
    the annotated people (`posekit.data.topdown.PersonCrops`), image by image."""
    spec: InputSpec = model.input
    if spec.fit == "crop":
        dataset, batch = PersonCrops(dataset), 64
        fit = CropAugment("none", dataset.layout, model.crop_size, model.stride, pixel_centre=spec.pixel_centre)
    elif spec.fit == "letterbox":
        fit, batch = Augment("none", dataset.layout, size=size or spec.size, pad=spec.pad, align=spec.align), 50
    else:
        fit, batch = Augment("none", dataset.layout, shortest=min(spec.size, max_size), longest=max_size), 2
    return Loader(dataset, fit, batch_size or batch, shuffle=False, workers=workers, mean=spec.mean, std=spec.std)
