"""The machine code of the convolutions on CUDA cores, for an H200: multiply-adds of the main loop, warps, spills.

No GPU is needed: NVRTC compiles, NVIDIA's disassembler reads. The bounds are what the kernels have reached, with a
little to spare for another compiler.
"""

from __future__ import annotations

import pytest

from gpucnn import plans
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.devices import nvrtc, sass
from gpucnn.kernel_source import compose
from gpucnn.limits import WARP, limits_of, resident_blocks

LAYERS = {layer.name: layer for layer in CONVOLUTIONS}
C1, C3, C3_224 = "N256 C1 K24 5x5 28²", "N64 C3 K64 3x3 32²", "N32 C3 K64 7x7/2 224²"
C6 = "N64 C6 K16 5x5 14²"
BOUNDS = [
    # operation, layer, algorithm, least share of multiply-adds in the main loop, least resident warps
    ("conv2d_forward", C1, "few_channels", 0.80, 28),
    ("conv2d_forward", C3, "few_channels", 0.80, 32),
    ("conv2d_forward", C3_224, "few_channels", 0.80, 25),
    ("conv2d_backward_input", C1, "few_channels", 0.85, 30),
    ("conv2d_backward_input", C3, "few_channels", 0.85, 32),
    ("conv2d_backward_input", C3_224, "few_channels", 0.88, 14),
    ("conv2d_backward_input", C6, "few_channels", 0.88, 32),
]


@pytest.fixture(autouse=True)
def tools() -> None:
    reason = nvrtc.available() or sass.available()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(("operation", "layer", "algorithm", "share", "warps"), BOUNDS)
def test_main_loops_multiply(operation: str, layer: str, algorithm: str, share: float, warps: int) -> None:
    plan = plans.candidates(operation, LAYERS[layer].spec("float32"), limits_of(90), sass.VECTOR_BYTES)[0]
    assert plan.algorithm == algorithm
    launch = plan.launches[0]
    compiled = nvrtc.compile_module(compose(launch.file, dict(launch.macros)), "sm_90a")
    report = next(report for report in compiled.reports if report.entry == launch.entry)
    code = sass.disassemble(compiled.cubin)[launch.entry]
    assert sass.mix_of(sass.main_loop(code)).product_share >= share
    assert report.spill_stores == report.spill_loads == 0
    shared = report.shared_bytes + launch.shared_bytes
    kept = resident_blocks(90, threads=launch.threads, registers=report.registers, shared_bytes=shared)
    assert kept * -(-launch.threads // WARP) >= warps, report
