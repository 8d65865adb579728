"""What the pages of the book share besides drawing: the run that a page reads, and checks by hand that stop it.

The parameters of a report name runs as `data/runs/mine/NAME`, where one's own runs go. A reader who has made none there
still has a page to look at: the newest run of that name of any profile is shown, then what comes with the book, and the
page says which.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from posekit import runs

SIDES = ("by hand", "in the code")
MINE, RUNS, SHIPPED, FIGURES = "data/runs/mine", "data/runs", "data/weights", "figures/reference"


class CheckError(AssertionError):
    """A number computed by hand is not the one that the code computes."""


def check(what: str, by_hand, computed, rtol: float = 0.0, atol: float = 0.0, sides: tuple[str, str] = SIDES) -> None:
    """Prints that both sides are the same, or stops the page: |by_hand - computed| <= atol + rtol |computed|.

    by_hand, computed: numbers, texts, truth values or arrays of one shape, each made in its own way. Lists of unequal
    length, NaN and infinite numbers are never the same. sides: how the two were made.

    Raises:
        CheckError: they differ. ValueError: a check that could not fail: nothing to compare, a thing compared with
            itself, or a tolerance that even zeros would meet.
    """
    one, other = sides
    a, b = (np.asarray(getattr(side, "detach", lambda side=side: side)()) for side in (by_hand, computed))
    if by_hand is computed and a.ndim or np.may_share_memory(a, b):
        raise ValueError(f"{what}: a thing is compared with itself, so this check cannot fail; compute one side apart")
    if a.shape != b.shape:
        raise CheckError(f"{what}: the shape is {a.shape} {one}, {b.shape} {other}")
    if not a.size:
        raise ValueError(f"{what}: there is nothing to compare, so this check cannot fail")
    if a.dtype.kind in "biufc" and b.dtype.kind in "biufc":
        a, b = (side.astype(complex if side.dtype.kind == "c" else float) for side in (a, b))
        with np.errstate(invalid="ignore"):
            allowed, off = atol + rtol * np.abs(b), np.abs(a - b)
        if (rtol or atol) and (np.isfinite(b) & (np.abs(b) <= allowed)).all():
            raise ValueError(f"{what}: zeros would meet this tolerance as well, so this check cannot fail; lower it")
        if (apart := ~(off <= allowed)).any():  # NaN, too
            first = np.unravel_index(apart.argmax(), apart.shape)
            limit = np.broadcast_to(allowed, off.shape)[first]
            told = f"{a[first]:g} {one}, {b[first]:g} {other}, more than {limit:.0e} apart"
            raise CheckError(f"{what}: {told}, as {apart.sum()} of {apart.size} numbers are")
        told = f"at most {off.max():.0e} apart" if off.any() else "to the last digit"
    elif not (a == b).all():
        raise CheckError(f"{what}: {by_hand} {one}, {computed} {other}")
    else:
        told = "word for word"
    print(f"{what}: the same {one} and {other}, {told}")


def sliders(draw, **controls) -> None:
    """Shows controls (ipywidgets) and, whenever one is moved, `draw(**values)` below them.

    Until then nothing is drawn. `ipywidgets.interact` draws at once, and programs that execute a notebook without a
    browser may wait for ever for the picture that it sends to and fro.
    """
    from IPython.display import display
    from ipywidgets import Output, VBox

    place = Output()

    def redraw(_change) -> None:
        place.clear_output(wait=True)
        with place:
            display(draw(**{name: control.value for name, control in controls.items()}))

    for name, control in controls.items():
        control.description = control.description or name
        control.observe(redraw, "value")
    display(VBox([*controls.values(), place]))


def find_run(folder: str, has: str = "run.json", made_by: str = "10_train", shipped: bool = True) -> str:
    """The folder that a page reads: `folder`, or, if that is data/runs/mine/NAME and not there, one that is.

    Looked for in this order: `folder` itself; the newest finished run called NAME of any profile (data/runs/*/NAME);
    with `shipped`, data/weights/NAME. What is shown instead is printed. "" is returned, after a sentence with the
    command that makes it, when there is none; and for "", which asks for none.

    Args:
        folder: from the repository's root. has: the file that the page needs, as a pattern below the folder
            ("matches.csv"; "*/run.json" for a study). made_by: the notebook that makes such a folder.

    Raises:
        FileNotFoundError: another folder than data/runs/mine/NAME is not there; nothing takes its place.
    """
    study, folder = has.startswith("*/"), str(folder)  # papermill makes a number of a folder called 2024
    if not folder or _started(folder, has) or not study and any(runs.resolve(folder).glob(has)):
        return folder
    asked = Path(runs.relative(runs.resolve(folder)))
    into = "out_dir" if made_by == "11_evaluate" else "run_dir"
    way = f"notebooks/{made_by}.ipynb makes it with {into} = {folder}, or `make reproduce`, all of profile quick"
    if asked.parent.as_posix() != MINE:
        raise FileNotFoundError(f"{folder} has no finished run with {has}: {way}")
    same = (runs.relative(path) for path in runs.resolve(RUNS).glob(f"*/{asked.name}"))
    began, found = max(((_started(path, has), path) for path in same), default=("", ""))
    weights = f"{SHIPPED}/{asked.name}"
    if began:
        print(f"{folder} was not run; shown is the newest of that name, {found}{_length(found)}")
    elif shipped and _started(weights, has):
        found = weights
        print(f"{folder} was not run; shown is what comes with the book, {found}{_length(found)}")
    else:
        found = ""
        print(f"{folder} was not run: {way}")
    return found


def find_scores(folder: str) -> str:
    """As `find_run`, for an evaluation: when there is none, the shipped weights of its name are scored into `folder`.

    data/runs/mine/NAME_scores belongs to data/weights/NAME; that takes a minute on one core.
    """
    found = find_run(folder, has="matches.csv", made_by="11_evaluate", shipped=False)
    weights = f"{SHIPPED}/{Path(folder).name.removesuffix('_scores')}"
    if found or not folder or not _started(weights, "run.json"):
        return found
    from posekit.training.evaluate import evaluate_run

    print(f"scoring what comes with the book, {weights}{_length(weights)}, into {folder}")
    evaluate_run(weights, folder=folder)
    return folder


def committed(stem: str, as_text: bool = False) -> pd.DataFrame:
    """The data of a figure as it comes with the book, for a page whose own run was not made; says so.

    as_text: every cell as it is written, of a table that is shown.

    Raises:
        FileNotFoundError: no figure of that name comes with the book.
    """
    path = f"{FIGURES}/{stem}.csv"
    if not runs.resolve(path).is_file():
        raise FileNotFoundError(f"{path} is missing: no figure called {stem} comes with the book")
    print(f"shown instead is what comes with the book, {path}; {stem}.png beside it says how it was made")
    return pd.read_csv(runs.resolve(path), **({"dtype": str, "keep_default_na": False} if as_text else {}))


def footer_of(stem: str, profile: str) -> str:
    """The line below a figure that is drawn from `committed(stem)`."""
    return f"profile {profile} · not run here: drawn from {FIGURES}/{stem}.csv"


def _started(folder: str, has: str) -> str:
    """When the newest finished run in a folder began, "" if it has none, or lacks what the page needs."""
    place = runs.resolve(folder)
    if not any(place.glob(has)):
        return ""
    records = (runs.load_run(path) for path in place.glob("*/run.json" if has.startswith("*/") else "run.json"))
    return max((one["provenance"]["started"] for one in records if one["status"] == "done"), default="")


def _length(folder: str) -> str:
    """The number of steps in brackets, or nothing where none were taken."""
    path = runs.resolve(folder) / "run.json"
    steps = runs.steps_of(runs.load_run(path)) if path.is_file() else None
    return f" ({steps:,} steps)" if steps else ""
