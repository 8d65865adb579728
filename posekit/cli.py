"""The command line: `posekit predict photos/ --save out/`, train, evaluate, export, download, models, data check.

`posekit --help` lists the commands, `posekit COMMAND --help` says what one takes. Exit status: 0 done, 1 something went
wrong, said in one sentence on stderr, 2 a wrong option, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="POET, RTMO and ViTPose: poses from images and videos, training, evaluation, export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="What is in a data set, and what is wrong with it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Option, Argument = typer.Option, typer.Argument
Name = Annotated[str, Option("--model", "-m", help="a name; `posekit models` lists them")]
Weights = Annotated[
    str, Option("--weights", "-w", help="scenes (of drawn people), published, published:VARIANT, hf:ORG/NAME, a path")
]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1; auto: a GPU if there is one")]
OUT = "data/runs/mine"
UsageError: Any = typer.BadParameter.__base__  # of click, which typer brings along
INTERRUPTED = 130  # what typer makes of Ctrl-C


@app.command()
def predict(
    source: Annotated[str, Argument(help="an image, a folder, a pattern, a video, or the number of a camera")],
    model: Name = "rtmo_tiny",
    weights: Weights = "scenes",
    detector: Annotated[str, Option(help="MODEL or MODEL=WEIGHTS, which finds people for a top-down model")] = "",
    save: Annotated[Path | None, Option(help="folder for the images with their skeletons")] = None,
    video: Annotated[Path | None, Option(help="video of the images with their skeletons")] = None,
    coco: Annotated[Path | None, Option("--json", help="file in COCO's format: images and people")] = None,
    csv: Annotated[Path | None, Option(help="table with a row per joint")] = None,
    results: Annotated[Path | None, Option(help="COCO results; files are called by their image ids")] = None,
    threshold: Annotated[float, Option(help="least score of a person")] = 0.3,
    batch: Annotated[int, Option(help="images at once", min=1)] = 8,
    device: Device = "cpu",
    backend: Annotated[str, Option(help="torch, onnxruntime or openvino")] = "torch",
    precision: Annotated[str, Option(help="f32 or bf16")] = "f32",
    threads: Annotated[int, Option(help="that an exported graph may use", min=1)] = 1,
    flip_test: Annotated[bool, Option("--flip-test", help="average with the mirrored crops (top-down)")] = False,
) -> None:
    """Find people and their joints.

    posekit predict photo.jpg --save out

    posekit predict "photos/*.jpg" --model rtmo_s --weights published --json poses.json

    posekit predict film.mp4 -m vitpose_b -w published --detector rtmdet_nano --video out.mp4

    posekit predict data/coco/test2017 -m rtmo_l -w published --results person_keypoints_test-dev2017_rtmo_results.json
    """
    from tqdm import tqdm

    from posekit.data.video import FPS, Video, is_video, paths_of
    from posekit.inference import Predictor
    from posekit.runners import load
    from posekit.saving import Saver, image_id_of

    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"backend": backend, "precision": precision, "threads": threads}
    finder, least = None, 0.0 if results else threshold  # a scorer wants everybody
    if detector:
        name, _, theirs = detector.partition("=")
        finder = Predictor(load(name, theirs or weights, **options), threshold=least, device=device)
    network = load(model, weights, **options)
    predictor = Predictor(network, threshold=least, device=device, detector=finder, flip_test=flip_test)
    given = int(source) if source.isdecimal() else source
    frames = Video(given) if is_video(given) else None
    images = frames or paths_of(given) or [given]
    if results and not frames:
        for image in images:
            image_id_of(image)  # before the work
    saver = Saver(save, video, coco, csv, results, frames.fps if frames else FPS, threshold)
    people, total = 0, (frames.frames or None) if frames else len(images)
    try:
        for poses in tqdm(predictor.stream(images, batch, pixels=True), total=total, unit=" images", disable=None):
            saver.add(poses)
            shown = poses.select(poses.scores >= threshold)
            people += len(shown)
            if total == 1:
                print(shown)
    finally:
        written = saver.close()
        print(f"{people} people in {len(saver.images)} image{'' if len(saver.images) == 1 else 's'}")
        for path in written:
            print(path)


@app.command()
def train(
    recipe: Annotated[str, Argument(help="a name in posekit/training/recipes.yaml")],
    run: Annotated[str, Option(help="run folder; a run that is there goes on")] = "",
    dataset: Annotated[str, Option(help="people, crowd, macaque (drawn), or a folder in COCO's format")] = "",
    steps: Annotated[int | None, Option(help="optimiser steps")] = None,
    set_: Annotated[list[str] | None, Option("--set", help="FIELD=VALUE of the recipe, JSON; several times")] = None,
    devices: Annotated[int, Option(help="GPUs, or processes on a CPU", min=1)] = 1,
) -> None:
    """Train a recipe, or go on with a run.

    posekit train rtmo_tiny --steps 300

    posekit train vitpose_tiny --dataset ../my_photographs --set batch_size=16 --set 'data_options={"on_error": "skip"}'
    """
    from posekit.training.loop import train as run_recipe
    from posekit.training.recipes import RECIPES
    from posekit.training.recipes import recipe as changed

    changes = dict(_field(one) for one in set_ or ())
    changes |= {name: value for name, value in (("dataset", dataset), ("steps", steps)) if value}
    if steps and recipe in RECIPES:
        changes.setdefault("warmup", min(RECIPES[recipe].warmup, steps // 4))
    _show(run_recipe(changed(recipe, **changes), run or f"{OUT}/{recipe}", devices=devices))


@app.command()
def evaluate(
    run: Annotated[str, Argument(help="a run folder, or weights that come with the book")],
    dataset: Annotated[str, Option(help="drawn people or a folder in COCO's format; by default the run's own")] = "",
    split: Annotated[str, Option(help="val or train")] = "val",
    images: Annotated[int, Option(help="at most so many; 0: all")] = 0,
    boxes: Annotated[str, Option(help="top-down: truth, COCO detections, or the run of a detector")] = "truth",
    out: Annotated[str, Option(help="folder of the scores; by default data/runs/mine/RUN_scores")] = "",
    device: Device = "auto",
) -> None:
    """Score a trained model. Files of others' results: python -m posekit.evaluation GROUND_TRUTH.json RESULTS.json

    posekit evaluate data/weights/rtmo_tiny
    """
    from posekit.training.evaluate import evaluate_run

    folder = out or f"{OUT}/{Path(run).name}_scores"
    _show(evaluate_run(run, dataset, split, images, folder, device=device, boxes=boxes))
    print(folder)


@app.command()
def export(
    model: Annotated[str, Argument(help="a name; `posekit models` lists them")],
    path: Annotated[Path, Argument(help="the file to write, such as rtmo.onnx")],
    weights: Weights = "scenes",
    size: Annotated[int | None, Option(help="side of the images in pixels, a multiple of 32")] = None,
) -> None:
    """Write a model as an ONNX file.

    posekit export rtmo_s rtmo_s.onnx --weights published
    """
    from posekit.export import export as write
    from posekit.training.weights import load

    print(write(load(model, weights), path, size))


@app.command()
def download(
    names: Annotated[list[str], Argument(help="models, MODEL:VARIANT, or data sets (coco-val2017, ...)")],
    folder: Annotated[Path, Option(help="where data sets go")] = Path("data"),
) -> None:
    """Fetch published weights and data sets.

    posekit download rtmo_s vitpose_b:simple coco-val2017 coco-annotations
    """
    from posekit.data.fetch import DATA_SETS, fetch_data
    from posekit.models import published

    for name in names:
        model, _, variant = name.partition(":")
        print(fetch_data(name, folder) if name in DATA_SETS else published.find(model, variant).path())


@app.command()
def models(
    gmac: Annotated[bool, Option("--gmac", help="count multiply-adds as well (half a minute)")] = False,
    json_: Annotated[bool, Option("--json", help="as JSON, with sources and URLs")] = False,
) -> None:
    """List the models, their sizes, and the weights that there are with their AP."""
    import pandas as pd

    from posekit.models.published import table

    rows = table(gmac)
    if json_:
        print(json.dumps(rows, indent=1))
        return
    names = {"model": "model", "weights": "weights", "parameters": "M", "gmac": "GMAC", "input": "input"}
    names |= {"megabytes": "MB", "AP": "AP", "data": "data", "licence": "licence", "protocol": "protocol"}
    shown = pd.DataFrame(rows).rename(columns=names)[[name for name in names.values() if gmac or name != "GMAC"]]
    forms = {"M": "{:.2f}".format, "GMAC": "{:.2f}".format, "MB": "{:.0f}".format, "AP": "{:.1f}".format}
    print(shown.to_string(index=False, formatters=forms, na_rep="", justify="left"))


@data_app.command()
def check(
    folder: Annotated[str, Argument(help="a folder in COCO's format, or its JSON")],
    split: Annotated[str, Option(help="train or val; by default both")] = "",
    outside: Annotated[bool, Option("--outside", help="images may lie outside of the folder")] = False,
) -> None:
    """Say what is in a data set and what is wrong with it; exit status 1 if anything has to be left out.

    posekit data check ../my_photographs
    """
    from posekit.data.check import check_folder

    report = check_folder(folder, [split] if split else ["train", "val"], outside)
    print(report)
    if report.faults:
        raise typer.Exit(1)


def _field(text: str) -> tuple[str, object]:
    """ "FIELD=VALUE" -> (FIELD, VALUE); a value that is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text} names no value: give FIELD=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _show(metrics: dict) -> None:
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            print(f"{name:12} {value:.4g}")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    try:
        status = app(arguments, standalone_mode=False) or 0
    except UsageError as error:
        words = error.format_message()  # without a command: the help
        print(words if words.startswith("Usage") else f"error: {words} (posekit --help)", file=sys.stderr)
        return 2
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if status == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
