"""The cache of drawn scenes: drawn once in parallel, kept as one memory-mapped array, checked before use.

A cache is a folder `<style>-v<version>-<size>-<digest>` of three files: `images.npy` (count, S, S, 3) uint8,
`annotations.npz` (people of all scenes one after another, canvas units, `starts` (count + 1,)), and
`cache.json` (the recipe and checksums). It is written under a temporary name and renamed when whole, so a
half-written cache never carries the final name. One process draws a cache, others that want it wait. Pictures are
written as files are, not into a map: a disk that fills is then an error and no signal that kills. Workers are plain
Python processes that are told which scenes to draw: that works alike on Linux, macOS and Windows, from scripts and
from notebooks, and never forks a process that holds threads or a GPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

import numpy as np

from posekit import locks
from posekit.data.drawn.render import CANVAS

FIELDS = ("keypoints", "visibility", "boxes", "areas")
BLOCK = 200  # scenes that a worker draws at a time


def scaled(annotation: dict, scale: float) -> dict[str, np.ndarray]:
    """Annotation arrays from canvas units to pixels: lengths by `scale`, areas by its square."""
    factor = {"keypoints": scale, "boxes": scale, "areas": scale**2}
    return {k: annotation[k] * np.float32(factor[k]) if k in factor else annotation[k] for k in FIELDS}


def load_or_draw(recipe: dict, folder: Path, workers: int | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The pictures (count, S, S, 3), mapped read-only, and the annotations in pixels, `starts` (count + 1,).

    Draws and stores them when the cache has none; a damaged cache gives a warning and is drawn again.

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
        _draw(recipe, home, workers)
        return _open(home, recipe)


def _remove_leftovers(folder: Path, held: locks.Lock) -> None:
    """Removes what killed processes had begun to draw: each held its cache's lock, and now nobody does."""
    for left in folder.glob("*.tmp-*"):
        path = left.with_name(f".{left.name.rpartition('.tmp-')[0]}.lock")
        with suppress(locks.InUseError):
            mine = path == held.path
            lock = held if mine else locks.take(path, str(left))
            if lock.file is not None or time.time() - left.stat().st_mtime > 3600:  # without locks its age must do
                shutil.rmtree(left, ignore_errors=True)
            if not mine:
                lock.release()


def _sums(home: Path) -> dict[str, str]:
    """Checksums of both arrays. Of very many pictures every k-th is read, so that opening takes seconds."""
    images = np.load(home / "images.npy", mmap_mode="r")
    total = hashlib.sha256(str((images.shape, (home / "images.npy").stat().st_size)).encode())
    for picture in images[:: max(1, len(images) // 8192)]:
        total.update(picture)
    return {
        "images": total.hexdigest(),
        "annotations": hashlib.sha256((home / "annotations.npz").read_bytes()).hexdigest(),
    }


def _open(home: Path, recipe: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    stored = json.loads((home / "cache.json").read_text())
    if stored["recipe"] != recipe:
        raise ValueError("it was drawn from another recipe")
    if stored["sha256"] != _sums(home):
        raise ValueError("its checksum does not match")
    images = np.load(home / "images.npy", mmap_mode="r")
    with np.load(home / "annotations.npz") as stored:
        records = {**scaled(stored, recipe["size"] / CANVAS), "starts": stored["starts"]}
    for array in records.values():
        array.setflags(write=False)
    return images, records


def _draw(recipe: dict, home: Path, workers: int | None) -> None:
    from tqdm import tqdm

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
        workers = max(1, min(workers or os.cpu_count() or 1, len(blocks)))
        with tqdm(total=count, desc=f"drawing {recipe['style']}", unit="scene", mininterval=2) as progress:
            if workers == 1:
                for block in blocks:
                    draw_block(recipe, work, *block)
                    progress.update(block[1] - block[0])
            else:
                _draw_in_parallel(recipe, work, blocks, workers, progress)
        parts = [dict(np.load(work / f"part-{start}.npz")) for start, _ in blocks]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}
        counts = np.concatenate([part["counts"] for part in parts])
        np.savez(work / "annotations.npz", starts=np.concatenate([[0], np.cumsum(counts)]), **arrays)
        for start, _ in blocks:
            (work / f"part-{start}.npz").unlink()
        (work / "cache.json").write_text(json.dumps({"recipe": recipe, "sha256": _sums(work)}, indent=1))
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


def _draw_in_parallel(recipe: dict, work: Path, blocks: list, workers: int, progress) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"  # Ctrl-C: the parent ends them
        "from posekit.data.drawn.cache import serve; serve()",
        json.dumps(recipe),
        str(work),
    ]
    processes: list[subprocess.Popen] = []
    local, lock, stopped = threading.local(), threading.Lock(), threading.Event()

    def run(block: tuple[int, int]) -> int:
        if not hasattr(local, "process"):
            with lock:
                if stopped.is_set():
                    raise RuntimeError("drawing was stopped")
                local.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
                processes.append(local.process)
        print(*block, file=local.process.stdin, flush=True)
        number, _, reason = local.process.stdout.readline().strip().partition(" ")
        if number.isdecimal():
            raise OSError(int(number), reason)
        if number != "done":
            raise RuntimeError(f"a worker failed while drawing scenes {block[0]} to {block[1]}; its message is above")
        return block[1] - block[0]

    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(run, block) for block in blocks]):
            progress.update(future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with lock:
            stopped.set()
        for process in processes:
            process.terminate()
            process.wait()
        pool.shutdown()
        for process in processes:
            process.stdin.close()
            process.stdout.close()


def draw_block(recipe: dict, work: Path, start: int, stop: int) -> None:
    """Draw the scenes start..stop-1 into `work`/images.npy and `work`/part-<start>.npz."""
    from posekit.data.drawn.scenes import draw

    rows = []
    with open(work / "images.npy", "r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * recipe["size"] ** 2 * 3, os.SEEK_CUR)
        for i in range(start, stop):
            picture, annotation = draw(recipe["style"], recipe["seed"], i, recipe["size"], tuple(recipe["people"]))
            file.write(np.ascontiguousarray(picture, np.uint8))
            rows.append(annotation)
    arrays = {name: np.concatenate([row[name] for row in rows]) for name in FIELDS}
    np.savez(work / f"part-{start}.npz", counts=[len(row["areas"]) for row in rows], **arrays)


def serve() -> None:
    """A worker's life: read "start stop" lines, draw those scenes, answer "done", or the error's number and words."""
    import cv2

    cv2.setNumThreads(1)
    recipe, work = json.loads(sys.argv[1]), Path(sys.argv[2])
    for line in sys.stdin:
        try:
            draw_block(recipe, work, *map(int, line.split()))
            answer = "done"
        except OSError as error:
            answer = f"{error.errno or 0} {error.strerror or error}"
        try:
            print(answer, flush=True)
        except BrokenPipeError:  # the parent was killed
            os._exit(1)
