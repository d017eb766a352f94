"""Kernels bound by memory move 16 bytes a thread at a time, as often as they must and no more, read off machine code.

No GPU is needed: NVRTC compiles, nvdisasm reads.
"""

from __future__ import annotations

import pytest

from gpucnn.benchmarks import pool
from gpucnn.devices import sass
from gpucnn.limits import limits_of
from gpucnn.plans import candidates
from gpucnn.specs import Pool2dSpec

pytestmark = pytest.mark.usefixtures("disassembler")

ROWS = [(name, spec) for name, spec in pool.specs() if spec.h == 112]


def mix(operation: str, spec: Pool2dSpec) -> sass.Mix:
    (launch,) = candidates(operation, spec, limits_of(90), 16)[0].launches
    return sass.mix_of(sass.entry_of(launch, "sm_90a")[1])


@pytest.mark.parametrize("operation", ["pool2d_forward", "pool2d_backward_input"])
@pytest.mark.parametrize(("name", "spec"), ROWS, ids=[name for name, _ in ROWS])
def test_pooling_moves_16_bytes_at_a_time(name: str, spec: Pool2dSpec, operation: str) -> None:
    found = mix(operation, spec)
    choices = 4 if spec.dtype == "float32" else 8  # bytes of argmax for 16 bytes of y
    assert set(found.widths) == {16, choices} and not found.kinds["local memory"], found
    if spec.r == 2:
        # Forward four pixels and y, backward dy and four pixels: nothing is read or written twice.
        assert found.widths == {16: 5, choices: 1}, found
