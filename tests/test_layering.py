"""Who may import whom: the rules of the layout, read from the source."""

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("workers", "hybrid", "launch", "benchmarks")
THIRD_PARTY = {
    "workers": {"numpy", "numba", "llvmlite", "faiss", "zmq", "msgpack"},
    "launch": {"click", "rich", "zmq", "msgpack", "tomli_w", "numpy"},
}
OURS = {"workers": {"workers"}, "hybrid": {"hybrid", "workers", "launch"}, "launch": {"launch", "workers"}}
MAX_LINES = 300
BANNED_NAMES = {"utils", "helpers", "common", "misc"}
FOUNDATION = {"workers.errors", "workers.settings", "workers.config", "launch.config"}
"""Named by nearly every module; they do not count in the length of a chain of imports."""
MAX_IMPORTS = 7
NUMPY_IN_LAUNCH = {"launch.resources"}  # opens prepared arrays for the tag matrix; computes nothing


@functools.cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of all our packages."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@functools.cache
def imports(name: str, *, late: bool = True) -> frozenset[str]:
    """Modules that a module imports by name; `late`: also those that its functions import."""
    tree = ast.parse(modules()[name].read_text())
    is_interface = modules()[name].name == "__init__.py"
    nodes = ast.walk(tree) if late else _at_import(tree, with_types=not is_interface)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else str(node.module))
    return frozenset(found)


def _at_import(tree, *, with_types):
    """Nodes that run when the module is imported: not the bodies of functions, nor, without types, of `TYPE_CHECKING`.

    What a module needs for its types alone it depends on as well; an interface names all that it hands on.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if not with_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_import(node, with_types=with_types)


def names_of(package: str) -> list[str]:
    return [name for name in modules() if name.split(".")[0] == package]


@pytest.mark.parametrize("package", ["workers", "launch"])
def test_third_party_libraries_are_those_of_the_design(package):
    allowed = THIRD_PARTY[package] | set(sys.stdlib_module_names) | set(PACKAGES)
    wrong = [(n, i) for n in names_of(package) for i in imports(n) if i.split(".")[0] not in allowed]
    assert wrong == []


@pytest.mark.parametrize("package", list(OURS))
def test_packages_import_only_downward(package):
    forbidden = {*PACKAGES, "tests"} - OURS[package]
    assert [(n, i) for n in names_of(package) for i in imports(n) if i.split(".")[0] in forbidden] == []


def test_the_deep_side_takes_settings_and_where_runs_lie_alone_from_the_launcher():
    deep = set(names_of("hybrid")) - {"hybrid.console"}  # which is the command `hybrid`, and loads nothing deep
    from_launch = {i for n in deep for i in imports(n) if i.split(".")[0] == "launch"}
    assert imports("hybrid.console") == {"hybrid.neighbouring_packages", "workers.quiet_interrupt", "launch.cli"}
    assert from_launch <= {"launch.config", "launch.run_settings", "launch.runs"}


def test_the_launcher_computes_nothing():
    with_numpy = {n for n in names_of("launch") for i in imports(n) if i.split(".")[0] == "numpy"}
    assert with_numpy <= NUMPY_IN_LAUNCH


def test_the_deep_side_loads_no_kernels():
    """The trunk ships chunks, workers compute them: the engine would cost each start of a trunk its import."""
    reached, left = set(), names_of("hybrid")
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left += [inner for inner in imports(name) if inner in modules()]
    assert "workers.chunk" in reached
    assert reached.isdisjoint({"workers.engine", "workers.kernel_private", "workers.kernel_shared"})


def test_nobody_imports_benchmarks_or_tests():
    outside = [n for n in modules() if not n.startswith("benchmarks")]
    assert [(n, i) for n in outside for i in imports(n) if i.split(".")[0] in ("benchmarks", "tests")] == []


def longest_chain(name: str, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The longest chain of imports from a module through modules of its own package; fails on any cycle."""
    assert name not in path, f"cycle: {' -> '.join((*path, name))}"
    chains = [_longest_cached(inner, (*path, name)) for inner in imports(name, late=False) if inner in modules()]
    own = [tuple(n for n in chain if n.split(".")[0] == name.split(".")[0]) for chain in chains]
    longest = max(own, key=len, default=())
    return longest if name in FOUNDATION else (name, *longest)


_known_chains: dict[str, tuple[str, ...]] = {}


def _longest_cached(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
    if name not in _known_chains:
        _known_chains[name] = longest_chain(name, path)
    return _known_chains[name]


def test_there_are_no_cycles_and_chains_within_a_package_are_short():
    chains = [longest_chain(name) for name in modules()]
    longest = max(chains, key=len)
    assert len(longest) - 1 <= MAX_IMPORTS, f"too deep: {' -> '.join(longest)}"


def test_files_are_short_and_named_after_a_noun():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    assert {name for name in modules() if name.rpartition(".")[2] in BANNED_NAMES} == set()


def test_the_rules_are_read_from_real_files():
    assert {"workers.matrix", "launch.supervisor", "hybrid.trainer"} <= set(modules())
    assert "workers.errors" in imports("launch.supervisor")
    assert "rich" not in {i.split(".")[0] for i in imports("launch.verb_train")}
    assert "launch.train" in imports("launch.verb_train")
    assert "launch.train" not in imports("launch.verb_train", late=False)
