"""The examples in docstrings run, and every public name has a docstring that says what it does."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import gpucnn

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "gpucnn").rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    with gpucnn.use_backend("numpy"):
        gpucnn.seed(0)
        result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples() -> None:
    """At least one for each operation that has a formula."""
    text = "".join(inspect.getdoc(getattr(gpucnn.functional, n)) or "" for n in gpucnn.functional.__all__)
    assert text.count(">>> ") >= 8


def documented_methods(module: ModuleType) -> set[str]:
    """Return the methods that some class of the module documents: others may implement the same protocol."""
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    return {name for c in classes for name in dir(c) if inspect.getdoc(inspect.getattr_static(c, name))}


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name: str) -> None:
    module: ModuleType = import_module(name)
    assert module.__doc__, name
    said = documented_methods(module)
    for member, value in vars(module).items():
        if member.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{member}"
        if inspect.isclass(value):
            for attribute, found in vars(value).items():
                if not attribute.startswith("_") and (inspect.isfunction(found) or isinstance(found, property)):
                    assert attribute in said, f"{name}.{member}.{attribute}"
