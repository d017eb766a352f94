// conv2d_backward_input_tensor_core.cu -- gradient of a 2-D convolution's input as matrix products on tensor cores,
// one for each phase of the stride (conv2d_phases.cuh), so that no product with an inserted zero is formed.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], k over the filters of c's group, over the
//           taps for which h + PAD_TOP - r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have
//           solutions p, q inside the output; with FLIP the filter is mirrored. As products, one for each phase and
//           group: rows (n,h,w) of the phase, columns c, depth (r,s,k) of the phase's taps
// Layout    channels-last, see conv2d.cuh; dy is contiguous along depth, weight along columns; workspace (CHUNKS, N, H,
//           W, C) of SPEC_ACC
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_*: see tensor_core_tile.cuh; TUNE_CHUNKS: 1, or the chunks of
//           TUNE_CHUNK terms into which split_depth cuts the depth of every phase; run time: N
// Launch    tensor_core: grid = row tiles of a phase * phases * groups * column tiles, columns first; one block owns
//           ROWS pixels x COLUMNS channels of a group
//           tensor_core_split_depth: grid = that * chunks, chunks first; a block owns a tile of one chunk's sums, which
//           are zero where its phase is not so deep; conv2d_split_depth_sum.cu follows
// Assumes   C/GROUPS and K/GROUPS multiples of the elements in 16 bytes; arrays aligned to 16 bytes; see
//           tensor_core_tile.cuh
// Writes    every dx once, in 16-byte stores, also where no window reaches; sums in the order r, s, k, see
//           tensor_core_tile.cuh. Outputs beyond the border enter as zeros, which differ from taps left out only where
//           a weight is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles in each phase, three times that with SPLIT; each dy
//           is copied from cache C/COLUMNS * R*S times, the weight once per ROWS pixels: bound by the tensor cores when
//           C and K are not small, else by memory: dy, weight and dx once each
// Tested    tests/operations/test_conv2d_tensor_core.py, test_conv2d_split_depth.py
// Source    see conv2d_phases.cuh; the product: see conv2d_forward_tensor_core.cu
#include "conv2d_phases.cuh"
#include "conv2d_taps.cuh"
#include "tensor_core_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(GROUP_C, COLUMNS);

