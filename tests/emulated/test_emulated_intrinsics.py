"""What kernels may call: warp operations, atomics, integer and maths functions, vector and 16-bit types."""

from __future__ import annotations

import functools
from math import erf
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpucnn.devices.emulated import EmulatedModule

BUILDS = ("fast", "check")

TEXT = r"""
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define GPUCNN_INOUT

extern "C" __global__ void shuffles(float* y, const float* x, int width) {
  const int t = threadIdx.x;
  const float v = x[t];
  y[t] = __shfl_sync(0xffffffffu, v, 5, width);
  y[32 + t] = __shfl_up_sync(0xffffffffu, v, 3, width);
  y[64 + t] = __shfl_down_sync(0xffffffffu, v, 3, width);
  y[96 + t] = __shfl_xor_sync(0xffffffffu, v, 6, width);
}
extern "C" __global__ void shuffle_double(double* y, const double* x) {
  y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}
extern "C" __global__ void shuffle_from_outside_the_mask(float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}
extern "C" __global__ void votes(unsigned* y, const int* x) {
  const int t = threadIdx.x;
  y[128 + t] = __activemask();  // first, while every lane is there
  y[t] = __ballot_sync(0xffffffffu, x[t] > 3);
  y[32 + t] = __any_sync(0xffffffffu, x[t] > 30);
  y[64 + t] = __all_sync(0xffffffffu, x[t] >= 0);
  y[96 + t] = __match_any_sync(0xffffffffu, x[t] / 8);
}
extern "C" __global__ void reductions(int* y, const int* x) {
  const int t = threadIdx.x;
  y[t] = __reduce_add_sync(0xffffffffu, x[t]);
  y[32 + t] = __reduce_min_sync(0xffffffffu, x[t]);
  y[64 + t] = __reduce_max_sync(0xffffffffu, x[t]);
  y[96 + t] = (int)__reduce_xor_sync(0xffffffffu, (unsigned)x[t]);
}
extern "C" __global__ void half_warps(float* y, const float* x) {
  const unsigned mask = threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u;
  float v = x[threadIdx.x];
  if (threadIdx.x < 16) {
    for (int d = 8; d > 0; d /= 2) v += __shfl_xor_sync(mask, v, d);
  } else {
    for (int d = 8; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(mask, v, d));
  }
  y[threadIdx.x] = v;
}
extern "C" __global__ void short_warp(float* y) {
  y[threadIdx.x] = __shfl_sync(0xffffffffu, (float)threadIdx.x, 4) + (__all_sync(0xffffffffu, 1) ? 100.0f : 0.0f);
}
extern "C" __global__ void block_votes(int* y, const int* x) {
  const int t = threadIdx.x, n = blockDim.x;
  y[t] = __syncthreads_count(x[t] > 3);
  y[n + t] = __syncthreads_and(x[t] > 3);
  y[2 * n + t] = __syncthreads_or(x[t] > 3);
}
extern "C" __global__ void indices(int* y) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const dim3 copy = blockDim;
  y[block * copy.x * copy.y * copy.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void atomics(GPUCNN_INOUT int* i, GPUCNN_INOUT unsigned* u, GPUCNN_INOUT unsigned long long* l,
                                   GPUCNN_INOUT float* f, GPUCNN_INOUT double* d) {
  const int k = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&i[0], k); atomicSub(&i[1], 1); atomicMin(&i[2], -k); atomicMax(&i[3], k);
  atomicAnd(&u[0], ~(1u << (k % 32))); atomicOr(&u[1], 1u << (k % 32)); atomicXor(&u[2], (unsigned)k);
  atomicInc(&u[3], 9u); atomicDec(&u[4], 9u); atomicExch(&u[5], 7u);
  atomicAdd(&l[0], 1ull << 33); atomicMax(&l[1], (unsigned long long)k << 40);
  atomicAdd(&f[0], 0.5f); atomicAdd(&d[0], 0.25);
  int seen = i[4], expected;
  do { expected = seen; seen = atomicCAS(&i[4], expected, expected + 2); } while (seen != expected);
}
extern "C" __global__ void integers(int* y, const int* x, const int* z) {
  const int t = threadIdx.x, n = blockDim.x, a = x[t], b = z[t];
  y[t] = __popc(a); y[n + t] = __clz(a); y[2 * n + t] = __ffs(a); y[3 * n + t] = (int)__brev(a);
  y[4 * n + t] = __mulhi(a, b); y[5 * n + t] = (int)__umulhi(a, b); y[6 * n + t] = __mul24(a, b);
  y[7 * n + t] = (int)__byte_perm(a, b, 0x5140); y[8 * n + t] = (int)__funnelshift_l(a, b, 7);
  y[9 * n + t] = min(a, b); y[10 * n + t] = max(a, b); y[11 * n + t] = __dp4a(a, b, 3); y[12 * n + t] = abs(a / 2);
}
extern "C" __global__ void to_integers(int* y, const float* x) {
  const int t = threadIdx.x, n = blockDim.x;
  y[t] = __float2int_rn(x[t]); y[n + t] = __float2int_rz(x[t]); y[2 * n + t] = __float2int_ru(x[t]);
  y[3 * n + t] = __float2int_rd(x[t]);
}
extern "C" __global__ void mathematics(float* y, const float* x) {
  const int t = threadIdx.x, n = blockDim.x;
  const float v = x[t];
  y[t] = expf(v); y[n + t] = __logf(v); y[2 * n + t] = tanh(v); y[3 * n + t] = rsqrtf(v); y[4 * n + t] = erff(v);
  y[5 * n + t] = pow(v, 1.5f); y[6 * n + t] = fmaf(v, v, 1.0f); y[7 * n + t] = log1pf(v); y[8 * n + t] = __saturatef(v);
  y[9 * n + t] = max(v, 2.0f); y[10 * n + t] = floorf(v) + ceilf(v); y[11 * n + t] = isnan(v) ? 1.0f : 0.0f;
}
extern "C" __global__ void exact_products(float* y, const float* a, const float* b, const float* c) {
  const int t = threadIdx.x;
  y[t] = __fadd_rn(__fmul_rn(a[t], b[t]), c[t]);
}
extern "C" __global__ void vectors(float4* y, const float4* x, const float2* z, uchar4* b) {
  const int t = threadIdx.x;
  const float4 v = x[t];
  const float2 w = z[t];
  y[t] = make_float4(v.w, v.z + w.x, v.y, v.x + w.y);
  b[t] = make_uchar4(t, t + 1, t + 2, 255);
  static_assert(sizeof(float3) == 12 && alignof(float3) == 4 && alignof(float4) == 16 && alignof(double2) == 16, "");
  static_assert(alignof(short4) == 8 && alignof(longlong2) == 16 && sizeof(int3) == 12, "");
}
extern "C" __global__ void halves(__half* y, const __half* x, const float* f) {
  __shared__ __half line[64];
  const int t = threadIdx.x;
  line[t] = x[t] + __float2half(f[t]);
  __syncthreads();
  y[t] = __hfma(__half(2.0f), line[63 - t], __half(1.0f));
}
extern "C" __global__ void half_pairs(__half2* y, const __half2* x) {
  const float2 v = __half22float2(x[threadIdx.x]);
  y[threadIdx.x] = __hadd2(__floats2half2_rn(v.y, v.x), __float2half2_rn(1.0f));
}
extern "C" __global__ void bfloats(__nv_bfloat16* y, const __nv_bfloat16* x) {
  y[threadIdx.x] = __hmul(x[threadIdx.x], __float2bfloat16(1.5f));
}
extern "C" __global__ void to_16_bits(unsigned short* half, unsigned short* bfloat, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  half[i] = __half_as_ushort(__float2half(x[i]));
  bfloat[i] = __bfloat16_as_ushort(__float2bfloat16(x[i]));
}
extern "C" __global__ void from_16_bits(float* half, float* bfloat, const __half* x, const __nv_bfloat16* z) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  half[i] = x[i];
  bfloat[i] = z[i];
}
extern "C" __global__ void dynamic_memory(double* y, const double* x) {
  extern __shared__ __align__(16) unsigned char raw[];
  double* line = reinterpret_cast<double*>(raw);
  line[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = line[blockDim.x - 1 - threadIdx.x];
}
template <class T>
__device__ T reversed_in_block(T v) {
  __shared__ T line[64];
  line[threadIdx.x] = v;
  __syncthreads();
  return line[63 - threadIdx.x];
}
extern "C" __global__ void templates(float* y, double* z) {
  y[threadIdx.x] = reversed_in_block((float)threadIdx.x);
  z[threadIdx.x] = reversed_in_block((double)threadIdx.x);
}
__constant__ float table[4] = {1.0f, 2.0f, 4.0f, 8.0f};
extern "C" __global__ void constants(float* y) { y[threadIdx.x] = table[threadIdx.x % 4]; }
struct Sizes { int rows, columns; float scale; };
extern "C" __global__ void structure(float* y, const Sizes sizes) {
  y[threadIdx.x] = sizes.scale * (sizes.rows * 10 + sizes.columns);
}
extern "C" __global__ void __launch_bounds__(64) bounded(float* y) { y[threadIdx.x] = 1.0f; }
"""


