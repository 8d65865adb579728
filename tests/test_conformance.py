"""Conformance with the published POET on small golden copies, and what the replayer must notice."""

import json
import shutil
import zlib
from pathlib import Path

import conformance
import numpy as np
import pytest
import torch
from golden import poet_forward, poet_losses, rules
from golden.replay import replay

GOLDEN = Path(__file__).parent / "golden" / "poet"


@pytest.fixture
def folder(tmp_path):
    """A directory with the named golden files, to spoil."""

    def copy(*names):
        for name in names:
            shutil.copy(GOLDEN / name, tmp_path)
        return tmp_path

    return copy


def test_the_reference_slip_is_stated_and_not_copied(folder):
    report = replay(folder("match_hidden_center.npz", "loss_hidden_center.json"))
    rows = {row.check: row for row in report.rows if row.file == "match_hidden_center.npz"}
    assert rows["term_kpts_class_0"].note == poet_losses.SLIP
    arrays = report.directory.opened[Path("match_hidden_center.npz")]
    people = poet_losses.pack(arrays["targets"], arrays["labels"], arrays["n_persons"])
    unit = poet_losses.criterion_for(17, dict.fromkeys(poet_losses.TERMS, 1.0))
    ours = unit.cost(torch.tensor(arrays["pred_logits"]), torch.tensor(arrays["pred_kpts"]), people)["loss_kpts_class"]
    ((_, b, n),) = poet_losses.hidden_people(people)
    assert (ours[:, b, :, n] == 0).all()  # a person without a centre costs nothing
    assert (arrays[f"term_kpts_class_{b}"][:, n] > 0).any()


def test_weights_by_rule():
    key = "transformer.encoder.layers.0.self_attn.in_proj_weight"
    plain, spread = rules.plain_tensor(key, (768, 256)), rules.spread_tensor(key, (768, 256))
    assert zlib.crc32(plain.astype("<f4").tobytes()) == 442095559
    np.testing.assert_array_equal(spread[:512], plain[:512] * np.float32(3))
    np.testing.assert_array_equal(spread[512:], plain[512:])
    assert rules.plain_tensor("bn1.running_var", (64,)).min() >= 1
    assert rules.plain_tensor("bn1.num_batches_tracked", ()).dtype == np.int64


