"""Learning rates, stages and averages as functions of the step; which parameters learn and decay how."""

from dataclasses import replace

import pytest
from torch import nn

from posekit.losses.rtmo import PUBLISHED
from posekit.models import build
from posekit.training import schedules
from posekit.training.parameter_groups import parameter_groups
from posekit.training.recipes import RECIPES, Recipe, from_record, recipe


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1]), ("step", [0.5, 1, 1, 0.1]), ("cosine", [0.5, 1, 1, 0.146])],
)
def test_schedules(schedule, expected):
    options = recipe("poet_tiny", schedule=schedule, warmup=2, steps=10, drop_at=0.8)
    assert [schedules.rate(step, options, 1.0) for step in (0, 1, 2, 8)] == pytest.approx(expected, abs=1e-3)


def test_the_rate_falls_as_often_as_the_recipe_says():
    drops = {"schedule": "step", "drop_at": (170 / 210, 200 / 210)}
    published = Recipe(model="vitpose_b", steps=210, warmup=5, warmup_form="thousandth", **drops)
    rates = [schedules.rate(step, published, 1.0) for step in (0, 1, 5, 169, 170, 199, 200, 209)]
    assert rates == pytest.approx([0.001, 0.2008, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_cosine_ends_at_its_floor_for_every_group():
    options = Recipe(model="x", warmup=0, steps=100, floor=0.1)
    assert schedules.rate(100, options, 1.0) == schedules.rate(100, options, 0.5) == pytest.approx(0.1)


def test_stages_and_late_steps_are_shares_of_the_run():
    options = Recipe(model="x", steps=10, stage2_at=0.5, late_at=0.8)
    assert [schedules.stage(step, options) for step in (0, 4, 5, 9)] == [1, 1, 2, 2]
    assert [schedules.is_late(step, options) for step in (5, 7, 8)] == [False, False, True]
    never = Recipe(model="x", steps=10)
    assert schedules.stage(9, never) == 1 and not schedules.is_late(9, never)


@pytest.mark.parametrize("wrong", [{"schedule": "cosinus"}, {"warmup": 5, "warmup_form": "cubic"}])
def test_unknown_schedules_give_a_sentence(wrong):
    with pytest.raises(ValueError, match="is '(cosinus|cubic)': choose"):
        schedules.rate(0, replace(Recipe(model="x", warmup=0), **wrong), 1.0)


def test_backbone_and_head_have_their_own_learning_rate():
    model = build("poet_tiny")
    head, backbone = parameter_groups(model, recipe("poet_tiny", lr=1.0, lr_backbone=0.1))
    assert (head["lr"], backbone["lr"]) == (1.0, 0.1)
    assert sum(p.numel() for g in (head, backbone) for p in g["params"]) == sum(p.numel() for p in model.parameters())


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.pos_embed = nn.Parameter(nn.Linear(2, 3).weight.detach())
        self.backbone.patch_embed = nn.Linear(2, 2)
        self.backbone.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
        self.head = nn.Linear(2, 2)


def test_layers_near_the_picture_learn_slowly_and_tables_do_not_decay():
    model = Layers()
    groups = parameter_groups(model, Recipe("x", groups="layers", lr=1.0, weight_decay=0.1, layer_decay=0.5))
    told = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert {name: told[id(p)] for name, p in model.named_parameters()} == {
        "backbone.pos_embed": (0.125, 0.0),
        "backbone.patch_embed.weight": (0.125, 0.1),
        "backbone.patch_embed.bias": (0.125, 0.0),
        "backbone.blocks.0.weight": (0.25, 0.1),
        "backbone.blocks.0.bias": (0.25, 0.0),
        "backbone.blocks.1.weight": (0.5, 0.1),
        "backbone.blocks.1.bias": (0.5, 0.0),
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
    }
    assert groups[0]["name"] == "head"


def test_unknown_groups_give_a_sentence():
    with pytest.raises(ValueError, match="groups of the recipe is 'all': choose 'backbone'"):
        parameter_groups(nn.Linear(1, 1), Recipe(model="x", groups="all"))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("rtmo_t", "body7_t"),
        ("rtmo_s", "coco_s"),
        ("rtmo_m", "coco_m"),
        ("rtmo_l", "coco_l"),
        ("rtmo_s_crowdpose", "crowdpose_s"),
        ("rtmo_m_crowdpose", "crowdpose_m"),
        ("rtmo_l_crowdpose", "crowdpose_l"),
    ],
)
def test_published_recipes_have_the_published_losses(name, key):
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in RECIPES[name].loss_options.items()}
    assert options == PUBLISHED[key]


def test_a_record_of_an_older_version_is_read():
    old = {"model": "poet_tiny", "people": [1, 4], "drop_at": 0.7, "no_longer": 3}
    read = from_record(old)
    assert read.people == (1, 4) and read.drop_at == 0.7 and read.loss_options == {} and read.stage2_at == 1.0
    new = recipe("rtmo_s")
    assert from_record({k: list(v) if isinstance(v, tuple) else v for k, v in vars(new).items()}) == new
