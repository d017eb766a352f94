"""Matrix products on tensor cores: by every plan against the loops of tests/reference/matmul.py."""

from __future__ import annotations

from dataclasses import replace

import harness
import numpy as np
import pytest
from cases.conv2d_tensor_core import KINDS
from cases.matmul import make
from cases.matmul_tensor_core import TENSOR_CORE_CASES, make_kind

from gpucnn.backends import Backend
from gpucnn.specs import MatmulSpec
from operations.test_matmul import arguments, definition, run


def on_tensor_cores(plan: str) -> bool:
    return plan.startswith("tensor_core")


def plans_of(backend: Backend, spec: MatmulSpec) -> list[str]:
    found = [name for name in backend.algorithms("matmul_forward", spec) if on_tensor_cores(name)]
    assert found
    return found


BY_DEFAULT = {
    ("nt_tails", "bfloat16", "tensor_core/64x64"),
    ("nn_tails", "bfloat16", "tensor_core/128x32"),
    ("tn_tails", "bfloat16", "tensor_core/64x64"),
    ("tt_tails", "bfloat16", "tensor_core/128x32"),
    ("nt_chunks", "bfloat16", "tensor_core_split_k/128x32"),
    ("tn_chunks", "bfloat16", "tensor_core_split_k/64x64"),
    ("nn_tiles_and_some", "bfloat16", "tensor_core/128x128"),
    ("nt_one_step", "bfloat16", "tensor_core/64x64"),
    ("nt_tails", "float16", "tensor_core/64x64"),
    ("nn_tails", "tf32", "tensor_core/64x64"),
    ("tn_tails", "tf32", "tensor_core/128x128"),
    ("tt_tails", "tf32", "tensor_core/128x32"),
    ("tn_chunks", "tf32", "tensor_core_split_k/64x64"),
    ("nn_tails", "float32", "tensor_core_3xtf32/64x64"),
    ("tn_tails", "float32", "tensor_core_3xtf32/128x64"),
    ("nt_chunks", "float32", "tensor_core_3xtf32_split_k/128x32"),
}
"""On the emulated device, without --all-cases: every case, every plan, and every way in which operands are loaded."""


def products() -> list[object]:
    """Return params (backend, case, kind, plan)."""
    rows: list[object] = []
    for case, make_spec in TENSOR_CORE_CASES.items():
        for kind in KINDS:
            for plan in harness.plan_names("matmul_forward", make_spec(kind)):
                if on_tensor_cores(plan):
                    marks = [] if (case, kind, plan) in BY_DEFAULT else [pytest.mark.all_cases]
                    row = case, kind, plan
                    rows.append(pytest.param("emulated", *row, id=f"emulated-{'-'.join(row)}", marks=marks))
                    marks = [*marks, pytest.mark.gpu]
                    rows.append(pytest.param("cuda", *row, id=f"cuda-{'-'.join(row)}", marks=marks))
    return rows


def test_the_default_rows_exist_and_reach_every_plan():
    every = {tuple(row.values[1:]) for row in products()}
    assert every >= BY_DEFAULT
    assert {row[0] for row in BY_DEFAULT} == TENSOR_CORE_CASES.keys()
    assert {row[2] for row in BY_DEFAULT if row[2].startswith("tensor_core/")} == {
        row[2] for row in every if row[2].startswith("tensor_core/")
    }


@pytest.mark.parametrize(("backend_name", "case", "kind", "plan"), products())
def test_every_plan_computes_the_definition(backend_of, backend_name, case, kind, plan):
    spec = TENSOR_CORE_CASES[case](kind)
    a, b, bias = arguments(spec)
    got = run(backend_of(backend_name), a, b, bias, spec, plan)
    harness.compare(got, definition(spec, a, b, bias), spec, spec.k)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("tn_chunks", "bfloat16"),
        ("nt_tails", "bfloat16"),
        pytest.param("nn_tails", "float32", marks=pytest.mark.all_cases),
    ],
)
def test_checked_launches_report_nothing(check_backend, case, kind):
    spec = TENSOR_CORE_CASES[case](kind)
    a, b, bias = arguments(spec)
    got = run(check_backend, a, b, bias, spec, plans_of(check_backend, spec)[0])
    harness.compare(got, definition(spec, a, b, bias), spec, spec.k)


@pytest.mark.parametrize(
    ("case", "kind"),
    [("nt_tails", "bfloat16")]
    + [pytest.param(c, k, marks=pytest.mark.all_cases) for c, k in (("tn_tails", "tf32"), ("nn_tails", "float32"))],
)
def test_plans_of_one_summation_agree_bit_for_bit(backend_of, case, kind):
    backend, spec = backend_of("emulated"), TENSOR_CORE_CASES[case](kind)
    a, b, bias = arguments(spec)
    of_summation: dict[str, np.ndarray] = {}
    for plan in backend.launcher.candidates("matmul_forward", spec):
        if on_tensor_cores(plan.algorithm):
            got = run(backend, a, b, bias, spec, plan.name)
            np.testing.assert_array_equal(of_summation.setdefault(plan.summation, got), got, err_msg=plan.name)
    assert len(of_summation) == (4 if kind == "tf32" else 2)


@pytest.mark.parametrize(("n", "k"), [(16, 520), (40, 72)])
def test_rows_do_not_depend_on_their_batch(backend_of, n, k):
    """By the default plan, in chunks and whole."""
    backend, whole = backend_of("emulated"), make_kind(("nt", 80, n, k), "bfloat16")
    a, b, bias = arguments(whole)
    y = run(backend, a, b, bias, whole)
    for m in (1, 17, 64):
        np.testing.assert_array_equal(run(backend, a[:m], b, bias, replace(whole, m=m)), y[:m])


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_nan_and_infinities_reach_their_rows_and_columns_only(backend_of, kind):
    backend, spec = backend_of("emulated"), make("nn", 35, 40, 40, kind)
    a, b, _ = arguments(spec)
    a[3, 5], a[34, 39], b[39, 36] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        y = definition(spec, a, b, None)
    harness.compare(run(backend, a, b, None, spec, plans_of(backend, spec)[0]), y, spec, spec.k)


def test_chunks_are_added_in_order(backend_of):
    """Sums that only this order rounds this way: 2^24 in the first chunk swallows each later chunk's 1."""
    backend, spec = backend_of("emulated"), make_kind(("nn", 1, 8, 1024), "tf32")
    a = np.zeros((1, 1024), np.float32)
    a[0, [0, 300, 600, 900]] = 2.0**24, 1.0, 1.0, 1.0
    b = np.ones((1024, 8), np.float32)
    (plan, *_) = (name for name in plans_of(backend, spec) if name.startswith("tensor_core_split_k"))
    assert (run(backend, a, b, None, spec, plan) == 2.0**24).all()
    assert (run(backend, a[:, ::-1].copy(), b, None, spec, plan) == 2.0**24 + 4).all()


def test_split_operands_keep_the_accuracy_of_float32(backend_of):
    """3xTF32 is no worse than twice the float32 multiply-adds, whose sums the emulated mma cuts off, not rounds."""
    backend, spec = backend_of("emulated"), make("nn", 32, 40, 504, "float32")
    a, b, _ = arguments(spec)
    exact = a.astype(np.float64) @ b.astype(np.float64)

    def error(plan: str) -> float:
        return float(np.sqrt(np.mean((run(backend, a, b, None, spec, plan) - exact) ** 2)))

    assert error("tensor_core_3xtf32/64x64") <= 2 * error("direct")
