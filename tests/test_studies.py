"""ViTPose's studies: every variant is a recipe that hangs together, runs stand where they are looked for."""

import shutil

import numpy as np
import pandas as pd
import pytest
import ship

from posebook import tables
from posebook.reports import RunFiles
from posebook.studies import STUDIES, needed, run_folder, study_recipe
from posebook.study_runs import finished, study_rows, train_study
from posebook.tables import read_paper
from posekit import runs
from posekit.files import relative, write_json
from posekit.training.build import prepare
from posekit.training.evaluate import evaluate_run
from posekit.training.loop import train
from posekit.training.recipes import recipe

SMALL = {"steps": 2, "images": 6, "val_images": 4, "batch_size": 4, "size": 128, "people": (1, 2)}
PAPER = {name: read_paper(one.paper or f"vitpose_{name}") for name, one in STUDIES.items() if name != "partial"}


def quiet(line):
    pass


def trained(name, folder, seeds=(0,), only=(), **changes):
    return train_study(name, folder, seeds, quiet, only, **(SMALL | changes))


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in STUDIES for scale in ("tiny", "published")])
def test_every_variant_is_a_recipe_and_what_it_starts_from_comes_first(name, scale, tmp_path):
    one, before = STUDIES[name], []
    if scale == "published" and not one.published:
        with pytest.raises(ValueError, match="no published variants"):
            one.scaled(scale)
        return
    _, variants = one.scaled(scale)
    assert one.base in variants or scale == "published"
    assert set(one.steps) <= set(one.variants)
    for variant in needed(name, scale=scale):
        made = study_recipe(name, variant, tmp_path, 3, scale, steps=8)
        assert made.steps == 8 and made.seed == 3 and made.warmup <= 2
        starts = [variants[variant][key] for key in ("weights", "teacher") if key in variants[variant]]
        for source in starts:
            assert source.removeprefix("run:") in before
            assert relative(run_folder(tmp_path, source.removeprefix("run:"), 3)) in vars(made).values()
        before.append(variant)
    folders = {run_folder(tmp_path, variant) for variant in variants}
    assert len(folders) == len(variants)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "distillation"])
def test_the_models_of_a_study_differ_as_it_says(name):
    made = {v: study_recipe(name, v, **SMALL, weights="") for v in needed(name) if v not in STUDIES[name].steps}
    plain = [recipe(STUDIES[name].recipe, **vars(one) | {"weights": "", "teacher": ""}) for one in made.values()]
    parts = [prepare(one) for one in plain]
    counts = [sum(p.numel() for p in part.model.parameters() if p.requires_grad) for part in parts]
    crops = [tuple(next(part.train.epoch(0))["images"].shape[2:]) for part in parts]
    by_name = dict(zip(made, counts, strict=True))
    if name == "scaling":
        assert counts == sorted(counts) and counts[0] < 0.5 * counts[1] < 0.35 * counts[2]
    if name == "attention":
        assert len(set(counts)) == 1 and {part.model.backbone.stride for part in parts} == {6}
        windows = {v: part.model.backbone.blocks[1].attn for v, part in zip(made, parts, strict=True)}
        assert windows["full"].window is None and windows["shift"].shift == (2, 2) and windows["pool"].pool
        assert windows["shift+pool 16x12"].window == (8, 6)
    if name == "resolution":
        assert crops == [tuple(int(side) for side in v.split("x")) for v in made]
    if name == "finetuning":
        assert by_name["FFN frozen"] < by_name["MHSA frozen"] < by_name["all trained"]
    if name == "datasets":
        assert [len(part.val) for part in parts] == [1, 2, 3]
    if name == "partial":
        assert [part.train.augment.steps.half_body for part in parts] == [0.0, 0.3]


@pytest.mark.parametrize("name", [name for name in PAPER if name not in ("scaling", "resolution", "datasets")])
def test_variants_bear_the_papers_names(name):
    known = set(PAPER[name].variant)
    assert known & set(STUDIES[name].variants) or name == "pretraining"
    assert set(STUDIES[name].published) - set(STUDIES[name].steps) <= known


