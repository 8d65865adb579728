"""Checks that a notebook makes of itself: they must be able to fail, and a page whose check fails must not exist.

`posebook.checks.check` raises when a number by hand is not the code's. Refused here: a check that only prints its
failure, one that goes past that function, and one whose two sides come from the same measurement, so that they agree
whatever was measured.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import nbformat

FAILED = re.compile(r"\bNOT\b|\bTOO (MUCH|MANY|FEW)\b|\bdiffer by 0(\.0+)? ?%")  # of a page's outputs
PRINTED = re.compile(r"\bNOT\b|\bTOO (MUCH|MANY|FEW)\b")  # of the texts in its code
CHOSEN = re.compile(r"^\W*the same\b")  # of `"the same" if ... else ...`
BY_HAND = re.compile(r"\bby[ _]hand\b", re.IGNORECASE)
PROMISED = re.compile(r"\b(must|should|have to) (agree|be (equal|the same))\b")
COMPARES = ("allclose", "isclose", "array_equal", "assert_allclose")
READS = ("read_csv", "read_json", "load_run")


def faults(book: nbformat.NotebookNode) -> Iterator[str]:
    """One sentence per check that cannot fail, or whose failure would not stop the page."""
    made: dict[str, ast.expr] = {}  # name -> what it was last assigned
    number, promise = 0, ""
    for cell in book.cells:
        if cell.cell_type != "code":
            yield from _unkept(promise)
            found = PROMISED.search(cell.source)
            promise = found[0] if found else ""
            continue
        number += 1
        try:
            tree = ast.parse(re.sub(r"^\s*[%!].*$", "pass", cell.source, flags=re.MULTILINE))
        except SyntaxError:  # check_book names it
            continue
        yield from (f"code cell {number} {fault}" for fault in _cell_faults(tree, made))
        if any(_called(node) == "check" for node in ast.walk(tree)):
            promise = ""
    yield from _unkept(promise)


def _unkept(promise: str) -> Iterator[str]:
    if promise:
        yield f"its text says that two things {promise}, and no posebook.checks.check follows that would stop the page"


def _cell_faults(tree: ast.Module, made: dict[str, ast.expr]) -> Iterator[str]:
    texts = _texts(tree)
    chosen = [text for node in ast.walk(tree) if isinstance(node, ast.IfExp) for text in _texts(node)]
    if any(PRINTED.search(text) for text in texts) or any(CHOSEN.search(text) for text in chosen):
        yield "prints that a check failed and goes on: use posebook.checks.check, which stops the page"
    calls = {_called(node) for node in ast.walk(tree)}
    if any(BY_HAND.search(text) for text in texts) and "check" not in calls:
        yield "compares something by hand without posebook.checks.check, which stops the page when it is not the same"
    for statement in tree.body:
        for node in ast.walk(statement):
            sides = _sides(node)
            if sides and ast.dump(sides[0]) == ast.dump(sides[1]):
                yield f"compares {ast.unparse(sides[0])} with itself, which cannot fail"
            elif sides and (both := _one_table(*sides, made)):
                left, right = map(ast.unparse, sides)
                yield f"compares {left} with {right}, both taken from {both}: a check needs two measurements"
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    _assign(target, node.value, made)


def _texts(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _assign(target: ast.expr, value: ast.expr, made: dict[str, ast.expr]) -> None:
    if isinstance(target, ast.Name):
        made[target.id] = value
    elif isinstance(target, ast.Tuple):
        parts = value.elts if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts) else None
        for place, part in enumerate(target.elts):
            _assign(part, parts[place] if parts else value, made)


def _called(node: ast.AST) -> str:
    """The last name of the function that a node calls, "" for another node."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _sides(node: ast.AST) -> tuple[ast.expr, ast.expr] | None:
    """The two sides of a comparison of numbers: check(what, a, b), allclose(a, b), abs(a - b), (a - b).abs()."""
    name = _called(node)
    if name == "check" and len(node.args) >= 3:
        return node.args[1], node.args[2]
    if name in COMPARES and len(node.args) >= 2:
        return node.args[0], node.args[1]
    if name == "abs":
        inner = node.args[0] if node.args else getattr(node.func, "value", None)
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
            return inner.left, inner.right
    return None


def _one_table(left: ast.expr, right: ast.expr, made: dict[str, ast.expr]) -> str:
    """The file's table that both sides are read from and nothing else goes into; "" if there is none.

    Followed through the assignments of the page. A side that any function but a table's own methods had a part in was
    computed, and may be compared.
    """
    tables = [_table(side, made, frozenset()) for side in (left, right)]
    return tables[0] if tables[0] == tables[1] and tables[0] else ""


def _table(node: ast.expr, made: dict[str, ast.expr], seen: frozenset[str]) -> str:
    while True:
        if isinstance(node, ast.Subscript | ast.Attribute):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr not in READS:
            node = node.func.value  # a method; of a module, its name is no table
        elif isinstance(node, ast.Name) and node.id in made and node.id not in seen:
            if any(_called(part) in READS for part in ast.walk(made[node.id])):
                return node.id
            seen, node = seen | {node.id}, made[node.id]
        else:
            return ""
