"""The house rules of DESIGN.md section 2, read off the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gpucnn"
RANKS = (
    ("errors", "arguments", "dtypes", "limits", "cache", "specs", "precision", "kernel_source"),
    ("plans", "devices"),
    ("backends",),
    ("autograd", "mixed_precision", "parameters", "generator"),
    ("functional", "initializers", "schedules"),
    ("layers", "augment", "losses", "metrics", "optimizers", "datasets"),
    ("training", "callbacks"),
    ("model",),
    ("zoo", "benchmarks", "explain", "comparison", "kernel_check", "cli"),
)
"""Lowest first. A module imports from lower ranks, and of its own rank only what stands to its left."""
PLACE = {name: (rank, column) for rank, names in enumerate(RANKS) for column, name in enumerate(names)}
NAMING = {"benchmarks", "cli"}
DEVICES = {"numpy", "cuda", "emulated", "cupy"}
TOP_LEVEL = {"gpucnn", "kernels", "tests", "scripts", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"}


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything a module imports, also inside functions and `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def home(path: Path) -> str:
    """Return the module or folder of the package that a file belongs to; "" for gpucnn/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


FILES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in python_files(PACKAGE)]
UPPER = [p for p in FILES if PLACE.get(home(p.values[0]), (0, 0))[0] > 2 and home(p.values[0]) not in NAMING]
"""Above the backends. The command line and the benchmark are left out: naming devices is their job."""


def test_every_module_has_a_rank() -> None:
    assert {home(path) for path in python_files(PACKAGE)} - {""} == PLACE.keys()


@pytest.mark.parametrize("path", FILES)
def test_imports_point_to_lower_ranks(path: Path) -> None:
    own = home(path)
    for name, line in imported(tree_of(path)):
        parts = name.split(".")
        assert parts[0] != "tests", f"{path}:{line} imports tests"
        if own and parts[0] == "gpucnn" and parts[1] in PLACE and parts[1] != own:
            assert PLACE[parts[1]] < PLACE[own], f"{path}:{line}: {own} imports {name}"


@pytest.mark.parametrize("path", FILES)
def test_only_the_cuda_device_imports_cupy(path: Path) -> None:
    cuda = PACKAGE / "devices" / "cuda"
    if cuda not in path.parents and path != cuda.with_suffix(".py"):
        tree = tree_of(path)
        assert not [line for name, line in imported(tree) if name.split(".")[0].startswith("cupy")]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = [a.value for call in calls for a in call.args if isinstance(a, ast.Constant)]
        assert "cupy" not in names, "cupy by import_module"


def docstrings(tree: ast.Module) -> set[int]:
    """Return the ids of the constants that are docstrings, also those under attributes."""
    return {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", UPPER)
def test_above_the_backends_no_device_is_named(path: Path) -> None:
    tree = tree_of(path)
    spoken = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in spoken:
            assert node.value not in DEVICES, f"{path}:{node.lineno} names the device {node.value!r}"
        if isinstance(node, (ast.Name, ast.arg)):
            assert (node.id if isinstance(node, ast.Name) else node.arg) != "xp", f"{path}:{node.lineno} uses xp"


def asks_which_backend(test: ast.expr) -> bool:
    """Say whether a condition looks at a backend's name or class, or at whether there is one."""
    if isinstance(test, ast.BoolOp):
        return any(asks_which_backend(value) for value in test.values)
    if isinstance(test, ast.UnaryOp):
        return asks_which_backend(test.operand)
    if isinstance(test, ast.Compare):
        sides = [test.left, *test.comparators]
        return any(isinstance(s, ast.Attribute) and s.attr == "name" and "backend" in ast.unparse(s) for s in sides)
    if isinstance(test, ast.Call):
        return ast.unparse(test.func) in ("isinstance", "type") and "backend" in ast.unparse(test).lower()
    return ast.unparse(test).rsplit(".", 1)[-1] in ("backend", "_backend")


@pytest.mark.parametrize("path", UPPER)
def test_above_the_backends_nothing_asks_which_backend(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.If, ast.IfExp, ast.While)):
            assert not asks_which_backend(node.test), f"{path}:{node.lineno}: if {ast.unparse(node.test)}"


@pytest.mark.parametrize(
    "source", ["backend", "not self._backend", "x.backend.name == y", "isinstance(b, NumpyBackend)"]
)
def test_the_rule_about_backends_catches(source: str) -> None:
    assert asks_which_backend(ast.parse(source, mode="eval").body)


@pytest.mark.parametrize("source", ["backend.captures", "t.backend is not other.backend", "isinstance(x, Tensor)"])
def test_the_rule_about_backends_permits(source: str) -> None:
    assert not asks_which_backend(ast.parse(source, mode="eval").body)


def exported(path: Path) -> list[str]:
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and any(ast.unparse(t) == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


@pytest.mark.parametrize("path", [p for p in FILES if p.values[0].name == "__init__.py"])
def test_no_public_name_equals_a_submodule(path: Path) -> None:
    """`from gpucnn import tensor` must not mean a function or a module by the order of imports."""
    submodules = {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    package = import_module(".".join(path.parent.relative_to(ROOT).parts))
    for name in set(exported(path)) & submodules:
        assert isinstance(getattr(package, name), ModuleType), f"{package.__name__}.{name} hides the module"


def test_top_level_entries() -> None:
    generated = {"build", "dist", "runs"}
    entries = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and not p.name.endswith(".egg-info")}
    assert entries - generated <= TOP_LEVEL, sorted(entries - generated - TOP_LEVEL)


def test_no_file_is_a_drawer_for_everything() -> None:
    names = {p.stem for p in python_files(PACKAGE, ROOT / "tests")}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def test_kernels_are_cuda_only() -> None:
    assert {p.suffix for p in (ROOT / "kernels").rglob("*") if p.is_file()} == {".cu", ".cuh"}


@pytest.mark.parametrize("path", FILES)
def test_files_have_one_reason_to_exist(path: Path) -> None:
    """About 400 lines; a file that passes 450 becomes a folder."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
