// gemm_tile.cuh -- a block's tile of a matrix product, through shared memory: what gemm.cu and linear_backward.cu share.
//
// TileProduct adds left(m, k) * right(k, n) for a thread's part of a tile. An operand is a reader of elements by line (m of
// left, n of right) and term k, with
//   ALONG_K     neighbouring terms (else lines) are neighbours in memory
//   element(line, k) in SPEC_ACC
//   whole()     WIDTH neighbours never straddle the end of a line, and lie where one load reads them; then also
//   Raw         what they are in registers from their load to the end of the multiplication meanwhile: as they are stored,
//               so that nobody waits for them; Raw{} reads as zeros
//   load(line, k) as Raw;  value(raw, i) the i-th in SPEC_ACC
// Every sum starts at 0, adds its terms in order with one multiply_add each and ends with 0 * 0, so that even the sign of a
// sum that is zero does not depend on the tile, nor on the zeros that fill its last k-step.
//
//     b [k][n]             A k-step: the block loads TILE_K terms of its rows and columns to registers while it
//            +--------+    multiplies one of two buffers, then stores them to the other. A thread's rows (and columns)
//            |        |    come in runs of up to 4, a vector load, THREADS_M * RUN_M apart, so that a warp's loads fall in
//          a +--------+    different banks.
//     [k][m] |  tile  |
//            +--------+
//
// Compiled  TUNE_TILE_M x TUNE_TILE_N: a block's part of the result; TUNE_TILE_K: terms in shared memory at a time;
//           TUNE_THREAD_M x TUNE_THREAD_N: a thread's part; TUNE_CHUNK: 0, or the terms a block of a split sum adds
// Source    Volkov & Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008: register tiles over shared memory
#pragma once

#include "common.cuh"
#include "pack.cuh"

constexpr int TILE_M = TUNE_TILE_M, TILE_N = TUNE_TILE_N, TILE_K = TUNE_TILE_K, THREAD_M = TUNE_THREAD_M, THREAD_N = TUNE_THREAD_N;
constexpr int CHUNK = TUNE_CHUNK;
constexpr int THREADS_M = TILE_M / THREAD_M, THREADS_N = TILE_N / THREAD_N, THREADS = THREADS_M * THREADS_N;
constexpr int RUN_M = THREAD_M < 4 ? THREAD_M : 4, RUN_N = THREAD_N < 4 ? THREAD_N : 4;
constexpr int WIDTH = 4, GROUP = TILE_K < 32 ? TILE_K : 32;  // terms whose multiplication is one piece of code
constexpr int PADDING = 16 / sizeof(SPEC_ACC);  // rows of a tile stay 16-byte aligned and start in different banks

static_assert(TILE_M % THREAD_M == 0 && TILE_N % THREAD_N == 0 && THREAD_M % RUN_M == 0 && THREAD_N % RUN_N == 0, "whole runs");
static_assert(TILE_M % 16 == 0 && TILE_N % 16 == 0 && TILE_K % GROUP == 0, "a warp carries 16 lines of two packs");
static_assert(THREADS <= 1024 && TILE_M * TILE_K / WIDTH % THREADS == 0 && TILE_N * TILE_K / WIDTH % THREADS == 0, "threads share the copying evenly");
static_assert(CHUNK >= 0 && CHUNK % TILE_K == 0, "a chunk ends with a k-step");

__device__ __forceinline__ int blocks_along(int size, int tile) { return (size - 1) / tile + 1; }  // size + tile - 1 may overflow

// Two k-steps of both operands, in shared memory.
struct TileBuffers {
  __align__(16) SPEC_ACC a[2][TILE_K][TILE_M + PADDING];
  __align__(16) SPEC_ACC b[2][TILE_K][TILE_N + PADDING];
};

using Neighbours = Pack<SPEC_T, WIDTH>;

// Whether WIDTH elements may be loaded at once from every multiple of WIDTH in each row of a matrix.
__device__ __forceinline__ bool whole_rows(const SPEC_T* matrix, int row_length) {
  return row_length % WIDTH == 0 && reinterpret_cast<unsigned long long>(matrix) % alignof(Neighbours) == 0;
}

// An operand as it is stored, (lines, terms), or (terms, lines) where not ALONG.
template <bool ALONG>
struct StoredOperand {
  static constexpr bool ALONG_K = ALONG;
  using Raw = Neighbours;
  const SPEC_T* __restrict__ matrix;
  int lines, terms;

  __device__ __forceinline__ int place(int line, int k) const { return ALONG ? line * terms + k : k * lines + line; }
  __device__ __forceinline__ SPEC_ACC element(int line, int k) const { return to_acc(matrix[place(line, k)]); }
  __device__ __forceinline__ bool whole() const { return whole_rows(matrix, ALONG ? terms : lines); }
  __device__ __forceinline__ Raw load(int line, int k) const { return load_pack<WIDTH>(matrix + place(line, k)); }
  __device__ __forceinline__ static SPEC_ACC value(const Raw& raw, int i) { return to_acc(raw.values[i]); }
};

