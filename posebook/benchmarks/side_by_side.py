"""Every system whose weights come with the book, on the same drawn images: AP, size, memory, and time per backend.

A system turns an image into poses: a model that sees whole images, or a top-down model, in annotated boxes or behind
the shipped person detector. Time is that of `posekit.Predictor`, from pixels to poses. Weights are trained, so how many
people, boxes and candidates there are is what a model finds.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.context import BaseContext

import numpy as np
import pandas as pd
import torch

from posebook.benchmarks import timing
from posebook.benchmarks.systems import drawn_scenes
from posebook.benchmarks.timing import Scene, Speed
from posebook.benchmarks.vitpose_cost import resident_mb
from posebook.benchmarks.weights import ANNOTATED, DETECTOR, shipped_scores
from posebook.reports import SHIPPED, RunFiles
from posekit.inference import Predictor
from posekit.layouts import COCO
from posekit.models.sizes import multiply_adds, parameters
from posekit.poses import Poses
from posekit.runners import load
from posekit.topdown import poses_of_boxes

BACKENDS = ("torch", "onnxruntime", "openvino")
FOUND = 0.3  # score from which a detected box is cut out where time and memory are measured; AP counts all boxes
DATASET = "people"
SIZE = 128  # width and height of the images, pixels: what the tiny models are made for
PEOPLE = 4  # in an image, where their number is not the question
BATCH = 16  # images at once where memory is measured: of a single one it would be less than what varies by chance


@dataclass(frozen=True)
class System:
    """Shipped weights as a user runs them. `run`: their folder; `boxes`: of a top-down model, `ANNOTATED` or
    `DETECTOR`, else ""."""

    run: str
    boxes: str = ""

    @property
    def name(self) -> str:
        """Such as "rtmo_tiny" or "vitpose_tiny behind rtmdet_tiny"."""
        words = {"": "", ANNOTATED: ", boxes given", DETECTOR: f" behind {DETECTOR}"}
        return self.run.rpartition("/")[2] + words[self.boxes]


def caller(system: System, backend: str = "torch", threads: int = 1) -> Callable[[list[Scene]], list[Poses]]:
    """The system as a function of images."""
    model = built(system.run, backend, threads)
    if system.boxes != ANNOTATED:
        detector = built(f"{SHIPPED}/{DETECTOR}", backend, threads) if system.boxes else None
        first = detector and Predictor(detector, threshold=FOUND)
        predictor = Predictor(model, detector=first)
        return lambda scenes: predictor([scene.image for scene in scenes], BATCH)

    def in_given_boxes(scenes: list[Scene]) -> list[Poses]:
        people = ((scene.image, scene.boxes, np.ones(len(scene.boxes))) for scene in scenes)
        return list(poses_of_boxes(model, people, COCO.sigmas, None))

    return in_given_boxes


def built(run: str, backend: str, threads: int):
    """The model of a run folder, on a backend."""
    return load(RunFiles(run).recipe.model, run, backend=backend, threads=threads)


def side_by_side(
    people=(1, 4, 10), backends=BACKENDS, repeats=30, warmup=3, budget_s=None, scenes=2, threads=1, seed=0, images=0
) -> tuple[pd.DataFrame, Speed]:
    """(a row per system, the times) of all shipped weights.

    The rows: system, run, model, boxes, AP, params_m and gmac (of all networks, `PEOPLE` people in the image), peak_mb
    (what weights and `BATCH` images add to a process that has run another network), training. The times have methods
    called SYSTEM_BACKEND. images: scored for the AP, 0 = all 300; see `timing.measure` for the others.
    """
    scores = shipped_scores(images=images)
    scores = scores[[compared(RunFiles(run)) for run in scores.run]]
    detector = RunFiles(f"{SHIPPED}/{DETECTOR}").model if DETECTOR in set(scores.boxes) else None
    drawn = drawn_scenes(tuple(people), scenes, SIZE, seed)
    batch = drawn_scenes((PEOPLE,), BATCH, SIZE, seed)[PEOPLE]
    rows, calls = [], {}
    for score in scores.itertuples():
        system, files = System(score.run, score.boxes), RunFiles(score.run)
        networks = [(files.model, PEOPLE if score.boxes else 1)]
        networks += [(detector, 1)] if score.boxes == DETECTOR else []
        params = sum(parameters(network) for network, _ in networks)
        gmac = sum(times * multiply_adds(network.to("meta"), *sides(network)) for network, times in networks)
        row = {"system": system.name, "run": score.run, "model": files.recipe.model, "boxes": score.boxes}
        row |= {"AP": score.AP, "params_m": params, "gmac": gmac, "peak_mb": memory(system, batch)}
        rows.append(row | {"training": score.training})
        for backend in backends:
            calls[f"{system.name}_{backend}"] = {"all": _stage(caller(system, backend, threads))}
    raw = timing.measure(calls, drawn, repeats, warmup, seed, budget_s, threads)
    clock = timing.choose_clock(raw, threads)
    settings = {"weights": "shipped", "clock": clock, "threads": threads, "batch": 1, "size": SIZE, "device": "cpu"}
    settings |= {
        "precision": "float32",
        "detected boxes from score": FOUND,
        "images of the memory": BATCH,
        "images of the AP": images or "all",
    }
    settings |= {"rounds": int(raw["round"].max()) + 1, "seed": seed}
    settings |= {name: version(name) for name in ("torch", "onnxruntime", "openvino")}
    lines = timing.fit_lines(raw, clock, seed) if len(drawn) > 1 else pd.DataFrame()
    speed = Speed(timing.in_order(timing.summary(raw, clock), calls), raw, lines, settings)
    return pd.DataFrame(rows), speed


def compared(files: RunFiles) -> bool:
    """Does it find poses, and was it trained and scored on the same drawn people as all others?"""
    return files.recipe.dataset == DATASET and files.model.num_keypoints > 0


def sides(network) -> tuple[int, int]:
    """Height and width of what a network sees."""
    width, height = network.crop_size if network.input.fit == "crop" else (SIZE, SIZE)
    return height, width


def _stage(call: Callable) -> timing.Stage:
    return lambda scene, _: call([scene])


def memory(system: System, images: list[Scene]) -> float:
    """Megabytes that the system's weights and these images add to a fresh process, by the operating system's count.

    Raises RuntimeError: the process did not come to its end.
    """
    with ProcessPoolExecutor(1, fresh_processes()) as process:
        try:
            return process.submit(_memory, system, images).result()
        except Exception as error:
            raise RuntimeError(f"the memory of {system.name} was not measured: {error}") from error


def fresh_processes() -> BaseContext:
    """Starts processes that have imported this module and run nothing: forked from a server that did so once, where
    the system can fork, because each of the systems would import torch anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _memory(system: System, images: list[Scene]) -> float:
    torch.set_num_threads(1)
    Predictor(load("rtmo_tiny"))(images[0].image)  # what the libraries fetch once
    before = resident_mb()
    caller(system)(images)
    return resident_mb() - before
