// conv2d_backward_input_implicit_gemm.cu -- gradient of a 2-D convolution's input as tiled matrix products, one for
// each phase of the stride (conv2d_phases.cuh), so that no product with an inserted zero is formed.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], over the taps for which h + PAD_TOP -
//           r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have solutions p, q inside the
//           output; with FLIP the filter is mirrored. As a product: rows (n,h,w) of one phase, columns c, depth
//           (r,s,k) of the phase's taps
// Layout    channels-last, see conv2d.cuh; dy is contiguous along depth, weight along columns; workspace (CHUNKS, N, H,
//           W, C) of SPEC_ACC
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_*: see conv2d_tile.cuh; TUNE_CHUNKS: 1, or the chunks of
//           TUNE_CHUNK terms into which split_depth cuts the depth of every phase; run time: N
// Launch    implicit_gemm: grid = row tiles of a phase * phases * column tiles, columns first; one block owns ROWS
//           pixels x COLUMNS channels
//           implicit_gemm_split_depth: grid = that * chunks, chunks first; a block owns a tile of one chunk's sums,
//           which are zero where its phase is not so deep; conv2d_split_depth_sum.cu follows
// Assumes   GROUPS = 1; see conv2d_tile.cuh
// Writes    every dx once, also where no window reaches; sums in the order r, s, k, one fused multiply-add each.
//           Outputs beyond the border enter as zeros, which differ from taps left out only where a weight is not
//           finite
// Cost      2*N*P*Q*K*R*S*C flops, rounded up to whole tiles in each phase; each dy is read from cache C/COLUMNS *
//           R*S times, the weight once per ROWS pixels: bound by arithmetic when C and K are not small
// Tested    tests/operations/test_conv2d.py, test_conv2d_split_depth.py
// Source    see conv2d_phases.cuh; the product: see conv2d_forward_implicit_gemm.cu
#include "conv2d_phases.cuh"
#include "conv2d_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(C, COLUMNS);
constexpr bool WHOLE = TUNE_CHUNKS == 1;  // where a zero that begins the depth should cost no instruction
#if TUNE_CHUNKS > 1
static_assert(TUNE_CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at the end");
static_assert(MOST_TAPS * K <= TUNE_CHUNKS * TUNE_CHUNK, "chunks cover the depth of every phase");
#endif

struct GradientOperand {
  Carrier<ROWS, VECTOR_K, true> carrier;
  const SPEC_T* dy;
  const PairedOutput* outputs;
  RowTaps rows;
  ColumnTaps columns;
  int begin;  // of the depth

  __device__ __forceinline__ void fetch(int step) {
    const int depth = (WHOLE ? 0 : begin) + step * DEPTH + carrier.offset();
    const Tap tap(depth, columns);
    const int up = tap.i * rows.OUTPUT_STEP, left = tap.j * columns.OUTPUT_STEP;
    const long long shift = tap.k - ((long long)up * Q + left) * K;
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      carrier.packs[i] = {};
      if (tap.i >= rows.count || !carrier.carries(i)) continue;
      const PairedOutput output = outputs[carrier.line(i)];
      if (inside(output.p - up, P) && inside(output.q - left, Q))
        carrier.packs[i] = load_pack<VECTOR_K>(dy + output.element + shift);
    }
  }
};

struct FilterOperand {
  Carrier<COLUMNS, VECTOR_C, false> carrier;
  const SPEC_T* weight;
  RowTaps rows;
  ColumnTaps columns;
  int first, begin;  // channel, of the depth

  __device__ __forceinline__ void fetch(int step) {
    const int c = first + carrier.offset();
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      const Tap tap((WHOLE ? 0 : begin) + step * DEPTH + carrier.line(i), columns);
      carrier.packs[i] = {};
      if (tap.i >= rows.count || !carrier.carries(i) || c >= C) continue;
      const int stored = stored_tap(rows.first + tap.i * rows.TAP_STEP, columns.first + tap.j * columns.TAP_STEP);
      carrier.packs[i] = load_pack<VECTOR_C>(weight + tap.k * FILTER + stored * C + c);
    }
  }
};

// A block's tile: its first row and column, and its phase.
struct TilePlace {
  int column, phase_h, phase_w;
  unsigned row;
  __device__ __forceinline__ explicit TilePlace(unsigned tile) : column((int)(tile % COLUMN_TILES) * COLUMNS) {
    const unsigned phase = tile / COLUMN_TILES % PHASES;
    row = tile / COLUMN_TILES / PHASES * ROWS;
    phase_h = (int)(phase / PHASES_W), phase_w = (int)(phase % PHASES_W);
  }
};

// The sums of a tile over the depth from `begin` to `end`, or to where its phase ends.
__device__ __forceinline__ void add_terms(const TilePlace& at, const SPEC_T* dy, const SPEC_T* weight, int N, int begin,
                                          int end, Sums& sums) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  __shared__ PairedOutput outputs[ROWS];
  const RowTaps row_taps(at.phase_h + PAD_TOP);
  const ColumnTaps column_taps(at.phase_w + PAD_LEFT);
  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const PhasePixel pixel(at.row + row, at.phase_h, at.phase_w);
    outputs[row] = paired_output(pixel, row_taps, column_taps, N);
  }
  __syncthreads();

  GradientOperand gradient{{}, dy, outputs, row_taps, column_taps, begin};
  FilterOperand filters{{}, weight, row_taps, column_taps, at.column, begin};
  const int terms = min(end, row_taps.count * column_taps.count * K) - begin;
  multiply(gradient, filters, terms > 0 ? ceil_div(terms, DEPTH) : 0, left_tiles, right_tiles, sums);
}

// dx = the sums.
template <class T>
__device__ __forceinline__ void store_sums(T* dx, const Sums& sums, const TilePlace& at, int N) {
#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; j += VECTOR_C) {
    const int c = at.column + tile_column(j);
    if (c >= C) continue;
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) {
      const PhasePixel pixel(at.row + tile_row(i), at.phase_h, at.phase_w);
      if (pixel.n >= N || pixel.h >= H || pixel.w >= W) continue;
      Pack<T, VECTOR_C> pack;
#pragma unroll
      for (int v = 0; v < VECTOR_C; ++v) pack.values[v] = from_acc<T>(sums[i][j + v]);
      // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
      store_pack<VECTOR_C>(dx + pixel.n * IMAGE + (unsigned)((pixel.h * W + pixel.w) * C + c), pack);
    }
  }
}

#if TUNE_CHUNKS == 1
GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_backward_input_implicit_gemm(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                    const SPEC_T* __restrict__ weight, int N) {
  const TilePlace at(blockIdx.x);
  Sums sums = {};
  add_terms(at, dy, weight, N, 0, MOST_TAPS * K, sums);
  store_sums(dx, sums, at, N);
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_backward_input_implicit_gemm_split_depth(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                                const SPEC_T* __restrict__ weight, int N) {
  const unsigned chunk = blockIdx.x % TUNE_CHUNKS;
  const int begin = (int)chunk * TUNE_CHUNK;
  const TilePlace at(blockIdx.x / TUNE_CHUNKS);
  Sums sums = {};
  add_terms(at, dy, weight, N, begin, begin + TUNE_CHUNK, sums);
  store_sums(workspace + chunk * (N * IMAGE), sums, at, N);
}
#endif
