// scaled_cast.cu -- an array times a factor in device memory, in another element type.
//
// Computes  y = x * factors[index], multiplied in float (double for a double source) and rounded once more to nearest even
// Layout    y: count elements of SPEC_T; x: of SPEC_SOURCE_T (floating); contiguous, aligned to TUNE_WIDTH elements (at most
//           16 bytes); factors: float
// Compiled  SPEC_*: ScaledCastSpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: index, count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Assumes   index within factors [the caller's]
// Writes    every element of y exactly once
// Cost      traffic of x and y: memory bound
// Tested    tests/operations/test_loss_scale.py
// Source    Micikevicius et al., "Mixed precision training", arXiv:1710.03740
#include "conversion.cuh"
#include "pack.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
scaled_cast_forward_direct(SPEC_T* __restrict__ y, const SPEC_SOURCE_T* __restrict__ x, const float* __restrict__ factors, int index,
                           long long count) {
  const float factor = factors[index];
  map_elements<TUNE_WIDTH>(y, x, count, [factor](SPEC_SOURCE_T v) { return converted<SPEC_T>(widened(v) * factor); });
}
