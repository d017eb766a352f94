"""mma.cuh: fragments as the PTX ISA lays them out, ldmatrix, cp.async, and how tensor cores round."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpucnn import kernel_source
from gpucnn.devices import nvrtc
from gpucnn.devices.emulated import EmulatedModule
from gpucnn.errors import KernelError
from gpucnn.limits import CAPABILITIES

MMA = (kernel_source.kernel_directory() / "mma.cuh").read_text()

TEXT = r"""
__device__ void store_accumulators(float* d, const float (&f)[4]) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  d[g * 8 + 2 * t] = f[0];
  d[g * 8 + 2 * t + 1] = f[1];
  d[(g + 8) * 8 + 2 * t] = f[2];
  d[(g + 8) * 8 + 2 * t + 1] = f[3];
}
__device__ void load_accumulators(float (&f)[4], const float* c) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  f[0] = c[g * 8 + 2 * t];
  f[1] = c[g * 8 + 2 * t + 1];
  f[2] = c[(g + 8) * 8 + 2 * t];
  f[3] = c[(g + 8) * 8 + 2 * t + 1];
}
__device__ unsigned pair(const unsigned short* low, const unsigned short* high) { return *low | (unsigned)*high << 16; }

extern "C" __global__ void multiply_tf32(float* d, const float* a, const float* b, const float* c) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const unsigned* A = reinterpret_cast<const unsigned*>(a);
  const unsigned* B = reinterpret_cast<const unsigned*>(b);
  const unsigned fa[4] = {A[g * 8 + t], A[(g + 8) * 8 + t], A[g * 8 + t + 4], A[(g + 8) * 8 + t + 4]};
  const unsigned fb[2] = {B[t * 8 + g], B[(t + 4) * 8 + g]};
  float f[4];
  load_accumulators(f, c);
  mma_m16n8k8_tf32(f, fa, fb);
  store_accumulators(d, f);
}
extern "C" __global__ void multiply_16_bits(float* d, const unsigned short* a, const unsigned short* b, const float* c,
                                            int bfloat) {
  const int g = threadIdx.x / 4, t = 2 * (threadIdx.x % 4);
  const unsigned short* upper = &a[g * 16 + t];
  const unsigned short* lower = &a[(g + 8) * 16 + t];
  const unsigned fa[4] = {pair(upper, upper + 1), pair(lower, lower + 1), pair(upper + 8, upper + 9),
                          pair(lower + 8, lower + 9)};
  const unsigned fb[2] = {pair(&b[t * 8 + g], &b[(t + 1) * 8 + g]), pair(&b[(t + 8) * 8 + g], &b[(t + 9) * 8 + g])};
  float f[4];
  load_accumulators(f, c);
  if (bfloat) {
    mma_m16n8k16_bf16(f, fa, fb);
  } else {
    mma_m16n8k16_f16(f, fa, fb);
  }
  store_accumulators(d, f);
}
#ifndef WITHOUT_ASSEMBLY
extern "C" __global__ void multiply_from_shared(float* d, const unsigned short* a, const unsigned short* b) {
  __shared__ __align__(16) unsigned short tile_a[16 * 16];
  __shared__ __align__(16) unsigned short tile_b[16 * 8];
  const int lane = threadIdx.x;
  cp_async_16(&tile_a[8 * lane], &a[8 * lane], true);
  cp_async_8(&tile_b[4 * lane], &b[4 * lane], true);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  unsigned fa[4], fb[2];
  ldmatrix_x4(fa, &tile_a[lane % 16 * 16 + lane / 16 * 8]);
  ldmatrix_x2_trans(fb, &tile_b[lane % 16 * 8]);
  float f[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_m16n8k16_f16(f, fa, fb);
  store_accumulators(d, f);
}
extern "C" __global__ void load_matrices(unsigned* y, const unsigned short* x) {
  __shared__ __align__(16) unsigned short tile[32 * 8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) tile[i] = x[i];
  __syncthreads();
  unsigned four[4], two[2];
  ldmatrix_x4(four, &tile[8 * lane]);
  for (int i = 0; i < 4; ++i) y[i * 32 + lane] = four[i];
  ldmatrix_x4_trans(four, &tile[8 * lane]);
  for (int i = 0; i < 4; ++i) y[(4 + i) * 32 + lane] = four[i];
  ldmatrix_x2(two, &tile[8 * (lane % 16)]);
  for (int i = 0; i < 2; ++i) y[(8 + i) * 32 + lane] = two[i];
  ldmatrix_x2_trans(two, &tile[8 * (lane % 16)]);
  for (int i = 0; i < 2; ++i) y[(10 + i) * 32 + lane] = two[i];
}
extern "C" __global__ void round_to_tf32(float* y, const float* x) {
  y[threadIdx.x] = __uint_as_float(to_tf32(x[threadIdx.x]));
}
extern "C" __global__ void copies(float* y, const float* x, int n) {
  __shared__ __align__(16) float tile[3][128];
  const int t = threadIdx.x;
  cp_async_16(&tile[0][4 * t], &x[4 * t], 4 * t < n);
  cp_async_commit();
  for (int i = 0; i < 2; ++i) cp_async_8(&tile[1][4 * t + 2 * i], x + 4 * t + 2 * i, 4 * t + 2 * i < n);
  cp_async_commit();
  for (int i = 0; i < 4; ++i) cp_async_4(&tile[2][4 * t + i], 4 * t + i < n ? x + 4 * t + i : nullptr, 4 * t + i < n);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[4 * t + i] = tile[0][127 - 4 * t - i];
  for (int i = 0; i < 4; ++i) y[128 + 4 * t + i] = tile[1][127 - 4 * t - i];
  cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[256 + 4 * t + i] = tile[2][127 - 4 * t - i];
}
extern "C" __global__ void copy_misaligned(float* y, const float* x) {
  __shared__ __align__(16) float tile[8];
  cp_async_16(&tile[0], &x[1], true);
  cp_async_wait<0>();
  y[0] = tile[0];
}
extern "C" __global__ void copy_from_outside(float* y, const float* x, int n) {
  __shared__ __align__(16) float tile[4];
  cp_async_16(&tile[0], &x[n], true);  // HERE
  cp_async_commit();
  cp_async_wait<0>();
  y[0] = tile[0];
}
extern "C" __global__ void matrix_from_nowhere(unsigned* y) {
  unsigned f[2];
  ldmatrix_x2(f, (const void*)0x100000);
  y[threadIdx.x] = f[0];
}
extern "C" __global__ void half_a_warp(float* d) {
  const unsigned a[4] = {}, b[2] = {};
  float f[4] = {};
  mma_m16n8k8_tf32(f, a, b);
  d[threadIdx.x] = f[0];
}
#endif
"""


@functools.cache
def module(build: str) -> EmulatedModule:
    return EmulatedModule(f'#line 1 "mma.cuh"\n{MMA}\n#line 1 "mma_test.cu"\n{TEXT}', build=build, name="mma_test.cu")


@functools.cache
def turing_module() -> EmulatedModule:
    """The branch for sm_75 GPUs, whose tf32 and bf16 products are shuffles: they run here once the lane is known."""
    read_lane = 'asm("mov.u32 %0, %%laneid;" : "=r"(lane));'
    assert read_lane in MMA
    text = MMA.replace(read_lane, "lane = threadIdx.x % 32;").replace("GPUCNN_EMULATED", "NOT_THIS_BRANCH")
    kernels = TEXT.replace("mma_m16n8k16_f16(f, fa, fb);", "")
    return EmulatedModule(f"#define WITHOUT_ASSEMBLY\n{text}\n{kernels}", architecture=75, name="mma_sm75.cu")


@pytest.fixture(params=["fast", "check"])
def run(request: pytest.FixtureRequest) -> Any:
    def launch(entry: str, *arguments: Any, block: int = 32, **options: Any) -> None:
        module(request.param).kernel(entry)((1,), (block,), arguments, **options)

    return launch


def whole_numbers(*shape: int) -> np.ndarray:
    """Return numbers whose products and sums are exact in every type."""
    return np.random.default_rng(sum(shape)).integers(-8, 9, shape).astype("f4")


def test_tf32_product_and_its_truncated_operands(run: Any) -> None:
    a, b, c, d = whole_numbers(16, 8), whole_numbers(8, 8), whole_numbers(16, 8), np.zeros((16, 8), "f4")
    run("multiply_tf32", d, a, b, c)
    assert (d == a @ b + c).all()
    noise = np.float32(1 + 2.0**-11)  # the lowest kept bit of tf32 is 2^-10
    run("multiply_tf32", d, a * noise, b, c)
    assert (d == a @ b + c).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_products(run: Any, dtype: str) -> None:
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    a, b, c, d = whole_numbers(16, 16), whole_numbers(16, 8), whole_numbers(16, 8), np.zeros((16, 8), "f4")
    bits = [v.astype(kind).view("u2") for v in (a, b)]
    run("multiply_16_bits", d, *bits, c, np.int32(dtype == "bfloat16"))
    assert (d == a @ b + c).all()


def test_sm_75_branch_computes_the_same() -> None:
    c, d = whole_numbers(16, 8), np.zeros((16, 8), "f4")
    a, b = whole_numbers(16, 8), whole_numbers(8, 8)
    turing_module().kernel("multiply_tf32")((1,), (32,), (d, a * np.float32(1 + 2.0**-11), b, c))
    assert (d == a @ b + c).all()
    a, b = whole_numbers(16, 16), whole_numbers(16, 8)
    bits = [v.astype(ml_dtypes.bfloat16).view("u2") for v in (a, b)]
    turing_module().kernel("multiply_16_bits")((1,), (32,), (d, *bits, c, np.int32(1)))
    assert (d == a @ b + c).all()


def test_pipeline_of_copies_and_ldmatrix(run: Any) -> None:
    a, b, d = whole_numbers(16, 16), whole_numbers(16, 8), np.zeros((16, 8), "f4")
    run("multiply_from_shared", d, a.astype("f2").view("u2"), b.astype("f2").view("u2"))
    assert (d == a @ b).all()


def test_ldmatrix(run: Any) -> None:
    x = np.arange(256, dtype="u2")
    y = np.zeros((12, 32), "u4")
    run("load_matrices", y, x)
    matrices, lane = x.reshape(4, 8, 8), np.arange(32)
    g, t = lane // 4, lane % 4

    def fragment(m: np.ndarray) -> np.ndarray:
        return m[g, 2 * t] + m[g, 2 * t + 1].astype("u4") * 65536

    plain, transposed = [fragment(m) for m in matrices], [fragment(m.T) for m in matrices]
    assert (y == np.array([*plain, *transposed, *plain[:2], *transposed[:2]])).all()


def test_rounding_to_tf32(run: Any) -> None:
    x = np.concatenate(
        [np.random.default_rng(0).standard_normal(60), [np.inf, -np.inf, 1 + 2.0**-11, 1 + 3 * 2.0**-11]]
    )
    x, y = x.astype("f4"), np.zeros(64, "f4")
    run("round_to_tf32", y, x, block=64)
    finite = np.isfinite(x)
    scale = 2.0 ** (10 - np.floor(np.log2(np.abs(x[finite].astype("f8")))))
    exact = x[finite] * scale
    assert (y[finite] == np.round(exact) / scale).all()  # halfway cases to even
    assert (y[~finite] == x[~finite]).all()


def test_copies_fill_with_zeros(run: Any) -> None:
    x, y = np.arange(1, 129, dtype="f4"), np.zeros((3, 128), "f4")
    run("copies", y, x[:72], np.int32(72))
    expected = np.where(np.arange(128) < 72, x, 0)[::-1]
    assert (y == expected).all()


def test_copy_from_a_misaligned_address_is_refused(run: Any) -> None:
    with pytest.raises(KernelError, match="misaligned at mma_test.cu:.*cp.async of 16 bytes from an address % 16 = 4"):
        run("copy_misaligned", np.zeros(1, "f4"), np.zeros(8, "f4"), block=1)


def test_copies_and_loads_from_outside_name_the_kernel_line(run: Any) -> None:
    line = TEXT.splitlines().index("  cp_async_16(&tile[0], &x[n], true);  // HERE") + 1
    with pytest.raises(KernelError, match=rf"(out-of-bounds|memory-fault) at mma_test.cu:{line}:.*argument 'x' \+ 128"):
        run("copy_from_outside", np.zeros(1, "f4"), np.zeros(32, "f4"), np.int32(32), block=1)
    with pytest.raises(KernelError, match="(out-of-bounds|memory-fault) at mma_test.cu:"):
        run("matrix_from_nowhere", np.zeros(32, "u4"))


def test_matrix_operations_need_a_full_warp(run: Any) -> None:
    with pytest.raises(KernelError, match="warp-mask.*a matrix operation needs a warp of 32 threads"):
        run("half_a_warp", np.zeros(16, "f4"), block=16)


def truncated(exact: float) -> np.float32:
    nearest = np.float32(exact)
    return np.nextafter(nearest, np.float32(0)) if abs(float(nearest)) > abs(exact) else nearest


@pytest.mark.parametrize("kind", ["tf32", "float16"])
def test_accumulation_toward_zero(run: Any, kind: str) -> None:
    rng = np.random.default_rng(7)
    depth, group = (8, 4) if kind == "tf32" else (16, 8)
    a, b = (
        rng.standard_normal((16, depth)).astype("f2").astype("f4"),
        rng.standard_normal((depth, 8)).astype("f2").astype("f4"),
    )
    c, nearest, cut = rng.standard_normal((16, 8)).astype("f4"), np.zeros((16, 8), "f4"), np.zeros((16, 8), "f4")
    for result, toward_zero in ((nearest, False), (cut, True)):
        if kind == "tf32":
            run("multiply_tf32", result, a, b, c, mma_round_toward_zero=toward_zero)
        else:
            bits = [v.astype("f2").view("u2") for v in (a, b)]
            run("multiply_16_bits", result, *bits, c, np.int32(0), mma_round_toward_zero=toward_zero)
    exact = a.astype("f8") @ b + c
    np.testing.assert_allclose(nearest, exact, atol=4e-6)
    expected = c.copy()
    for i in range(16):
        for j in range(8):
            for k in range(0, depth, group):
                expected[i, j] = truncated(
                    float(expected[i, j]) + float(a[i, k : k + group].astype("f8") @ b[k : k + group, j])
                )
    assert (cut == expected).all()
    assert (cut != nearest).any()


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_ptx_branch_compiles(capability: int) -> None:
    reason = nvrtc.available()
    if reason is not None:
        pytest.skip(reason)
    cubin, log = nvrtc.load().compile(f"{MMA}\n{TEXT}", "mma_test.cu", f"sm_{capability}")
    assert cubin is not None and "error" not in log, log