@functools.cache
def module(build: str) -> EmulatedModule:
    return EmulatedModule(TEXT, build=build, name="intrinsics.cu")


@pytest.fixture(params=BUILDS)
def run(request: pytest.FixtureRequest) -> Any:
    """Launch a kernel of this file in both builds."""

    def launch(entry: str, grid: Any, block: Any, *arguments: Any, shared: int = 0, **options: Any) -> None:
        module(request.param).kernel(entry)(grid, block, arguments, shared, **options)

    return launch


@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(run: Any, width: int) -> None:
    x, y = np.arange(32, dtype="f4"), np.zeros((4, 32), "f4")
    run("shuffles", (1,), (32,), y, x, np.int32(width))
    lane = np.arange(32)
    first = lane & ~(width - 1)
    assert (y[0] == first + 5).all()
    assert (y[1] == np.where(lane - 3 < first, lane, lane - 3)).all()
    assert (y[2] == np.where(lane + 3 >= first + width, lane, lane + 3)).all()
    assert (y[3] == (lane ^ 6)).all()


def test_shuffle_of_doubles_and_lanes_outside_the_mask(run: Any) -> None:
    x, y = np.random.default_rng(0).standard_normal(32), np.zeros(32)
    run("shuffle_double", (1,), (32,), y, x)
    assert (y == x[np.arange(32) ^ 1]).all()
    z = np.zeros(16, "f4")
    run("shuffle_from_outside_the_mask", (1,), (32,), z)
    assert np.isnan(z).all()  # undefined on a GPU, so poison here


