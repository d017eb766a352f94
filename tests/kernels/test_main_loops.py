"""The machine code of the tensor-core convolutions' main loops, for an H200: what an mma costs in other instructions.

No GPU is needed: NVRTC compiles, NVIDIA's disassembler reads. The bounds are what the kernels have reached, with a
twentieth to spare for another compiler; --all-cases reads every dense row of the benchmark's layer table.
"""

from __future__ import annotations

import pytest

from gpucnn import plans
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.devices import sass
from gpucnn.limits import limits_of

pytestmark = pytest.mark.usefixtures("disassembler")

DENSE = {layer.name: layer for layer in CONVOLUTIONS if layer.kind == "dense"}
BOUNDS = {
    # instructions of the loop for each mma, by the first plans of all dense rows
    ("conv2d_forward", "bfloat16"): 2.5,
    ("conv2d_backward_input", "bfloat16"): 2.8,
    ("conv2d_backward_weight", "bfloat16"): 5.0,
    ("conv2d_forward", "tf32"): 3.6,
    ("conv2d_backward_input", "tf32"): 4.3,
    ("conv2d_backward_weight", "tf32"): 7.5,
    ("conv2d_forward", "float32"): 5.0,
    ("conv2d_backward_input", "float32"): 5.0,
    ("conv2d_backward_weight", "float32"): 5.3,
}
BY_DEFAULT = {
    ("conv2d_forward", "bfloat16", "N64 C128 K128 3x3 28²"),
    ("conv2d_backward_input", "bfloat16", "N64 C64 K128 3x3/2 56²"),
    ("conv2d_backward_weight", "bfloat16", "N64 C64 K64 3x3 56²"),
    ("conv2d_backward_weight", "tf32", "N64 C128 K128 3x3 28²"),
    ("conv2d_forward", "float32", "N64 C64 K64 3x3 56²"),
}


def rows() -> list[object]:
    """Return params (operation, kind, layer)."""
    every = [(operation, kind, layer) for operation, kind in BOUNDS for layer in DENSE]
    assert set(every) >= BY_DEFAULT
    return [pytest.param(*row, marks=[] if row in BY_DEFAULT else [pytest.mark.all_cases]) for row in every]


@pytest.mark.parametrize(("operation", "kind", "layer"), rows())
def test_main_loops_multiply(operation: str, kind: str, layer: str) -> None:
    spec = DENSE[layer].spec(*(("float32", "tf32") if kind == "tf32" else (kind, "float32")))
    algorithm = "tensor_core_3xtf32" if kind == "float32" else "tensor_core"
    found = plans.candidates(operation, spec, limits_of(90), 16)
    first = next(plan for plan in found if plan.algorithm == algorithm).launches[0]
    loop = sass.mix_of(sass.main_loop(sass.entry_of(first, "sm_90a")[1]))
    assert loop.kinds["tensor"] >= 32 and loop.kinds["multiply-add"] == 0
    assert loop.total <= BOUNDS[operation, kind] * loop.kinds["tensor"], loop
    # A loop of fewer steps than there are stages copies nothing.
    assert set(loop.widths) <= {sass.VECTOR_BYTES} and loop.kinds["local memory"] == 0, loop
    assert loop.kinds["global load"] == loop.kinds["global store"] == 0
    assert loop.kinds["branch"] == 1
