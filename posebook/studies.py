"""Studies: what a table or figure varies, ViTPose's (Xu et al. 2022, arXiv 2204.12484, section 4.2) and POET's.

In `studies.yaml` a study is a table of changes to a recipe, which `posebook.study_runs` trains. Names of variants are
the paper's where it has them (column `variant` of `data/paper/vitpose_STUDY.csv`), our own where the paper's name is a
number that ours does not share: `Study.description` says what they answer to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

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
    they cannot be repeated from recipes alone. `paper`: the stem of the paper's numbers in `data/paper`, "" =
    vitpose_NAME.
    """

    recipe: str
    base: str
    variants: dict[str, dict]
    description: str
    steps: tuple[str, ...] = ()
    paper_base: str = ""
    published: dict[str, dict] = field(default_factory=dict)
    paper: str = ""

    def scaled(self, scale: str = "tiny") -> tuple[str, dict[str, dict]]:
        """(the base recipe, the variants) of the "tiny" study or of the "published" one.

        Raises ValueError: another word, or a study without published variants.
        """
        if scale not in ("tiny", "published"):
            raise ValueError(f"scale is {scale!r}; choose 'tiny' or 'published'")
        if scale == "tiny":
            return self.recipe, self.variants
        if not self.published:
            raise ValueError("this study has no published variants: what they start from is not published as a recipe")
        return PUBLISHED, self.published


def _tuples(value):
    """What YAML brings as recipes and models take it: lists are tuples."""
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


STUDIES = {
    name: Study(**_tuples(fields))
    for name, fields in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items()
}


def study(name: str) -> Study:
    """The study of this name.

    Raises ValueError: an unknown name; the sentence lists the known ones.
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

    Raises ValueError: an unknown study, variant or field.
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

    Raises ValueError: an unknown study or variant.
    """
    _, variants = study(name).scaled(scale)
    wanted = list(only) or list(variants)
    for variant in wanted:  # grows while it is read
        if variant not in variants:
            raise ValueError(f"the study {name} has no variant {variant!r}; it has {', '.join(variants)}")
        sources = (variants[variant].get(key, "") for key in RUN_FIELDS)
        wanted += [source.removeprefix(RUN) for source in sources if source.startswith(RUN)]
    return [variant for variant in variants if variant in wanted]