static_assert(GROUP_C % VECTOR == 0 && GROUP_K % VECTOR == 0, "a chunk lies within one tap, or one filter");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no output and stay within int");
#if TUNE_CHUNKS > 1
static_assert(TUNE_CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at the end");
static_assert(MOST_TAPS * GROUP_K <= TUNE_CHUNKS * TUNE_CHUNK, "chunks cover the depth of every phase");
#endif

typedef TapRow<-RowTaps::OUTPUT_STEP, -ColumnTaps::OUTPUT_STEP, P, Q> Output;

struct Operands {
  typedef OperandTile<ROWS, true> Left;
  typedef OperandTile<COLUMNS, false> Right;
  typedef DepthWalk<GROUP_K, DEPTH> Walk;
  static constexpr bool ONE_TAP = GROUP_K % DEPTH == 0;  // in the depth of a tile
  static constexpr int TAP = (FLIP ? -GROUP_C : GROUP_C) * ColumnTaps::TAP_STEP;
  static constexpr int ROW_OF_TAPS = (FLIP ? -GROUP_C : GROUP_C) * S * RowTaps::TAP_STEP;
  struct Place {
    Walk walk;
    long long output;  // from what the first tap pairs with a pixel
    const SPEC_T* weight;
    int depth;
  };
  const SPEC_T* weight;  // at this thread's channel
  RowTaps rows;
  ColumnTaps columns;
  int begin;  // of the depth
  bool used;  // that channel
  long long output_row, weight_row;  // from behind a row's last tap to the next row's first
  Output outputs[Left::COUNT];

  __device__ __forceinline__ Operands(const Output* of_rows, const SPEC_T* group_weight, int first, int begin,
                                      const RowTaps& row_taps, const ColumnTaps& column_taps)
      : weight(group_weight + first + Right::offset()),
        rows(row_taps),
        columns(column_taps),
        begin(begin),
        used(GROUP_C % COLUMNS == 0 || first + Right::offset() < GROUP_C),
        output_row(((long long)columns.count * columns.OUTPUT_STEP - (long long)rows.OUTPUT_STEP * Q) * K),
        weight_row(ROW_OF_TAPS - columns.count * TAP) {
#pragma unroll
    for (int i = 0; i < Left::COUNT; ++i)
      if (Left::copies(i)) outputs[i] = of_rows[Left::line(i)];
  }
  __device__ __forceinline__ const SPEC_T* source(int k, int i, int j) const {
    const int stored = stored_tap(rows.first + i * rows.TAP_STEP, columns.first + j * columns.TAP_STEP);
    return weight + (long long)k * FILTER + (long long)stored * GROUP_C;
  }
  __device__ __forceinline__ Place first() const {
    const Walk walk(begin + Left::offset(), columns.count);
    const long long up = walk.i * rows.OUTPUT_STEP, left = walk.j * columns.OUTPUT_STEP;
    const Tap tap(begin, columns);
    return {walk, walk.channel - (up * Q + left) * K, source(tap.k + Right::line(0), tap.i, tap.j), begin};
  }
  __device__ __forceinline__ void copy(const Place& place, SPEC_T* left, SPEC_T* right, bool wanted) const {
#pragma unroll
    for (int i = 0; i < Left::COUNT; ++i)
      if (Left::copies(i))
        Left::copy(left, i, outputs[i].source + place.output, outputs[i].meets(place.walk, rows.count), wanted);
#pragma unroll
    for (int i = 0; i < Right::COUNT; ++i)
      if (Right::copies(i)) {
        if (ONE_TAP) {
          Right::copy(right, i, place.weight + (long long)i * Right::STEP * FILTER, used, wanted);
        } else {
          const Tap tap(place.depth + Right::line(i), columns);
          Right::copy(right, i, source(tap.k, tap.i, tap.j), used & (tap.i < rows.count), wanted);
        }
      }
  }
  __device__ __forceinline__ void advance(Place& place) const {
    place.output += DEPTH;
    place.weight += (long long)DEPTH * FILTER;
    place.depth += DEPTH;
    place.walk.advance(columns.count, [&](bool next_tap, bool next_row) {
      place.output += (next_tap ? -GROUP_K - (long long)ColumnTaps::OUTPUT_STEP * K : 0) + (next_row ? output_row : 0);
      place.weight += (next_tap ? TAP - (long long)GROUP_K * FILTER : 0) + (next_row ? weight_row : 0);
    });
  }
};

// A block's tile: its first row and column, its group and its phase.
struct TilePlace {
  int column, group, phase_h, phase_w;
  unsigned row;
  __device__ __forceinline__ explicit TilePlace(unsigned tile)
      : column((int)(tile % COLUMN_TILES) * COLUMNS), group((int)(tile / COLUMN_TILES % GROUPS)) {
    const unsigned product = tile / (COLUMN_TILES * GROUPS), phase = product % PHASES;
    row = product / PHASES * ROWS;
    phase_h = (int)(phase / PHASES_W), phase_w = (int)(phase % PHASES_W);
  }
};

// The sums of a tile over the depth from `begin` to `end`, or to where its phase ends.
__device__ __forceinline__ void add_terms(const TilePlace& at, const SPEC_T* dy, const SPEC_T* weight, int N, int begin,
                                          int end, SPEC_T* tiles, Sums& sums) {
  __shared__ Output outputs[ROWS];
  const RowTaps row_taps(at.phase_h + PAD_TOP);
  const ColumnTaps column_taps(at.phase_w + PAD_LEFT);
  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const PhasePixel pixel(at.row + row, at.phase_h, at.phase_w);
    const PairedOutput output = paired_output(pixel, row_taps, column_taps, N);
    const SPEC_T* const source = dy + (output.element + at.group * GROUP_K);
    outputs[row] = Output::of(source, output.p, output.q, row_taps.count, column_taps.count);
  }
  __syncthreads();

  const SPEC_T* const filters = weight + at.group * GROUP_K * FILTER;
  const Operands operands(outputs, filters, at.column, begin, row_taps, column_taps);
  const int terms = min(end, row_taps.count * column_taps.count * GROUP_K) - begin;
  multiply(operands, terms > 0 ? ceil_div(terms, DEPTH) : 0, tiles, sums);
}

// dx = the sums, in packs of WIDTH.
template <int WIDTH, class T>
__device__ __forceinline__ void store_sums(T* dx, const Sums& sums, const TilePlace& at, int N) {
  for_each_pack<WIDTH, Operands>(sums, [=](int row, int column, const float(&values)[WIDTH]) {
    const PhasePixel pixel(at.row + row, at.phase_h, at.phase_w);
    const int c = at.column + column;
    if (pixel.n >= N || pixel.h >= H || pixel.w >= W || c >= GROUP_C) return;
    Pack<T, WIDTH> pack;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) pack.values[v] = from_acc<T>(values[v]);
    // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
    const unsigned element = (unsigned)((pixel.h * W + pixel.w) * C + at.group * GROUP_C + c);
    store_pack<WIDTH>(dx + pixel.n * IMAGE + element, pack);
  });
}

#if TUNE_CHUNKS == 1
GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_input_tensor_core(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                  const SPEC_T* __restrict__ weight, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const TilePlace at(blockIdx.x);
  Sums sums;
  add_terms(at, dy, weight, N, 0, MOST_TAPS * GROUP_K, tiles, sums);
  store_sums<VECTOR>(dx, sums, at, N);
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_input_tensor_core_split_depth(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                              const SPEC_T* __restrict__ weight, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned chunk = blockIdx.x % TUNE_CHUNKS;
  const int begin = (int)chunk * TUNE_CHUNK;
  const TilePlace at(blockIdx.x / TUNE_CHUNKS);
  Sums sums;
  add_terms(at, dy, weight, N, begin, begin + TUNE_CHUNK, tiles, sums);
  store_sums<4>(workspace + chunk * (N * IMAGE), sums, at, N);
}
#endif