// The way of an operand's next k-step to shared memory: TILE lines, TILE_K terms, of which each thread has its share. What
// lies beyond the operand's lines or the chunk is 0.
template <class Operand, int TILE>
struct Carrier {
  static constexpr bool ALONG_K = Operand::ALONG_K;
  static constexpr int COUNT = TILE * TILE_K / WIDTH / THREADS;
  const Operand& operand;
  const int line0, lines, k_end;
  const bool whole;
  typename Operand::Raw raw[COUNT];

  __device__ __forceinline__ Carrier(const Operand& from, int first_line, int all_lines, int last_k)
      : operand(from), line0(first_line), lines(all_lines - first_line), k_end(last_k), whole(from.whole()) {}

  // The first line and term of a thread's i-th pack. A warp takes 16 lines of two packs along k, 32 bytes each, whose
  // transposed stores fall in different banks; or packs along the lines.
  __device__ __forceinline__ static int line(int i) {
    const int e = (int)threadIdx.x + i * THREADS;
    return ALONG_K ? e % 16 + e / 32 % (TILE / 16) * 16 : e % (TILE / WIDTH) * WIDTH;
  }
  __device__ __forceinline__ static int term(int i) {
    const int e = (int)threadIdx.x + i * THREADS;
    return ALONG_K ? (e / 16 % 2 + e / (2 * TILE) * 2) * WIDTH : e / (TILE / WIDTH);
  }

  // Asks for whole packs.
  __device__ __forceinline__ void load(int k0) {
    if (!whole) return;
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      raw[i] = line(i) < lines && term(i) < k_end - k0 ? operand.load(line0 + line(i), k0 + term(i)) : typename Operand::Raw{};
  }

  // Stores the packs, or loads and stores one by one.
  __device__ __forceinline__ void store(SPEC_ACC (&tile)[TILE_K][TILE + PADDING], int k0) const {
    if (whole) {
#pragma unroll
      for (int i = 0; i < COUNT; ++i) {
        Pack<SPEC_ACC, WIDTH> values;
#pragma unroll
        for (int j = 0; j < WIDTH; ++j) {
          values.values[j] = Operand::value(raw[i], j);
          if (ALONG_K) tile[term(i) + j][line(i)] = values.values[j];
        }
        if (!ALONG_K) store_pack_in_shared<WIDTH>(&tile[term(i)][line(i)], values);
      }
    } else {
#pragma unroll 4
      for (int e = (int)threadIdx.x; e < TILE * TILE_K; e += THREADS) {
        const int own_line = ALONG_K ? e / TILE_K : e % TILE, own_term = ALONG_K ? e % TILE_K : e / TILE;
        const bool real = own_line < lines && own_term < k_end - k0;
        tile[own_term][own_line] = real ? operand.element(line0 + own_line, k0 + own_term) : SPEC_ACC(0);
      }
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

    Carrier<Left, TILE_M> carrier_a(left, m0, M, k_end);
    Carrier<Right, TILE_N> carrier_b(right, n0, N, k_end);
    int buffer = 1;
    for (int k = k_begin - TILE_K;; k += TILE_K) {  // the first turn has nothing to multiply, the last one nothing to load
      const int next = k + TILE_K;
      if (next < k_end) {
        carrier_a.load(next);
        carrier_b.load(next);
      }
      if (k >= k_begin) {
        for (int first = 0; first < TILE_K && first < k_end - k; first += GROUP) multiply(buffers, buffer, first);
      }
      if (next >= k_end) break;
      buffer ^= 1;
      carrier_a.store(buffers.a[buffer], next);
      carrier_b.store(buffers.b[buffer], next);
      __syncthreads();  // the next k-step is complete, and nobody reads the one before any more
    }
  }

  // Adds GROUP terms of a buffer, from `first` on.
  __device__ __forceinline__ void multiply(const TileBuffers& buffers, int buffer, int first) {
#pragma unroll
    for (int k = 0; k < GROUP; ++k) {
      SPEC_ACC rows[THREAD_M], columns[THREAD_N];
#pragma unroll
      for (int i = 0; i < THREAD_M; ++i) rows[i] = buffers.a[buffer][first + k][spread<RUN_M, THREADS_M>(thread_m, i)];
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) columns[j] = buffers.b[buffer][first + k][spread<RUN_N, THREADS_N>(thread_n, j)];
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
        if (row < M - m0 && column < N - n0) write(m0 + row, n0 + column, multiply_add(SPEC_ACC(0), SPEC_ACC(0), sum[i][j]));
      }
  }
};
