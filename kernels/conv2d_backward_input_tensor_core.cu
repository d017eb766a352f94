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
#include "tensor_core_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(GROUP_C, COLUMNS);

static_assert(GROUP_C % VECTOR == 0 && GROUP_K % VECTOR == 0, "a chunk lies within one tap, or one filter");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no output and stay within int");

struct GradientOperand {
  typedef OperandTile<ROWS, true> Tile;
  const SPEC_T* dy;  // at the group's first filter
  const PairedOutput* outputs;
  RowTaps rows;
  ColumnTaps columns;

  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
    const Tap tap(step * DEPTH + Tile::offset(), columns);
    const int up = tap.i * rows.OUTPUT_STEP, left = tap.j * columns.OUTPUT_STEP;
    const long long shift = tap.k - ((long long)up * Q + left) * K;
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const PairedOutput output = outputs[Tile::line(i)];
      // The operator & leaves no branches.
      const bool valid = (tap.i < rows.count) & inside(output.p - up, P) & inside(output.q - left, Q);
      Tile::copy(tile, i, dy + output.element + shift, valid);
    }
  }
};

struct FilterOperand {
  typedef OperandTile<COLUMNS, false> Tile;
  const SPEC_T* weight;  // of the group
  RowTaps rows;
  ColumnTaps columns;
  int first;

  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
    const int c = first + Tile::offset();
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const Tap tap(step * DEPTH + Tile::line(i), columns);
      const int stored = stored_tap(rows.first + tap.i * rows.TAP_STEP, columns.first + tap.j * columns.TAP_STEP);
      const SPEC_T* source = weight + (long long)tap.k * FILTER + (long long)stored * GROUP_C + c;
      Tile::copy(tile, i, source, tap.i < rows.count && c < GROUP_C);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_input_tensor_core(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                  const SPEC_T* __restrict__ weight, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  __shared__ PairedOutput outputs[ROWS];
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;
  const int group = (int)(blockIdx.x / COLUMN_TILES % GROUPS);
  const unsigned product = blockIdx.x / (COLUMN_TILES * GROUPS), phase = product % PHASES;
  const unsigned first_row = product / PHASES * ROWS;
  const int phase_h = (int)(phase / PHASES_W), phase_w = (int)(phase % PHASES_W);
  const RowTaps row_taps(phase_h + PAD_TOP);
  const ColumnTaps column_taps(phase_w + PAD_LEFT);

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const PhasePixel pixel(first_row + row, phase_h, phase_w);
    outputs[row] = paired_output(pixel, row_taps, column_taps, N);
  }
  __syncthreads();

  const GradientOperand gradient{dy + group * GROUP_K, outputs, row_taps, column_taps};
  const FilterOperand filters{weight + group * GROUP_K * FILTER, row_taps, column_taps, first_column};
  Sums sums;
  multiply(gradient, filters, ceil_div(row_taps.count * column_taps.count * GROUP_K, DEPTH), tiles, sums);

  for_each_pack<VECTOR>(sums, [=](int row, int column, const float(&values)[VECTOR]) {
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
