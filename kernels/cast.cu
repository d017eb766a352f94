// cast.cu -- an array in another element type.
//
// Computes  y = x, rounded once to nearest even
// Layout    y: count elements of SPEC_T; x: of SPEC_SOURCE_T (unsigned char, int or floating); contiguous, aligned to
//           TUNE_WIDTH elements (at most 16 bytes)
// Compiled  SPEC_*: CastSpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    every element of y exactly once
// Cost      traffic of x and y: memory bound
// Tested    tests/operations/test_elementwise.py
// Source    rounding to odd: Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008
#include "conversion.cuh"
#include "pack.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cast_forward_direct(SPEC_T* __restrict__ y, const SPEC_SOURCE_T* __restrict__ x, long long count) {
  map_elements<TUNE_WIDTH>(y, x, count, [](SPEC_SOURCE_T v) { return converted<SPEC_T>(v); });
}
