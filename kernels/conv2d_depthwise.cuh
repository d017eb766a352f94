// conv2d_depthwise.cuh -- what the depthwise convolutions share: a filter for each channel, WIDTH neighbouring channels a thread.
//
// Layout    channels-last, see conv2d.cuh; weight (K, R, S, 1)
// Compiled  SPEC_*: Conv2dSpec with GROUPS = C = K; TUNE_WIDTH: channels of a thread, 1 or 16 bytes' worth; TUNE_LANES: threads
//           beside each other along the channels
// Assumes   WIDTH divides C; WIDTH > 1 needs arrays aligned to 16 bytes
#pragma once

#include "conv2d.cuh"
#include "pack.cuh"

constexpr int WIDTH = TUNE_WIDTH, LANES = TUNE_LANES, BLOCK_CHANNELS = WIDTH * LANES;
constexpr int CHANNEL_BLOCKS = ceil_div(C, BLOCK_CHANNELS);

static_assert(GROUPS == C && K == C, "a filter for each channel");
static_assert(C % WIDTH == 0, "a thread's channels end with the pixel");

using Values = Pack<SPEC_T, WIDTH>;
using Sums = Pack<SPEC_ACC, WIDTH>;

__device__ __forceinline__ Sums widened(const Values& values) {
  Sums wide;
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) wide.values[v] = to_acc(values.values[v]);
  return wide;
}

__device__ __forceinline__ Values narrowed(const Sums& sums) {
  Values narrow;
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) narrow.values[v] = from_acc<SPEC_T>(sums.values[v]);
  return narrow;
}

// sums += a * b, channel by channel
__device__ __forceinline__ void accumulate(Sums& sums, const Sums& a, const Sums& b) {
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) sums.values[v] = multiply_add(a.values[v], b.values[v], sums.values[v]);
}

// The taps of a block's channels, turned so that neighbouring channels are neighbours: [R*S][BLOCK_CHANNELS].
__device__ __forceinline__ void load_filters(SPEC_ACC (&filters)[R * S * BLOCK_CHANNELS], const SPEC_T* __restrict__ weight,
                                             int first_channel, int thread, int threads) {
  for (int e = thread; e < R * S * BLOCK_CHANNELS; e += threads) {
    const int tap = e % (R * S), channel = e / (R * S), c = first_channel + channel;
    filters[stored_tap(tap / S, tap % S) * BLOCK_CHANNELS + channel] = c < C ? to_acc(weight[c * R * S + tap]) : SPEC_ACC(0);
  }
}
