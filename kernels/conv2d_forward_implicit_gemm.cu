// conv2d_forward_implicit_gemm.cu -- 2-D convolution as a tiled matrix product whose left matrix is read from the
// image.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), x zero outside the image; with FLIP the filter is
//           mirrored. As a product: rows (n,p,q), columns k, depth (r,s,c)
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS; both operands are contiguous along
//           depth; workspace (CHUNKS, N, P, Q, K) of SPEC_ACC
// Compiled  SPEC_*: Conv2dSpec; TUNE_*: see conv2d_tile.cuh; TUNE_CHUNKS: 1, or the chunks of TUNE_CHUNK terms into
//           which split_depth cuts the depth; run time: N
// Launch    implicit_gemm: grid = row tiles * column tiles, columns first, so that blocks that share image rows run
//           together; one block owns ROWS positions x COLUMNS filters
//           implicit_gemm_split_depth: grid = that * chunks, chunks first; a block owns a tile of one chunk's sums;
//           conv2d_split_depth_sum.cu follows
// Assumes   GROUPS = 1; see conv2d_tile.cuh
// Writes    every y once; sums in the order r, s, c, one fused multiply-add each. The padding enters as zeros, which
//           differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C flops, rounded up to whole tiles; each x is read from cache K/COLUMNS * R*S times, the
//           weight once per ROWS positions: bound by arithmetic when K and R*S*C are not small
// Tested    tests/operations/test_conv2d.py, test_conv2d_split_depth.py
// Source    S. Chetlur et al., "cuDNN: efficient primitives for deep learning", arXiv:1410.0759, section 3
#include "activation.cuh"
#include "conv2d_taps.cuh"
#include "conv2d_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(K, COLUMNS);
#if TUNE_CHUNKS > 1
static_assert(TUNE_CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at the end");
static_assert((TUNE_CHUNKS - 1) * TUNE_CHUNK < FILTER && FILTER <= TUNE_CHUNKS * TUNE_CHUNK, "chunks cover the depth");
#endif

typedef TapRow<DILATION_H, DILATION_W, H, W> Window;

struct Operands {
  Carrier<ROWS, VECTOR_C, true> left;
  Carrier<COLUMNS, VECTOR_C, true> right;
  const Window* windows;
  DepthWalk<C, DEPTH> walk;
  unsigned pixel;        // from a window's start; wraps where taps lie far outside
  const SPEC_T* weight;  // of the first filter that this thread carries
  int filters;           // from there on

  __device__ __forceinline__ Operands(const Window* of_rows, const SPEC_T* weights, int first, int begin)
      : windows(of_rows),
        walk(begin + left.offset(), S),
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

// The sums of a tile over the depth from `begin` to `end`.
__device__ __forceinline__ void add_terms(unsigned first_row, int first_column, const SPEC_T* x, const SPEC_T* weight,
                                          unsigned positions, int begin, int end, Sums& sums) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  __shared__ Window windows[ROWS];
  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const WindowStart start = window_start(first_row + row, positions);
    windows[row] = Window::of(x + start.element, start.h, start.w, R, S);
  }
  __syncthreads();

  Operands operands(windows, weight, first_column, begin);
  multiply(operands, ceil_div(end - begin, DEPTH), left_tiles, right_tiles, sums);
}

// y[m][k] = the sums.
template <class T>
__device__ __forceinline__ void store_sums(T* y, const Sums& sums, unsigned first_row, int first_column,
                                           unsigned positions) {
#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; j += VECTOR_K) {
    const int k = first_column + tile_column(j);
    if (k >= K) continue;
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) {
      const unsigned m = first_row + tile_row(i);
      if (m >= positions) continue;
      Pack<T, VECTOR_K> pack;
#pragma unroll
      for (int v = 0; v < VECTOR_K; ++v) pack.values[v] = from_acc<T>(sums[i][j + v]);
      store_pack<VECTOR_K>(y + (long long)m * K + k, pack);
    }
  }
}

#if TUNE_CHUNKS == 1
GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_forward_implicit_gemm(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                             const SPEC_T* __restrict__ bias, int N) {
  const unsigned positions = (unsigned)N * P * Q, first_row = blockIdx.x / COLUMN_TILES * ROWS;
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;
  Sums sums = {};
  add_terms(first_row, first_column, x, weight, positions, 0, FILTER, sums);
#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; ++j) {
    const int k = first_column + tile_column(j);
    const SPEC_ACC offset = SPEC_BIAS && k < K ? to_acc(bias[k]) : SPEC_ACC(0);
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) sums[i][j] = activate(SPEC_BIAS ? sums[i][j] + offset : sums[i][j]);
  }
  store_sums(y, sums, first_row, first_column, positions);
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_forward_implicit_gemm_split_depth(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ x,
                                         const SPEC_T* __restrict__ weight, int N) {
  const unsigned positions = (unsigned)N * P * Q, chunk = blockIdx.x % TUNE_CHUNKS, tile = blockIdx.x / TUNE_CHUNKS;
  const unsigned first_row = tile / COLUMN_TILES * ROWS;
  const int first_column = (int)(tile % COLUMN_TILES) * COLUMNS, begin = (int)chunk * TUNE_CHUNK;
  Sums sums = {};
  add_terms(first_row, first_column, x, weight, positions, begin, min(begin + TUNE_CHUNK, FILTER), sums);
  store_sums(workspace + (long long)chunk * positions * K, sums, first_row, first_column, positions);
}
#endif
