// conv2d_taps.cuh -- how one thread walks a product's depth of taps and channels without divisions, and which taps of a
// row meet the image.
//
// Depth     (tap row, tap column, channel); a thread copies from depths that lie a tile's DEPTH apart
// Meets     a row's taps lie DOWN and ACROSS pixels apart. Where the filter has at most 32, a row keeps a bit for each
//           that lies inside, so that a copy needs one test; else the pixel of its first tap
#pragma once

#include "conv2d.cuh"

constexpr bool TAP_BITS = R * S <= 32;

// The place of a thread's next copy: a channel of a tap, which is (i, j) among those walked.
template <int CHANNELS, int DEPTH>
struct DepthWalk {
  int channel, i, j;
  unsigned bit;  // of the tap; none behind the 32nd

  __device__ __forceinline__ DepthWalk(int depth, int columns)
      : channel(depth % CHANNELS),
        i(depth / CHANNELS / max(columns, 1)),  // a phase without taps has no columns
        j(depth / CHANNELS % max(columns, 1)),
        bit(depth / CHANNELS < 32 ? 1u << depth / CHANNELS : 0) {
    static_assert(DEPTH <= 32 * CHANNELS, "the first tile holds few taps");
  }

  // Go on by DEPTH; call pass(next_tap, next_row) for each tap that may begin on the way: whether it does, and whether
  // it is a row's first. A row has `columns` taps.
  template <class Pass>
  __device__ __forceinline__ void advance(int columns, Pass pass) {
    channel += DEPTH;
#pragma unroll
    for (int taps = 0; taps < DEPTH; taps += CHANNELS) {
      const bool next_tap = channel >= CHANNELS;
      channel -= next_tap ? CHANNELS : 0;
      bit <<= next_tap ? 1 : 0;
      if (R * S == 1) {  // nothing follows the only tap
        i += next_tap;
        continue;
      }
      j += next_tap;
      const bool next_row = j == columns;
      j = next_row ? 0 : j;
      i += next_row;
      pass(next_tap, next_row);
    }
  }
};

// A row of a tile: where its first tap reads channel 0, and what its taps meet.
template <int DOWN, int ACROSS, int HEIGHT, int WIDTH>
struct alignas(16) TapRow {
  const SPEC_T* source;
  int h, w;  // the first tap's pixel; with TAP_BITS h holds the bits instead

  // Of `rows` x `columns` taps, of which the first meets the pixel (first_h, first_w).
  __device__ __forceinline__ static TapRow of(const SPEC_T* source, int first_h, int first_w, int rows, int columns) {
    unsigned across = 0, bits = 0;
#pragma unroll
    for (int j = 0; j < (TAP_BITS ? S : 0); ++j)
      if (j < columns && inside(first_w + j * ACROSS, WIDTH)) across |= 1u << j;
#pragma unroll
    for (int i = 0; i < (TAP_BITS ? R : 0); ++i)
      if (i < rows && inside(first_h + i * DOWN, HEIGHT)) bits |= across << i * columns;
    return TAP_BITS ? TapRow{source, (int)bits, 0} : TapRow{source, first_h, first_w};
  }

  template <class Walk>
  __device__ __forceinline__ bool meets(const Walk& walk, int rows) const {
    if (TAP_BITS) return ((unsigned)h & walk.bit) != 0;
    // The operator & leaves no branches.
    return (walk.i < rows) & inside(h + walk.i * DOWN, HEIGHT) & inside(w + walk.j * ACROSS, WIDTH);
  }
};
