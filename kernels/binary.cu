// binary.cu -- y = activation(a (op) b) with broadcasting.
//
// Computes  y[i0, i1, i2, i3] = activation(a[sum of i_k * a_stride_k] (op) b[sum of i_k * b_stride_k]), op: + - * /; the
//           activation is linear but where a sum of branches has one, see activation.cuh
// Layout    y: count elements of SPEC_T, contiguous, axis 3 innermost; a, b: strides in elements, 0 along broadcast axes. The
//           axes are merged, so a stride of axis 3 is 0 or 1, and where it is 1 the other strides are multiples of extent3.
// Compiled  SPEC_*: BinarySpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: count, extents, strides
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH neighbours of y
// Assumes   TUNE_WIDTH > 1: extent3 is a multiple of it or the only axis, so that a whole pack never crosses a row [plan check]
// Writes    every element of y exactly once
// Cost      one operation an element; traffic of y, a and b: memory bound
// Tested    tests/operations/test_elementwise.py
#include "activation.cuh"
#include "pack.cuh"

constexpr int KIND = SPEC_KIND;
constexpr int WIDTH = TUNE_WIDTH;
static_assert(KIND >= 0 && KIND < 4, "add, subtract, multiply, divide");

__device__ __forceinline__ SPEC_T combine(SPEC_T left, SPEC_T right) {
  const SPEC_ACC a = to_acc(left), b = to_acc(right);
  return from_acc<SPEC_T>(activate(KIND == 0 ? a + b : KIND == 1 ? a - b : KIND == 2 ? a * b : a / b));
}

__device__ __forceinline__ Pack<SPEC_T, WIDTH> load_row(const SPEC_T* x, long long stride) {
  if (stride == 1) return load_pack<WIDTH>(x);
  Pack<SPEC_T, WIDTH> all;
#pragma unroll
  for (int i = 0; i < WIDTH; ++i) all.values[i] = *x;
  return all;
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
binary_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b, long long count,
                      long long extent1, long long extent2, long long extent3,
                      long long a_stride0, long long a_stride1, long long a_stride2, long long a_stride3,
                      long long b_stride0, long long b_stride1, long long b_stride2, long long b_stride3) {
  const long long first = global_thread() * WIDTH;
  if (first >= count) return;
  long long i0, i1, i2, i3;
  if (count <= 0x7fffffffLL) {  // 32-bit divisions are several times cheaper
    unsigned rest = (unsigned)first;
    i3 = rest % (unsigned)extent3;
    rest /= (unsigned)extent3;
    i2 = rest % (unsigned)extent2;
    rest /= (unsigned)extent2;
    i1 = rest % (unsigned)extent1;
    i0 = rest / (unsigned)extent1;
  } else {
    long long rest = first;
    i3 = rest % extent3;
    rest /= extent3;
    i2 = rest % extent2;
    rest /= extent2;
    i1 = rest % extent1;
    i0 = rest / extent1;
  }
  const SPEC_T* left = a + (i0 * a_stride0 + i1 * a_stride1 + i2 * a_stride2 + i3 * a_stride3);
  const SPEC_T* right = b + (i0 * b_stride0 + i1 * b_stride1 + i2 * b_stride2 + i3 * b_stride3);
  if (first + WIDTH <= count) {
    const Pack<SPEC_T, WIDTH> l = load_row(left, a_stride3), r = load_row(right, b_stride3);
    Pack<SPEC_T, WIDTH> out;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) out.values[i] = combine(l.values[i], r.values[i]);
    store_pack<WIDTH>(y + first, out);
  } else {
    for (int i = 0; i < (int)(count - first); ++i) y[first + i] = combine(left[i * a_stride3], right[i * b_stride3]);
  }
}
