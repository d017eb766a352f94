// conv_pool2d_backward_weight_direct.cu -- gradients of the weight and bias of a fused block, first of two launches: the sums
// of a few images; the gradient of the convolution's output never exists.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the outputs (n,i,j) of the chunk's images that are not 0 of dy[n,i,j,k] *
//           x[n, p - PAD_TOP + r, q - PAD_LEFT + s, c], x zero outside the image and (p, q) the pixel that choice names;
//           workspace[chunk][WEIGHTS + k] = sum of dy[n,i,j,k] over them; conv_pool2d_backward_weight_sum adds the chunks
// Layout    see conv_pool2d.cuh; workspace (ceil(N / IMAGES), WEIGHTS + K) in SPEC_ACC
//           shared memory: the image tile, and behind it R lines of zeros; gradients and corners [POSITIONS][FILTERS]: dy, and
//           where the window of taps of the chosen pixel starts, in the zeros where nothing passes; in place of the gradients,
//           after the last tile, partial [SLICES][SUMS][LANES]
// Compiled  SPEC_*: ConvPool2dSpec without bias; TUNE_ROWS, TUNE_COLUMNS: pooled outputs of a tile; TUNE_FILTERS: filters of a
//           block; TUNE_TAP_ROWS, TUNE_CHANNELS: a thread's part of a filter, all columns of it; TUNE_SLICES: threads that share
//           the outputs of a tile; TUNE_IMAGES: images of a chunk, never a function of N; TUNE_THREADS = LANES * SLICES;
//           run time: N
// Launch    grid = chunks * FILTER_BLOCKS, block = THREADS; a thread owns TAP_ROWS * S * CHANNELS taps of a filter, and their
//           bias, over every SLICES-th output. Neighbouring threads own neighbouring filters at the same output, whose chosen
//           pixels lie in one window: a warp's loads meet few addresses and seldom the same bank
// Assumes   what conv_pool2d.cuh says
// Writes    every element of the workspace once. Slice i adds outputs i, i + SLICES, ... of each tile, tiles and images in
//           order, one fused multiply-add each; then the slices are added in order. A gradient of 0 meets zeros instead of
//           pixels, so that NaN and infinities of x arrive through chosen pixels only, where the unfused chain, which
//           multiplies all pixels, also makes NaN of 0 * inf
// Cost      2*N*POOLED_P*POOLED_Q*K*TAPS flops, 1/WINDOW of the unfused chain's; a load from shared memory for each
//           multiply-add, two more for each SUMS of them: bound by shared memory
// Tested    tests/operations/test_conv_pool2d.py
// Source    the transpose of the definition
#include "conv_pool2d.cuh"

constexpr int FILTERS = TUNE_FILTERS, SLICES = TUNE_SLICES, IMAGES = TUNE_IMAGES, TAP_ROWS = TUNE_TAP_ROWS, CHANNELS = TUNE_CHANNELS;
constexpr int FILTER_BLOCKS = ceil_div(K, FILTERS), CHANNEL_GROUPS = C / CHANNELS, LANES = FILTERS * CHANNEL_GROUPS * ceil_div(R, TAP_ROWS);
constexpr int ROW_TAPS = S * CHANNELS, SUMS = TAP_ROWS * ROW_TAPS + 1;  // the last is the bias's
constexpr int NOTHING = TILE_H * PITCH;                                 // where the zeros begin
constexpr int GRADIENTS = POSITIONS * FILTERS, PARTIALS = SLICES > 1 ? THREADS * SUMS : 0;
static_assert(C % CHANNELS == 0 && THREADS == LANES * SLICES, "a thread for every part of a filter and slice of the outputs");

// Which filter and which taps a lane owns.
struct Taps {
  int f, first_row, first_channel;

  __device__ __forceinline__ explicit Taps(int lane)
      : f(lane % FILTERS), first_row(lane / (FILTERS * CHANNEL_GROUPS) * TAP_ROWS), first_channel(lane / FILTERS % CHANNEL_GROUPS * CHANNELS) {}

