// counter.cu -- a counter in device memory, so that a captured step counts.
//
// Computes  counter[index] += increment, wrapping
// Layout    counter: SPEC_T (int or unsigned)
// Compiled  SPEC_*: ArraySpec;  run time: index, increment
// Launch    one thread
// Assumes   index within the array [the caller's]
// Writes    one element, after reading it
// Cost      one addition: launch bound
// Tested    tests/operations/test_random.py
#include "common.cuh"

GPUCNN_KERNEL counter_update(GPUCNN_INOUT SPEC_T* __restrict__ counter, int index, int increment) {
  counter[index] = (SPEC_T)((unsigned)counter[index] + (unsigned)increment);
}
