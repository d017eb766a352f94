// conv2d.cuh -- the sizes of one Conv2dSpec, and how filter taps, image pixels and output positions meet.
//
// Layout    x (N, H, W, C), weight (K, R, S, C/GROUPS), y (N, P, Q, K), all contiguous in SPEC_T; sums in SPEC_ACC
// Meets     tap (r, s) of output (p, q) reads pixel h = p*STRIDE_H - PAD_TOP + r*DILATION_H, and w alike
// Assumes   what Conv2dSpec has checked: one image, one output and the weight have fewer than 2^31 elements each,
//           N*P*Q and N*H*W are below 2^31 and so is the padded image's height and width. A batch may have more:
//           offsets of images are 64-bit.
#pragma once

#include "common.cuh"

constexpr int H = SPEC_H, W = SPEC_W, C = SPEC_C;  // image: height, width, channels
constexpr int K = SPEC_K, R = SPEC_R, S = SPEC_S;  // filters: number, height, width
constexpr int P = SPEC_P, Q = SPEC_Q;              // output: height, width
constexpr int STRIDE_H = SPEC_STRIDE_H, STRIDE_W = SPEC_STRIDE_W;
constexpr int PAD_TOP = SPEC_PAD_TOP, PAD_LEFT = SPEC_PAD_LEFT;
constexpr int DILATION_H = R > 1 ? SPEC_DILATION_H : 1, DILATION_W = S > 1 ? SPEC_DILATION_W : 1;
constexpr int GROUPS = SPEC_GROUPS;
constexpr bool FLIP = SPEC_FLIP;

constexpr int GROUP_C = C / GROUPS, GROUP_K = K / GROUPS;  // channels and filters of one group
constexpr int FILTER = R * S * GROUP_C;                    // elements of one filter
constexpr int WEIGHTS = K * FILTER;                        // elements of the weight
constexpr long long IMAGE = (long long)H * W * C;          // elements of one image

static_assert(GROUP_C * GROUPS == C && GROUP_K * GROUPS == K, "groups divide channels and filters");

// Where tap (r, s) stands among the R*S taps of a stored filter.
__device__ __forceinline__ int stored_tap(int r, int s) { return FLIP ? (R - 1 - r) * S + (S - 1 - s) : r * S + s; }

__device__ __forceinline__ bool inside(int i, int size) { return i >= 0 && i < size; }

// The pixel of rows of a tile that have no image. From there every tap of the filter misses the image, and so do `beyond`
// taps past the filter's end, which a tile's depth may count.
constexpr int OFF_IMAGE = -(1 << 30);
__host__ __device__ constexpr bool misses_image(int beyond) {
  return H < -OFF_IMAGE && W < -OFF_IMAGE && (long long)(R + beyond) * DILATION_H < -OFF_IMAGE &&
         (long long)(S + beyond) * DILATION_W < -OFF_IMAGE;
}

// Output position m of the N*P*Q, in the order in which y stores them.
struct OutputPosition {
  int n, p, q;
};
__device__ __forceinline__ OutputPosition output_position(unsigned m) {
  const unsigned row = m / Q;
  return {(int)(row / P), (int)(row % P), (int)(m % Q)};
}

// Where the window of an output position starts: its element of x at channel 0, and its pixel, perhaps in the padding.
struct alignas(16) WindowStart {
  long long element;
  int h, w;
};
__device__ __forceinline__ WindowStart window_start(unsigned m, unsigned positions) {
  const OutputPosition at = output_position(m);
  const int h = at.p * STRIDE_H - PAD_TOP, w = at.q * STRIDE_W - PAD_LEFT;
  return {at.n * IMAGE + ((long long)h * W + w) * C, m < positions ? h : OFF_IMAGE, w};
}