def test_a_study_is_trained_and_tabled_as_the_figures_want_it(tmp_path, monkeypatch):
    lines = []
    metrics = train_study("decoders", tmp_path, (0, 1), lines.append, **SMALL)
    assert list(metrics) == ["classic", "simple"] and len(metrics["simple"]) == 2
    assert "decoders: simple, seed 1" in lines
    rows = study_rows(tmp_path, "decoders")
    monkeypatch.setattr(ship, "STUDIES", tmp_path / "kept")
    kept = ship.keep_records(tmp_path)
    assert [len(list(folder.iterdir())) for folder in kept] == [3] * 4, "records without weights"
    pd.testing.assert_frame_equal(study_rows(kept[0].parent, "decoders").drop(columns="run"), rows.drop(columns="run"))
    assert rows.variant.tolist() == ["classic"] * 2 + ["simple"] * 2 and rows.seed.tolist() == [0, 1, 0, 1]
    assert (rows.steps == 2).all() and rows.AP.tolist() == [m["AP"] for v in metrics for m in metrics[v]]
    assert rows.params_m.nunique() == 2 and rows.command.str.contains("-p recipe vitpose_tiny -p more").all()
    table = tables.study_table(PAPER["decoders"].query("method == 'ViTPose-B'"), rows, STUDIES["decoders"].base)
    assert table["ours: seeds"].tolist() == ["0, 1", "0, 1"]

    lines.clear()
    again = train_study("decoders", tmp_path, (0, 1), lines.append, **SMALL)
    assert sum("is done: nothing to train" in line for line in lines) == 4
    assert [one["AP"] for one in again["simple"]] == [one["AP"] for one in metrics["simple"]]


def test_an_autoencoder_is_a_step_and_has_no_ap(tmp_path):
    metrics = trained("pretraining", tmp_path, only=["drawn crops"])
    assert list(metrics) == ["autoencoder", "drawn crops"] and "AP" not in metrics["autoencoder"][0]
    rows = study_rows(tmp_path, "pretraining", steps=True)
    assert rows.variant.tolist() == ["drawn crops"]
    run = runs.load_run(run_folder(tmp_path, "drawn crops"))
    assert run["parameters"]["weights"].endswith("autoencoder-0")
    assert "autoencoder-0" in rows.command[0]
    mae = RunFiles(str(run_folder(tmp_path, "autoencoder")))
    assert mae.model.reconstruct is not None and mae.data.name.startswith("drawn people")
    for ask in (mae.score_row, lambda: evaluate_run(mae.folder, report=quiet)):
        with pytest.raises(ValueError, match="holds mae_tiny, which finds no keypoints"):
            ask()


def test_a_teacher_is_a_step_with_an_ap(tmp_path):
    trained("distillation", tmp_path, only=["heatmaps + token"])
    assert study_rows(tmp_path, "distillation").variant.tolist() == ["heatmaps + token"]
    rows = study_rows(tmp_path, "distillation", steps=True)
    assert rows.variant.tolist() == ["teacher", "teacher's token", "heatmaps + token"]
    assert rows.params_m[2] < 0.4 * rows.params_m[0]


def test_a_given_teacher_is_not_trained(tmp_path):
    longer, folder = tmp_path / "long", tmp_path / "study"
    train(recipe("vitpose_tiny", **(SMALL | {"steps": 3})), longer, report=quiet)
    metrics = trained("distillation", folder, (0, 1), ["token", "none"], given={"teacher": longer})
    rows = study_rows(folder, "distillation", steps=True)
    assert rows.variant.drop_duplicates().tolist() == ["teacher", "teacher's token", "none", "token"]
    assert rows.steps[:4].tolist() == [3, 3, 2, 2] and len(metrics["teacher"]) == 2
    assert runs.load_run(run_folder(folder, "teacher", 1))["folder"].endswith("study/teacher-1")
    assert rows.command[0] == RunFiles(str(longer)).training["summary"]["command"]
    trained("distillation", folder, (0, 1), ["token"], given={"teacher": longer})  # again: nothing to do
    shutil.copytree(longer, tmp_path / "other")
    with pytest.raises(ValueError, match=r"study/teacher-0 holds another run .*/long\), .* choose another folder"):
        trained("distillation", folder, only=["token"], given={"teacher": tmp_path / "other"})


