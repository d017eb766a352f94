// scalar.cu -- y = x (op) value, the value a kernel argument.
//
// Computes  SPEC_KIND 0: x + value;  1: x * value;  2: value - x;  3: value / x;  4: x to the power of value
// Layout    y, x: count elements of SPEC_T, contiguous, aligned to TUNE_WIDTH elements (at most 16 bytes)
// Compiled  SPEC_*: ScalarSpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: value, count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    every element of y exactly once
// Cost      2 arrays of traffic: memory bound
// Tested    tests/operations/test_elementwise.py
#include "mathematics.cuh"
#include "pack.cuh"

constexpr int KIND = SPEC_KIND;
constexpr int WIDTH = TUNE_WIDTH;
static_assert(KIND >= 0 && KIND < 5, "add, multiply, subtract_from, divide_into, power");

__device__ __forceinline__ SPEC_ACC combine(SPEC_ACC x, SPEC_ACC value) {
  if (KIND == 0) return x + value;
  if (KIND == 1) return x * value;
  if (KIND == 2) return value - x;
  if (KIND == 3) return value / x;
  return power(x, value);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
scalar_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, SPEC_ACC value, long long count) {
  map_elements<WIDTH>(y, x, count, [=](SPEC_T v) { return from_acc<SPEC_T>(combine(to_acc(v), value)); });
}
