// conv2d_backward_weight_few_channels.cu -- gradient of the weight of a 2-D convolution of images of few channels, first of two
// launches: a band of rows, or a few whole images, summed in registers.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the outputs (n,p,q) of a chunk of dy[n,p,q,k] * x[n, p*STRIDE_H - PAD_TOP +
//           r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c], x zero outside the image;
//           conv2d_backward_weight_sum adds the chunks
// Layout    channels-last, see conv2d.cuh; workspace (ceil(N / IMAGES) * IMAGE_CHUNKS, K, R, S, C) in SPEC_ACC
//           shared memory, in SPEC_ACC: image [TILE_H][PITCH], an odd pitch, because the rows of a filter lie beside each other;
//           gradients [ROWS * COLUMNS][BLOCK_FILTERS]; partial [SLICES][LANES][S*C]
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_IMAGES, TUNE_IMAGE_CHUNKS: a chunk is IMAGES whole images or, if
//           IMAGE_CHUNKS > 1, one of that many bands of an image, never a function of N; TUNE_ROWS, TUNE_COLUMNS: outputs
//           of a tile; TUNE_RUN: neighbouring outputs of a row that a thread adds at a time, a divisor of COLUMNS and Q, 1
//           where the filter is dilated;
//           TUNE_FILTERS: filters of a thread, 4 or 8; TUNE_GROUPS: threads' groups of filters in a block;
//           TUNE_SLICES: threads that share the outputs of a tile; TUNE_THREADS = LANES * SLICES; run time: N
// Launch    grid = chunks * FILTER_BLOCKS, block = THREADS; a thread owns one row of taps, S*C of them, of FILTERS filters, over
//           every SLICES-th run of outputs
// Assumes   one group, IMAGES = 1 or IMAGE_CHUNKS = 1
// Writes    every element of the workspace once. Slice i adds runs i, i + SLICES, ... of each tile, tiles and images in
//           order, one fused multiply-add each; then the slices are added in order. The padding enters as zeros, which
//           differ from taps left out only where dy is not finite
// Cost      2*N*P*Q*K*R*S*C flops; for a run (RUN - 1) * STRIDE_W * C + S*C + RUN * FILTERS/4 loads from shared memory for
//           RUN * S*C * FILTERS multiply-adds; x and dy are read once from memory, WEIGHTS * chunks sums written: bound by
//           arithmetic
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d.cuh"
#include "pack.cuh"

constexpr int IMAGES = TUNE_IMAGES, IMAGE_CHUNKS = TUNE_IMAGE_CHUNKS, BAND = ceil_div(P, IMAGE_CHUNKS);
constexpr int THREADS = TUNE_THREADS, ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, SLICES = TUNE_SLICES;
constexpr int FILTERS = TUNE_FILTERS, BLOCK_FILTERS = FILTERS * TUNE_GROUPS, FILTER_BLOCKS = ceil_div(K, BLOCK_FILTERS);
constexpr int LANES = R * TUNE_GROUPS, ROW_TAPS = S * C, RUN = TUNE_RUN;
constexpr int SEEN = RUN == 1 ? S : (RUN - 1) * STRIDE_W + S;  // pixels of a row that a run sees, DILATION_W apart
constexpr int TILE_H = (ROWS - 1) * STRIDE_H + (R - 1) * DILATION_H + 1;
constexpr int TILE_W = (COLUMNS - 1) * STRIDE_W + (S - 1) * DILATION_W + 1, PITCH = TILE_W * C | 1;
static_assert(GROUPS == 1, "one group");
static_assert(FILTERS % 4 == 0 && THREADS == LANES * SLICES, "a thread for every row of taps, group and slice");
static_assert(COLUMNS % RUN == 0 && Q % RUN == 0 && (RUN == 1 || DILATION_W == 1), "whole runs, not of a dilated filter");
static_assert(IMAGES == 1 || IMAGE_CHUNKS == 1, "a chunk is images or a band");

GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
conv2d_backward_weight_few_channels(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                    const SPEC_T* __restrict__ x, int N) {
  __shared__ __align__(16) SPEC_ACC gradients[ROWS * COLUMNS * BLOCK_FILTERS];
  __shared__ SPEC_ACC image[TILE_H * PITCH];
  __shared__ SPEC_ACC partial[SLICES > 1 ? THREADS * ROW_TAPS : 1];
  const int first_filter = (int)(blockIdx.x % FILTER_BLOCKS) * BLOCK_FILTERS, chunk = (int)(blockIdx.x / FILTER_BLOCKS);
  const int lane = (int)threadIdx.x % LANES, slice = (int)threadIdx.x / LANES, r = lane % R, first = lane / R * FILTERS;
  const int first_image = chunk / IMAGE_CHUNKS * IMAGES, top = chunk % IMAGE_CHUNKS * BAND, bottom = min(top + BAND, P);

  SPEC_ACC sums[FILTERS][ROW_TAPS] = {};
  for (int n = first_image; n < min(first_image + IMAGES, N); ++n)
    for (int row = top; row < bottom; row += ROWS)
      for (int column = 0; column < Q; column += COLUMNS) {
        const int h0 = row * STRIDE_H - PAD_TOP, w0 = column * STRIDE_W - PAD_LEFT;
        for (int e = (int)threadIdx.x; e < TILE_H * TILE_W * C; e += THREADS) {
          const int line = e / (TILE_W * C), rest = e % (TILE_W * C), h = h0 + line, w = w0 + rest / C;
          const bool real = inside(h, H) && inside(w, W);
          image[line * PITCH + rest] = real ? to_acc(x[n * IMAGE + (h * W + w) * C + rest % C]) : SPEC_ACC(0);
        }
        for (int e = (int)threadIdx.x; e < ROWS * COLUMNS * BLOCK_FILTERS; e += THREADS) {
          const int k = first_filter + e % BLOCK_FILTERS, position = e / BLOCK_FILTERS;
          const int p = row + position / COLUMNS, q = column + position % COLUMNS;
          const bool real = p < bottom && q < Q && k < K;
          gradients[e] = real ? to_acc(dy[(((long long)n * P + p) * Q + q) * K + k]) : SPEC_ACC(0);
        }
        __syncthreads();
        for (int run = slice; run < ROWS * COLUMNS / RUN; run += SLICES) {
          const int down = run / (COLUMNS / RUN), across = run % (COLUMNS / RUN) * RUN;
          if (row + down >= bottom || column + across >= Q) continue;
          const SPEC_ACC* pixels = image + (down * STRIDE_H + r * DILATION_H) * PITCH + across * STRIDE_W * C;
          Pack<SPEC_ACC, 4> gradient[RUN][FILTERS / 4];
#pragma unroll
          for (int i = 0; i < RUN * FILTERS / 4; ++i)
            gradient[i / (FILTERS / 4)][i % (FILTERS / 4)] =
                load_pack<4>(gradients + (run * RUN + i / (FILTERS / 4)) * BLOCK_FILTERS + first + i % (FILTERS / 4) * 4);
#pragma unroll
          for (int i = 0; i < SEEN * C; ++i) {
            const SPEC_ACC value = pixels[i / C * DILATION_W * C + i % C];
#pragma unroll
            for (int u = 0; u < RUN; ++u) {
              const int tap = i - u * STRIDE_W * C;
              if (!inside(tap, ROW_TAPS)) continue;
#pragma unroll
              for (int f = 0; f < FILTERS; ++f)
                sums[f][tap] = multiply_add(gradient[u][f / 4].values[f % 4], value, sums[f][tap]);
            }
          }
        }
        __syncthreads();
      }

#pragma unroll
  for (int f = 0; f < FILTERS; ++f) {
    if (SLICES > 1) {
#pragma unroll
      for (int tap = 0; tap < ROW_TAPS; ++tap) partial[(slice * ROW_TAPS + tap) * LANES + lane] = sums[f][tap];
      __syncthreads();
    }
    const int k = first_filter + first + f;
    if (slice == 0 && k < K) {
#pragma unroll
      for (int tap = 0; tap < ROW_TAPS; ++tap) {
        SPEC_ACC sum = sums[f][tap];
        for (int other = 1; other < SLICES; ++other) sum += partial[(other * ROW_TAPS + tap) * LANES + lane];
        const int element = (k * R * S + stored_tap(r, tap / C)) * C + tap % C;
        workspace[(long long)chunk * WEIGHTS + element] = sum;
      }
    }
    if (SLICES > 1) __syncthreads();
  }
}
