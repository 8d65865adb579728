"""The cache of drawn scenes: drawn once in parallel, kept as one memory-mapped array, checked before use.

A cache is a folder `<style>-v<version>-<size>-<digest>` of three files: `images.npy` (count, S, S, 3) uint8,
`annotations.npz` (people of all scenes one after another, canvas units, `starts` (count + 1,)), and
`cache.json` (the recipe and checksums). It is written under a temporary name and renamed when complete, so a
partial cache never carries the final name. One process draws a cache, others that want it wait. Images are
written with `write`, not into a memory map: a disk that fills is then an error and no signal that kills.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType

import numpy as np

from posekit import locks
from posekit.data.drawn.render import CANVAS

FIELDS = ("keypoints", "visibility", "boxes", "areas")
BLOCK = 200  # scenes that a worker draws at a time


def scaled(annotation: dict, scale: float) -> dict[str, np.ndarray]:
    """Annotation arrays from canvas units to pixels: lengths by `scale`, areas by its square."""
    factor = {"keypoints": scale, "boxes": scale, "areas": scale**2}
    return {k: annotation[k] * np.float32(factor[k]) if k in factor else annotation[k] for k in FIELDS}


def load_or_draw(
    draw: Callable, recipe: dict, folder: Path, workers: int | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The images (count, S, S, 3), mapped read-only, and the annotations in pixels, `starts` (count + 1,).

    Draws and stores them when the cache has none; a damaged cache gives a warning and is drawn again.

    Args:
        draw: module-level function (style, seed, index, size, people) -> image, annotation.
        recipe: these arguments, and `version` of the style and `count` of the scenes; it names the cache.

    Raises:
        OSError: the folder cannot be written.
    """
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    home = Path(folder) / f"{recipe['style']}-v{recipe['version']}-{recipe['size']}-{digest}"
    if home.exists():
        with suppress(Exception):  # whatever it is, the process that holds the lock looks closer
            return _open(home, recipe)
    with locks.take(home.with_name(f".{home.name}.lock"), f"the drawn scenes {home}", wait=True) as lock:
        _remove_leftovers(home.parent, lock)
        if home.exists():
            try:
                return _open(home, recipe)
            except Exception as error:  # whatever is wrong with the files, the remedy is the same
                warnings.warn(f"the cache of drawn scenes {home} is damaged ({error}); drawing it again", stacklevel=3)
                shutil.rmtree(home)
        _draw(draw, recipe, home, workers)
        return _open(home, recipe)


def _remove_leftovers(folder: Path, held: locks.Lock) -> None:
    """Remove what killed processes had begun to draw: each held its cache's lock, and now nobody does."""
    for left in folder.glob("*.tmp-*"):
        path = left.with_name(f".{left.name.rpartition('.tmp-')[0]}.lock")
        with suppress(locks.InUseError):
            mine = path == held.path
            lock = held if mine else locks.take(path, str(left))
            if lock.file is not None or time.time() - left.stat().st_mtime > 3600:  # without locks its age must do
                shutil.rmtree(left, ignore_errors=True)
            if not mine:
                lock.release()


