// batch_norm.cuh -- what the passes of batch normalisation share: which rows of which channels a block has, and its sums.
//
// Layout    rows of channels: (ROWS, CHANNELS), contiguous; workspace (chunks, 2, CHANNELS) in SPEC_ACC
// Compiled  TUNE_BLOCK (BLOCK): threads of a block; TUNE_PER_THREAD: rows a thread has; both fix the rows of a chunk:
//           TUNE_PER_THREAD * BLOCK / columns, where columns is the least power of two that covers CHANNELS, up to 32
// Launch    block (columns, threads along the rows), powers of two; grid column tiles * chunks, tiles first
#pragma once

#include "common.cuh"
#include "mathematics.cuh"

constexpr int BLOCK = TUNE_BLOCK, PER_THREAD = TUNE_PER_THREAD, MAX_THREADS = 1024;

__device__ __forceinline__ int rows_of_a_chunk() { return PER_THREAD * BLOCK / (int)blockDim.x; }

// The channel of a thread, and the chunk of rows of its block.
struct ChunkOfChannels {
  int channel, chunk, begin, end;
  bool inside;

  __device__ __forceinline__ ChunkOfChannels(int rows, int channels) {
    const unsigned tiles = (unsigned)ceil_div(channels, (int)blockDim.x);
    channel = (int)(blockIdx.x % tiles * blockDim.x + threadIdx.x);
    chunk = (int)(blockIdx.x / tiles);
    begin = chunk * rows_of_a_chunk();
    end = rows - begin < rows_of_a_chunk() ? rows : begin + rows_of_a_chunk();
    inside = channel < channels;
  }

  // f(index of an element) for the thread's rows, ascending.
  template <class F>
  __device__ __forceinline__ void each(int channels, F f) const {
    if (!inside) return;
    for (int row = begin + (int)threadIdx.y; row < end; row += (int)blockDim.y) f((long long)row * channels + channel);
  }
};

// The sum of a value over the threads of each column, in all of them: a binary tree. Every thread of the block takes part.
template <int THREADS>
__device__ __forceinline__ SPEC_ACC column_sum(SPEC_ACC value) {
  __shared__ SPEC_ACC partial[THREADS];
  const int here = (int)threadIdx.y * (int)blockDim.x + (int)threadIdx.x;
  __syncthreads();  // an earlier sum has been read
  partial[here] = value;
  __syncthreads();
  for (int half = (int)blockDim.y / 2; half > 0; half /= 2) {
    if ((int)threadIdx.y < half) partial[here] += partial[here + half * (int)blockDim.x];
    __syncthreads();
  }
  return partial[threadIdx.x];
}

__device__ __forceinline__ SPEC_ACC inverse_deviation(SPEC_ACC variance, SPEC_ACC epsilon) {
  return SPEC_ACC(1) / square_root(variance + epsilon);
}
