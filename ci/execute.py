"""Execute one notebook with papermill: parameters strictly checked, a time limit, nothing half written.

    python ci/execute.py notebooks/10_train.ipynb build/10_train.ipynb -p model poet_tiny -p minutes 6

papermill itself only warns about an unknown parameter and takes any type. Here both stop the notebook before
it starts (exit 2). A notebook that fails (exit 1) is kept, as far as it came, in `unfinished/` beside the
output, so an output that exists is whole. What it cost stands in `NAME.cost.json`. Ctrl-C, SIGTERM and the
time limit first interrupt the kernel (training leaves a resumable run) and kill it when it does not stop.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Optional

import msgspec
import papermill
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from posekit import locks
from posekit.files import write_json
from posekit.provenance import commit

GRACE = 30.0  # seconds that an interrupted kernel has to put its things away
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "dict": dict, "list": list, "Optional": Optional}


class ParameterError(ValueError):
    """A parameter that the notebook does not have, or of another type; one sentence."""


class NotebookError(RuntimeError):
    """The notebook did not reach its end: a failing cell, a dead kernel, the time limit, Ctrl-C."""


def annotated(kind: str):
    """The type that an annotation such as `float`, `list[int]` or `Optional[str]` stands for."""
    outer, _, inner = kind.replace(" ", "").partition("[")
    try:
        return TYPES[outer][annotated(inner.removesuffix("]"))] if inner else TYPES[outer]
    except (KeyError, TypeError):
        raise ParameterError(f"type {kind!r} is not one of {', '.join(TYPES)}, list[...], Optional[...]") from None


def accepts(kind: str, value: object) -> bool:
    """Is `value` of the annotated type? An int passes as float, a bool is no int, None needs Optional."""
    try:
        msgspec.convert(value, annotated(kind))
    except msgspec.ValidationError:
        return False
    return True


def from_text(kind: str, text: str) -> object:
    """A value as typed on a command line; text that cannot be the annotated type is returned as it is."""
    if kind.replace(" ", "") in ("str", "Optional[str]") and not (text in ("None", "null") and kind != "str"):
        return text
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return parse(text)
    return text


def parameter_kinds(notebook: str | Path) -> dict[str, str]:
    """Name -> annotated type of each parameter of a notebook."""
    found = papermill.inspect_notebook(str(notebook))
    return {name: parameter["inferred_type_name"] for name, parameter in found.items()}


def check(notebook: str | Path, parameters: dict[str, object]) -> None:
    """Raises ParameterError unless every name is one of the notebook's and every value of its type."""
    if not Path(notebook).is_file():
        raise ParameterError(f"there is no notebook {notebook}")
    kinds = parameter_kinds(notebook)
    known = ", ".join(f"{name}: {kind}" for name, kind in kinds.items()) or "no parameters"
    for name, value in parameters.items():
        if name not in kinds:
            raise ParameterError(f"{notebook} has no parameter {name!r}; it has {known}")
        if not accepts(kinds[name], value):
            raise ParameterError(f"{notebook} wants {name}: {kinds[name]}, not {value!r}; it has {known}")


