"""The machine code of the convolutions on CUDA cores, for an H200: multiply-adds of the main loop, warps, spills.

No GPU is needed: NVRTC compiles, NVIDIA's disassembler reads. The bounds are what the kernels have reached, with a
little to spare for another compiler; --all-cases reads every row.
"""

from __future__ import annotations

import pytest

from gpucnn import plans
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.devices import sass
from gpucnn.limits import WARP, limits_of, resident_blocks

pytestmark = pytest.mark.usefixtures("disassembler")

LAYERS = {layer.name: layer for layer in CONVOLUTIONS}
C1, C3, C3_224 = "N256 C1 K24 5x5 28²", "N64 C3 K64 3x3 32²", "N32 C3 K64 7x7/2 224²"
C6, C64, C128, C256 = "N64 C6 K16 5x5 14²", "N64 C64 K64 3x3 56²", "N64 C128 K128 3x3 28²", "N64 C256 K256 3x3 14²"
C512, WIDER, NARROWER = "N64 C512 K512 3x3 7²", "N64 C64 K256 1x1 56²", "N64 C256 K64 1x1 56²"
FORWARD, INPUT, WEIGHT = "conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight"
BOUNDS = [
    # operation, layer, plan, least share of multiply-adds in the main loop, least resident warps
    (FORWARD, C1, "few_channels/vector", 0.80, 28),
    (FORWARD, C3, "few_channels/vector", 0.80, 32),
    (FORWARD, C3_224, "few_channels/vector", 0.80, 25),
    (INPUT, C1, "few_channels/vector", 0.85, 30),
    (INPUT, C3, "few_channels/vector", 0.85, 32),
    (INPUT, C3_224, "few_channels/vector", 0.88, 14),
    (INPUT, C6, "few_channels/vector", 0.88, 32),
    (FORWARD, C64, "implicit_gemm/128x64_vector", 0.85, 12),
    (FORWARD, C128, "implicit_gemm/128x128_vector", 0.87, 16),
    (FORWARD, C512, "implicit_gemm/64x64_vector", 0.80, 16),
    (FORWARD, WIDER, "implicit_gemm/128x128_vector", 0.87, 16),
    (INPUT, C64, "implicit_gemm/128x64_vector", 0.85, 12),
    (INPUT, C128, "implicit_gemm/128x128_vector", 0.87, 16),
    (INPUT, C512, "implicit_gemm/64x64_vector", 0.80, 16),
    (WEIGHT, C1, "few_channels", 0.80, 24),
    (WEIGHT, C3, "few_channels", 0.83, 12),
    (WEIGHT, C3_224, "few_channels", 0.81, 14),
    (WEIGHT, C64, "implicit_gemm/64x64_vector", 0.78, 16),
    (WEIGHT, C256, "implicit_gemm/128x128_vector", 0.84, 16),
    (WEIGHT, C512, "implicit_gemm/128x64_vector", 0.85, 12),
    (WEIGHT, NARROWER, "implicit_gemm/64x128_vector", 0.86, 12),
]
BY_DEFAULT = {(FORWARD, C3), (INPUT, C3), (INPUT, C128), (WEIGHT, C256)}


def rows() -> list[object]:
    """Return params, those beyond the default run's under all_cases."""
    return [pytest.param(*row, marks=[] if row[:2] in BY_DEFAULT else [pytest.mark.all_cases]) for row in BOUNDS]


@pytest.mark.parametrize(("operation", "layer", "name", "share", "warps"), rows())
def test_main_loops_multiply(operation: str, layer: str, name: str, share: float, warps: int) -> None:
    plan = plans.candidates(operation, LAYERS[layer].spec("float32"), limits_of(90), sass.VECTOR_BYTES)[0]
    assert plan.name == name
    launch = plan.launches[0]
    report, code = sass.entry_of(launch, "sm_90a")
    assert sass.mix_of(sass.main_loop(code)).product_share >= share
    assert report.spill_stores == report.spill_loads == 0
    shared = report.shared_bytes + launch.shared_bytes
    kept = resident_blocks(90, threads=launch.threads, registers=report.registers, shared_bytes=shared)
    assert kept * -(-launch.threads // WARP) >= warps, report
