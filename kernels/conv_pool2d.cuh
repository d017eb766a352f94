// conv_pool2d.cuh -- the sizes of one ConvPool2dSpec, and the tile of the padded image that a block keeps in shared memory.
//
// Layout    x (N, H, W, C), weight (K, R, S, C), y, dy and choice (N, POOLED_P, POOLED_Q, K), all contiguous
//           choice: uint8, the offset r*POOL_S + s of a window's pixel, NOT_POSITIVE where y is 0
//           image tile: TILE_H lines of PITCH elements in SPEC_ACC, a line TILE_W pixels of C channels; PITCH is odd, so that
//           neighbouring lines start in different banks
// Compiled  SPEC_*: ConvPool2dSpec; TUNE_ROWS, TUNE_COLUMNS: pooled outputs of a tile; TUNE_THREADS: block size
// Assumes   what ConvPool2dSpec has checked: stride 1, no dilation, one group, small filters and windows
#pragma once

#include "conv2d.cuh"

constexpr int POOL_R = SPEC_POOL_R, POOL_S = SPEC_POOL_S, WINDOW = POOL_R * POOL_S;
constexpr int POOLED_P = SPEC_POOLED_P, POOLED_Q = SPEC_POOLED_Q;
constexpr int TAPS = R * S * C;
constexpr unsigned char NOT_POSITIVE = 255;

static_assert(STRIDE_H == 1 && STRIDE_W == 1 && DILATION_H == 1 && DILATION_W == 1, "neighbouring taps and positions");
static_assert(GROUPS == 1 && !FLIP, "one group, filters as stored");
static_assert(WINDOW < NOT_POSITIVE, "an offset within the window fits beside the code");
static_assert(POOLED_P * POOL_R <= P && POOLED_Q * POOL_S <= Q, "whole windows");

#ifdef TUNE_ROWS
constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, THREADS = TUNE_THREADS, POSITIONS = ROWS * COLUMNS;
constexpr int ROW_TILES = ceil_div(POOLED_P, ROWS), COLUMN_TILES = ceil_div(POOLED_Q, COLUMNS);
constexpr int TILE_H = ROWS * POOL_R + R - 1, TILE_W = COLUMNS * POOL_S + S - 1;
constexpr int PITCH = TILE_W * C | 1;

// The image's pixels that the pooled outputs from (row, column) on see, zeros outside the image.
__device__ __forceinline__ void load_image_tile(SPEC_ACC* tile, const SPEC_T* __restrict__ image, int row, int column) {
  const int top = row * POOL_R - PAD_TOP, left = column * POOL_S - PAD_LEFT;
  for (int e = (int)threadIdx.x; e < TILE_H * TILE_W * C; e += THREADS) {
    const int line = e / (TILE_W * C), rest = e % (TILE_W * C), h = top + line, w = left + rest / C;
    tile[line * PITCH + rest] = inside(h, H) && inside(w, W) ? to_acc(image[(h * W + left) * C + rest]) : SPEC_ACC(0);
  }
}
#endif
