// accumulate.cu -- gradient accumulation.
//
// Computes  target += source
// Layout    target, source: count elements of SPEC_T, contiguous, aligned to TUNE_WIDTH elements (at most 16 bytes)
// Compiled  SPEC_*: ArraySpec;  TUNE_WIDTH: elements a thread, TUNE_BLOCK: threads a block;  run time: count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    every element of target exactly once, after reading it
// Cost      3 arrays of traffic: memory bound
// Tested    tests/operations/test_elementwise.py
#include "pack.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
accumulate_update(GPUCNN_INOUT SPEC_T* __restrict__ target, const SPEC_T* __restrict__ source, long long count) {
  map_pairs<TUNE_WIDTH>(target, target, source, count, [](SPEC_T t, SPEC_T s) { return from_acc<SPEC_T>(to_acc(t) + to_acc(s)); });
}
