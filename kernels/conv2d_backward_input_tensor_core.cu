// conv2d_backward_input_tensor_core.cu -- gradient of a 2-D convolution's input as matrix products on tensor cores,
// one for each phase of the stride (conv2d_phases.cuh), so that no product with an inserted zero is formed.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], k over the filters of c's group, over the
//           taps for which h + PAD_TOP - r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have
//           solutions p, q inside the output; with FLIP the filter is mirrored. As products, one for each phase and
//           group: rows (n,h,w) of the phase, columns c, depth (r,s,k) of the phase's taps
// Layout    channels-last, see conv2d.cuh; dy is contiguous along depth, weight along columns
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_*: see tensor_core_tile.cuh; run time: N
// Launch    grid = row tiles of a phase * phases * groups * column tiles, columns first; one block owns ROWS pixels x
//           COLUMNS channels of a group
// Assumes   C/GROUPS and K/GROUPS multiples of the elements in 16 bytes; arrays aligned to 16 bytes; see
//           tensor_core_tile.cuh
// Writes    every dx once, in 16-byte stores, also where no window reaches; sums in the order r, s, k, see
//           tensor_core_tile.cuh. Outputs beyond the border enter as zeros, which differ from taps left out only where
//           a weight is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles in each phase, three times that with SPLIT; each dy
//           is copied from cache C/COLUMNS * R*S times, the weight once per ROWS pixels: bound by the tensor cores when
//           C and K are not small, else by memory: dy, weight and dx once each
// Tested    tests/operations/test_conv2d_tensor_core.py
// Source    see conv2d_phases.cuh; the product: see conv2d_forward_tensor_core.cu
#include "conv2d_phases.cuh"
#include "conv2d_taps.cuh"
#include "tensor_core_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(GROUP_C, COLUMNS);

static_assert(GROUP_C % VECTOR == 0 && GROUP_K % VECTOR == 0, "a chunk lies within one tap, or one filter");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no output and stay within int");

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
  bool used;  // that channel
  long long output_row, weight_row;  // from behind a row's last tap to the next row's first
  Output outputs[Left::COUNT];

  __device__ __forceinline__ Operands(const Output* of_rows, const SPEC_T* group_weight, int first,
                                      const RowTaps& row_taps, const ColumnTaps& column_taps)
      : weight(group_weight + first + Right::offset()),
        rows(row_taps),
        columns(column_taps),
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
    const Walk walk(Left::offset(), columns.count);
    const long long up = walk.i * rows.OUTPUT_STEP, left = walk.j * columns.OUTPUT_STEP;
    return {walk, walk.channel - (up * Q + left) * K, source(Right::line(0), 0, 0), 0};
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

GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_input_tensor_core(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                  const SPEC_T* __restrict__ weight, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  __shared__ Output outputs[ROWS];
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;
  const int group = (int)(blockIdx.x / COLUMN_TILES % GROUPS);
  const unsigned product = blockIdx.x / (COLUMN_TILES * GROUPS), phase = product % PHASES;
  const unsigned first_row = product / PHASES * ROWS;
  const int phase_h = (int)(phase / PHASES_W), phase_w = (int)(phase % PHASES_W);
  const RowTaps row_taps(phase_h + PAD_TOP);
  const ColumnTaps column_taps(phase_w + PAD_LEFT);

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const PhasePixel pixel(first_row + row, phase_h, phase_w);
    const PairedOutput output = paired_output(pixel, row_taps, column_taps, N);
    const SPEC_T* const source = dy + (output.element + group * GROUP_K);
    outputs[row] = Output::of(source, output.p, output.q, row_taps.count, column_taps.count);
  }
  __syncthreads();

  const Operands operands(outputs, weight + group * GROUP_K * FILTER, first_column, row_taps, column_taps);
  Sums sums;
  multiply(operands, ceil_div(row_taps.count * column_taps.count * GROUP_K, DEPTH), tiles, sums);

  for_each_pack<VECTOR, Operands>(sums, [=](int row, int column, const float(&values)[VECTOR]) {
    const PhasePixel pixel(first_row + row, phase_h, phase_w);
    const int c = first_column + column;
    if (pixel.n >= N || pixel.h >= H || pixel.w >= W || c >= GROUP_C) return;
    Pack<SPEC_T, VECTOR> pack;
#pragma unroll
    for (int v = 0; v < VECTOR; ++v) pack.values[v] = from_acc<SPEC_T>(values[v]);
    // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
    store_pack<VECTOR>(dx + pixel.n * IMAGE + (unsigned)((pixel.h * W + pixel.w) * C + group * GROUP_C + c), pack);
  });
}
