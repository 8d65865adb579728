"""Shared by all tests: one thread per test process, so that results do not depend on the machine."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest_plugins = ["shuffle"]

# The same commit passes or fails the same everywhere; `HYPOTHESIS_PROFILE=default` searches with new examples.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long drills as well (tests/drills; `make drills`)")
    parser.addoption("--browser", action="store_true", help="what needs a browser or the built site, too (test-site)")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a drill that only runs with --long")
    config.addinivalue_line("markers", "browser: looks at pages in Chromium, or at the built site; only with --browser")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    for kind in ("long", "browser"):
        left = [item for item in items if item.get_closest_marker(kind) and not config.getoption(f"--{kind}")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt(4, call)`: Ctrl-C in the fourth training step of `call()`, which must end that step and stop."""
    from posekit.training.loop import Loop

    def interrupt(at, call):
        train_batch, calls = Loop.train_batch, []

        def broken_into(loop, batch):
            calls.append(1)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGINT)
            train_batch(loop, batch)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match=f"interrupted at step {at} of"):
            patch.setattr(Loop, "train_batch", broken_into)
            call()
        assert len(calls) == at

    return interrupt


@pytest.fixture
def moved():
    """`moved(recipe, folder)`: the share of the trained tensors that a run ships and that are not the random start's.

    Where it is 0, the equality of two runs shows nothing.
    """
    from safetensors.torch import load_file

    from posekit.provenance import seed_everything
    from posekit.training.build import prepare

    def moved(recipe, folder):
        seed_everything(recipe.seed)
        start, shipped = prepare(recipe).model, load_file(folder / "model.safetensors")
        trained = {name: value for name, value in start.named_parameters() if value.requires_grad}
        return sum(not value.equal(shipped[name]) for name, value in trained.items()) / len(trained)

    return moved


@pytest.fixture
def doors(tmp_path):
    """`doors(data, rows)`: (the folder, the score of the file as it is): one tolerance for both."""

    def doors(data, rows=(), split="val", **options):
        import json

        from coco_files import write

        from posekit.data.coco import CocoFolder
        from posekit.evaluation import evaluate

        write(tmp_path, data)
        (tmp_path / "found").mkdir(exist_ok=True)
        (tmp_path / "found" / "dt.json").write_text(json.dumps(list(rows)))
        folder = CocoFolder(tmp_path, split, **options)
        from_disk = evaluate(tmp_path / "people.json", tmp_path / "found" / "dt.json")
        from_memory = evaluate(data, list(rows))
        assert from_disk.stats == from_memory.stats and from_disk.notes == from_memory.notes
        return folder, from_disk

    return doors
