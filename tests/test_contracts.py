"""The contracts of pyproject.toml: kept as the code is, and broken by one forbidden import."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


@pytest.fixture(scope="module")
def lint(tmp_path_factory):
    """`lint(file, line)`: (exit status, output) of import-linter on a copy in which a file has one more line."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("posekit", "posebook"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)

    def lint(file="", line=""):
        path = folder / file
        before = path.read_text() if file else ""
        if file:
            path.write_text(f"{before}\n{line}\n")
        done = subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, env={})
        if file:
            path.write_text(before)
        return done.returncode, done.stdout + done.stderr

    return lint


def test_the_contracts_are_kept(lint):
    status, output = lint()
    assert status == 0, output


@pytest.mark.parametrize(
    "file, line, contract",
    [
        ("posekit/poses.py", "import posebook.reports", "The library does not know the book"),
        ("posekit/models/poet.py", "from posekit.training import recipes", "A floor knows only the floors below it"),
        ("posekit/files.py", "from posekit.models import vit", "A floor knows only the floors below it"),
        ("posekit/models/vit.py", "from posekit.losses import poet", "Models do not know losses and data"),
        ("posekit/losses/poet.py", "from posekit.data import images", "Losses do not know data"),
        ("posekit/files.py", "from posekit import runs", "No cycles"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(lint, file, line, contract):
    status, output = lint(file, line)
    assert status == 1 and f"{contract} BROKEN" in " ".join(output.split()), output
