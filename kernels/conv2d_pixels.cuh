// conv2d_pixels.cuh -- how one thread walks output positions without divisions, and the pixel that its tap meets from each:
// what the matrix products of the weight's gradient share, whose columns are (r, s, c) and whose depth is (n, p, q).
#pragma once

#include "conv2d.cuh"

// Every output reads the pixel of its own position.
constexpr bool SAME_PIXELS = R == 1 && S == 1 && STRIDE_H == 1 && STRIDE_W == 1 && PAD_TOP == 0 && PAD_LEFT == 0 && P == H && Q == W;

// A column's channel of its group and its tap, relative to a window's first pixel inside the image.
struct TapOffset {
  int channel, top, left;

  TapOffset() = default;
  __device__ __forceinline__ explicit TapOffset(int column) {
    const int stored = column / GROUP_C, tap = FLIP ? R * S - 1 - stored : stored;
    channel = column % GROUP_C;
    top = column < FILTER ? tap / S * DILATION_H - PAD_TOP : 0;
    left = column < FILTER ? tap % S * DILATION_W - PAD_LEFT : 0;
  }
};

// Where a tap reads x for one output position, perhaps in the padding; positions lie a tile's DEPTH apart.
template <int DEPTH>
struct PixelWalk {
  static constexpr int DOWN = DEPTH / Q % P * STRIDE_H, ACROSS = DEPTH % Q * STRIDE_W;
  const SPEC_T* source;
  int h, w;

  // `x`: the first pixel's channel that the tap reads.
  __device__ __forceinline__ static PixelWalk of(const SPEC_T* x, const TapOffset& tap, unsigned position) {
    const OutputPosition at = output_position(position);
    const int h = at.p * STRIDE_H + tap.top, w = at.q * STRIDE_W + tap.left;
    return {x + at.n * IMAGE + ((long long)h * W + w) * C, h, w};
  }
  // The operator & leaves no branches.
  __device__ __forceinline__ bool in_image() const { return inside(h, H) & inside(w, W); }
  __device__ __forceinline__ void advance(const TapOffset& tap) {
    h += DOWN;
    w += ACROSS;
    source += DEPTH / (P * Q) * IMAGE + ((long long)DOWN * W + ACROSS) * C;
    if (w >= Q * STRIDE_W + tap.left) {  // behind the last output of a row
      w -= Q * STRIDE_W;
      h += STRIDE_H;
      source += ((long long)STRIDE_H * W - Q * STRIDE_W) * C;
    }
    if (h >= P * STRIDE_H + tap.top) {  // of an image
      h -= P * STRIDE_H;
      source += IMAGE - (long long)P * STRIDE_H * W * C;
    }
  }
};
