"""Every training recipe as one flat record: the papers' and the ones that a laptop can run.

A recipe is data: `RECIPES["poet_tiny"]`, changed with `recipe(name, steps=500)`. Learning rates, schedules and
coefficients of the papers carry their source; cost and expected score stand in `note`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posekit.training import recipe_fields


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run, besides the machine. Units: steps, pixels, epochs = passes over the data.

    Shares are of all steps, in [0, 1]; 1.0 = never. What is peculiar to a model stands in `model_options` and
    `loss_options`, keyword arguments of the model's builder and of its criterion as JSON can hold them.
    """

    model: str
    note: str = ""  # what it costs and what to expect, with the run that showed it
    # data
    dataset: str = "people"  # "people" = drawn people, or the path of a COCO-format folder; several with + between
    images: int = 8192  # training pictures of each: drawn, or at most so many of a folder (0 = all)
    val_images: int = 300  # validation pictures, likewise
    on_error: str = "raise"  # "skip": entries of a folder that cannot be used are left out and counted
    data_options: dict = field(default_factory=dict)  # of a folder, where posekit does not find them by itself:
    #   "annotations", "images", "layout", "category", "outside"; of each split its own by {"train": ..., "val": ...}
    people: tuple[int, int] = (1, 6)  # people per drawn picture
    size: int = 0  # input size in pixels; 0 = the model's own
    augment: str = "scenes"  # a policy of posekit.data.augment
    late_augment: str = ""  # the policy from `late_at` on; "" = the same
    max_size: int = 1333  # longest side in pixels, where the policy varies the size
    sizes: tuple[int, ...] = ()  # input sizes of which each batch draws one; () = always `size`
    batch_size: int = 16
    workers: int = 0  # loader processes; 0 = in this one
    # model and loss
    model_options: dict = field(default_factory=dict)
    loss_options: dict = field(default_factory=dict)
    backbone_steps: int = 0  # first train the backbone alone on joint heatmaps, see posekit.training.pretrain
    weights: str = ""  # start from this run folder, .safetensors or published file
    # distillation, of ViTPose only; see posekit.losses.distillation
    teacher: str = ""  # run folder or weights of the model that teaches
    distil: str = ""  # "output", "token" or "both"; "learn_token" = the phase before, the model is the teacher itself
    output_weight: float = 1.0  # of the distance to the teacher's heatmaps, beside that to the truth
    # optimisation
    steps: int = 1500
    lr: float = 8e-4
    lr_backbone: float = 8e-4
    weight_decay: float = 1e-4
    groups: str = "backbone"  # which parameters learn and decay how, see posekit.training.parameter_groups
    layer_decay: float = 1.0  # with groups="layers": factor of the rate from one layer to the one below it
    warmup: int = 200  # steps of warm-up
    warmup_form: str = "linear"  # or "quadratic", "thousandth"; see posekit.training.schedules
    schedule: str = "cosine"  # "cosine" to `floor`, "step" = times 0.1 at `drop_at`, "two_cosines", "constant"
    floor: float = 0.0  # the rate at which cosines end
    drop_at: float | tuple[float, ...] = 0.8  # shares of the steps
    restart_at: tuple[float, ...] = ()  # shares: "two_cosines" raises the rate, lets it fall again, holds it
    stage2_at: float = 1.0  # share at which the criterion changes to its second stage
    late_at: float = 1.0  # share at which `late_augment` and the criterion's late terms begin
    clip: float = 1.0  # gradient norm; 0 = none
    ema: float = 0.0  # decay of the averaged weights; 0 = none
    ema_ramp: float = 0.0  # updates in which the average slows down to that decay; 0 = it has it at once
    accumulate: int = 1  # batches per step
    precision: str = "32-true"  # a precision of Lightning Fabric, for example "bf16-mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every field; a model that gets a knowledge token has a place for it, also when its weights are loaded
        later.

        Raises:
            ValueError: a field of another type, outside its limits, or with an unknown word.
        """
        for name, spec in self.__dataclass_fields__.items():
            if spec.type == "str" and isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        recipe_fields.check({name: str(spec.type) for name, spec in self.__dataclass_fields__.items()}, vars(self))
        if self.distil in ("token", "both", "learn_token"):
            object.__setattr__(self, "model_options", {**self.model_options, "knowledge_token": True})


LAYER_DECAY = {"s": 0.8, "b": 0.75, "l": 0.8, "h": 0.85}  # of ViTPose's published configurations


def published_rtmo(size: str, ap: str, data: str = "coco") -> Recipe:
    """RTMO as its published configuration trains it (the paper's section 4.1 names the larger numbers).

    Batches of 256 pictures; two stages of 280 and 320 of COCO's 600 epochs, or 350 and 350 of CrowdPose's 700; the
    last 20 or 30 epochs without mosaic and MixUp, and with an L1 loss of the boxes.
    # differs from paper: it starts the backbone from YOLOX's weights, which `weights` may name; tiny is published for
    seven data sets together, here it has COCO alone.
    """
    if data == "coco":
        epochs, per_epoch, stage2, late, again, level = 600, 221, 280, 579, (280, 281), 580
        told = f"COCO val AP {ap} with the published weights"
    else:
        epochs, per_epoch, stage2, late, again, level = 700, 46, 350, 669, (349, 350), 670
        told = f"CrowdPose test AP {ap} with the published weights"
    small = size in "ts" and data == "coco"
    mle = 1.0 if small else 1e-2 if data == "coco" else 1e-3
    loss = {
        "w_mle": [mle, 5.0], "w_cls": 1.0 if small else [1.0, 2.0], "overlaps_power": 0.5 if small else [0.5, 1.0],
        "center": "keypoints" if small else "box",
    }  # fmt: skip
    policy = {"coco": "rtmo_t" if size == "t" else "rtmo", "crowdpose": "rtmo_crowdpose"}[data]
    return Recipe(
        model=f"rtmo_{size}", dataset=f"data/{data}", images=0, val_images=0, augment=policy, late_augment="rtmo_late",
        sizes=tuple(range(320, 641, 32) if size == "t" else range(480, 801, 32)), batch_size=256, workers=8,
        loss_options=loss, steps=epochs * per_epoch, lr=4e-3, lr_backbone=4e-3, weight_decay=0.05, groups="rtmo",
        warmup=5 * per_epoch, warmup_form="quadratic", schedule="two_cosines", floor=2e-4,
        restart_at=(again[0] / epochs, again[1] / epochs, level / epochs), stage2_at=stage2 / epochs,
        late_at=late / epochs, clip=0.1, ema=1 - 2e-4, ema_ramp=2000, precision="16-mixed", note=told,
    )  # fmt: skip


def rtmo_tiny(**changes) -> Recipe:
    """RTMO for drawn people on a laptop's processor."""
    loss = {"w_mle": 5.0, "w_oks": 10.0, "dynamic_k": "iou"}
    return Recipe(
        model="rtmo_tiny", augment="rtmo_late", loss_options=loss, groups="rtmo", steps=1800, lr=2e-3,
        lr_backbone=2e-3, weight_decay=0.05, warmup=200, warmup_form="quadratic", stage2_at=0.4, late_at=0.8,
        ema=0.998, ema_ramp=100, **changes,
    )  # fmt: skip


def published_vitpose(size: str, ap: str) -> Recipe:
    """ViTPose as published ("Implementation details"): 210 epochs in batches of 512 people, each layer at its own rate.

    The paper starts from weights of a masked autoencoder, which `weights` may name.
    """
    return Recipe(
        model=f"vitpose_{size}", dataset="data/coco", images=0, val_images=0, augment="vitpose", batch_size=512,
        workers=8, steps=210 * 292, lr=5e-4, lr_backbone=5e-4, weight_decay=0.1, groups="layers",
        layer_decay=LAYER_DECAY[size], warmup=500, warmup_form="thousandth", schedule="step",
        drop_at=(170 / 210, 200 / 210), note=f"COCO val AP {ap} with the published weights, found boxes and flip test",
    )  # fmt: skip


# The coefficients are the paper's but for the class's, which short runs learn last: the pose terms, sums over all
# joints, outweigh it. Long runs take the paper's w_class=1.0, see profile reference.
SHORT_POET = {"visible": "labelled", "w_class": 3.0}
IMAGENET = {"pretrained": True}  # backbone weights, a download

RECIPES: dict[str, Recipe] = {
    "poet_tiny": Recipe(
        model="poet_tiny", loss_options=SHORT_POET, backbone_steps=400, ema=0.995, lr=1.6e-3, lr_backbone=1.6e-3,
    ),
    "poet_tiny_proposals": Recipe(  # an extension, not the paper
        model="poet_tiny_proposals", loss_options=SHORT_POET, backbone_steps=400, ema=0.995, lr=1.6e-3,
        lr_backbone=1.6e-3,
    ),
    # POET, "Implementation Details": comparison with the state of the art, two GPUs with 6 pictures each
    "poet_r50": Recipe(
        model="poet_r50", dataset="data/coco", images=0, val_images=0, augment="released", batch_size=12, workers=8,
        steps=250 * 4730, lr=5e-5, lr_backbone=5e-6, warmup=0, schedule="step", drop_at=0.8, clip=0.1,
        model_options=IMAGENET,
        note="250 epochs of about an hour each on two V100 (paper); COCO test-dev AP 53.6 in Table 1",
    ),
    # the paper's second set of experiments: longest side 512, batch 64 (50 for DC5), learning rates doubled
    "poet_r50_512": Recipe(
        model="poet_r50", dataset="data/coco", images=0, val_images=0, augment="released", max_size=512, batch_size=64,
        workers=8, steps=250 * 887, lr=1e-4, lr_backbone=1e-5, warmup=0, schedule="step", clip=0.1,
        model_options=IMAGENET, note="COCO val AP 48.5 after 250 epochs (Table 2)",
    ),
    "poet_dc5_r50_512": Recipe(
        model="poet_dc5_r50", dataset="data/coco", images=0, val_images=0, augment="released", max_size=512,
        batch_size=50, workers=8, steps=250 * 1135, lr=1e-4, lr_backbone=1e-5, warmup=0, schedule="step", clip=0.1,
        model_options=IMAGENET, note="shown in Figure 6",
    ),
    # Short runs from random weights: a person gets as many cells as boxes overlap (poses, by which the paper counts,
    # overlap nobody at first); coordinates outweigh the proxies from the start; no mosaic, which asks for more time.
    "rtmo_tiny": rtmo_tiny(),
    "rtmo_tiny_crowd": rtmo_tiny(dataset="crowd", people=(2, 10)),
    "rtmo_t": published_rtmo("t", "57.4 (trained on seven data sets)"),
    "rtmo_s": published_rtmo("s", "67.7"),
    "rtmo_m": published_rtmo("m", "70.9"),
    "rtmo_l": published_rtmo("l", "72.4"),
    "rtmo_s_crowdpose": published_rtmo("s", "67.3", "crowdpose"),
    "rtmo_m_crowdpose": published_rtmo("m", "71.1", "crowdpose"),
    "rtmo_l_crowdpose": published_rtmo("l", "73.2", "crowdpose"),
    "vitpose_s": published_vitpose("s", "73.8"),
    "vitpose_b": published_vitpose("b", "75.8"),
    "vitpose_l": published_vitpose("l", "78.3"),
    "vitpose_h": published_vitpose("h", "79.1"),
    # Crops of 72 x 96 pixels of drawn pictures of 256; AP with annotated boxes. Images: pictures of a few people each.
    # Random weights learn as fast in all layers (the published decay protects a pre-trained start), positions start as
    # waves (`models.vitpose.vitpose_tiny`), and the loss, a mean over mostly empty cells, is lifted off Adam's epsilon.
    "vitpose_tiny": Recipe(
        model="vitpose_tiny", size=256, images=4096, batch_size=32, groups="layers", lr=2e-3, lr_backbone=2e-3,
        weight_decay=0.1, ema=0.995, loss_options={"weight": 1000.0},
    ),
    # Its masked autoencoder: `weights=` of "vitpose_tiny" takes the run. MAE's own schedule, no layer decay.
    "mae_tiny": Recipe(
        model="mae_tiny", size=256, images=4096, batch_size=64, groups="layers", lr=1.5e-3, lr_backbone=1.5e-3,
        weight_decay=0.05, note="the loss of the hidden patches is logged, there is no AP",
    ),
    # Distillation, three phases: "vitpose_tiny"; then its token, `teacher=` that run; then a student of half the width,
    # `teacher=` either run, distil="output", "token" or "both" (of the second run), or neither for comparison.
    "vitpose_tiny_token": Recipe(
        model="vitpose_tiny", distil="learn_token", size=256, images=4096, batch_size=32, groups="layers", steps=300,
        lr=1e-2, lr_backbone=1e-2, weight_decay=0.0, warmup=50, loss_options={"weight": 1000.0},
    ),
    "vitpose_tiny_student": Recipe(
        model="vitpose_tiny", model_options={"dim": 64, "heads": 2, "filters": 16, "part": 16}, size=256, images=4096,
        batch_size=32, groups="layers", lr=2e-3, lr_backbone=2e-3, weight_decay=0.1, ema=0.995,
        loss_options={"weight": 1000.0},
    ),
    # all pictures of a small folder in every batch, no augmentation: does the machinery learn at all?
    "overfit": Recipe(
        model="poet_tiny", augment="none", batch_size=7, images=7, val_images=7, size=256,
        loss_options=SHORT_POET, steps=1200, ema=0.0, lr=8e-4, lr_backbone=8e-4, warmup=100,
    ),
}  # fmt: skip


def recipe(name: str, **changes) -> Recipe:
    """The recipe of this name with some fields changed.

    Raises:
        ValueError: an unknown name or field; the sentence lists the known ones.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is called {name!r}; known: {', '.join(RECIPES)}")
    unknown = set(changes) - set(Recipe.__dataclass_fields__)
    if unknown:
        fields = ", ".join(Recipe.__dataclass_fields__)
        raise ValueError(f"a recipe has no field {', '.join(sorted(unknown))}; it has {fields}")
    return replace(RECIPES[name], **_tuples(changes))


def command(made: Recipe) -> str:
    """The command that trains this recipe, told as changes of the named recipe that it differs from least."""
    told = {name: value for name, value in vars(made).items() if name != "note"}
    named = {name: vars(known) for name, known in RECIPES.items() if known.model == made.model}
    changes = {name: {k: v for k, v in told.items() if v != known[k]} for name, known in named.items()}
    if not changes:
        return f"posekit.training.loop.train({made!r}, FOLDER)"
    nearest = min(changes, key=lambda name: len(changes[name]))
    words = ["ci/execute.py", "notebooks/10_train.ipynb", "build/10_train.ipynb", "-p", "recipe", nearest]
    if changes[nearest]:
        words += ["-p", "more", json.dumps(changes[nearest])]
    return shlex.join(words)


def from_record(parameters: Mapping, where: str = "run.json") -> Recipe:
    """The recipe in a `run.json`, also one that an older version wrote; what it does not name has its default.

    Raises:
        ValueError: no model, or a field that no recipe can have; the sentence begins with `where`.
    """
    known = _tuples({name: parameters[name] for name in parameters if name in Recipe.__dataclass_fields__})
    if "model" not in known:
        raise ValueError(f"{where}: its parameters name no model, so it is not of a training run; give one of those")
    try:
        return Recipe(**known)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options as Python functions take them: JSON's lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _tuples(fields: Mapping) -> dict:
    """Fields as JSON brings them, with tuples again where it has lists; options stay as they are."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
