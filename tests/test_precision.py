"""use_precision: which Specs it reaches, that backward follows forward, and that the default is strict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import gpucnn
from gpucnn import Tensor, functional
from gpucnn.backends import Backend, get_backend

PRODUCTS = (
    "conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "matmul_forward", "linear_backward_operands",
)  # fmt: skip


@pytest.fixture
def precisions(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The precision of every convolution and product that the backend is asked for."""
    seen: list[str] = []

    def watched(run, *arguments, **options):
        seen.append(next(a for a in arguments if hasattr(a, "precision")).precision)
        return run(*arguments, **options)

    for name in PRODUCTS:
        run = getattr(backend, name)
        monkeypatch.setattr(backend, name, lambda *a, run=run, **o: watched(run, *a, **o), raising=True)
    yield seen


def ones(*shape: int, dtype: str = "float32") -> Tensor:
    return gpucnn.tensor(np.ones(shape), dtype=dtype, requires_grad=True)


OPERATIONS = {
    "conv2d": lambda dtype: functional.conv2d(ones(2, 4, 4, 3, dtype=dtype), ones(5, 2, 2, 3, dtype=dtype)),
    "conv1d": lambda dtype: functional.conv1d(ones(2, 4, 3, dtype=dtype), ones(5, 2, 3, dtype=dtype)),
    "linear": lambda dtype: functional.linear(ones(2, 3, dtype=dtype), ones(4, 3, dtype=dtype)),
    "matmul": lambda dtype: ones(2, 3, dtype=dtype) @ ones(3, 4, dtype=dtype),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_products_take_the_precision_in_use_and_backward_that_of_its_forward(precisions: list[str], name: str) -> None:
    with gpucnn.use_precision("tf32"):
        y = OPERATIONS[name]("float32")
    y.sum().backward()
    assert len(precisions) > 1 and set(precisions) == {"tf32"}
    precisions.clear()
    y = OPERATIONS[name]("float32")
    with gpucnn.use_precision("tf32"):
        y.sum().backward()
    assert len(precisions) > 1 and set(precisions) == {"float32"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_other_dtypes_are_not_concerned(precisions: list[str], name: str) -> None:
    with gpucnn.use_precision("tf32"):
        OPERATIONS[name]("bfloat16").sum().backward()
    assert len(precisions) > 1 and set(precisions) == {"float32"}


def test_blocks_nest_and_end() -> None:
    assert gpucnn.precision.precision_for("float32") == "float32"
    with gpucnn.use_precision("tf32"):
        with gpucnn.use_precision("float32"):
            assert gpucnn.precision.precision_for("float32") == "float32"
        assert gpucnn.precision.precision_for("float32") == "tf32"
    assert gpucnn.precision.precision_for("float32") == "float32"


def test_another_precision_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="use_precision: precision must be one of float32, tf32, got 'bf16'"),
        gpucnn.use_precision("bf16"),
    ):
        raise AssertionError("the block must not be entered")


def test_numpy_computes_in_float32() -> None:
    """1 + 2^-12 is no tf32 number: rounded operands would lose it."""
    with gpucnn.use_backend("numpy"), gpucnn.use_precision("tf32"):
        x = np.full((1, 1), 1 + 2.0**-12, np.float32)
        y = functional.linear(x, np.ones((1, 1), np.float32))
        assert y.backend is get_backend("numpy") and y.item() == 1 + 2.0**-12