  // Stores the lane's i-th sum where the chunk has it, if it does.
  __device__ __forceinline__ void write(SPEC_ACC* chunk_sums, int first_filter, int i, SPEC_ACC sum) const {
    const int k = first_filter + f, r = first_row + i / ROW_TAPS, s = i % ROW_TAPS / CHANNELS, c = first_channel + i % CHANNELS;
    if (k >= K) return;
    if (i < SUMS - 1) {
      if (r < R) chunk_sums[((k * R + r) * S + s) * C + c] = sum;
    } else if (first_row == 0 && first_channel == 0) {
      chunk_sums[WEIGHTS + k] = sum;
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv_pool2d_backward_weight_direct(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                   const unsigned char* __restrict__ choice, const SPEC_T* __restrict__ x, int N) {
  __shared__ SPEC_ACC image[(TILE_H + R) * PITCH];
  __shared__ SPEC_ACC gradients[GRADIENTS > PARTIALS ? GRADIENTS : PARTIALS];
  __shared__ int corners[GRADIENTS];
  const int first_filter = (int)(blockIdx.x % FILTER_BLOCKS) * FILTERS, chunk = (int)(blockIdx.x / FILTER_BLOCKS);
  const int lane = (int)threadIdx.x % LANES, slice = (int)threadIdx.x / LANES;
  const Taps own(lane);
  const SPEC_ACC* line = image + own.first_row * PITCH + own.first_channel;

  for (int e = (int)threadIdx.x; e < R * PITCH; e += THREADS) image[NOTHING + e] = SPEC_ACC(0);
  SPEC_ACC sums[SUMS] = {};
  for (int n = chunk * IMAGES; n < min(chunk * IMAGES + IMAGES, N); ++n)
    for (int tile = 0; tile < ROW_TILES * COLUMN_TILES; ++tile) {
      const int first_row = tile / COLUMN_TILES * ROWS, first_column = tile % COLUMN_TILES * COLUMNS;
      load_image_tile(image, x + n * IMAGE, first_row, first_column);
      const int f = (int)threadIdx.x % FILTERS, k = first_filter + f;
#pragma unroll 4
      for (int position = (int)threadIdx.x / FILTERS; position < POSITIONS; position += THREADS / FILTERS) {
        const int row = position / COLUMNS, column = position % COLUMNS, p = first_row + row, q = first_column + column;
        SPEC_ACC gradient = 0;
        int chosen = NOT_POSITIVE;
        if (p < POOLED_P && q < POOLED_Q && k < K) {
          const long long output = (((long long)n * POOLED_P + p) * POOLED_Q + q) * K + k;
          chosen = choice[output];
          gradient = to_acc(dy[output]);
        }
        const bool passes = chosen != NOT_POSITIVE && gradient != SPEC_ACC(0);
        const int corner = (row * POOL_R + chosen / POOL_S) * PITCH + (column * POOL_S + chosen % POOL_S) * C;
        gradients[position * FILTERS + f] = passes ? gradient : SPEC_ACC(0);
        corners[position * FILTERS + f] = passes ? corner : NOTHING;
      }
      __syncthreads();
      for (int position = slice; position < POSITIONS; position += SLICES) {
        const SPEC_ACC gradient = gradients[position * FILTERS + own.f];
        const SPEC_ACC* corner = line + corners[position * FILTERS + own.f];
#pragma unroll
        for (int i = 0; i < SUMS - 1; ++i) {
          if (R % TAP_ROWS != 0 && own.first_row + i / ROW_TAPS >= R) continue;
          const SPEC_ACC pixel = corner[i / ROW_TAPS * PITCH + i % ROW_TAPS / CHANNELS * C + i % CHANNELS];
          sums[i] = multiply_add(gradient, pixel, sums[i]);
        }
        sums[SUMS - 1] += gradient;
      }
      __syncthreads();
    }

  SPEC_ACC* chunk_sums = workspace + (long long)chunk * (WEIGHTS + K);
  if (SLICES > 1) {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) gradients[(slice * SUMS + i) * LANES + lane] = sums[i];
    __syncthreads();
    for (int e = (int)threadIdx.x; e < SUMS * LANES; e += THREADS) {
      SPEC_ACC sum = gradients[e];
#pragma unroll
      for (int other = 1; other < SLICES; ++other) sum += gradients[other * SUMS * LANES + e];
      Taps(e % LANES).write(chunk_sums, first_filter, e / LANES, sum);
    }
  } else {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) own.write(chunk_sums, first_filter, i, sums[i]);
  }
}
