// flat_buffer.cuh -- the loop of an optimizer step over the trainable elements of a flat buffer.
//
// A flag is one byte for SPEC_PER_FLAG elements: bit 0 trainable, bit 1 decayed. A pack of TUNE_WIDTH elements never crosses
// from one flag to the next, so a thread reads one flag.
#pragma once

#include "common.cuh"
#include "pack.cuh"

static_assert(SPEC_PER_FLAG % TUNE_WIDTH == 0, "a pack has one flag");
constexpr unsigned TRAINABLE = 1u, DECAYED = 2u;

template <int N>
struct Width {
  static constexpr int value = N;
};

// step(first, Width<n>, decayed) updates elements first .. first + n - 1.
template <class Step>
__device__ __forceinline__ void update_elements(const unsigned char* flags, long long count, Step step) {
  const long long first = global_thread() * TUNE_WIDTH;
  if (first >= count) return;
  const unsigned flag = flags[first / SPEC_PER_FLAG];
  if (!(flag & TRAINABLE)) return;
  const bool decayed = (flag & DECAYED) != 0u;
  if (first + TUNE_WIDTH <= count) {
    step(first, Width<TUNE_WIDTH>(), decayed);
  } else {
    for (long long i = first; i < count; ++i) step(i, Width<1>(), decayed);
  }
}
