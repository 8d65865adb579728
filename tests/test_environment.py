"""Three lists of packages say the same: pyproject.toml, environment.yml (conda) and requirements.lock."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {
    "pytorch": "torch",
    "huggingface_hub": "huggingface-hub",
    "opencv": "opencv-python-headless",
    "snakemake-minimal": "snakemake",
}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def direct(project):
    extras = project["optional-dependencies"]
    chosen = [name for extra in ("book", "export", "site", "dev") for name in extras[extra]]
    wanted = map(Requirement, [*project["dependencies"], *chosen])
    return {requirement.name: requirement.specifier for requirement in wanted}


@pytest.fixture(scope="module")
def conda():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in entries if isinstance(entry, str)]
    plain += [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    wanted = map(Requirement, plain)
    return {CONDA_NAMES.get(entry.name, entry.name): entry.specifier for entry in wanted}


@pytest.fixture(scope="module")
def locked():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def test_conda_names_the_same_packages_and_versions(project, direct, conda):
    conda = dict(conda)
    assert conda.pop("python") == SpecifierSet(project["requires-python"])
    assert conda.pop("pip") == SpecifierSet()
    assert conda == direct


def test_lock_pins_every_direct_dependency_within_its_bounds(direct, locked):
    versions = {}
    for requirement in locked:
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        versions.setdefault(requirement.name, []).append(pin.version)
    for name, bounds in direct.items():
        assert versions.get(name), f"{name} is not in requirements.lock: make lock"
        assert all(bounds.contains(version) for version in versions[name]), (name, versions[name])
    assert all(SpecifierSet(">=2.14").contains(version) for version in versions["torch"])
    assert all(SpecifierSet(">=0.29").contains(version) for version in versions["torchvision"])


def test_lock_serves_every_python_and_system(project, direct, locked):
    bounds = SpecifierSet(project["requires-python"])
    for name in direct:
        for python in ("3.11", "3.12", "3.13"):
            assert bounds.contains(python)
            for system in ("linux", "darwin", "win32"):
                here = {"python_full_version": f"{python}.9", "sys_platform": system}
                hits = [r for r in locked if r.name == name and (r.marker is None or r.marker.evaluate(here))]
                assert len(hits) == 1, (name, python, system)


def test_lock_holds_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--(index|extra|find)|\bfile:|@", text)


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_actions_are_named_by_their_whole_commit(path):
    used = re.findall(r"uses:\s*(.+)", path.read_text())
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v[\d.]+", one) for one in used), used
