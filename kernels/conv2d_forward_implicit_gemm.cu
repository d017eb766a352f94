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
#include "conv2d_taps.cuh"
#include "conv2d_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(K, COLUMNS);

typedef TapRow<DILATION_H, DILATION_W, H, W> Window;

struct Operands {
  Carrier<ROWS, VECTOR_C, true> left;
  Carrier<COLUMNS, VECTOR_C, true> right;
  const Window* windows;
  DepthWalk<C, DEPTH> walk;
  unsigned pixel;        // from a window's start; wraps where taps lie far outside
  const SPEC_T* weight;  // of the first filter that this thread carries
  int filters;           // from there on

  __device__ __forceinline__ Operands(const Window* of_rows, const SPEC_T* weights, int first)
      : windows(of_rows),
        walk(left.offset(), S),
        pixel(((unsigned)walk.i * DILATION_H * W + walk.j * DILATION_W) * C + walk.channel),
        weight(weights + ((first + right.line(0)) * FILTER + stored_tap(walk.i, walk.j) * C + walk.channel)),
        filters(K - first - right.line(0)) {}
  __device__ __forceinline__ void fetch() {
    const bool used = FILTER % DEPTH == 0 || walk.i < R;
#pragma unroll
    for (int i = 0; i < left.COUNT; ++i) {
      left.packs[i] = {};
      if (!left.carries(i)) continue;
      const Window window = windows[left.line(i)];
      if (window.meets(walk, R)) left.packs[i] = load_pack<VECTOR_C>(in_global(window.source) + (int)pixel);
    }
#pragma unroll
    for (int i = 0; i < right.COUNT; ++i) {
      right.packs[i] = {};
      // The operator & leaves no branches.
      if (used & right.carries(i) & (K % COLUMNS == 0 || i * right.STEP < filters))
        right.packs[i] = load_pack<VECTOR_C>(weight + i * right.STEP * FILTER);
    }
  }
  __device__ __forceinline__ void advance() {
    pixel += DEPTH;
    weight += DEPTH;
    walk.advance(S, [&](bool next_tap, bool next_row) {
      pixel += (next_tap ? (DILATION_W - 1u) * C : 0) + (next_row ? ((unsigned)DILATION_H * W - S * DILATION_W) * C : 0);
      if (FLIP) weight -= next_tap ? 2 * C : 0;
    });
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_forward_implicit_gemm(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                             const SPEC_T* __restrict__ bias, int N) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  __shared__ Window windows[ROWS];
  const unsigned positions = (unsigned)N * P * Q, first_row = blockIdx.x / COLUMN_TILES * ROWS;
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const WindowStart start = window_start(first_row + row, positions);
    windows[row] = Window::of(x + start.element, start.h, start.w, R, S);
  }
  __syncthreads();

  Operands operands(windows, weight, first_column);
  Sums sums = {};
  multiply(operands, ceil_div(FILTER, DEPTH), left_tiles, right_tiles, sums);

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
