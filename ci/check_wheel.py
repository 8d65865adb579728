"""Is the package whole without its repository? `python ci/check_wheel.py`

Builds the wheel, installs it with the locked versions into an empty environment, and outside of the repository draws
images, finds people in them with weights from a path, and scores these. Exit status 1 when one of these fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
DRAW = """\
import posebook, posekit
from posekit.data.drawn.scenes import Scenes
Scenes("people", 1, 8, size=128).write_coco("scenes", size=128)
print(posekit.__file__, posebook.__file__, sep="\\n")
"""
LEAST = 0.4  # AP of rtmo_tiny on images like those that it learned from


def run(*words: str | Path, folder: Path) -> str:
    """What a command prints; it knows nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, words)], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    uv = Path(sys.executable).with_name("uv")
    with TemporaryDirectory() as name:
        folder = Path(name)
        run(uv, "build", "--quiet", "--out-dir", folder, ROOT, folder=folder)  # by way of a source distribution
        (wheel,) = folder.glob("*.whl")
        environment = folder / "environment"
        run(uv, "venv", "--quiet", "--python", sys.executable, environment, folder=folder)
        python, posekit = environment / "bin" / "python", environment / "bin" / "posekit"
        lock = ("--constraint", ROOT / "requirements.lock")
        run(uv, "pip", "install", "--quiet", "--python", python, *lock, wheel, folder=folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        for line in run(python, "-c", DRAW, folder=folder).splitlines():
            assert Path(line).is_relative_to(environment), f"{line} is not the installed package"
        weights = ROOT / "data" / "weights" / "rtmo_tiny"
        found = ("predict", "scenes/images", "--weights", weights, "--threshold", "0", "--results", "found.json")
        run(posekit, *found, folder=folder)
        truth = "scenes/annotations/person_keypoints.json"
        score = ("-m", "posekit.evaluation", truth, "found.json", "--area-scale", str((128 / 512) ** 2))
        printed = run(python, *score, folder=folder)
        ap = float(printed.splitlines()[-1].split()[0])
        print(f"posekit predict, python -m posekit.evaluation: AP {ap:.3f} on 8 drawn images")
        if ap < LEAST:
            raise SystemExit(f"AP {ap:.3f} is below {LEAST}: the installed package finds too little")
    return 0


if __name__ == "__main__":
    sys.exit(main())
