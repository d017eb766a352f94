// gemm.cu -- matrix product with bias and activation, tiled through shared memory.
//
// Computes  y[m,n] = activation(bias[n] + sum over k of op(a)[m,k] * op(b)[k,n])
// Layout    a (M, K), or (K, M) with SPEC_TRANSPOSE_A; b (K, N), or (N, K) with SPEC_TRANSPOSE_B; y (M, N); bias (N) or null;
//           workspace (chunks, M, N) of SPEC_ACC; all C-contiguous
// Compiled  SPEC_*: MatmulSpec; TUNE_TILE_M x TUNE_TILE_N: a block's part of y; TUNE_TILE_K: terms in shared memory at a time;
//           TUNE_THREAD_M x TUNE_THREAD_N: a thread's part; TUNE_CHUNK: 0, or the terms a block of split_k adds, a multiple
//           of TILE_K; run-time: M, N, K
// Launch    direct: grid tiles of y, block (TILE_M/THREAD_M) * (TILE_N/THREAD_N), a block owns a tile of y
//           split_k: grid tiles * chunks, same block, a block owns a tile of one chunk's sums;
//           split_k_sum: grid ceil(M*N / 256), block 256, a thread owns one element of y
//           shared (static) 2 * TILE_K * (TILE_M + TILE_N + padding) SPEC_ACC
// Assumes   a, b and y have less than 2^31 elements each; TILE_* as the static_asserts say
// Writes    every element once. Every sum starts at 0 and adds k = 0, 1, 2, … with one multiply_add each, whatever the tile;
//           split_k does so within chunks of CHUNK terms, split_k_sum adds the chunks in order; then bias, then activation
// Cost      2*M*N*K flops; a read N/TILE_N times, b M/TILE_M times; split_k also writes and reads M*N*ceil(K/CHUNK) sums.
//           Compute-bound for large M, N, K, memory-bound when one of them is small
// Tested    tests/operations/test_matmul.py
// Source    Volkov & Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008: register tiles over shared memory
//
//     tile_b [k][n]        A k-step: the block copies TILE_K terms of its rows and columns into the idle one of two
//            +--------+    buffers while it multiplies the other. A thread's rows (and columns) come in runs of 4, a
//            |        |    vector load, THREADS_M * 4 apart, so that a warp's loads fall in different banks.
//     tile_a +--------+
//     [k][m] | y tile |
//            +--------+
#include "activation.cuh"
#include "common.cuh"

constexpr bool TRANSPOSE_A = SPEC_TRANSPOSE_A, TRANSPOSE_B = SPEC_TRANSPOSE_B, BIAS = SPEC_BIAS;
constexpr int TILE_M = TUNE_TILE_M, TILE_N = TUNE_TILE_N, TILE_K = TUNE_TILE_K, THREAD_M = TUNE_THREAD_M, THREAD_N = TUNE_THREAD_N;
constexpr int CHUNK = TUNE_CHUNK;
constexpr int THREADS_M = TILE_M / THREAD_M, THREADS_N = TILE_N / THREAD_N, THREADS = THREADS_M * THREADS_N;
constexpr int RUN_M = THREAD_M < 4 ? THREAD_M : 4, RUN_N = THREAD_N < 4 ? THREAD_N : 4;
constexpr int PADDING = 16 / sizeof(SPEC_ACC);  // rows of a tile stay 16-byte aligned and start in different banks

static_assert(TILE_M % THREAD_M == 0 && TILE_N % THREAD_N == 0 && THREAD_M % RUN_M == 0 && THREAD_N % RUN_N == 0, "whole runs");
static_assert(THREADS <= 1024 && TILE_M * TILE_K % THREADS == 0 && TILE_N * TILE_K % THREADS == 0, "threads share the copying evenly");
static_assert(CHUNK >= 0 && CHUNK % TILE_K == 0, "a chunk ends with a k-step, so that zero terms are added only at K");

__device__ __forceinline__ int blocks_along(int size, int tile) { return (size - 1) / tile + 1; }  // size + tile - 1 may overflow

// One thread's share of the next k-step of an operand: TILE rows (of op(a)) or columns (of op(b)), TILE_K terms. Neighbouring
// threads read neighbouring elements. What lies beyond the matrix or the chunk is 0.
template <bool ALONG_K, int TILE>
struct Share {
  static constexpr int COUNT = TILE * TILE_K / THREADS;
  SPEC_ACC value[COUNT];