def test_a_given_run_must_be_there_done_and_of_the_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: no run was made there yet"):
        trained("distillation", tmp_path, only=["heatmaps"], given={"teacher": tmp_path / "nowhere"})
    write_json(tmp_path / "half" / "run.json", {"status": "interrupted", "parameters": {}})
    with pytest.raises(ValueError, match="half is interrupted, not done: train it to its end"):
        trained("distillation", tmp_path, only=["heatmaps"], given={"teacher": tmp_path / "half"})
    with pytest.raises(ValueError, match="the study distillation has no variant 'master'"):
        trained("distillation", tmp_path, given={"master": tmp_path})


def test_a_run_of_several_data_sets_is_scored_on_each(tmp_path):
    trained("datasets", tmp_path, only=["people+crowd+macaque"])
    row = study_rows(tmp_path, "datasets").iloc[0]
    assert row.AP == row.AP_people and {"AP_crowd", "AP_macaque"} <= set(row.index)
    run = run_folder(tmp_path, "people+crowd+macaque")
    files = RunFiles(str(run))
    assert files.model.num_keypoints == 17 and len(files.model.heads) == 1 and not files.model.training
    assert files.score_row()["data set"].startswith("drawn people")
    picture, target, poses, outputs, batch = next(files.run_model([1]))
    assert len(poses) == len(batch["images"]) == len(outputs["heatmaps"]) <= len(target["areas"])
    assert picture.shape == (128, 128, 3)
    metrics = evaluate_run(run, folder=tmp_path / "people", report=quiet)
    log = RunFiles(str(run)).metrics
    assert metrics["AP"] == pytest.approx(log["AP_people"], abs=1e-6)
    evaluate_run(run, "crowd", folder=tmp_path / "crowd", report=quiet)
    scored = RunFiles(str(tmp_path / "crowd"))
    assert scored.model.num_keypoints == 14 and scored.data.name.startswith("drawn crowd")
    assert pd.notna(scored.score_row()["AR"])
    heads = RunFiles(str(run)).model.keypoint_head.final_layer.bias.detach().numpy()
    evaluate_run(run, "macaque", folder=tmp_path / "macaque", report=quiet)
    other = RunFiles(str(tmp_path / "macaque")).model.keypoint_head.final_layer.bias.detach().numpy()
    assert not np.allclose(heads, other)


def test_the_same_recipe_in_another_study_is_not_trained_twice(tmp_path):
    few, lines = SMALL | {"steps": 1}, []
    train_study("decoders", tmp_path / "study_decoders", (0,), quiet, ["classic"], **few)
    for changes, word in (({}, "study_decoders/classic-0: copied"), ({"steps": 2}, "whole bodies, seed 0")):
        train_study("partial", tmp_path / "study_partial", (0,), lines.append, ["whole bodies"], **(few | changes))
        assert any(word in line for line in lines)
    record = runs.load_run(run_folder(tmp_path / "study_partial", "whole bodies"))
    assert record["results"]["step"] == 2 and sum("copied" in line for line in lines) == 1
    assert record["folder"].endswith("study_partial/whole-bodies-0")


def test_what_is_missing_or_unknown_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finished run of the study decoders: notebooks/14_study.ipynb"):
        study_rows(tmp_path, "decoders")
    (tmp_path / "decoders-0").mkdir()
    half = {"status": "running", "parameters": {}, "results": {"AP": 0.1}}
    write_json(run_folder(tmp_path, "simple") / "run.json", half)
    write_json(run_folder(tmp_path, "simple", 1).with_name("simple-0.20260101T000000") / "run.json", half)
    assert finished(tmp_path, "simple") == []
    with pytest.raises(ValueError, match="no study 'colour'; choose one of scaling"):
        train_study("colour", tmp_path)
    with pytest.raises(ValueError, match="has no variant 'big'; it has classic, simple"):
        train_study("decoders", tmp_path, only=["big"])
    with pytest.raises(ValueError, match="has no variant 'big'"):
        study_recipe("decoders", "big")
    with pytest.raises(ValueError, match="scale is 'huge'"):
        needed("decoders", scale="huge")
    with pytest.raises(ValueError, match="a recipe has no field stepps"):
        train_study("decoders", tmp_path, stepps=3)
