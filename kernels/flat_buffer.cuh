// flat_buffer.cuh -- the loop of an optimizer step over the trainable elements of a flat buffer.
//
// A flag is one byte for SPEC_PER_FLAG elements: bit 0 trainable, bit 1 decayed. A pack of TUNE_WIDTH elements never crosses
// from one flag to the next, so a thread reads one flag.
//
// The learning rate comes from a table in device memory, so that a captured step follows a schedule: clock is [t, begin, last],
// t the number of this step from 1, begin how many steps were taken when the table began, last its last entry.
#pragma once

#include "common.cuh"
#include "pack.cuh"

static_assert(SPEC_PER_FLAG % TUNE_WIDTH == 0, "a pack has one flag");
constexpr unsigned TRAINABLE = 1u, DECAYED = 2u;

__device__ __forceinline__ SPEC_ACC scheduled_rate(const SPEC_ACC* rates, const int* clock) {
  const int entry = clock[0] - 1 - clock[1], last = clock[2];
  return rates[entry < 0 ? 0 : entry < last ? entry : last];
}

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
