"""What every notebook of the book keeps to: `python ci/check_book.py [FOLDER]` prints one line per fault.

All: the kernel python3, a Markdown cell first, exactly one cell tagged `parameters` whose lines read
`name: type = literal  # help`, code cells of at most 30 lines, those of more than ten folded (`--fold` does it) but for
parameters, functions of at most 10, no absolute path, no installation, no `sys.path`. Checks by hand go through
`posebook.checks.check`, which stops the page (self_checks). Workers (10 to 19) are committed without outputs, reports
with them: run from top to bottom, no error, no failed check, with the parameters and the code that the page shows
(ran_with.py), alt text on every image, a footer on every figure, the verdicts on the statements of the papers that they
test (data/paper/claims.csv), under 500 kB. Exit status 1 when there is a fault.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import ran_with
import self_checks
from execute import ParameterError, accepts, parameter_kinds

from posekit.files import resolve, write_bytes

CELL_LINES, OPEN_LINES, FUNCTION_LINES, SIZE = 30, 10, 10, 500_000
FORBIDDEN = {
    r"""["'](/(home|Users|root|tmp|work|mnt|data)\b|[A-Z]:\\|~/)""": "an absolute path",
    r"^\s*[!%]\s*(pip|conda)\b": "an installation",
    r"\bsys\.path\b": "sys.path",
    r"\b(XX+|TODO|FIXME)\b": "a placeholder",
    r"\binteract\(": "interact, which may never return without a browser: use posebook.widgets.sliders",
}
READ = ("text/plain", "text/markdown", "text/html")
MACHINE = re.compile(r"/(home|Users|root|tmp)/[\w.-]+")


def faults(path: Path) -> Iterator[str]:
    """One sentence per fault of one notebook."""
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    kernel = book.metadata.get("kernelspec", {})
    if (kernel.get("name"), kernel.get("language")) != ("python3", "python"):
        yield "its kernelspec is not python3 with language python"
    if "papermill" in book.metadata or any("injected-parameters" in tags(cell) for cell in code):
        yield "it is papermill's copy, not the source: commit it with ci/publish.py"
    if not book.cells or book.cells[0].cell_type != "markdown":
        yield "its first cell does not say what it reproduces"
    tagged = [cell for cell in code if "parameters" in tags(cell)]
    if len(tagged) == 1:
        yield from parameter_faults(path, tagged[0].source)
    else:
        yield f"{len(tagged)} cells are tagged parameters, not one"
    for number, cell in enumerate(code, 1):
        yield from (f"code cell {number} {fault}" for fault in source_faults(cell.source))
        if is_long(cell) and not is_folded(cell):
            yield f"code cell {number} has more than {OPEN_LINES} lines and is open: ci/check_book.py --fold"
    yield from self_checks.faults(book)
    if re.match(r"1\d_", path.name):
        yield from worker_faults(code)
        return
    yield from report_faults(path, code)
    yield from claim_faults(path, "\n".join(cell.source for cell in code))
    if len(tagged) == 1:
        yield from ran_with.faults(book)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_long(cell) -> bool:
    return cell.source.count("\n") >= OPEN_LINES and "parameters" not in tags(cell)


def is_folded(cell) -> bool:
    return "hide-input" in tags(cell) and cell.metadata.get("jupyter", {}).get("source_hidden") is True


def fold(book: nbformat.NotebookNode) -> bool:
    """Fold the long code cells: the tag is the web site's, the other mark JupyterLab's. Whether there were any."""
    open_cells = [cell for cell in book.cells if cell.cell_type == "code" and is_long(cell) and not is_folded(cell)]
    for cell in open_cells:
        cell.metadata["tags"] = list(dict.fromkeys([*tags(cell), "hide-input"]))
        cell.metadata["jupyter"] = cell.metadata.get("jupyter", {}) | {"source_hidden": True}
    return bool(open_cells)


