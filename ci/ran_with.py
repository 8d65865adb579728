"""What a published page says about its own execution: which parameters, which code, when.

The source keeps its defaults (`profile: str = "mine"`), the outputs below come from an execution with others. So the
cell of parameters of a published page carries a record in its metadata, and the same as text, its only output. The
record names the code that ran by a hash of the code cells: a page that was changed afterwards does not fit it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator

import nbformat

KEY = "ran_with"  # in the metadata of the cell tagged parameters


def record(source: nbformat.NotebookNode, executed: nbformat.NotebookNode, cost: dict) -> dict:
    """What is kept of an execution: `given` parameters and all `values`, hash of the code, commit and day.

    source: the notebook; executed: papermill's copy of it; cost: what `execute.execute` wrote beside the copy.
    """
    given = executed.metadata["papermill"]["parameters"]
    values = defaults(parameters_cell(source).source) | given
    made = {"commit": cost["commit"], "day": cost["finished"][:10]}
    return {"given": [name for name in values if name in given], "values": values, "code": fingerprint(source), **made}


def parameters_cell(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))


def defaults(source: str) -> dict[str, object]:
    """Name -> default of the lines `name: type = literal`."""
    nodes = (node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign))
    return {ast.unparse(node.target): ast.literal_eval(node.value) for node in nodes}


def fingerprint(book: nbformat.NotebookNode) -> str:
    """Twelve hexadecimal digits of the code but for the values of the parameters, which the record tells."""
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    code = [cell.source for cell in cells if "parameters" not in cell.metadata.get("tags", [])]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()[:12]


def text(ran: dict) -> str:
    """The record as the reader sees it below the parameters."""
    told = [f"{name} = {ran['values'][name]!r}" for name in ran["given"]]
    rest = "everything else" if told else "everything"
    told += [f"{rest} as above; commit {ran['commit']}, {ran['day']}"]
    return "run with " + "\n         ".join(told) + "\n"


def faults(book: nbformat.NotebookNode) -> Iterator[str]:
    """Where a page and the record of its execution part, one sentence each."""
    cell = parameters_cell(book)
    ran = cell.metadata.get(KEY)
    if ran is None:
        yield "it does not say with which parameters it was run: commit it with ci/publish.py"
        return
    now = defaults(cell.source)
    if set(ran["values"]) != set(now):
        yield f"it was run with the parameters {', '.join(ran['values'])} and now has {', '.join(now)}: run it again"
    for name, value in ran["values"].items():
        if name in now and name not in ran["given"] and value != now[name]:
            yield f"it was run with {name} = {value!r}, not with {now[name]!r} as it says: run it again"
    if [str(output.get("text", "")) for output in cell.outputs] != [text(ran)]:
        yield "the text below its parameters is not the record of its execution: commit it with ci/publish.py"
    if fingerprint(book) != ran["code"]:
        yield "its code was changed after it ran: run it again"
    outputs = (output for one in book.cells if one.cell_type == "code" for output in one.outputs)
    shown = {name for output in outputs for name in re.findall(r"\bfigures/([\w.-]+)/", str(output.get("text", "")))}
    profile = ran["values"].get("profile")
    if other := shown - {profile, "reference"}:
        yield f"it was run with profile = {profile!r} and its outputs name figures/{', figures/'.join(sorted(other))}"
