// flat_buffer.cuh -- the loop of an optimizer step over the trainable elements of a flat buffer, and the count of the steps.
//
// A flag is one byte for SPEC_PER_FLAG elements: bit 0 trainable, bit 1 decayed. A pack of TUNE_WIDTH elements never crosses
// from one flag to the next, so a thread reads one flag. The steps are counted once for every SPEC_PER_COUNT elements: all
// counts are equal, and a block that moves its own on waits for no other.
//
// The learning rate comes from a table in device memory, so that a captured step follows a schedule: schedule is [begin, last],
// begin how many steps were taken when the table began, last its last entry.
#pragma once

#include "common.cuh"
#include "pack.cuh"

static_assert(SPEC_PER_FLAG % TUNE_WIDTH == 0, "a pack has one flag");
static_assert(TUNE_BLOCK == SPEC_PER_COUNT, "a block has TUNE_WIDTH counts of its own");
constexpr unsigned TRAINABLE = 1u, DECAYED = 2u;

// The rate of step t, counted from 1.
__device__ __forceinline__ SPEC_ACC scheduled_rate(const SPEC_ACC* rates, const int* schedule, int t) {
  const int entry = t - 1 - schedule[0], last = schedule[1];
  return rates[entry < 0 ? 0 : entry < last ? entry : last];
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// The number of this step, from 1; the block's counts move on to it. Every thread of the block calls it once, before others
// return.
__device__ __forceinline__ int count_step(int* steps, long long count) {
  const int own = (int)blockIdx.x * TUNE_WIDTH, number = steps[own] + 1;
  __syncthreads();  // all have read
  const long long mine = own + (int)threadIdx.x;
  if (threadIdx.x < TUNE_WIDTH && mine * SPEC_PER_COUNT < count) steps[mine] = number;
  return number;
}

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