def parameter_faults(path: Path, source: str) -> Iterator[str]:
    """Each line an annotated literal with a help comment, of a type that papermill and ci/execute.py know."""
    kinds = parameter_kinds(path)
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            continue
        text = lines[node.end_lineno - 1]
        if not isinstance(node, ast.AnnAssign) or "#" not in text[node.end_col_offset :]:
            yield f"parameter line {text!r} is not `name: type = literal  # help`"
            continue
        name, kind = ast.unparse(node.target), ast.unparse(node.annotation)
        try:
            value = ast.literal_eval(node.value)
            if kinds.get(name, "").replace(" ", "") != kind.replace(" ", ""):
                yield f"papermill does not read parameter {name}: keep the line to one `=` and a simple type"
            elif not accepts(kind, value):
                yield f"parameter {name}: {kind} has the default {value!r}"
        except ParameterError as error:
            yield f"parameter {name}: {error}"
        except ValueError:
            yield f"parameter {name} has no literal default: derive it in the next cell"


def source_faults(source: str) -> Iterator[str]:
    lines = source.count("\n") + 1
    if lines > CELL_LINES:
        yield f"has {lines} lines"
    for pattern, what in FORBIDDEN.items():
        if re.search(pattern, source, re.MULTILINE):
            yield f"holds {what}"
    try:
        tree = ast.parse(re.sub(r"^\s*[%!].*$", "pass", source, flags=re.MULTILINE))
    except SyntaxError as error:
        yield f"is not Python ({error.msg})"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= FUNCTION_LINES:
            yield f"defines {node.name}, {node.end_lineno - node.lineno + 1} lines: logic lives in posekit"


def worker_faults(code: list) -> Iterator[str]:
    if any(cell.outputs or cell.execution_count for cell in code):
        yield "a worker is committed without outputs (nbstripout --keep-id)"


def report_faults(path: Path, code: list) -> Iterator[str]:
    run = [cell for cell in code if cell.source.strip()]
    if [cell.execution_count for cell in run] != list(range(1, len(run) + 1)):
        yield "a report is committed as run from top to bottom (ci/publish.py)"
    for output in (output for cell in code for output in cell.outputs):
        if output.output_type == "error":
            yield f"it holds an error: {output.ename}"
        data = output.get("data", {})
        for kind in (kind for kind in data if kind.startswith("image/")):
            if not output.metadata.get(kind, {}).get("alt"):
                yield "an image has no alt text: show figures with style.as_image, or Image(..., alt=...)"
        text = "".join([str(output.get("text", "")), *(str(data.get(kind, "")) for kind in READ)])
        if found := MACHINE.search(text):
            yield f"an output names a folder of one machine: {found[0]}"
        if found := self_checks.FAILED.search(text):
            yield f"an output holds a failed check: {text[max(0, found.start() - 60) : found.end() + 30].strip()!r}"
    if path.stat().st_size > SIZE:
        yield f"it has {path.stat().st_size / 1000:.0f} kB, more than {SIZE / 1000:.0f}"


def claim_faults(path: Path, source: str) -> Iterator[str]:
    """What a report draws says where it comes from, and what it tests is judged on the page."""
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) == "style.save" and len(call.args) + len(call.keywords) < 5:
            yield f"a figure has no footer: {ast.unparse(call)[:60]}"
    tested = path.stem in set(pd.read_csv(resolve("data/paper/claims.csv")).page)
    if tested and not re.search(r"\bclaims\.\w+\(", source):
        yield "it tests statements of claims.csv and does not close with their verdicts: claims.of_page"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="notebooks", type=Path)
    parser.add_argument("--fold", action="store_true", help="fold long code cells first")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.ipynb"))
    for path in paths if options.fold else []:
        book = nbformat.read(path, as_version=4)
        if fold(book):
            write_bytes(path, (nbformat.writes(book) + "\n").encode())
    found = [f"{path}: {fault}" for path in paths for fault in faults(path)]
    print("\n".join(found) or f"{len(paths)} notebooks, no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