def test_votes_and_reductions(run: Any) -> None:
    x = np.random.default_rng(1).permutation(32).astype("i4")
    y = np.zeros((5, 32), "u4")
    run("votes", (1,), (32,), y, x)
    assert (y[0] == sum(1 << i for i in range(32) if x[i] > 3)).all()
    assert (y[1] == 1).all() and (y[2] == 1).all() and (y[4] == 0xFFFFFFFF).all()
    assert (y[3] == [sum(1 << i for i in range(32) if x[i] // 8 == v // 8) for v in x]).all()
    z, signed = np.zeros((4, 32), "i4"), x - 16
    run("reductions", (1,), (32,), z, signed)
    expected = [signed.sum(), signed.min(), signed.max(), np.bitwise_xor.reduce(signed)]
    assert (z == np.array(expected)[:, None]).all()


def test_masks_of_parts_and_warps_of_fewer_threads(run: Any) -> None:
    x, y = np.arange(32, dtype="f4"), np.zeros(32, "f4")
    run("half_warps", (1,), (32,), y, x)
    assert (y[:16] == x[:16].sum()).all() and (y[16:] == 31).all()
    z = np.zeros(48, "f4")
    run("short_warp", (1,), (48,), z)
    assert (z[:32] == 104).all() and (z[32:] == 136).all()


def test_block_votes(run: Any) -> None:
    x, y = np.arange(40, dtype="i4"), np.zeros((3, 40), "i4")
    run("block_votes", (1,), (40,), y, x)
    assert (y[0] == 36).all() and (y[1] == 0).all() and (y[2] == 1).all()


@pytest.mark.parametrize("order", ["forward", "reversed", "random"])
def test_indices(run: Any, order: str) -> None:
    y = np.zeros(24 * 30, "i4")
    run("indices", (2, 3, 4), (5, 3, 2), y, order=order, seed=5)
    assert (y.reshape(24, 30) == 1000 * np.arange(24)[:, None] + np.arange(30)).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_atomics(run: Any, workers: int) -> None:
    i, u = np.zeros(5, "i4"), np.array([0xFFFFFFFF, 0, 0, 0, 0, 0], "u4")
    l, f, d = np.zeros(2, "u8"), np.zeros(1, "f4"), np.zeros(1)  # noqa: E741
    n = 4 * 64
    run("atomics", (4,), (64,), i, u, l, f, d, workers=workers, ignore={"race-global"})  # i[4] is also read plainly
    assert i.tolist() == [n * (n - 1) // 2, -n, -(n - 1), n - 1, 2 * n]
    assert u.tolist() == [0, 0xFFFFFFFF, int(np.bitwise_xor.reduce(np.arange(n))), n % 10, (-n) % 10, 7]
    assert l.tolist() == [n << 33, (n - 1) << 40]
    assert f[0] == n / 2 and d[0] == n / 4


def test_integer_functions(run: Any) -> None:
    rng = np.random.default_rng(2)
    x, z = (rng.integers(-(2**31), 2**31, 64).astype("i4") for _ in range(2))
    x[0], x[1] = 0, -1
    y = np.zeros((13, 64), "i4")
    run("integers", (1,), (64,), y, x, z)
    a, b = (v.astype(object) for v in (x, z))
    ua, ub = a & 0xFFFFFFFF, b & 0xFFFFFFFF
    bits = [f"{v:032b}" for v in ua]
    assert y[0].tolist() == [v.count("1") for v in bits]
    assert y[1].tolist() == [len(v) - len(v.lstrip("0")) for v in bits]
    assert y[2].tolist() == [v[::-1].find("1") + 1 for v in bits]
    assert y[3].view("u4").tolist() == [int(v[::-1], 2) for v in bits]
    assert y[4].tolist() == list((a * b) >> 32)
    assert y[5].view("u4").tolist() == list((ua * ub) >> 32)
    low24 = (
        [((int(v) & 0xFFFFFF) ^ 0x800000) - 0x800000 for v in a],
        [((int(v) & 0xFFFFFF) ^ 0x800000) - 0x800000 for v in b],
    )
    assert y[6].view("u4").tolist() == [(p * q) & 0xFFFFFFFF for p, q in zip(*low24, strict=True)]
    both = ub * 2**32 + ua
    byte = [[int(v) >> (8 * k) & 0xFF for k in range(8)] for v in both]
    assert y[7].view("u4").tolist() == [v[0] | v[4] << 8 | v[1] << 16 | v[5] << 24 for v in byte]
    assert y[8].view("u4").tolist() == [(int(v) << 7 >> 32) & 0xFFFFFFFF for v in both]
    assert (y[9] == np.minimum(x, z)).all() and (y[10] == np.maximum(x, z)).all()
    assert (y[11] == 3 + (x.view("i1").reshape(-1, 4).astype("i4") * z.view("i1").reshape(-1, 4)).sum(1)).all()


def test_conversions_to_integers_saturate(run: Any) -> None:
    x = np.array([0.5, 1.5, -0.5, -1.5, 2.7, -2.7, 1e20, -1e20, np.nan, np.inf], "f4")
    y = np.zeros((4, x.size), "i4")
    run("to_integers", (1,), (x.size,), y, x)
    most, least = 2**31 - 1, -(2**31)
    assert y[0].tolist() == [0, 2, 0, -2, 3, -3, most, least, 0, most]
    assert y[1].tolist() == [0, 1, 0, -1, 2, -2, most, least, 0, most]
    assert y[2].tolist() == [1, 2, 0, -1, 3, -2, most, least, 0, most]
    assert y[3].tolist() == [0, 1, -1, -2, 2, -3, most, least, 0, most]


def test_mathematics(run: Any) -> None:
    x = np.linspace(0.1, 3.0, 64, dtype="f4")
    y = np.zeros((12, 64), "f4")
    run("mathematics", (1,), (64,), y, x)
    v = x.astype("f8")
    expected = [np.exp(v), np.log(v), np.tanh(v), v**-0.5, [erf(q) for q in v], v**1.5, v * v + 1, np.log1p(v)]
    expected += [np.clip(v, 0, 1), np.maximum(v, 2), np.floor(v) + np.ceil(v), np.zeros(64)]
    np.testing.assert_allclose(y, np.array(expected), rtol=3e-7, atol=1e-7)


def test_exact_products_are_not_fused(run: Any) -> None:
    rng = np.random.default_rng(3)
    a, b, c = (rng.standard_normal(256).astype("f4") for _ in range(3))
    y = np.zeros(256, "f4")
    run("exact_products", (1,), (256,), y, a, b, c)
    assert (y == a * b + c).all()


def test_vector_types(run: Any) -> None:
    x, z = np.arange(32, dtype="f4"), np.arange(16, dtype="f4")
    y, b = np.zeros(32, "f4"), np.zeros(32, "u1")
    run("vectors", (1,), (8,), y, x, z, b)
    v, w = x.reshape(8, 4), z.reshape(8, 2)
    assert (y.reshape(8, 4) == np.stack([v[:, 3], v[:, 2] + w[:, 0], v[:, 1], v[:, 0] + w[:, 1]], 1)).all()
    assert (b.reshape(8, 4)[:, 0] == np.arange(8)).all() and (b[3::4] == 255).all()


def test_half_and_bfloat_arithmetic(run: Any) -> None:
    rng = np.random.default_rng(4)
    x, f, y = rng.standard_normal(64).astype("f2"), rng.standard_normal(64).astype("f4"), np.zeros(64, "f2")
    run("halves", (1,), (64,), y, x, f)
    total = (x.astype("f4") + f.astype("f2").astype("f4")).astype("f2")
    assert (y == (2 * total[::-1].astype("f8") + 1).astype("f2")).all()
    z = np.zeros(64, "f2")
    run("half_pairs", (1,), (32,), z, x)
    assert (z.reshape(32, 2) == x.reshape(32, 2)[:, ::-1] + np.float16(1)).all()
    p, q = x.astype(ml_dtypes.bfloat16), np.zeros(64, ml_dtypes.bfloat16)
    run("bfloats", (1,), (64,), q, p)
    assert (q == (p.astype("f4") * np.float32(1.5)).astype(ml_dtypes.bfloat16)).all()


def test_conversions_of_16_bit_types_are_exact() -> None:
    rng = np.random.default_rng(5)
    anything = rng.integers(0, 2**32, 20000, dtype="u4").view("f4")
    near = (rng.standard_normal(20000) * 10.0 ** rng.uniform(-9, 6, 20000)).astype("f4")
    edges = np.array([0.0, -0.0, 65504, 65519.996, 65520, 6e-8, 2.98e-8, 2.9802322e-8, 6.1e-5, np.inf, -np.inf], "f4")
    x = np.concatenate([anything[~np.isnan(anything)], near, edges])
    half, bfloat = np.zeros(x.size, "u2"), np.zeros(x.size, "u2")
    kernel = module("fast").kernel("to_16_bits")
    kernel((-(-x.size // 256),), (256,), (half, bfloat, x, np.int32(x.size)))
    with np.errstate(over="ignore"):
        assert (half == x.astype("f2").view("u2")).all()
        assert (bfloat == x.astype(ml_dtypes.bfloat16).view("u2")).all()
    bits = np.arange(65536, dtype="u2")
    a, b = np.zeros(65536, "f4"), np.zeros(65536, "f4")
    halves, bfloats = bits.view("f2"), bits.view(ml_dtypes.bfloat16)
    module("fast").kernel("from_16_bits")((256,), (256,), (a, b, halves, bfloats))
    np.testing.assert_array_equal(a, halves.astype("f4"))
    np.testing.assert_array_equal(b, bfloats.astype("f4"))


def test_memory_spaces_and_parameters(run: Any) -> None:
    x, y = np.arange(64.0), np.zeros(64)
    run("dynamic_memory", (1,), (64,), y, x, shared=512)
    assert (y == x[::-1]).all()
    a, b = np.zeros(64, "f4"), np.zeros(64)
    run("templates", (1,), (64,), a, b)
    assert (a == x[::-1]).all() and (b == x[::-1]).all()
    run("constants", (1,), (64,), a)
    assert (a == np.tile([1, 2, 4, 8], 16)).all()
    sizes = np.array([(3, 4, 0.5)], dtype="i4,i4,f4")
    run("structure", (1,), (64,), a, sizes.tobytes())
    assert (a == 17).all()
    run("structure", (1,), (64,), a, sizes[0])
    run("bounded", (1,), (64,), a)
    assert (a == 1).all()
