// conv2d_forward_few_channels.cu -- 2-D convolution of images of few channels, as a network's first layer sees: image and
// filters in shared memory, sums in registers.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), x zero outside the image; with FLIP the filter is mirrored
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS
//           shared memory, in SPEC_ACC: image [C][TILE_H][TILE_W], a plane for each channel, so that neighbouring threads read
//           neighbouring columns; filters [R*S*C][BLOCK_FILTERS], so that a thread's filters are neighbours
// Compiled  SPEC_*: Conv2dSpec; TUNE_PIXELS, TUNE_LINES, TUNE_COLUMNS: a tile is PIXELS * LINES rows of COLUMNS outputs;
//           TUNE_FILTERS: filters of a thread, a multiple of 4; TUNE_GROUPS: threads' groups of filters in a block;
//           TUNE_VECTOR: elements per store, 1 or 4; TUNE_THREADS: block size; run time: the batch, as grid
// Launch    grid = N * DOWN * ACROSS * FILTER_BLOCKS, block = THREADS; a thread owns PIXELS outputs of a column, LINES rows
//           apart, for FILTERS filters; neighbouring threads own neighbouring columns and read the same filters
// Assumes   one group; VECTOR 4 needs arrays aligned to 16 bytes and K a multiple of 4
// Writes    every y once; sums in the order r, s, c, one fused multiply-add each. The padding enters as zeros, which
//           differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C flops, PIXELS + FILTERS/4 loads from shared memory for PIXELS * FILTERS multiply-adds, 6 for 32;
//           x is read K/BLOCK_FILTERS times and y written once: bound by arithmetic from 3x3x3 on, below by writing y
// Tested    tests/operations/test_conv2d.py
// Source    the definition
#include "activation.cuh"
#include "conv2d.cuh"
#include "pack.cuh"

constexpr int THREADS = TUNE_THREADS, PIXELS = TUNE_PIXELS, LINES = TUNE_LINES, COLUMNS = TUNE_COLUMNS, ROWS = PIXELS * LINES;
constexpr int FILTERS = TUNE_FILTERS, BLOCK_FILTERS = FILTERS * TUNE_GROUPS, FILTER_BLOCKS = ceil_div(K, BLOCK_FILTERS);
constexpr int DOWN = ceil_div(P, ROWS), ACROSS = ceil_div(Q, COLUMNS), VECTOR = TUNE_VECTOR;
constexpr int TILE_H = (ROWS - 1) * STRIDE_H + (R - 1) * DILATION_H + 1;
constexpr int TILE_W = (COLUMNS - 1) * STRIDE_W + (S - 1) * DILATION_W + 1;
// 0 leaves the registers of a thread to ptxas, which then makes room for more blocks without spilling; with sums of 8 bytes
// it spills, and 1 lets a block have them all.
constexpr int RESIDENT_BLOCKS = sizeof(SPEC_ACC) == 8;
static_assert(GROUPS == 1, "one group");
static_assert(FILTERS % 4 == 0 && (VECTOR == 1 || (VECTOR == 4 && K % 4 == 0)), "stores are whole packs");

GPUCNN_KERNEL __launch_bounds__(THREADS, RESIDENT_BLOCKS)
conv2d_forward_few_channels(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                            const SPEC_T* __restrict__ bias) {
  __shared__ __align__(16) SPEC_ACC filters[FILTER * BLOCK_FILTERS];
  __shared__ SPEC_ACC image[C * TILE_H * TILE_W];
  const int first_filter = (int)(blockIdx.x % FILTER_BLOCKS) * BLOCK_FILTERS;
  const unsigned tile = blockIdx.x / FILTER_BLOCKS;
  const int first_column = (int)(tile % ACROSS) * COLUMNS, first_row = (int)(tile / ACROSS % DOWN) * ROWS;
  const long long n = tile / (ACROSS * DOWN);

  const int top = first_row * STRIDE_H - PAD_TOP, left = first_column * STRIDE_W - PAD_LEFT;
  for (int e = (int)threadIdx.x; e < TILE_H * TILE_W * C; e += THREADS) {
    const int line = e / (TILE_W * C), column = e / C % TILE_W, c = e % C, h = top + line, w = left + column;
    const bool real = inside(h, H) && inside(w, W);
    image[(c * TILE_H + line) * TILE_W + column] = real ? to_acc(x[n * IMAGE + (h * W + w) * C + c]) : SPEC_ACC(0);
  }
  for (int e = (int)threadIdx.x; e < FILTER * BLOCK_FILTERS; e += THREADS) {
    const int f = e / FILTER, tap = e % FILTER, k = first_filter + f;
    const int stored = stored_tap(tap / C / S, tap / C % S) * C + tap % C;
    filters[tap * BLOCK_FILTERS + f] = k < K ? to_acc(weight[k * FILTER + stored]) : SPEC_ACC(0);
  }
  __syncthreads();

  for (int item = (int)threadIdx.x; item < LINES * COLUMNS * TUNE_GROUPS; item += THREADS) {
    const int column = item % COLUMNS, line = item / COLUMNS % LINES, first = item / (COLUMNS * LINES) * FILTERS;
    const SPEC_ACC* corner = image + line * STRIDE_H * TILE_W + column * STRIDE_W;
    SPEC_ACC sums[PIXELS][FILTERS] = {};
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int s = 0; s < S; ++s)
#pragma unroll
        for (int c = 0; c < C; ++c) {
          Pack<SPEC_ACC, 4> taps[FILTERS / 4];
#pragma unroll
          for (int i = 0; i < FILTERS / 4; ++i)
            taps[i] = load_pack<4>(filters + ((r * S + s) * C + c) * BLOCK_FILTERS + first + i * 4);
#pragma unroll
          for (int i = 0; i < PIXELS; ++i) {
            const int seen = i * LINES * STRIDE_H + r * DILATION_H;
            const SPEC_ACC value = corner[(c * TILE_H + seen) * TILE_W + s * DILATION_W];
#pragma unroll
            for (int f = 0; f < FILTERS; ++f) sums[i][f] = multiply_add(value, taps[f / 4].values[f % 4], sums[i][f]);
          }
        }

    const int q = first_column + column;
    if (q >= Q) continue;
    SPEC_T* outputs = y + ((n * P + first_row + line) * Q + q) * K + first_filter + first;
#pragma unroll
    for (int v = 0; v < FILTERS; v += VECTOR) {
      const int k = first_filter + first + v;
      if (k >= K) continue;
      SPEC_ACC offsets[VECTOR] = {};
#pragma unroll
      for (int f = 0; f < VECTOR; ++f) {
        if (SPEC_BIAS) offsets[f] = to_acc(bias[k + f]);
      }
#pragma unroll
      for (int i = 0; i < PIXELS; ++i) {
        const int p = first_row + i * LINES + line;
        if (p >= P) continue;
        Pack<SPEC_T, VECTOR> values;
#pragma unroll
        for (int f = 0; f < VECTOR; ++f) {
          const SPEC_ACC sum = sums[i][v + f];
          values.values[f] = from_acc<SPEC_T>(activate(SPEC_BIAS ? sum + offsets[f] : sum));
        }
        store_pack<VECTOR>(outputs + i * LINES * Q * K + v, values);
      }
    }
  }
}
