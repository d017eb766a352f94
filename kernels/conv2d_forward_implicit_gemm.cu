// conv2d_forward_implicit_gemm.cu -- 2-D convolution as a tiled matrix product whose left matrix is read from the
// image.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), x zero outside the image; with FLIP the filter is
//           mirrored. As a product: rows (n,p,q), columns k, depth (r,s,c)
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS; both operands are contiguous along
//           depth
// Compiled  SPEC_*: Conv2dSpec; TUNE_*: see conv2d_tile.cuh; run time: N
// Launch    grid = row tiles * column tiles, columns first, so that blocks that share image rows run together; one
//           block owns ROWS positions x COLUMNS filters
// Assumes   GROUPS = 1; see conv2d_tile.cuh
// Writes    every y once; sums in the order r, s, c, one fused multiply-add each. The padding enters as zeros, which
//           differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C flops, rounded up to whole tiles; each x is read from cache K/COLUMNS * R*S times, the
//           weight once per ROWS positions: bound by arithmetic when K and R*S*C are not small
// Tested    tests/operations/test_conv2d.py
// Source    S. Chetlur et al., "cuDNN: efficient primitives for deep learning", arXiv:1410.0759, section 3
#include "activation.cuh"
#include "conv2d_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(K, COLUMNS);

struct ImageOperand {
  Carrier<ROWS, VECTOR_C, true> carrier;
  const SPEC_T* x;
  const WindowStart* windows;

  __device__ __forceinline__ void fetch(int step) {
    const int depth = step * DEPTH + carrier.offset(), c = depth % C, tap = depth / C;
    const int down = tap / S * DILATION_H, across = tap % S * DILATION_W;
    const long long shift = ((long long)down * W + across) * C + c;
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      carrier.packs[i] = {};
      if (depth >= FILTER || !carrier.carries(i)) continue;
      const WindowStart window = windows[carrier.line(i)];
      if (inside(window.h + down, H) && inside(window.w + across, W))
        carrier.packs[i] = load_pack<VECTOR_C>(x + window.element + shift);
    }
  }
};

struct FilterOperand {
  Carrier<COLUMNS, VECTOR_C, true> carrier;
  const SPEC_T* weight;
  int first;

  __device__ __forceinline__ void fetch(int step) {
    const int depth = step * DEPTH + carrier.offset(), c = depth % C, tap = depth / C;
    const int element = stored_tap(tap / S, tap % S) * C + c;
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      const int k = first + carrier.line(i);
      carrier.packs[i] = {};
      if (depth < FILTER && carrier.carries(i) && k < K)
        carrier.packs[i] = load_pack<VECTOR_C>(weight + k * FILTER + element);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_forward_implicit_gemm(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                             const SPEC_T* __restrict__ bias, int N) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  __shared__ WindowStart windows[ROWS];
  const unsigned positions = (unsigned)N * P * Q, first_row = blockIdx.x / COLUMN_TILES * ROWS;
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) windows[row] = window_start(first_row + row, positions);
  __syncthreads();

  ImageOperand image{{}, x, windows};
  FilterOperand filters{{}, weight, first_column};
  Sums sums = {};
  multiply(image, filters, ceil_div(FILTER, DEPTH), left_tiles, right_tiles, sums);

#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; j += VECTOR_K) {
    const int k = first_column + tile_column(j);
    if (k >= K) continue;
    SPEC_ACC offsets[VECTOR_K] = {};
#pragma unroll
    for (int v = 0; v < VECTOR_K; ++v) {
      if (SPEC_BIAS) offsets[v] = to_acc(bias[k + v]);
    }
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) {
      const unsigned m = first_row + tile_row(i);
      if (m >= positions) continue;
      Pack<SPEC_T, VECTOR_K> pack;
#pragma unroll
      for (int v = 0; v < VECTOR_K; ++v) {
        const SPEC_ACC sum = sums[i][j + v];
        pack.values[v] = from_acc<SPEC_T>(activate(SPEC_BIAS ? sum + offsets[v] : sum));
      }
      store_pack<VECTOR_K>(y + (long long)m * K + k, pack);
    }
  }
}
