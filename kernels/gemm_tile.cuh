// gemm_tile.cuh -- a block's tile of a matrix product, through shared memory: what gemm.cu and linear_backward.cu share.
//
// TileProduct adds left(m, k) * right(k, n) for a thread's part of a tile. An operand is a reader: `value(line, k)` is the
// element of line m of left or n of right at term k, in SPEC_ACC, and ALONG_K says that neighbouring terms (else lines) are
// neighbours in memory, so that neighbouring threads read neighbouring elements. Every sum starts at 0 and adds its terms
// in order with one multiply_add each, whatever the tile: TILE_K is the same in all, and 0 * 0 fills the last k-step.
//
//     b [k][n]             A k-step: the block copies TILE_K terms of its rows and columns into the idle one of two
//            +--------+    buffers while it multiplies the other. A thread's rows (and columns) come in runs of 4, a
//            |        |    vector load, THREADS_M * 4 apart, so that a warp's loads fall in different banks.
//          a +--------+
//     [k][m] |  tile  |
//            +--------+
//
// Compiled  TUNE_TILE_M x TUNE_TILE_N: a block's part of the result; TUNE_TILE_K: terms in shared memory at a time;
//           TUNE_THREAD_M x TUNE_THREAD_N: a thread's part; TUNE_CHUNK: 0, or the terms a block of a split sum adds
// Source    Volkov & Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008: register tiles over shared memory
#pragma once

#include "common.cuh"

constexpr int TILE_M = TUNE_TILE_M, TILE_N = TUNE_TILE_N, TILE_K = TUNE_TILE_K, THREAD_M = TUNE_THREAD_M, THREAD_N = TUNE_THREAD_N;
constexpr int CHUNK = TUNE_CHUNK;
constexpr int THREADS_M = TILE_M / THREAD_M, THREADS_N = TILE_N / THREAD_N, THREADS = THREADS_M * THREADS_N;
constexpr int RUN_M = THREAD_M < 4 ? THREAD_M : 4, RUN_N = THREAD_N < 4 ? THREAD_N : 4;
constexpr int PADDING = 16 / sizeof(SPEC_ACC);  // rows of a tile stay 16-byte aligned and start in different banks

static_assert(TILE_M % THREAD_M == 0 && TILE_N % THREAD_N == 0 && THREAD_M % RUN_M == 0 && THREAD_N % RUN_N == 0, "whole runs");
static_assert(THREADS <= 1024 && TILE_M * TILE_K % THREADS == 0 && TILE_N * TILE_K % THREADS == 0, "threads share the copying evenly");
static_assert(CHUNK >= 0 && CHUNK % TILE_K == 0, "a chunk ends with a k-step, so that zero terms are added only at K");

__device__ __forceinline__ int blocks_along(int size, int tile) { return (size - 1) / tile + 1; }  // size + tile - 1 may overflow

// Two k-steps of both operands, in shared memory.
struct TileBuffers {
  __align__(16) SPEC_ACC a[2][TILE_K][TILE_M + PADDING];
  __align__(16) SPEC_ACC b[2][TILE_K][TILE_N + PADDING];
};

// An operand as it is stored, (lines, terms), or (terms, lines) where not ALONG.
template <bool ALONG>
struct StoredOperand {
  static constexpr bool ALONG_K = ALONG;
  const SPEC_T* __restrict__ matrix;
  int lines, terms;

  __device__ __forceinline__ SPEC_ACC value(int line, int k) const {
    return to_acc(matrix[ALONG ? line * terms + k : k * lines + line]);
  }
};

// One thread's share of the next k-step of an operand: TILE lines, TILE_K terms. What lies beyond the operand's lines or
// the chunk is 0.
template <bool ALONG_K, int TILE>
struct Share {
  static constexpr int COUNT = TILE * TILE_K / THREADS;
  SPEC_ACC value[COUNT];

  __device__ __forceinline__ static int line(int e) { return ALONG_K ? e / TILE_K : e % TILE; }
  __device__ __forceinline__ static int term(int e) { return ALONG_K ? e % TILE_K : e / TILE; }

