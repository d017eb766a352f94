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
#include "conv2d_taps.cuh"
#include "conv2d_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(C, COLUMNS);
#if TUNE_CHUNKS > 1
static_assert(TUNE_CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at the end");
static_assert(MOST_TAPS * K <= TUNE_CHUNKS * TUNE_CHUNK, "chunks cover the depth of every phase");
#endif

typedef TapRow<-RowTaps::OUTPUT_STEP, -ColumnTaps::OUTPUT_STEP, P, Q> Output;

struct Operands {
  static constexpr bool ONE_TAP = K % DEPTH == 0;  // in the depth of a tile
  static constexpr long long TAP = (FLIP ? -C : C) * (long long)ColumnTaps::TAP_STEP;
  static constexpr long long ROW_OF_TAPS = (FLIP ? -C : C) * (long long)S * RowTaps::TAP_STEP;
  Carrier<ROWS, VECTOR_K, true> left;
  Carrier<COLUMNS, VECTOR_C, false> right;
  const Output* outputs;
  RowTaps rows;
  ColumnTaps columns;
  DepthWalk<K, DEPTH> walk;
  unsigned output;       // from what the first tap pairs with a pixel; wraps where taps lie far outside
  const SPEC_T* weight;  // at this thread's channel, of the tile's tap and of this thread's first filter if there is one tap
  int depth;             // of the tile
  bool used;             // this thread's channel

  __device__ __forceinline__ Operands(const Output* of_rows, const SPEC_T* weights, int first, int begin,
                                      const RowTaps& row_taps, const ColumnTaps& column_taps)
      : outputs(of_rows),
        rows(row_taps),
        columns(column_taps),
        walk(begin + left.offset(), columns.count),
        output(walk.channel - ((unsigned)walk.i * rows.OUTPUT_STEP * Q + walk.j * columns.OUTPUT_STEP) * K),
        weight(weights + (first + right.offset())),
        depth(begin),
        used(C % COLUMNS == 0 || first + right.offset() < C) {
    const Tap tap(begin, columns);
    if (ONE_TAP) weight = source(tap.k + right.line(0), tap.i, tap.j);
  }
  __device__ __forceinline__ const SPEC_T* source(int k, int i, int j) const {
    return weight + (k * FILTER + stored_tap(rows.first + i * rows.TAP_STEP, columns.first + j * columns.TAP_STEP) * C);
  }
  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int i = 0; i < left.COUNT; ++i) {
      left.packs[i] = {};
      if (!left.carries(i)) continue;
      const Output row = outputs[left.line(i)];
      if (row.meets(walk, rows.count)) left.packs[i] = load_pack<VECTOR_K>(in_global(row.source) + (int)output);
    }
#pragma unroll
    for (int i = 0; i < right.COUNT; ++i) {
      right.packs[i] = {};
      if (!(used & right.carries(i))) continue;
      if (ONE_TAP) {
        right.packs[i] = load_pack<VECTOR_C>(weight + i * right.STEP * FILTER);
      } else {
        const Tap tap(depth + right.line(i), columns);
        if (tap.i < rows.count) right.packs[i] = load_pack<VECTOR_C>(source(tap.k, tap.i, tap.j));
      }
    }
  }
  __device__ __forceinline__ void advance() {
    output += DEPTH;
    depth += DEPTH;
    if (ONE_TAP) weight += DEPTH * FILTER;
    walk.advance(columns.count, [&](bool next_tap, bool next_row) {
      output -= next_tap ? (columns.OUTPUT_STEP + 1u) * K : 0;
      output += next_row ? ((unsigned)columns.count * columns.OUTPUT_STEP - rows.OUTPUT_STEP * Q) * K : 0;
      if (ONE_TAP) weight += (next_tap ? TAP - K * FILTER : 0) + (next_row ? ROW_OF_TAPS - columns.count * TAP : 0);
    });
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
  __shared__ Output outputs[ROWS];
  const RowTaps row_taps(at.phase_h + PAD_TOP);
  const ColumnTaps column_taps(at.phase_w + PAD_LEFT);
  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const PhasePixel pixel(at.row + row, at.phase_h, at.phase_w);
    const PairedOutput output = paired_output(pixel, row_taps, column_taps, N);
    outputs[row] = Output::of(dy + output.element, output.p, output.q, row_taps.count, column_taps.count);
  }
  __syncthreads();

  Operands operands(outputs, weight, at.column, begin, row_taps, column_taps);
  const int terms = min(end, row_taps.count * column_taps.count * K) - begin;
  multiply(operands, terms > 0 ? ceil_div(terms, DEPTH) : 0, left_tiles, right_tiles, sums);
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
