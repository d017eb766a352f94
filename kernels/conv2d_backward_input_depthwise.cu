// conv2d_backward_input_depthwise.cu -- gradient of the input of a depthwise 2-D convolution: a thread owns a tile of pixels on 16
// bytes of channels and loads every gradient that reaches it once.
//
// Computes  dx[n,h,w,c] = sum over r,s of dy[n,p,q,c] * weight[c,r,s] where p*STRIDE_H = h + PAD_TOP - r*DILATION_H and q alike
// Layout    see conv2d_depthwise.cuh; shared memory: filters [R*S][BLOCK_CHANNELS]
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_ROWS, TUNE_COLUMNS: pixels of a thread, multiples of the strides;
//           TUNE_TILES: threads beside each other along the tiles; TUNE_*: see conv2d_depthwise.cuh; run time: N
// Launch    grid = ceil(N * DOWN * ACROSS / TILES) * CHANNEL_BLOCKS, block = (LANES, TILES). Tiles begin where h + PAD_TOP is a
//           multiple of ROWS, perhaps above the image, so that which taps meet which pixels is known at compile time
// Assumes   see conv2d_depthwise.cuh
// Writes    every dx once; sums in the order r, s, one fused multiply-add each. Rows outside dy are left out, columns outside
//           enter as zeros, which differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*C*R*S flops, few beside the traffic: dy is read from memory once, dx is written: bound by memory
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d_depthwise.cuh"

constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, TILES = TUNE_TILES;
constexpr int SKIPPED_H = PAD_TOP % ROWS, SKIPPED_W = PAD_LEFT % COLUMNS;  // pixels of the first tile before the image
constexpr int DOWN = ceil_div(H + SKIPPED_H, ROWS), ACROSS = ceil_div(W + SKIPPED_W, COLUMNS);
// Gradients that reach a tile: from (R-1)*DILATION_H pixels before its first pixel to its last, in units of the stride.
constexpr int BEFORE_H = (R - 1) * DILATION_H / STRIDE_H, BEFORE_W = (S - 1) * DILATION_W / STRIDE_W;
constexpr int REACH_H = BEFORE_H + ROWS / STRIDE_H, REACH_W = BEFORE_W + COLUMNS / STRIDE_W;
static_assert(ROWS % STRIDE_H == 0 && COLUMNS % STRIDE_W == 0, "all tiles meet the taps alike");

GPUCNN_KERNEL __launch_bounds__(LANES* TILES)
conv2d_backward_input_depthwise(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ weight, int N) {
  __shared__ __align__(16) SPEC_ACC filters[R * S * BLOCK_CHANNELS];
  const int first_channel = (int)(blockIdx.x % CHANNEL_BLOCKS) * BLOCK_CHANNELS, lane = (int)threadIdx.x * WIDTH;
  const int c = first_channel + lane;
  load_filters(filters, weight, first_channel, (int)(threadIdx.y * LANES + threadIdx.x), LANES * TILES);
  __syncthreads();

  const long long tile = (long long)(blockIdx.x / CHANNEL_BLOCKS) * TILES + threadIdx.y, n = tile / (DOWN * ACROSS);
  if (n >= N || c >= C) return;
  const int rest = (int)(tile % (DOWN * ACROSS));
  const int top = rest / ACROSS * ROWS - SKIPPED_H, left = rest % ACROSS * COLUMNS - SKIPPED_W;
  const int first_p = (top + PAD_TOP) / STRIDE_H - BEFORE_H, first_q = (left + PAD_LEFT) / STRIDE_W - BEFORE_W;
  const SPEC_T* image = dy + n * P * Q * C + c;

  Sums sums[ROWS][COLUMNS] = {};
  // Backwards, so that the taps come in their order.
#pragma unroll
  for (int i = REACH_H - 1; i >= 0; --i) {
    const int p = first_p + i;
    if (!inside(p, P)) continue;
    Sums gradients[REACH_W];
#pragma unroll
    for (int j = 0; j < REACH_W; ++j) {
      gradients[j] = {};
      if (inside(first_q + j, Q)) gradients[j] = widened(load_pack<WIDTH>(image + (p * Q + first_q + j) * C));
    }
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      const int down = row - (i - BEFORE_H) * STRIDE_H, r = down / DILATION_H;
      if (down < 0 || r >= R || down % DILATION_H != 0) continue;
#pragma unroll
      for (int s = 0; s < S; ++s) {
        const Sums tap = load_pack<WIDTH>(filters + (r * S + s) * BLOCK_CHANNELS + lane);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
          const int across = column - s * DILATION_W + BEFORE_W * STRIDE_W;
          if (across >= 0 && across % STRIDE_W == 0) accumulate(sums[row][column], gradients[across / STRIDE_W], tap);
        }
      }
    }
  }

  const long long first_pixel = n * IMAGE + (top * W + left) * C + c;  // perhaps before the image
#pragma unroll
  for (int row = 0; row < ROWS; ++row)
#pragma unroll
    for (int column = 0; column < COLUMNS; ++column) {
      const int h = top + row, w = left + column;
      if (inside(h, H) && inside(w, W)) store_pack<WIDTH>(dx + (first_pixel + (row * W + column) * C), narrowed(sums[row][column]));
    }
}