  template <class Operand>
  __device__ __forceinline__ void load(const Operand& operand, int line0, int lines, int k0, int k_end) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int e = (int)threadIdx.x + i * THREADS;
      const bool real = line(e) < lines - line0 && term(e) < k_end - k0;
      value[i] = real ? operand.value(line0 + line(e), k0 + term(e)) : SPEC_ACC(0);
    }
  }

  __device__ __forceinline__ void store(SPEC_ACC (&tile)[TILE_K][TILE + PADDING]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int e = (int)threadIdx.x + i * THREADS;
      tile[term(e)][line(e)] = value[i];
    }
  }
};

// The place within the tile of a thread's i-th row or column.
template <int RUN, int THREADS_ALONG>
__device__ __forceinline__ int spread(int thread, int i) {
  return i / RUN * (THREADS_ALONG * RUN) + thread * RUN + i % RUN;
}

// A thread's part of a tile of the (M, N) product, the terms from k_begin to k_end. All threads of the block construct it.
struct TileProduct {
  SPEC_ACC sum[THREAD_M][THREAD_N];
  int m0, n0, thread_m, thread_n;

  template <class Left, class Right>
  __device__ __forceinline__ TileProduct(TileBuffers& buffers, int tile, const Left& left, const Right& right, int M, int N, int k_begin,
                                         int k_end) {
    const int tiles_n = blocks_along(N, TILE_N);
    m0 = tile / tiles_n * TILE_M;
    n0 = tile % tiles_n * TILE_N;
    thread_m = (int)threadIdx.x / THREADS_N;
    thread_n = (int)threadIdx.x % THREADS_N;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) sum[i][j] = 0;

    Share<Left::ALONG_K, TILE_M> share_a;
    Share<Right::ALONG_K, TILE_N> share_b;
    share_a.load(left, m0, M, k_begin, k_end);
    share_b.load(right, n0, N, k_begin, k_end);
    share_a.store(buffers.a[0]);
    share_b.store(buffers.b[0]);
    __syncthreads();  // the first k-step is complete
    const int steps = blocks_along(k_end - k_begin, TILE_K);
    for (int step = 0; step < steps; ++step) {
      const bool more = step + 1 < steps;
      if (more) {
        share_a.load(left, m0, M, k_begin + (step + 1) * TILE_K, k_end);
        share_b.load(right, n0, N, k_begin + (step + 1) * TILE_K, k_end);
      }
      multiply(buffers.a[step % 2], buffers.b[step % 2]);
      if (more) {
        share_a.store(buffers.a[(step + 1) % 2]);
        share_b.store(buffers.b[(step + 1) % 2]);
      }
      __syncthreads();  // the next k-step is complete, and nobody reads this one any more
    }
  }

  __device__ __forceinline__ void multiply(const SPEC_ACC (&tile_a)[TILE_K][TILE_M + PADDING],
                                           const SPEC_ACC (&tile_b)[TILE_K][TILE_N + PADDING]) {
#pragma unroll
    for (int k = 0; k < TILE_K; ++k) {
      SPEC_ACC rows[THREAD_M], columns[THREAD_N];
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i) rows[i] = tile_a[k][spread<RUN_M, THREADS_M>(thread_m, i)];
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) columns[j] = tile_b[k][spread<RUN_N, THREADS_N>(thread_n, j)];
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N; ++j) sum[i][j] = multiply_add(rows[i], columns[j], sum[i][j]);
    }
  }

  // Calls write(m, n, sum) for the thread's elements that lie in the matrix.
  template <class Write>
  __device__ __forceinline__ void for_each(int M, int N, Write write) const {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) {
        const int row = spread<RUN_M, THREADS_M>(thread_m, i), column = spread<RUN_N, THREADS_N>(thread_n, j);
        if (row < M - m0 && column < N - n0) write(m0 + row, n0 + column, sum[i][j]);
      }
  }
};
