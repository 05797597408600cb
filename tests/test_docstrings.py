"""Docstrings: the parameters that they describe are those of the signature; a file says what it is for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_layering import modules

SECTION = re.compile(r"^(\s*)Args:\s*$", re.MULTILINE)
ENTRY = re.compile(r"^([*\w, ]+?)(?: \([^)]*\))?:")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def documented(docstring: str) -> list[str]:
    """Names in the Args section, in order; several may share an entry: `a, b: ...`."""
    match = SECTION.search(docstring)
    if match is None:
        return []
    names: list[str] = []
    margin = None
    for line in docstring[match.end() :].splitlines():
        if not line.strip():
            if margin is not None:
                break
            continue
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None else margin
        if indent < margin:
            break
        if indent == margin and (entry := ENTRY.match(line.strip())):
            names += [name.strip().lstrip("*") for name in entry[1].split(",")]
    return names


def parameters(function: Function) -> list[str]:
    """Names in the signature."""
    a = function.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def described(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Name, documented parameters, real ones of all that has an Args section; a class stands for its __init__."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, Function | ast.ClassDef):
            continue
        names = documented(ast.get_docstring(node) or "")
        if not names:
            continue
        if isinstance(node, ast.ClassDef):
            inits = [child for child in node.body if isinstance(child, Function) and child.name == "__init__"]
            fields = [c.target.id for c in node.body if isinstance(c, ast.AnnAssign) and isinstance(c.target, ast.Name)]
            yield node.name, names, parameters(inits[0]) if inits else fields
        else:
            yield node.name, names, parameters(node)


@pytest.mark.parametrize("module", sorted(modules()))
def test_documented_parameters_exist(module):
    for name, documented_names, real in described(modules()[module]):
        assert [n for n in documented_names if n not in real] == [], f"{module}.{name} documents parameters it has not"


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_file_begins_with_one_sentence(module):
    docstring = ast.get_docstring(ast.parse(modules()[module].read_text()))
    assert docstring, f"{module} does not say what it is for"
    first = docstring.split("\n\n")[0].split("\n")
    sentence = " ".join(first).rstrip()
    assert sentence[-1:] in (".", ":") and not re.search(r"[.!?] [A-Z]", sentence), f"{module} begins with {first[0]!r}"


def test_the_reader_of_docstrings_reads_them():
    text = "What.\n\nArgs:\n    a, b: both.\n    *rest: more\n        continued: here.\n\n    c: after.\n"
    assert documented(text) == ["a", "b", "rest"]
    assert documented("None.") == []
