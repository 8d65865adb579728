"""ViTPose's studies: what is varied (Xu et al. 2022, arXiv 2204.12484, section 4.2).

Each study of the paper varies one thing; here that is a table of changes to a recipe, trained by `posebook.study_runs`.

Names of variants are the paper's where it has them (column `variant` of `data/paper/vitpose_STUDY.csv`), our own where
the paper's name is a number that ours does not share: `Study.description` says what they answer to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from posekit.files import relative, resolve
from posekit.training.recipes import Recipe, recipe

RUN = "run:"  # `weights` or `teacher` "run:NAME" = the run folder of variant NAME, of the same study and seed
RUN_FIELDS = ("weights", "teacher")
PUBLISHED = "vitpose_b"  # the recipe of the paper's studies


@dataclass(frozen=True)
class Study:
    """What is varied.

    `recipe`: the name of the base recipe. `base`: the variant that the others are compared with, `paper_base`: the
    paper's, where it has another name. `variants`: name -> changes to the recipe, in the order in which they are
    trained; the key "recipe" names another recipe, "run:NAME" in `weights` or `teacher` a variant that was trained
    before. `steps`: variants that are only a step on the way to another one: tables leave them out. `description`: what
    our variants answer to in the paper. `published`: the paper's own variants, as changes to `PUBLISHED`; empty where
    they cannot be repeated from recipes alone.
    """

    recipe: str
    base: str
    variants: dict[str, dict]
    description: str
    steps: tuple[str, ...] = ()
    paper_base: str = ""
    published: dict[str, dict] = field(default_factory=dict)

    def scaled(self, scale: str = "tiny") -> tuple[str, dict[str, dict]]:
        """(the base recipe, the variants) of the "tiny" study or of the "published" one.

        Raises:
            ValueError: another word, or a study without published variants.
        """
        if scale not in ("tiny", "published"):
            raise ValueError(f"scale is {scale!r}; choose 'tiny' or 'published'")
        if scale == "tiny":
            return self.recipe, self.variants
        if not self.published:
            raise ValueError("this study has no published variants: what they start from is not published as a recipe")
        return PUBLISHED, self.published


def _options(**options) -> dict:
    return {"model_options": options}


def _attention(*windows: tuple[int, int], **more) -> dict[str, dict]:
    """The rows of the paper's table over features of half the stride (`ratio` 2), four times the tokens; `windows`:
    (rows, columns) of the small and of the large ones."""
    small, large = windows
    kinds = {"full": ("full", small)} | {kind: (kind, small) for kind in ("window", "shift", "pool", "shift+pool")}
    kinds |= {"shift+pool 16x12": ("shift+pool", large)}
    return {name: _options(ratio=2, attention=kind, window=side, **more) for name, (kind, side) in kinds.items()}


def _pixels(height: int, width: int) -> dict:
    return _options(crop_size=(width, height))


MHSA, FFN = _options(freeze={"attention": True}), _options(freeze={"ffn": True})
FROM_MAE = {"weights": "run:autoencoder"}
AUTOENCODER = {"autoencoder": {"recipe": "mae_tiny"}}
SIMPLE = {"classic": {}, "simple": _options(decoder="simple")}
STUDENTS = {
    "none": {},
    "token": {"teacher": "run:teacher's token", "distil": "token"},
    "heatmaps": {"teacher": "run:teacher", "distil": "output"},
    "heatmaps + token": {"teacher": "run:teacher's token", "distil": "both"},
}

STUDIES: dict[str, Study] = {
    "scaling": Study(
        "vitpose_tiny",
        "tiny",
        {
            "narrow": _options(dim=64, heads=2, filters=16, part=16),
            "tiny": {},
            "wide": _options(dim=192, heads=6, filters=48, part=48),
        },
        "narrow, tiny, wide: 64, 128 and 192 channels where the paper's S, B, L and H have 384, 768, 1,024 and 1,280; "
        "4 blocks in all three.",
        published={f"ViTPose-{size.upper()}": {"recipe": f"vitpose_{size}"} for size in "sblh"},
    ),
    "decoders": Study(
        "vitpose_tiny",
        "classic",
        SIMPLE,
        "classic and simple: the paper's two decoders, with 32 channels for its 256.",
        published=SIMPLE,
    ),
    "attention": Study(
        "vitpose_tiny",
        "full",
        _attention((4, 4), (8, 6), padding=3),
        "Features of stride 6 on crops of 96 x 72 are a grid of 16 x 12 where the paper's are 32 x 24, so windows are "
        "of 4 x 4 tokens for its 8 x 8, and of 8 x 6 for its 16 x 12.",
        published=_attention((8, 8), (16, 12)),
    ),
    "pretraining": Study(
        "vitpose_tiny",
        "none",
        {**AUTOENCODER, "none": {}, "drawn crops": FROM_MAE},
        "none: random weights. drawn crops: the masked autoencoder saw the crops that are trained on afterwards, as "
        "the paper's “COCO crops”; nothing here answers to ImageNet.",
        steps=("autoencoder",),
        paper_base="ImageNet-1k",
    ),
    "resolution": Study(
        "vitpose_tiny",
        "96x72",
        {"48x36": _pixels(48, 36), "96x72": {}, "96x96": _pixels(96, 96), "144x108": _pixels(144, 108)},
        "Height x width: 96x72 for the paper's 256x192, 96x96 for its square 256x256, 48x36 for less than it tries, "
        "144x108 for its 384x288. Heatmaps grow with the crop, their joints do not.",
        paper_base="256x192",
        published={
            f"{height}x{width}": _pixels(height, width)
            for height, width in ((224, 224), (256, 192), (256, 256), (384, 288), (384, 384), (576, 432))
        },
    ),
    "finetuning": Study(
        "vitpose_tiny",
        "all trained",
        {**AUTOENCODER, "all trained": FROM_MAE, "MHSA frozen": FROM_MAE | MHSA, "FFN frozen": FROM_MAE | FFN},
        "All start from the masked autoencoder of drawn crops, where the paper's start from ImageNet's.",
        steps=("autoencoder",),
        published={"all trained": {}, "MHSA frozen": MHSA, "FFN frozen": FFN},
    ),
    "datasets": Study(
        "vitpose_tiny",
        "people",
        {name: {"dataset": name} for name in ("people", "people+crowd", "people+crowd+macaque")},
        "Drawn people, crowds (14 joints) and macaques take the places of COCO, AIC and MPII: a decoder each on one "
        "shared transformer, AP on people. Every run takes as many steps, so fewer of its crops show people.",
        paper_base="COCO",
    ),
    "distillation": Study(
        "vitpose_tiny_student",
        "none",
        {
            "teacher": {"recipe": "vitpose_tiny"},
            "teacher's token": {"recipe": "vitpose_tiny_token", "teacher": "run:teacher"},
            **STUDENTS,
        },
        "vitpose_tiny (128 channels) teaches a student of 64 channels where ViTPose-L teaches ViTPose-B.",
        steps=("teacher", "teacher's token"),
        published={
            "teacher": {"recipe": "vitpose_l"},
            "teacher's token": {"recipe": "vitpose_l", "teacher": "run:teacher", "distil": "learn_token"},
            **STUDENTS,
        },
    ),
    "partial": Study(
        "vitpose_tiny",
        "whole bodies",
        {"whole bodies": {"augment": "scenes"}, "half bodies too": {"augment": "scenes_half"}},
        "Both see the same pictures; the second cuts out half of the body of three in ten of the people with more than "
        "eight joints, as the paper's training does.",
        published={"whole bodies": {"augment": "vitpose_whole"}, "half bodies too": {}},
    ),
}


def study(name: str) -> Study:
    """The study of this name.

    Raises:
        ValueError: an unknown name; the sentence lists the known ones.
    """
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}; choose one of {', '.join(STUDIES)}")
    return STUDIES[name]


def run_folder(folder: str | Path, variant: str, seed: int = 0) -> Path:
    """Where the run of a variant stands: "shift+pool 16x12", seed 1 -> FOLDER/shift-pool-16x12-1."""
    slug = re.sub(r"[^a-z0-9]+", "-", variant.lower().replace("'", "")).strip("-")
    return resolve(folder) / f"{slug}-{seed}"


def study_recipe(
    name: str, variant: str, folder: str | Path = "", seed: int = 0, scale: str = "tiny", **changes
) -> Recipe:
    """The recipe of one variant. `changes` apply to every variant (fewer steps, say); what the study varies wins.

    `folder`: of the study, where earlier variants' weights are; "" leaves their names as they are ("run:NAME").

    Raises:
        ValueError: an unknown study, variant or field.
    """
    base, variants = study(name).scaled(scale)
    if variant not in variants:
        raise ValueError(f"the study {name} has no variant {variant!r}; it has {', '.join(variants)}")
    own = dict(variants[variant])
    called = own.pop("recipe", base)
    default = recipe(called)
    for key in RUN_FIELDS:
        if folder and own.get(key, "").startswith(RUN):
            own[key] = relative(run_folder(folder, own[key].removeprefix(RUN), seed))
    options = default.model_options | changes.get("model_options", {}) | own.get("model_options", {})
    fields = changes | own | {"model_options": options, "seed": seed}
    if "steps" in changes:
        fields.setdefault("warmup", min(default.warmup, changes["steps"] // 4))
    return recipe(called, **fields)


def needed(name: str, only: Iterable[str] = (), scale: str = "tiny") -> list[str]:
    """The variants of a study in the order of training: all, or those of `only` and what they start from.

    Raises:
        ValueError: an unknown study or variant.
    """
    _, variants = study(name).scaled(scale)
    wanted = list(only) or list(variants)
    for variant in wanted:  # grows while it is read
        if variant not in variants:
            raise ValueError(f"the study {name} has no variant {variant!r}; it has {', '.join(variants)}")
        sources = (variants[variant].get(key, "") for key in RUN_FIELDS)
        wanted += [source.removeprefix(RUN) for source in sources if source.startswith(RUN)]
    return [variant for variant in variants if variant in wanted]
