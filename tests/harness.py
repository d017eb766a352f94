"""What operation tests share: covering sets of cases, candidates and dtypes; comparison by the Spec's tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest

from gpucnn import dtypes, plans
from gpucnn.limits import limits_of
from gpucnn.specs import Spec

FLOAT32_FIRST = ("float32", "float64", "float16", "bfloat16")
CHECKED = ("float32", "float16", pytest.param("float64", marks=pytest.mark.all_cases))
"""Dtypes that the check build runs: the races and bounds of float64 are those of float32, in the same text."""

LIMITS = limits_of(90)

ROUNDS_TO_INFINITY = {"float16": 65520.0, "bfloat16": 2.0**128 - 2.0**119, "float32": 2.0**128 - 2.0**103}
"""From here on a number is infinite once it is rounded to the type."""

Case = tuple[str, str, str | None]
"""(case name, dtype, plan name or None)."""


def plan_names(operation: str, spec: Spec, alignment: int = 16) -> list[str]:
    """Return the names of an operation's candidates."""
    return [plan.name for plan in plans.candidates(operation, spec, LIMITS, alignment)]


def full_product(operation: str, cases: Mapping[str, Callable[[str], Spec]], kinds: Sequence[str]) -> list[Case]:
    """Return every (case, dtype, plan)."""
    return [
        (name, dtype, plan)
        for name, make in cases.items()
        for dtype in kinds
        for plan in plan_names(operation, make(dtype))
    ]


def covering(triples: Iterable[Case]) -> list[Case]:
    """Return a deterministic subset in which every pair of (case, dtype, plan) that occurs at all occurs."""
    remaining = list(triples)
    pairs_of = {t: {(0, 1, t[0], t[1]), (0, 2, t[0], t[2]), (1, 2, t[1], t[2])} for t in remaining}
    wanted = set().union(*pairs_of.values()) if remaining else set()
    chosen = []
    while wanted:
        best = max(remaining, key=lambda t: len(pairs_of[t] & wanted))
        chosen.append(best)
        wanted -= pairs_of[best]
    return chosen


def product(
    operation: str,
    cases: Mapping[str, Callable[[str], Spec]],
    kinds: Sequence[str] = FLOAT32_FIRST,
    covered: Callable[[str], bool] = lambda plan: True,
    cover: Callable[[Iterable[Case]], list[Case]] = covering,
) -> list[object]:
    """Return pytest params (backend_name, case, dtype, plan) of an operation over numpy, emulated and cuda.

    The covering set runs by default; the rest carries the marker `all_cases` and runs with --all-cases.

    Args:
        operation: a backend method's name.
        cases: name to a function that makes the Spec for a dtype.
        kinds: dtypes.
        covered: which plans the covering set is made of; those of another table of cases are left to --all-cases.
        cover: makes the covering set.
    """
    params = []
    for name in cases:
        for dtype in kinds:
            params.append(pytest.param("numpy", name, dtype, None, id=f"numpy-{name}-{dtype}"))
    triples = full_product(operation, cases, kinds)
    kept = set(cover(triple for triple in triples if covered(str(triple[2]))))
    for backend in ("emulated", "cuda"):
        for case, dtype, plan in triples:
            marks = [] if (case, dtype, plan) in kept else [pytest.mark.all_cases]
            if backend == "cuda":
                marks.append(pytest.mark.gpu)
            params.append(pytest.param(backend, case, dtype, plan, id=f"{backend}-{case}-{dtype}-{plan}", marks=marks))
    return params


def on_every_backend(*names: str) -> list[object]:
    """Return pytest params (backend_name, plan): numpy without a plan, emulated and cuda with each of these plans."""
    params = [pytest.param("numpy", None, id="numpy")]
    params += [pytest.param("emulated", name, id=f"emulated-{name}") for name in names]
    return params + [pytest.param("cuda", name, id=f"cuda-{name}", marks=pytest.mark.gpu) for name in names]


def random(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Return standard normal numbers that the dtype represents exactly after rounding."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtypes.numpy_dtype(dtype))


def compare(actual: np.ndarray, expected: np.ndarray, spec: Spec, terms: int) -> None:
    """Assert that `actual` equals the float64 reference within the Spec's tolerance of the largest reference value.

    NaN and infinities must stand at the same places.
    """
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    got, want = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg="NaN positions")
    limit = ROUNDS_TO_INFINITY.get(spec.dtype, float("inf"))
    want = np.where(np.abs(want) >= limit, np.copysign(np.inf, want), want)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want), err_msg="inf positions")
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    if not finite.any():
        return
    scale = max(float(np.max(np.abs(want[finite]))), float(np.finfo(np.float32).tiny))
    error = np.abs(got[finite] - want[finite])
    bound = spec.tolerance(terms) * scale
    worst = tuple(np.argwhere(np.abs(got - want) > bound)[0]) if error.max() > bound else None
    assert worst is None, (
        f"largest error {error.max():.3g} exceeds {bound:.3g} = tolerance {spec.tolerance(terms):.3g} x largest value "
        f"{scale:.3g}; {int((error > bound).sum())} of {error.size} elements, first at {worst}"
    )
