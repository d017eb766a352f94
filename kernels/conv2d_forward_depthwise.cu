// conv2d_forward_depthwise.cu -- depthwise 2-D convolution: a thread owns a tile of outputs on 16 bytes of channels and loads
// every pixel of its window once.
//
// Computes  y[n,p,q,c] = activation(bias[c] + sum over r,s of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W - PAD_LEFT
//           + s*DILATION_W, c] * weight[c,r,s]), x zero outside the image; with FLIP the filter is mirrored
// Layout    see conv2d_depthwise.cuh; bias (C,) or null without SPEC_BIAS; shared memory: filters [R*S][BLOCK_CHANNELS]
// Compiled  SPEC_*: Conv2dSpec; TUNE_ROWS, TUNE_COLUMNS: outputs of a thread; TUNE_TILES: threads beside each other along the
//           tiles; TUNE_*: see conv2d_depthwise.cuh; run time: N
// Launch    grid = ceil(N * DOWN * ACROSS / TILES) * CHANNEL_BLOCKS, block = (LANES, TILES)
// Assumes   see conv2d_depthwise.cuh
// Writes    every y once; sums in the order r, s, one fused multiply-add each. Rows in the padding are left out, columns in it
//           enter as zeros, which differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*C*R*S flops, few beside the traffic: x is read from memory once, about (1 + (R-1)/(ROWS*STRIDE_H)) * (1 +
//           (S-1)/(COLUMNS*STRIDE_W)) times from cache, y is written: bound by memory
// Tested    tests/operations/test_conv2d.py
// Source    the definition
#include "activation.cuh"
#include "conv2d_depthwise.cuh"

constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, TILES = TUNE_TILES;
constexpr int DOWN = ceil_div(P, ROWS), ACROSS = ceil_div(Q, COLUMNS);
constexpr int SEEN_H = (ROWS - 1) * STRIDE_H + (R - 1) * DILATION_H + 1;
constexpr int SEEN_W = (COLUMNS - 1) * STRIDE_W + (S - 1) * DILATION_W + 1;

GPUCNN_KERNEL __launch_bounds__(LANES* TILES)
conv2d_forward_depthwise(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                         const SPEC_T* __restrict__ bias, int N) {
  __shared__ __align__(16) SPEC_ACC filters[R * S * BLOCK_CHANNELS];
  const int first_channel = (int)(blockIdx.x % CHANNEL_BLOCKS) * BLOCK_CHANNELS, lane = (int)threadIdx.x * WIDTH;
  const int c = first_channel + lane;
  load_filters(filters, weight, first_channel, (int)(threadIdx.y * LANES + threadIdx.x), LANES * TILES);
  __syncthreads();

  const long long tile = (long long)(blockIdx.x / CHANNEL_BLOCKS) * TILES + threadIdx.y, n = tile / (DOWN * ACROSS);
  if (n >= N || c >= C) return;
  const int rest = (int)(tile % (DOWN * ACROSS)), first_row = rest / ACROSS * ROWS, first_column = rest % ACROSS * COLUMNS;
  const int top = first_row * STRIDE_H - PAD_TOP, left = first_column * STRIDE_W - PAD_LEFT;
  const SPEC_T* image = x + n * IMAGE + c;

  Sums sums[ROWS][COLUMNS] = {};
#pragma unroll
  for (int i = 0; i < SEEN_H; ++i) {
    if (!inside(top + i, H)) continue;
    Sums pixels[SEEN_W];
#pragma unroll
    for (int j = 0; j < SEEN_W; ++j) {
      pixels[j] = {};
      if (inside(left + j, W)) pixels[j] = widened(load_pack<WIDTH>(image + ((top + i) * W + left + j) * C));
    }
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      const int down = i - row * STRIDE_H, r = down / DILATION_H;
      if (down < 0 || r >= R || down % DILATION_H != 0) continue;
#pragma unroll
      for (int s = 0; s < S; ++s) {
        const Sums tap = load_pack<WIDTH>(filters + (r * S + s) * BLOCK_CHANNELS + lane);
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column)
          accumulate(sums[row][column], pixels[column * STRIDE_W + s * DILATION_W], tap);
      }
    }
  }

  Sums offsets = {};
  if (SPEC_BIAS) offsets = widened(load_pack<WIDTH>(bias + c));
  SPEC_T* outputs = y + ((n * P + first_row) * Q + first_column) * C + c;
#pragma unroll
  for (int row = 0; row < ROWS; ++row)
#pragma unroll
    for (int column = 0; column < COLUMNS; ++column) {
      const int p = first_row + row, q = first_column + column;
      if (p >= P || q >= Q) continue;
      Sums& sum = sums[row][column];
#pragma unroll
      for (int v = 0; v < WIDTH; ++v)
        sum.values[v] = activate(SPEC_BIAS ? sum.values[v] + offsets.values[v] : sum.values[v]);
      store_pack<WIDTH>(outputs + (row * Q + column) * C, narrowed(sum));
    }
}
