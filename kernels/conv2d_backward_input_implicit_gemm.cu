// conv2d_backward_input_implicit_gemm.cu -- gradient of a 2-D convolution's input as tiled matrix products, one for
// each phase of the stride, so that no product with an inserted zero is formed.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], over the taps for which h + PAD_TOP -
//           r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have solutions p, q inside the
//           output; with FLIP the filter is mirrored. As a product: rows (n,h,w) of one phase, columns c, depth
//           (r,s,k) of the phase's taps
// Phases    along one axis, the pixels phase, phase + STRIDE, ... share their taps: the r with r*DILATION = phase + PAD
//           (mod STRIDE). These are first, first + TAP_STEP, ... with TAP_STEP = STRIDE/g, g = gcd(STRIDE, DILATION),
//           or none; from one to the next p falls by DILATION/g. For STRIDE 3, DILATION 1, R 4, PAD_TOP 0:
//               h       0 1 2 3 4 5 6        phase 0: taps 0, 3    phase 1: tap 1    phase 2: tap 2
//               phase   0 1 2 0 1 2 0
// Layout    channels-last, see conv2d.cuh; dy is contiguous along depth, weight along columns
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_*: see conv2d_tile.cuh; run time: N
// Launch    grid = row tiles of a phase * phases * column tiles, columns first; one block owns ROWS pixels x COLUMNS
//           channels
// Assumes   GROUPS = 1; see conv2d_tile.cuh
// Writes    every dx once, also where no window reaches; sums in the order r, s, k, one fused multiply-add each.
//           Outputs beyond the border enter as zeros, which differ from taps left out only where a weight is not
//           finite
// Cost      2*N*P*Q*K*R*S*C flops, rounded up to whole tiles in each phase; each dy is read from cache C/COLUMNS *
//           R*S times, the weight once per ROWS pixels: bound by arithmetic when C and K are not small
// Tested    tests/operations/test_conv2d.py
// Source    the phases of a strided transpose: V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep
//           learning", arXiv:1603.07285, section 4; the product: see conv2d_forward_implicit_gemm.cu
#include "conv2d_tile.cuh"

__host__ __device__ constexpr int greatest_common_divisor(int a, int b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

constexpr int COLUMN_TILES = ceil_div(C, COLUMNS);
constexpr int PHASES_H = STRIDE_H < H ? STRIDE_H : H, PHASES_W = STRIDE_W < W ? STRIDE_W : W;
constexpr int PHASES = PHASES_H * PHASES_W;
constexpr int PHASE_H = (H - 1) / STRIDE_H + 1, PHASE_W = (W - 1) / STRIDE_W + 1;  // pixels of a phase, at most

// The taps of one phase along one axis.
template <int STRIDE, int DILATION, int TAPS>
struct PhaseTaps {
  static constexpr int GCD = greatest_common_divisor(STRIDE, DILATION);
  static constexpr int TAP_STEP = STRIDE / GCD, OUTPUT_STEP = DILATION / GCD;
  int first, count;

  // `start`: the first pixel of the phase, counted from where the padding begins.
  __device__ __forceinline__ explicit PhaseTaps(int start) : first(0), count(0) {
    while (first < TAPS && first < TAP_STEP && (start - first * DILATION) % STRIDE != 0) ++first;
    if (first < TAPS && first < TAP_STEP) count = (TAPS - 1 - first) / TAP_STEP + 1;
  }
  // The output that the first tap pairs with a pixel counted from where the padding begins; the division is exact.
  __device__ __forceinline__ int output(int pixel) const { return (pixel - first * DILATION) / STRIDE; }
};
typedef PhaseTaps<STRIDE_H, DILATION_H, R> RowTaps;
typedef PhaseTaps<STRIDE_W, DILATION_W, S> ColumnTaps;

// What the first tap pairs with a pixel: the element of dy at filter 0, and the output position, perhaps outside.
struct alignas(16) PairedOutput {
  long long element;
  int p, q;
};

// One tap of a phase: depth / K counts them row by row.
struct Tap {
  int i, j, k;
  __device__ __forceinline__ Tap(int depth, const ColumnTaps& columns)
      : i(depth / K / columns.count), j(depth / K % columns.count), k(depth % K) {}
};

struct GradientOperand {
  Carrier<ROWS, VECTOR_K, true> carrier;
  const SPEC_T* dy;
  const PairedOutput* outputs;
  RowTaps rows;
  ColumnTaps columns;

  __device__ __forceinline__ void fetch(int step) {
    const int depth = step * DEPTH + carrier.offset();
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
  int first;

  __device__ __forceinline__ void fetch(int step) {
    const int c = first + carrier.offset();
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      const Tap tap(step * DEPTH + carrier.line(i), columns);
      carrier.packs[i] = {};
      if (tap.i >= rows.count || !carrier.carries(i) || c >= C) continue;
      const int stored = stored_tap(rows.first + tap.i * rows.TAP_STEP, columns.first + tap.j * columns.TAP_STEP);
      carrier.packs[i] = load_pack<VECTOR_C>(weight + tap.k * FILTER + stored * C + c);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_backward_input_implicit_gemm(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                    const SPEC_T* __restrict__ weight, int N) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  __shared__ PairedOutput outputs[ROWS];
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;
  const unsigned phase = blockIdx.x / COLUMN_TILES % PHASES, first_row = blockIdx.x / COLUMN_TILES / PHASES * ROWS;
  const int phase_h = (int)(phase / PHASES_W), phase_w = (int)(phase % PHASES_W);
  const RowTaps row_taps(phase_h + PAD_TOP);
  const ColumnTaps column_taps(phase_w + PAD_LEFT);

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const unsigned m = first_row + row;
    const int n = (int)(m / (PHASE_H * PHASE_W));
    const int h = phase_h + (int)(m / PHASE_W % PHASE_H) * STRIDE_H, w = phase_w + (int)(m % PHASE_W) * STRIDE_W;
    const int p = row_taps.output(h + PAD_TOP), q = column_taps.output(w + PAD_LEFT);
    outputs[row] = {(long long)n * P * Q * K + ((long long)p * Q + q) * K, n < N ? p : OFF_IMAGE, q};
  }
  __syncthreads();

  GradientOperand gradient{{}, dy, outputs, row_taps, column_taps};
  FilterOperand filters{{}, weight, row_taps, column_taps, first_column};
  Sums sums = {};
  multiply(gradient, filters, ceil_div(row_taps.count * column_taps.count * K, DEPTH), left_tiles, right_tiles, sums);

#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; j += VECTOR_C) {
    const int c = first_column + tile_column(j);
    if (c >= C) continue;
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) {
      const unsigned m = first_row + tile_row(i);
      const int n = (int)(m / (PHASE_H * PHASE_W));
      const int h = phase_h + (int)(m / PHASE_W % PHASE_H) * STRIDE_H, w = phase_w + (int)(m % PHASE_W) * STRIDE_W;
      if (n >= N || h >= H || w >= W) continue;
      Pack<SPEC_T, VECTOR_C> pack;
#pragma unroll
      for (int v = 0; v < VECTOR_C; ++v) pack.values[v] = from_acc<SPEC_T>(sums[i][j + v]);
      // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
      store_pack<VECTOR_C>(dx + n * IMAGE + (unsigned)((h * W + w) * C + c), pack);
    }
  }
}
