// random.cuh -- Philox4x32-10: four 32-bit random words from a 128-bit counter and a 64-bit key, without state.
//
// Source    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; known answers of Random123 in
//           tests/operations/test_random.py
#pragma once

#include "common.cuh"

__device__ __forceinline__ uint4 philox_round(uint4 counter, uint2 key) {
  const unsigned low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
  const unsigned low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
  return make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
}

__device__ __forceinline__ uint4 philox4x32(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    counter = philox_round(counter, key);
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}