  __device__ __forceinline__ static int line(int e) { return ALONG_K ? e / TILE_K : e % TILE; }
  __device__ __forceinline__ static int term(int e) { return ALONG_K ? e % TILE_K : e / TILE; }

  __device__ __forceinline__ void load(const SPEC_T* __restrict__ matrix, int line0, int lines, int k0, int k_end, int K) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      const int e = (int)threadIdx.x + i * THREADS;
      const bool real = line(e) < lines - line0 && term(e) < k_end - k0;
      value[i] = real ? to_acc(matrix[ALONG_K ? (line0 + line(e)) * K + k0 + term(e) : (k0 + term(e)) * lines + line0 + line(e)]) : SPEC_ACC(0);
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

// A thread's part of a tile of op(a) @ op(b), the terms from k_begin to k_end.
struct TileProduct {
  SPEC_ACC sum[THREAD_M][THREAD_N];
  int m0, n0, thread_m, thread_n;

  __device__ __forceinline__ TileProduct(int tile, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b, int M, int N, int K,
                                         int k_begin, int k_end) {
    __shared__ __align__(16) SPEC_ACC tile_a[2][TILE_K][TILE_M + PADDING];
    __shared__ __align__(16) SPEC_ACC tile_b[2][TILE_K][TILE_N + PADDING];
    const int tiles_n = blocks_along(N, TILE_N);
    m0 = tile / tiles_n * TILE_M;
    n0 = tile % tiles_n * TILE_N;
    thread_m = (int)threadIdx.x / THREADS_N;
    thread_n = (int)threadIdx.x % THREADS_N;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) sum[i][j] = 0;

    Share<!TRANSPOSE_A, TILE_M> share_a;
    Share<TRANSPOSE_B, TILE_N> share_b;
    share_a.load(a, m0, M, k_begin, k_end, K);
    share_b.load(b, n0, N, k_begin, k_end, K);
    share_a.store(tile_a[0]);
    share_b.store(tile_b[0]);
    __syncthreads();  // the first k-step is complete
    const int steps = blocks_along(k_end - k_begin, TILE_K);
    for (int step = 0; step < steps; ++step) {
      const bool more = step + 1 < steps;
      if (more) {
        share_a.load(a, m0, M, k_begin + (step + 1) * TILE_K, k_end, K);
        share_b.load(b, n0, N, k_begin + (step + 1) * TILE_K, k_end, K);
      }
      multiply(tile_a[step % 2], tile_b[step % 2]);
      if (more) {
        share_a.store(tile_a[(step + 1) % 2]);
        share_b.store(tile_b[(step + 1) % 2]);
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

__device__ __forceinline__ SPEC_T finished(SPEC_ACC sum, const SPEC_T* __restrict__ bias, int n) {
  return from_acc<SPEC_T>(activate(BIAS ? sum + to_acc(bias[n]) : sum));
}

#if TUNE_CHUNK == 0
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    matmul_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b,
                          const SPEC_T* __restrict__ bias, int M, int N, int K) {
  const TileProduct product((int)blockIdx.x, a, b, M, N, K, 0, K);
  product.for_each(M, N, [=](int m, int n, SPEC_ACC sum) { y[m * N + n] = finished(sum, bias, n); });
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    matmul_forward_split_k(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b, int M, int N,
                           int K) {
  const int tiles = blocks_along(M, TILE_M) * blocks_along(N, TILE_N);
  const int chunk = (int)blockIdx.x / tiles, k_begin = chunk * CHUNK;
  const int k_end = K - k_begin < CHUNK ? K : k_begin + CHUNK;
  const TileProduct product((int)blockIdx.x % tiles, a, b, M, N, K, k_begin, k_end);
  SPEC_ACC* const sums = workspace + (long long)chunk * M * N;
  product.for_each(M, N, [=](int m, int n, SPEC_ACC sum) { sums[m * N + n] = sum; });
}

GPUCNN_KERNEL __launch_bounds__(256)
    matmul_forward_split_k_sum(SPEC_T* __restrict__ y, const SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ bias, int M,
                               int N, int K) {
  const long long thread = global_thread();
  const int count = M * N;
  if (thread >= count) return;
  const int element = (int)thread, chunks = blocks_along(K, CHUNK);
  SPEC_ACC sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) sum += workspace[(long long)chunk * count + element];
  y[element] = finished(sum, bias, element % N);
}
#endif