class _Stop:
    """Ends a running kernel from outside: an interrupt first, a kill when that does not help."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.client: PapermillNotebookClient | None = None
        self._timers: list[threading.Timer] = []

    def later(self, seconds: float, action, *arguments) -> None:
        timer = threading.Timer(seconds, action, arguments)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def now(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            self._signal("SIGINT")
            self.later(GRACE, self._signal, "SIGKILL")
        else:  # asked twice
            self._signal("SIGKILL")

    def cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _signal(self, name: str) -> None:
        process = getattr(getattr(self.client and self.client.km, "provisioner", None), "process", None)
        if process is None:  # not started yet
            self.later(0.2, self._signal, name)
        elif sys.platform == "win32":
            process.kill()
        else:
            with suppress(ProcessLookupError):
                if name == "SIGKILL":  # the kernel leads a session of its own: its data workers go with it
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    os.kill(process.pid, signal.SIGINT)


@contextmanager
def _caught_signals(stop: _Stop):
    """Ctrl-C and SIGTERM stop the kernel, not this process, so that the partial notebook is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "terminated"}
    before = {number: signal.signal(number, lambda n, _: stop.now(names[n])) for number in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Engine(Engine):
    """papermill's own engine, with the client within reach of the time limit."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, stop=None, stdout_file=None, **_):
        options = {"kernel_name": kernel_name, "startup_timeout": 120, "timeout": None}
        options["extra_arguments"] = ["--IPKernelApp.log_level=CRITICAL"]  # errors are in the notebook
        stop.client = PapermillNotebookClient(nb_man, stdout_file=stdout_file, **options)
        # What sliders draw goes into the cell itself. nbclient would send it back to the kernel, on the socket on which
        # it waits for the end of the cell: that can swallow the event which announces the end, and it waits for ever.
        stop.client.widget_registry = {}
        return stop.client.execute()


papermill_engines.register("posekit", _Engine)


class _Prefixed:
    """A stream that puts the job's name before every line."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.begun = prefix, False

    def write(self, text: str) -> None:
        for line in text.splitlines(keepends=True):
            sys.stderr.write(line if self.begun else self.prefix + line)
            self.begun = not line.endswith("\n")

    def flush(self) -> None:
        sys.stderr.flush()


def execute(
    notebook: str | Path,
    output: str | Path,
    parameters: dict[str, object] | None = None,
    time_limit: float | None = None,
    stream: bool = False,
    makes: Sequence[str] = (),
) -> dict[str, object]:
    """Executes `notebook` and writes `output`; returns its cost: status, wall and CPU seconds of the kernel.

    `time_limit`: minutes. `stream`: shows what the notebook prints while it runs. `makes`: files that must be
    there afterwards. Raises ParameterError before anything runs, NotebookError later (the partial notebook is
    in `unfinished/` beside the output).
    """
    parameters = parameters or {}
    check(notebook, parameters)
    output = Path(output)
    try:
        lock = locks.take(output.with_name(f".{output.name}.lock"), str(output))
    except locks.InUseError as error:
        raise NotebookError(str(error)) from None
    with lock:
        return _execute(notebook, output, parameters, time_limit, stream, makes)


def _execute(notebook, output: Path, parameters, time_limit, stream, makes) -> dict[str, object]:
    say(f"{output.stem} | started")
    unfinished = _begun(Path(notebook), output.parent / "unfinished" / output.name)
    stop, error, start, cpu = _Stop(), None, time.monotonic(), _children_cpu()
    code, changed = commit()
    if time_limit:
        stop.later(60 * time_limit, stop.now, f"stopped after its time limit of {time_limit:g} minutes")
    try:
        with _caught_signals(stop):
            stdout = _Prefixed(f"{output.stem} | ") if stream else None
            options = {"engine_name": "posekit", "stop": stop, "progress_bar": False, "stdout_file": stdout}
            papermill.execute_notebook(str(notebook), str(unfinished), parameters, **options)
    except PapermillExecutionError as failure:
        last = f"{failure.ename}: {failure.evalue}".strip()
        error = f"{notebook} failed in cell {failure.cell_index + 1}: {last}"
    except Exception as failure:  # a dead kernel, a time-out of its channels: not cell errors for nbclient
        error = f"{notebook} failed: {type(failure).__name__}: {failure}".strip()
    finally:
        stop.cancel()
    if stop.reason:
        error = f"{notebook} was {stop.reason}"
    if error is None and (missing := [path for path in makes if not Path(path).exists()]):
        error = f"{notebook} ran, but did not make {', '.join(missing)}"
    cost = {
        "notebook": Path(notebook).name,
        "status": "done" if error is None else "failed",
        "wall_seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": None if cpu is None else round(_children_cpu() - cpu, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code + "*" * changed,  # * = with changed files
        "error": error,
    }
    write_json(output.with_suffix(".cost.json"), cost)
    if error is not None:
        raise NotebookError(f"{error} (as far as it came: {unfinished})")
    os.replace(unfinished, output)
    with suppress(OSError):  # others may still be at work there
        unfinished.parent.rmdir()
    return cost


def _begun(notebook: Path, unfinished: Path) -> Path:
    """The notebook as it will be filled, put there at once: a neighbour that ends removes the folder while it is
    empty, and papermill writes only after it has looked whether the folder is there."""
    content = notebook.read_bytes()
    while True:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the folder went between the two lines
            unfinished.write_bytes(content)
            return unfinished


def say(sentence: str) -> None:
    """A line of its own on stderr, also where several notebooks run at once: print writes text and newline apart."""
    sys.stderr.write(sentence + "\n")


def _children_cpu() -> float | None:
    """CPU seconds of finished child processes; Windows does not count them."""
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook")
    parser.add_argument("output")
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", dest="parameters", **pair)
    parser.add_argument("--time-limit", type=float, metavar="MINUTES")
    parser.add_argument("--stream", action="store_true", help="show what the notebook prints while it runs")
    parser.add_argument("--makes", nargs="+", default=[], metavar="FILE", help="files that it must make")
    options = parser.parse_args(arguments)
    try:
        check(options.notebook, {})
        kinds = parameter_kinds(options.notebook)
        parameters = {name: from_text(kinds.get(name, "str"), text) for name, text in options.parameters}
        how = {"time_limit": options.time_limit, "stream": options.stream, "makes": options.makes}
        cost = execute(options.notebook, options.output, parameters, **how)
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder without the right to write
        print(f"{options.output} cannot be written: {error}", file=sys.stderr)
        return 1
    say(f"{Path(options.output).stem} | done in {cost['wall_seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