def test_missing_directory_is_status_2(tmp_path, capsys):
    assert conformance.main([str(GOLDEN), str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_a_sound_directory_is_status_0(folder, capsys):
    assert conformance.main([str(folder("match_single.npz", "loss_single.json"))]) == 0
    assert "0 failed" in capsys.readouterr().out


def test_an_empty_directory_and_an_unknown_format_are_status_1(tmp_path, capsys):
    assert conformance.main([str(tmp_path)]) == 1
    (tmp_path / "something.bin").write_bytes(b"1")
    assert conformance.main([str(tmp_path)]) == 1
    assert "no file fits a known format (POET, " in capsys.readouterr().out


def test_an_unknown_file_is_status_1(folder, capsys):
    path = folder("match_single.npz", "loss_single.json")
    (path / "surprise.npz").write_bytes(b"")
    assert conformance.main([str(path)]) == 1
    assert "surprise.npz" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["match_single.npz", "loss_single.json"])
def test_a_file_without_its_companion_is_status_1(folder, name, capsys):
    assert conformance.main([str(folder(name))]) == 1
    assert "belong together" in capsys.readouterr().out


def test_a_damaged_file_does_not_hide_the_others(folder):
    path = folder(
        "match_single.npz",
        "loss_single.json",
        "postprocess_general.npz",
        "match_general.npz",
        "loss_general.json",
    )
    (path / "match_single.npz").write_bytes((path / "match_single.npz").read_bytes()[:5000])
    failed = {row.file for row in replay(path).rows if not row.passed}
    assert failed == {"match_single.npz", "loss_single.json"}


def test_an_array_that_nobody_reads_is_a_failed_row(folder):
    path = folder("match_single.npz", "loss_single.json")
    arrays = dict(np.load(path / "match_single.npz")) | {"term_hips_0": np.zeros(3)}
    np.savez(path / "match_single.npz", **arrays)
    (row,) = [row for row in replay(path).rows if not row.passed]
    assert row.check == "term_hips_0" and "not replayed" in row.note


@pytest.mark.parametrize("name", sorted(np.load(GOLDEN / "match_single.npz").files))
def test_a_changed_array_is_noticed(folder, name):
    path = folder("match_single.npz", "loss_single.json")
    arrays = dict(np.load(path / "match_single.npz"))
    array = arrays[name].copy()
    array.flat[-1] += 1 if array.dtype.kind in "iu" else 1e-2
    np.savez(path / "match_single.npz", **(arrays | {name: array}))
    assert conformance.main([str(path)]) == 1


LOSS = json.loads((GOLDEN / "loss_general.json").read_text())
LEAVES = [(name, inner) for name, value in LOSS.items() for inner in (value if isinstance(value, dict) else [None])]


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_a_changed_field_is_noticed(folder, leaf):
    path = folder("match_general.npz", "loss_general.json")
    name, inner = leaf
    fields = json.loads(json.dumps(LOSS))
    place, key = (fields, name) if inner is None else (fields[name], inner)
    place[key] = "other" if isinstance(place[key], str) else place[key] * 1.01 + 1e-3
    (path / "loss_general.json").write_text(json.dumps(fields))
    assert conformance.main([str(path)]) == 1


@pytest.mark.parametrize("name", ["orig_size_hw", "scores", "labels", "keypoints"])
def test_a_changed_detection_is_noticed(folder, name):
    path = folder("match_general.npz", "loss_general.json", "postprocess_general.npz")
    arrays = dict(np.load(path / "postprocess_general.npz"))
    arrays[name].flat[0] += 1 if arrays[name].dtype.kind in "iu" else 1e-2
    np.savez(path / "postprocess_general.npz", **arrays)
    assert {row.file for row in replay(path).rows if not row.passed} == {"postprocess_general.npz"}


@pytest.mark.parametrize(
    "step, field", [("hflip", "keypoints"), ("rotate", "labels"), ("crop", "size"), ("resize", "encoded")]
)
def test_a_changed_target_is_noticed(folder, step, field):
    path = folder("targets.json")
    fields = json.loads((path / "targets.json").read_text())
    place = fields[step] if field == "encoded" else fields[step]["target"]
    first = place[field]
    while isinstance(first[0], list):
        first = first[0]
    first[0] += 1
    (path / "targets.json").write_text(json.dumps(fields))
    failed = [row.check for row in replay(path).rows if not row.passed]
    assert failed and all(check.startswith(step) for check in failed)


def second_set(folder: Path, **changed) -> None:
    """A forward pass of another size in the same format: other layers, queries, keypoints, images, seeds."""
    options = {
        "num_queries": 7,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "num_keypoints": 14,
        "feedforward": 512,
    }
    model = poet_forward.build_for(options)
    keys = [[name, list(value.shape)] for name, value in model.state_dict().items()]
    (folder / "keys_short.json").write_text(json.dumps(keys))
    poet_forward.fill(model, "spread")
    valid, shape = [[64, 96], [40, 90], [64, 33]], [3, 3, 64, 96]
    pixels, mask = rules.images("blocks", 5, shape, valid)
    rng = np.random.default_rng(0)
    targets = rng.uniform(0.3, 0.7, (3, 45)).astype(np.float32)
    targets[:, 2], targets[:, 5::3] = 1, rng.integers(0, 2, (3, 14))
    people = poet_losses.pack(targets, np.ones(3, int), np.array([2, 0, 1]))
    seen = poet_forward.capture(model, torch.tensor(pixels), torch.tensor(mask))
    named, total = poet_forward.losses_of(seen, people)
    modules = [
        "transformer.encoder",
        "transformer.decoder",
        "class_embed",
        "kpt_embed",
        "query_embed",
        "backbone",
    ]
    norms = poet_forward.gradient_norms(model, total, modules)
    value = {name: tensor.detach().numpy() for name, tensor in seen.items()}
    double = poet_forward.capture(model.double(), torch.tensor(pixels).double(), torch.tensor(mask))
    value["position"] = np.broadcast_to(value["position"], value["memory"].shape)

    def summary(x):
        x = x.astype(float)
        return {
            "shape": list(x.shape),
            "mean": x.mean(),
            "std": x.std(ddof=1),
            "abs_sum": abs(x).sum(),
            "min": x.min(),
            "max": x.max(),
        }

    parameters = list(model.parameters())
    fields = {
        "variant": "short_spread",
        "weight_rule": "spread",
        "image_rule": "blocks",
        "image_seed": 5,
        "dilation5": False,
        "num_queries": 7,
        "shape": shape,
        "valid_hw": valid,
        "image_crc32": zlib.crc32(pixels.tobytes()),
        "image_first5": pixels.ravel()[:5].tolist(),
        "target_seed": 0,
        **{stage: summary(value[name]) for stage, name in poet_forward.STAGES.items()},
        "mean_abs_diff_between_images": float(abs(value["pose"][-1, 0] - value["pose"][-1, 1]).mean()),
        "mean_std_between_queries": float(value["pose"][-1, 0].std(0).mean()),
        "float64_max_abs_diff": {
            "pred_logits": abs(double["logits"].detach().numpy() - value["logits"]).max(),
            "pred_kpts": abs(double["pose"].detach().numpy() - value["pose"]).max(),
        },
        "losses": {name: term.item() for name, term in named.items()},
        "total": total.item(),
        "gradient_l2": dict(zip(modules, norms.tolist(), strict=True)),
        "params_total": sum(p.numel() for p in parameters),
        "params_trainable": sum(p.numel() for p in parameters if p.requires_grad),
    } | changed
    (folder / "forward_short_spread.json").write_text(json.dumps(fields, default=float))
    np.savez(folder / "forward_targets_short_spread.npz", targets=targets, n_persons=np.array([2, 0, 1]))
    np.savez(
        folder / "forward_short_spread.npz",
        valid_hw=np.array(valid),
        pred_logits=value["logits"],
        pred_kpts=value["pose"],
        feature_mask=value["mask"],
        feature_every_64th=value["feature"][:, ::64],
        pos_every_16th=value["position"][:, ::16],
        proj_every_16th=value["projected"][:, ::16],
        memory_every_16th=value["memory"][:, ::16],
        hs_last_every_4th=value["states"][-1][..., ::4],
    )


def test_a_set_of_another_size_is_replayed_from_its_files_alone(tmp_path):
    second_set(tmp_path)
    report = replay(tmp_path)
    assert [f"{row.file} {row.check} {row.note}" for row in report.rows if not row.passed] == []
    assert len({row.file for row in report.rows}) == 4


def test_wrong_numbers_of_a_forward_pass_are_noticed(tmp_path):
    second_set(tmp_path)
    fields = json.loads((tmp_path / "forward_short_spread.json").read_text())
    arrays = dict(np.load(tmp_path / "forward_short_spread.npz"))
    for name in arrays.keys() - {"valid_hw"}:
        arrays[name].flat[-1] = not arrays[name].flat[-1] if arrays[name].dtype == bool else arrays[name].flat[-1] + 0.1
    expected = {
        "params_total",
        "total",
        "loss_ce_1",
        "gradient_l2.class_embed",
        "memory.mean",
        "feature.abs_sum",
        "num_queries",
    }
    fields["params_total"] += 1
    fields["total"] *= 1.01
    fields["losses"]["loss_ce_1"] *= 1.01
    fields["gradient_l2"]["class_embed"] *= 1.2
    fields["memory"]["mean"] += 0.1
    fields["feature"]["abs_sum"] *= 1.01
    fields["num_queries"] += 1
    (tmp_path / "forward_short_spread.json").write_text(json.dumps(fields))
    np.savez(tmp_path / "forward_short_spread.npz", **arrays)
    failed = {row.check for row in replay(tmp_path).rows if not row.passed}
    assert failed >= expected | (arrays.keys() - {"valid_hw"})
