"""Recipes that cannot be: one sentence with field, value and remedy, before any data are opened."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posekit.training import recipe_fields
from posekit.training.recipes import RECIPES, Recipe, from_record, recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps of the recipe is 0: it must be at least 1"),
        ({"steps": 1e3}, "steps of the recipe is 1000.0: it must be a whole number"),
        ({"steps": True}, "steps of the recipe is True: it must be a whole number"),
        ({"batch_size": 0}, "batch_size of the recipe is 0: it must be at least 1"),
        ({"val_images": -3}, "val_images of the recipe is -3: it must be at least 0"),
        ({"lr": -1e-3}, "lr of the recipe is -0.001: it must be at least 0"),
        ({"lr": math.nan}, "lr of the recipe is nan: it must be a number"),
        ({"lr": "fast"}, "lr of the recipe is 'fast': it must be a number"),
        ({"people": 3}, r"people of the recipe is 3: it must be two whole numbers, .* such as \[1, 6\]"),
        ({"people": [5, 2]}, r"people of the recipe is \(5, 2\): the first number must not exceed the second"),
        ({"people": [0, 2]}, "people of the recipe is .*: it must be at least 1"),
        ({"drop_at": [0.5, 2]}, r"drop_at of the recipe is \(0.5, 2\): it must be from 0 to 1"),
        ({"seed": -1}, "seed of the recipe is -1: it must be from 0 to 4294967295"),
        ({"dataset": 2024}, "dataset of the recipe is 2024: it must be text; papermill's -p makes a number of"),
        ({"precision": "fp16"}, "precision of the recipe is 'fp16': choose '32-true' or 'bf16-mixed' or '16-mixed'"),
        ({"on_error": "ignore"}, "on_error of the recipe is 'ignore': choose 'raise' or 'skip'"),
        ({"schedule": "linear"}, "schedule of the recipe is 'linear': choose 'cosine' or"),
        ({"model_options": [1]}, "model_options of the recipe is .*: it must be names with values"),
        ({"data_options": {"annotation": "a.json"}}, "data_options of the recipe has 'annotation'; it takes annot"),
    ],
)
def test_a_field_that_cannot_be_is_a_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        recipe("poet_tiny", **changes)


def test_every_recipe_of_the_book_passes_and_survives_json():
    for name, made in RECIPES.items():
        assert from_record(json.loads(json.dumps(vars(made)))) == made, name
    assert recipe("poet_tiny", dataset=Path("data/coco")).dataset == str(Path("data/coco"))
    assert recipe("rtmo_tiny", lr=1, drop_at=0, sizes=[64, 96]).sizes == (64, 96)


def test_limits_and_choices_are_of_fields_that_there_are():
    fields = set(Recipe.__dataclass_fields__)
    assert set(recipe_fields.LIMITS) | set(recipe_fields.CHOICES) <= fields
    assert {spec.type for spec in Recipe.__dataclass_fields__.values()} <= set(recipe_fields.KINDS)


anything = st.recursive(
    st.sampled_from([None, True, False, -1, 0, 1, 3, 10**30, -0.5, 0.5, 1e300, math.nan, math.inf, "", "a", "skip"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(Recipe.__dataclass_fields__)), anything, max_size=3))
def test_whatever_a_record_holds_it_is_a_recipe_or_a_sentence(changes):
    try:
        made = from_record({"model": "poet_tiny"} | changes, "some/run.json")
    except ValueError as error:
        assert str(error).startswith("some/run.json: ")
        return
    assert from_record(json.loads(json.dumps(vars(made)))) == made


def test_a_record_without_a_model_is_of_no_training():
    with pytest.raises(ValueError, match="some/run.json: its parameters name no model"):
        from_record({"threads": 2}, "some/run.json")


def test_more_is_json_with_names():
    assert recipe_fields.from_json("") == {} and recipe_fields.from_json({"ema": 0.5}) == {"ema": 0.5}
    assert recipe_fields.from_json('{"ema": 0.5}') == {"ema": 0.5}
    with pytest.raises(ValueError, match="more is 'ema=0.5', which is not JSON .*; write it as"):
        recipe_fields.from_json("ema=0.5")
    with pytest.raises(ValueError, match=r"data_options is '\[1\]': it must hold names with values"):
        recipe_fields.from_json("[1]", "data_options")


def test_half_precision_without_a_gpu_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for accelerator in ("auto", "cpu"):
        with pytest.raises(ValueError, match="precision is '16-mixed': .*GPU only.*choose 'bf16-mixed' or '32-true'"):
            recipe_fields.check_device("16-mixed", accelerator)
        recipe_fields.check_device("bf16-mixed", accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    recipe_fields.check_device("16-mixed", "auto")
