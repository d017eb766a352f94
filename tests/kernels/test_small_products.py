"""The machine code of the dense layers' kernels, for an H200: how many instructions a multiply-add costs.

No GPU is needed: NVRTC compiles, NVIDIA's disassembler reads. The bounds are what the kernels have reached, with a
twentieth to spare for another compiler.
"""

from __future__ import annotations

import pytest

from gpucnn import plans
from gpucnn.devices import nvrtc, sass
from gpucnn.kernel_source import compose
from gpucnn.limits import limits_of
from gpucnn.specs import LinearCrossEntropySpec, LinearSpec, MatmulSpec, Spec

FORWARD = MatmulSpec(128, 120, 400, False, True, True, "relu", 0.0, "float32")
LAST = LinearCrossEntropySpec(256, 10, 256, True, "float32")
ROWS = [
    # operation, Spec, instructions of the main loop for each multiply-add: LeNet-5's and the MNIST record's layers
    ("matmul_forward", FORWARD, 1.64),
    ("linear_backward_operands", LinearSpec.of(FORWARD, of_input=True, of_weight=True), 1.64),
    ("linear_cross_entropy_forward", LAST, 1.58),
    ("linear_cross_entropy_update", LAST, 1.58),
]


@pytest.fixture(autouse=True)
def tools() -> None:
    reason = nvrtc.available() or sass.available()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(("operation", "spec", "most"), ROWS, ids=[operation for operation, *_ in ROWS])
def test_inner_loops_of_few_sums_multiply(operation: str, spec: Spec, most: float) -> None:
    first = plans.candidates(operation, spec, limits_of(90), 16)[0].launches[0]
    compiled = nvrtc.compile_module(compose(first.file, dict(first.macros)), "sm_90a")
    code = sass.disassemble(compiled.cubin)[first.entry]
    loop = sass.mix_of(sass.main_loop(code))
    assert loop.total <= most * loop.kinds["multiply-add"], loop
    assert not sass.mix_of(code).kinds["local memory"]
    assert loop.kinds["global load"] == loop.kinds["barrier"] == 0
    # 16 bytes at a time from global memory, where rows begin on them
    assert sass.VECTOR_BYTES in sass.mix_of(code).widths