def _checksums(home: Path) -> dict[str, str]:
    """Of both arrays. Of very many images every k-th is read, so that opening takes seconds."""
    images = np.load(home / "images.npy", mmap_mode="r")
    total = hashlib.sha256(str((images.shape, (home / "images.npy").stat().st_size)).encode())
    for image in images[:: max(1, len(images) // 8192)]:
        total.update(image)
    annotations = hashlib.sha256((home / "annotations.npz").read_bytes())
    return {"images": total.hexdigest(), "annotations": annotations.hexdigest()}


def _open(home: Path, recipe: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    stored = json.loads((home / "cache.json").read_text())
    if stored["recipe"] != recipe:
        raise ValueError("it was drawn from another recipe")
    if stored["sha256"] != _checksums(home):
        raise ValueError("its checksum does not match")
    images = np.load(home / "images.npy", mmap_mode="r")
    with np.load(home / "annotations.npz") as stored:
        records = {**scaled(stored, recipe["size"] / CANVAS), "starts": stored["starts"]}
    for array in records.values():
        array.setflags(write=False)
    return images, records


def _draw(draw: Callable, recipe: dict, home: Path, workers: int | None) -> None:
    count, size = recipe["count"], recipe["size"]
    needed, free = count * size * size * 3, shutil.disk_usage(home.parent).free
    if needed > free:
        raise OSError(
            f"{count} scenes of {size} x {size} pixels need {needed / 1e6:.0f} MB, but {home.parent} has "
            f"{free / 1e6:.0f} MB left: choose another cache folder or a smaller count"
        )
    work = home.with_name(f"{home.name}.tmp-{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        _allocate(work / "images.npy", count, size)
        blocks = [(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        drawn = _draw_blocks(draw, recipe, work, blocks, min(workers or os.cpu_count() or 1, len(blocks), 61))
        annotations = [annotation for start, _ in blocks for annotation in drawn[start]]
        arrays = {name: np.concatenate([annotation[name] for annotation in annotations]) for name in FIELDS}
        starts = np.cumsum([0, *(len(annotation["areas"]) for annotation in annotations)])
        np.savez(work / "annotations.npz", starts=starts, **arrays)
        (work / "cache.json").write_text(json.dumps({"recipe": recipe, "sha256": _checksums(work)}, indent=1))
        try:
            os.replace(work, home)
        except OSError:
            if not (home / "cache.json").exists():  # another process may have finished the same cache first
                raise
    except OSError as error:
        free = shutil.disk_usage(home.parent).free
        raise OSError(
            error.errno,
            f"cannot draw {count} scenes of {size} x {size} pixels ({needed / 1e6:.0f} MB) in {home.parent}, which has "
            f"{free / 1e6:.0f} MB left: {error.strerror or error}; choose another cache folder or a smaller count",
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _allocate(path: Path, count: int, size: int) -> None:
    """An array file (count, size, size, 3) uint8 with all of its blocks, so that a full disk is known at once."""
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start, length = file.tell(), count * size * size * 3
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), start, length)
        else:
            file.truncate(start + length)  # draw_block writes every byte, and says so when there is no room


def _draw_blocks(draw: Callable, recipe: dict, work: Path, blocks: list, workers: int) -> dict[int, list[dict]]:
    """Draw scenes start..stop-1 of every block; the annotations by start. Workers end with this call, in any case."""
    from tqdm import tqdm

    drawn = {}
    with tqdm(total=recipe["count"], desc=f"drawing {recipe['style']}", unit="scene", mininterval=2) as progress:
        if workers <= 1:
            for start, stop in blocks:
                drawn[start] = draw_block(draw, recipe, work, start, stop)
                progress.update(stop - start)
            return drawn
        context = _Workers()
        pool = ProcessPoolExecutor(workers, context, _begin_worker)
        try:
            starts = {pool.submit(draw_block, draw, recipe, work, *block): block[0] for block in blocks}
            for future in as_completed(starts):
                drawn[starts[future]] = future.result()
                progress.update(len(future.result()))
        except BrokenProcessPool:
            sentence = "a process that drew scenes was killed, perhaps for lack of memory: try fewer workers"
            raise RuntimeError(sentence) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in context.processes:
                process.terminate()
            for process in context.processes:
                process.join()
    return drawn


class _Worker(SpawnProcess):
    """A spawned process that does not import the caller's script, so that it needs no `__name__ == "__main__"` guard,
    and does not receive its Ctrl-C: the parent ends it."""

    def start(self) -> None:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        if os.name == "posix":  # a new process inherits the mask
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main
            if os.name == "posix":
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Workers(SpawnContext):
    """Spawned processes (safe beside threads and a GPU, and alike on every system) that can be ended at once."""

    def __init__(self) -> None:
        self.processes: list[_Worker] = []

    def Process(self, *args, **options) -> _Worker:  # type: ignore[override]  # a class there
        self.processes.append(_Worker(*args, **options))
        return self.processes[-1]


def _begin_worker() -> None:
    import cv2

    def end_with_parent() -> None:  # of a parent that was killed a pool's worker would wait for work forever
        multiprocessing.parent_process().join()
        os._exit(1)

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def draw_block(draw: Callable, recipe: dict, work: Path, start: int, stop: int) -> list[dict]:
    """Draw the scenes start..stop-1 into `work`/images.npy; returns their annotations."""
    annotations = []
    with open(work / "images.npy", "r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * recipe["size"] ** 2 * 3, os.SEEK_CUR)
        for i in range(start, stop):
            image, annotation = draw(recipe["style"], recipe["seed"], i, recipe["size"], tuple(recipe["people"]))
            file.write(np.ascontiguousarray(image, np.uint8))
            annotations.append({name: annotation[name] for name in FIELDS})
    return annotations
