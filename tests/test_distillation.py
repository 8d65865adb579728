"""Distillation in the training loop: the paper's three phases as runs, what they change, resume, sentences."""

import pytest
import torch
from safetensors.torch import load_file

from posekit import runs
from posekit.files import save_tensors, write_json
from posekit.losses.distillation import fit_token
from posekit.models.vit import SIZES
from posekit.models.vitpose import vitpose, vitpose_tiny
from posekit.training import loop
from posekit.training.build import load_teacher, prepare
from posekit.training.recipes import from_record, recipe
from posekit.training.weights import load

TEACHER = {"dim": 32, "heads": 2, "depth": 2, "filters": 8}
STUDENT = TEACHER | {"dim": 16}
TOKEN = "backbone.knowledge_token"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path_factory.mktemp("house"))


def quick(name, **changes):
    options = {"images": 12, "val_images": 4, "size": 128, "people": (1, 2), "batch_size": 8, "steps": 6, "warmup": 2}
    return recipe(name, **(options | {"ema": 0.0} | changes))


def run(options, folder):
    loop.train(options, folder, report=lambda line: None)
    return load_file(folder / "model.safetensors")


def save(network, folder, **parameters):
    """A run folder of a model that nobody trained."""
    folder.mkdir()
    save_tensors(folder / "model.safetensors", network.state_dict())
    write_json(folder / "run.json", {"parameters": {"model": "vitpose_tiny"} | parameters})
    return str(folder)


@pytest.fixture
def teacher(tmp_path):
    """With heatmaps of its own, which no training on the truth leads to, and large weights: every token matters."""
    torch.manual_seed(5)
    network = vitpose_tiny(**TEACHER)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    for _ in range(20):  # batch norms find their statistics
        network(torch.randn(8, 3, 96, 72))
    return save(network, tmp_path / "teacher", model_options=TEACHER)


def test_three_phases_make_a_student_with_the_teachers_token(teacher, tmp_path):
    before = load_file(tmp_path / "teacher" / "model.safetensors")
    learnt = run(quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER), tmp_path / "token")
    assert learnt.keys() - before.keys() == {TOKEN}
    assert all(torch.equal(value, learnt[name]) for name, value in before.items())  # batch norms' statistics as well
    start = prepare(quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER, seed=0)).model.state_dict()
    assert (learnt[TOKEN] - start[TOKEN]).abs().max() > 1e-3

    options = quick("vitpose_tiny_student", teacher=str(tmp_path / "token"), distil="both", model_options=STUDENT)
    student = run(options, tmp_path / "student")
    assert torch.equal(student[TOKEN], fit_token(learnt[TOKEN], 16))  # frozen
    row = runs.read_log(tmp_path / "student" / "log.csv")[-1]
    total = row["train_loss_heatmap"] + row["train_loss_output"]
    assert row["train_total"] == pytest.approx(options.loss_options["weight"] * total, rel=1e-5)
    assert "AP" in row and "val_loss_output" not in row
    assert not [name for name in student if "teacher" in name]
    loaded = load("vitpose_tiny", tmp_path / "student")
    assert torch.equal(loaded.backbone.knowledge_token, student[TOKEN])
    again = from_record(runs.load_run(tmp_path / "student")["parameters"])
    assert (again.distil, again.model_options) == ("both", STUDENT | {"knowledge_token": True})


def test_by_token_alone_the_teacher_is_not_asked(teacher, tmp_path):
    run(quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER, steps=2), tmp_path / "token")
    options = quick("vitpose_tiny_student", teacher=str(tmp_path / "token"), distil="token", model_options=STUDENT)
    run(options, tmp_path / "student")
    assert "train_loss_output" not in runs.read_log(tmp_path / "student" / "log.csv")[-1]


def gain_of_the_token(folder, teacher, seed=0) -> float:
    """By which share the learnt token lowers the teacher's loss, against a token of zeros."""
    more = {"steps": 40, "lr": 0.1, "augment": "none", "seed": seed}
    options = quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER, **more)
    learnt = run(options, folder)
    parts = prepare(options)
    batch, token, losses = next(parts.train.epoch(0)), parts.model.backbone.knowledge_token, []
    for value in (torch.zeros_like(token), learnt[TOKEN]):
        with torch.no_grad():
            token.copy_(value)
            outputs = parts.model(batch["images"])
        losses.append(parts.criterion(parts.model, 1, False)(outputs, batch["targets"]).terms["loss_heatmap"].item())
    return 1 - losses[1] / losses[0]


