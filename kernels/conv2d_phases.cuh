// conv2d_phases.cuh -- the phases of a strided convolution's backward_input: which taps, pixels and outputs meet.
//
// Phases    along one axis, the pixels phase, phase + STRIDE, ... share their taps: the r with r*DILATION = phase + PAD
//           (mod STRIDE). These are first, first + TAP_STEP, ... with TAP_STEP = STRIDE/g, g = gcd(STRIDE, DILATION),
//           or none; from one to the next p falls by DILATION/g. For STRIDE 3, DILATION 1, R 4, PAD_TOP 0:
//               h       0 1 2 3 4 5 6        phase 0: taps 0, 3    phase 1: tap 1    phase 2: tap 2
//               phase   0 1 2 0 1 2 0
// Source    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4
#pragma once

#include "conv2d.cuh"

__host__ __device__ constexpr int greatest_common_divisor(int a, int b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

constexpr int PHASES_H = STRIDE_H < H ? STRIDE_H : H, PHASES_W = STRIDE_W < W ? STRIDE_W : W;
constexpr int PHASES = PHASES_H * PHASES_W;
constexpr int PHASE_H = (H - 1) / STRIDE_H + 1, PHASE_W = (W - 1) / STRIDE_W + 1;  // pixels of a phase, at most

// The taps of one phase along one axis.
template <int STRIDE, int DILATION, int TAPS>
struct PhaseTaps {
  static constexpr int GCD = greatest_common_divisor(STRIDE, DILATION);
  static constexpr int TAP_STEP = STRIDE / GCD, OUTPUT_STEP = DILATION / GCD;
  static constexpr int MOST = (TAPS - 1) / TAP_STEP + 1;
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
constexpr int MOST_TAPS = RowTaps::MOST * ColumnTaps::MOST;  // of a phase

// One tap of a phase: depth / GROUP_K counts them row by row.
struct Tap {
  int i, j, k;
  __device__ __forceinline__ Tap(int depth, const ColumnTaps& columns)
      : i(depth / GROUP_K / max(columns.count, 1)),  // a phase without taps has no columns
        j(depth / GROUP_K % max(columns.count, 1)),
        k(depth % GROUP_K) {}
};

// Pixel m of a phase in every image; n, h or w may be too large.
struct PhasePixel {
  int n, h, w;
  __device__ __forceinline__ PhasePixel(unsigned m, int phase_h, int phase_w)
      : n((int)(m / (PHASE_H * PHASE_W))),
        h(phase_h + (int)(m / PHASE_W % PHASE_H) * STRIDE_H),
        w(phase_w + (int)(m % PHASE_W) * STRIDE_W) {}
};

// What the first tap pairs with a pixel: the element of dy at filter 0, and the output position, perhaps outside.
struct alignas(16) PairedOutput {
  long long element;
  int p, q;
};
__device__ __forceinline__ PairedOutput paired_output(const PhasePixel& pixel, const RowTaps& rows,
                                                      const ColumnTaps& columns, int N) {
  const int p = rows.output(pixel.h + PAD_TOP), q = columns.output(pixel.w + PAD_LEFT);
  return {(long long)pixel.n * P * Q * K + ((long long)p * Q + q) * K, pixel.n < N ? p : OFF_IMAGE, q};
}
