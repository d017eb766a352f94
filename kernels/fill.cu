// fill.cu -- an array of equal elements.
//
// Computes  y = value
// Layout    y: count elements of SPEC_T (floating or integer), contiguous, aligned to TUNE_WIDTH elements (at most 16 bytes)
// Compiled  SPEC_*: ArraySpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: value, count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    every element of y exactly once
// Cost      traffic of y: memory bound
// Tested    tests/operations/test_elementwise.py
#include "conversion.cuh"
#include "pack.cuh"

constexpr int WIDTH = TUNE_WIDTH;

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
fill_forward_direct(SPEC_T* __restrict__ y, SPEC_ACC value, long long count) {
  const long long first = global_thread() * WIDTH;
  const SPEC_T element = converted<SPEC_T>(value);
  if (first + WIDTH <= count) {
    Pack<SPEC_T, WIDTH> out;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) out.values[i] = element;
    store_pack<WIDTH>(y + first, out);
  } else {
    for (long long i = first; i < count; ++i) y[i] = element;
  }
}