@pytest.mark.learning
def test_the_token_learns(tmp_path, teacher):
    assert gain_of_the_token(tmp_path / "token", teacher) > 0.005


def gain_of_the_teacher(folder, teacher, seed=0) -> float:
    """By which share a student that is taught comes nearer to its teacher's heatmaps than one that is not."""
    distance = {}
    for distil in ("", "output"):
        extra = {"distil": distil, "teacher": teacher, "output_weight": 4.0} if distil else {}
        options = quick("vitpose_tiny_student", steps=40, lr=1e-2, model_options=STUDENT, seed=seed, **extra)
        run(options, folder / f"student{distil}")
        student = load("vitpose_tiny", folder / f"student{distil}")
        batch = next(prepare(options).val["people"].epoch(0))
        with torch.no_grad():
            maps = [one(batch["images"])["heatmaps"] for one in (student, load_teacher(teacher).eval())]
        distance[distil] = (maps[0] - maps[1]).square().mean().item()
    return 1 - distance["output"] / distance[""]


@pytest.mark.learning
def test_output_distillation_reproduces_the_teacher(teacher, tmp_path):
    assert gain_of_the_teacher(tmp_path, teacher) > 0.1


@pytest.mark.parametrize("phase", ["learn_token", "both"])
def test_an_interrupted_phase_ends_with_the_same_weights(phase, teacher, tmp_path, interrupt, moved):
    if phase == "learn_token":
        options = quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER, ema=0.5)
    else:
        run(quick("vitpose_tiny_token", teacher=teacher, model_options=TEACHER, steps=1), tmp_path / "token")
        student = {"teacher": str(tmp_path / "token"), "distil": "both", "model_options": STUDENT, "ema": 0.5}
        options = quick("vitpose_tiny_student", **student)
    whole = run(options, tmp_path / "whole")
    interrupt(4, lambda: run(options, tmp_path / "cut"))
    assert (tmp_path / "cut" / "resume.ckpt").exists()
    assert moved(options, tmp_path / "whole") > 0.9
    cut = run(options, tmp_path / "cut")
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)


def test_published_weights_teach_without_a_record(tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "s", (32, 2, 2, 0.0, 8))
    given = vitpose("s", decoder="simple")
    torch.save({"state_dict": given.state_dict()}, tmp_path / "published.pth")
    teacher = load_teacher(str(tmp_path / "published.pth"))
    images = torch.randn(1, 3, 256, 192)
    with torch.no_grad():
        assert torch.equal(teacher.eval()(images)["heatmaps"], given.eval()(images)["heatmaps"])
    assert teacher.crop_size == (192, 256)


def student(**changes):
    return quick("vitpose_tiny_student", **({"distil": "output", "model_options": STUDENT} | changes))


def test_a_recipe_that_does_not_hang_together_gets_a_sentence(teacher, tmp_path):
    def told(options, words):
        with pytest.raises(ValueError, match=words):
            prepare(options)

    told(student(), "distil is 'output', but by whom")
    told(student(teacher=teacher, distil=""), "choose one of output, token, both, learn_token")
    with pytest.raises(ValueError, match="distil of the recipe is 'logits': choose 'output' or 'token' or"):
        student(teacher=teacher, distil="logits")
    told(student(teacher=str(tmp_path / "nobody")), "no weights at .*nobody: train it first")
    told(student(teacher=teacher, distil="token"), "no knowledge token: let it learn one first")
    told(student(teacher=teacher, dataset="crowd"), r"differ in keypoints: \(17,\) and \(14,\)")
    other = STUDENT | {"crop_size": [96, 96]}
    told(student(teacher=teacher, model_options=other), r"pixels of a crop: \(72, 96\) and \(96, 96\)")
    finer = STUDENT | {"heatmap_stride": 6}
    told(student(teacher=teacher, model_options=finer), "pixels of a cell: 3 and 6")
    told(student(teacher=teacher, distil="learn_token"), "learnt inside the teacher .* another model")
    told(quick("rtmo_tiny", teacher=teacher, distil="output"), "only ViTPose is distilled, not rtmo_tiny")
    odd = save(vitpose_tiny(**STUDENT), tmp_path / "odd", model="poet_tiny")
    told(student(teacher=odd), "is not a ViTPose")
    (tmp_path / "odd" / "run.json").unlink()
    told(student(teacher=odd), "no run.json to say which one")
