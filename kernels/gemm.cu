// gemm.cu -- matrix product with bias and activation, tiled through shared memory.
//
// Computes  y[m,n] = activation(bias[n] + sum over k of op(a)[m,k] * op(b)[k,n])
// Layout    a (M, K), or (K, M) with SPEC_TRANSPOSE_A; b (K, N), or (N, K) with SPEC_TRANSPOSE_B; y (M, N); bias (N) or null;
//           workspace (chunks, M, N) of SPEC_ACC; all C-contiguous
// Compiled  SPEC_*: MatmulSpec; TUNE_*: gemm_tile.cuh; run-time: M, N, K
// Launch    direct: grid tiles of y, block (TILE_M/THREAD_M) * (TILE_N/THREAD_N), a block owns a tile of y
//           split_k: grid tiles * chunks, same block, a block owns a tile of one chunk's sums;
//           split_k_sum: grid ceil(M*N / 256), block 256, a thread owns one element of y
//           shared (static) 2 * TILE_K * (TILE_M + TILE_N + padding) SPEC_ACC
// Assumes   a, b and y have less than 2^31 elements each; TILE_* as the static_asserts say
// Writes    every element once. Every sum starts at 0 and adds k = 0, 1, 2, … with one multiply_add each, then 0 * 0, whatever the tile;
//           split_k does so within chunks of CHUNK terms, split_k_sum adds the chunks in order; then bias, then activation
// Cost      2*M*N*K flops; a read N/TILE_N times, b M/TILE_M times; split_k also writes and reads M*N*ceil(K/CHUNK) sums.
//           Compute-bound for large M, N, K, memory-bound when one of them is small
// Tested    tests/operations/test_matmul.py
// Source    see gemm_tile.cuh
#include "activation.cuh"
#include "common.cuh"
#include "gemm_tile.cuh"

constexpr bool BIAS = SPEC_BIAS;
using Left = StoredOperand<!SPEC_TRANSPOSE_A>;
using Right = StoredOperand<SPEC_TRANSPOSE_B>;

__device__ __forceinline__ SPEC_T finished(SPEC_ACC sum, const SPEC_T* __restrict__ bias, int n) {
  return from_acc<SPEC_T>(activate(BIAS ? sum + to_acc(bias[n]) : sum));
}

#if TUNE_CHUNK == 0
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    matmul_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b,
                          const SPEC_T* __restrict__ bias, int M, int N, int K) {
  __shared__ TileBuffers buffers;
  const TileProduct product(buffers, (int)blockIdx.x, Left{a, M, K}, Right{b, N, K}, M, N, 0, K);
  product.for_each(M, N, [=](int m, int n, SPEC_ACC sum) { y[m * N + n] = finished(sum, bias, n); });
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    matmul_forward_split_k(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b, int M, int N,
                           int K) {
  __shared__ TileBuffers buffers;
  const int tiles = blocks_along(M, TILE_M) * blocks_along(N, TILE_N);
  const int chunk = (int)blockIdx.x / tiles, k_begin = chunk * CHUNK;
  const int k_end = K - k_begin < CHUNK ? K : k_begin + CHUNK;
  const TileProduct product(buffers, (int)blockIdx.x % tiles, Left{a, M, K}, Right{b, N, K}, M, N, k_begin, k_end);
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
