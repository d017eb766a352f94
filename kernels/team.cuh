// team.cuh -- threads that work on one row together: a power of two of neighbouring lanes, or a whole block.
//
// Both have `size`, `rank`, and sum(v) and largest(v), which every thread of the team gets and which all threads of the
// warp or block must call. Sums are added in a fixed order: a butterfly over the lanes, then the warps in turn.
#pragma once

template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return b > a ? b : a;  // NaN in b is passed over: the sums that follow propagate it
}

struct LaneTeam {  // blockDim.x lanes, at most 32; the block's size is a multiple of 32
  int size, rank;

  __device__ __forceinline__ LaneTeam() : size((int)blockDim.x), rank((int)threadIdx.x) {}

  template <class T>
  __device__ __forceinline__ T sum(T value) const {
    for (int lanes = size / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
  }

  template <class T>
  __device__ __forceinline__ T largest(T value) const {
    for (int lanes = size / 2; lanes > 0; lanes /= 2) value = larger(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    return value;
  }
};

template <class T, int THREADS>
struct BlockTeam {  // a whole block, whose threads are numbered x first
  static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");
  static constexpr int size = THREADS, WARPS = THREADS / 32;
  int rank;
  T* scratch;  // WARPS elements of shared memory

  __device__ __forceinline__ explicit BlockTeam(T* shared) : rank((int)(threadIdx.y * blockDim.x + threadIdx.x)), scratch(shared) {}

  __device__ __forceinline__ T sum(T value) const {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    share(value);
    T total = scratch[0];
    for (int warp = 1; warp < WARPS; ++warp) total += scratch[warp];
    return total;
  }

  __device__ __forceinline__ T largest(T value) const {
    for (int lanes = 16; lanes > 0; lanes /= 2) value = larger(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    share(value);
    T best = scratch[0];
    for (int warp = 1; warp < WARPS; ++warp) best = larger(best, scratch[warp]);
    return best;
  }

 private:
  __device__ __forceinline__ void share(T value) const {
    __syncthreads();  // the previous result has been read by all
    if (rank % 32 == 0) scratch[rank / 32] = value;
    __syncthreads();
  }
};
