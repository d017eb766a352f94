// conv_pool2d_backward_weight_direct.cu -- gradients of the weight and bias of a fused block, first of two launches: the sums
// of a few images; the gradient of the convolution's output never exists.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the outputs (n,i,j) of the chunk's images that are not 0 of dy[n,i,j,k] *
//           x[n, p - PAD_TOP + r, q - PAD_LEFT + s, c], x zero outside the image and (p, q) the pixel that choice names;
//           workspace[chunk][WEIGHTS + k] = sum of dy[n,i,j,k] over them; conv_pool2d_backward_weight_sum adds the chunks
// Layout    see conv_pool2d.cuh; workspace (ceil(N / IMAGES), WEIGHTS + K) in SPEC_ACC
//           shared memory: the image tile; gradients and corners [POSITIONS][FILTERS]: dy, 0 where nothing passes, and where in
//           the tile the window of taps of the chosen pixel starts; partial [SLICES][LANES][S + 1]
// Compiled  SPEC_*: ConvPool2dSpec without bias; TUNE_ROWS, TUNE_COLUMNS: pooled outputs of a tile; TUNE_FILTERS: filters of a
//           block; TUNE_SLICES: threads that share the outputs of a tile; TUNE_IMAGES: images of a chunk, never a function of
//           N; TUNE_THREADS = LANES * SLICES; run time: N
// Launch    grid = chunks * FILTER_BLOCKS, block = THREADS; a thread owns the S taps of a filter's row on one channel, and their
//           bias, over every SLICES-th output
// Assumes   what conv_pool2d.cuh says
// Writes    every element of the workspace once. Slice i adds outputs i, i + SLICES, ... of each tile, tiles and images in
//           order, one fused multiply-add each; then the slices are added in order. A product with a gradient of 0 is left
//           out, so that NaN and infinities of x arrive through chosen pixels only, where the unfused chain, which multiplies
//           all pixels, also makes NaN of 0 * inf
// Cost      2*N*POOLED_P*POOLED_Q*K*TAPS flops at most, 1/WINDOW of the unfused chain's; a load from shared memory for each
//           multiply-add, two more for each S of them: bound by shared memory
// Tested    tests/operations/test_conv_pool2d.py
// Source    the transpose of the definition
#include "conv_pool2d.cuh"

constexpr int FILTERS = TUNE_FILTERS, SLICES = TUNE_SLICES, IMAGES = TUNE_IMAGES;
constexpr int FILTER_BLOCKS = ceil_div(K, FILTERS), LANES = FILTERS * R * C;
static_assert(THREADS == LANES * SLICES, "a thread for every row of a filter and slice of the outputs");

GPUCNN_KERNEL __launch_bounds__(THREADS, THREADS > 256 ? 1 : 2)
conv_pool2d_backward_weight_direct(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                   const unsigned char* __restrict__ choice, const SPEC_T* __restrict__ x, int N) {
  __shared__ SPEC_ACC image[TILE_H * PITCH];
  __shared__ SPEC_ACC gradients[POSITIONS * FILTERS];
  __shared__ int corners[POSITIONS * FILTERS];
  __shared__ SPEC_ACC partial[SLICES > 1 ? THREADS * (S + 1) : 1];
  const int first_filter = (int)(blockIdx.x % FILTER_BLOCKS) * FILTERS, chunk = (int)(blockIdx.x / FILTER_BLOCKS);
  const int lane = (int)threadIdx.x % LANES, slice = (int)threadIdx.x / LANES;
  const int f = lane / (R * C), r = lane / C % R, c = lane % C;
  const SPEC_ACC* line = image + r * PITCH + c;

  SPEC_ACC sums[S + 1] = {};
  for (int n = chunk * IMAGES; n < min(chunk * IMAGES + IMAGES, N); ++n)
    for (int tile = 0; tile < ROW_TILES * COLUMN_TILES; ++tile) {
      const int first_row = tile / COLUMN_TILES * ROWS, first_column = tile % COLUMN_TILES * COLUMNS;
      load_image_tile(image, x + n * IMAGE, first_row, first_column);
      for (int e = (int)threadIdx.x; e < POSITIONS * FILTERS; e += THREADS) {
        const int k = first_filter + e % FILTERS, row = e / FILTERS / COLUMNS, column = e / FILTERS % COLUMNS;
        const int p = first_row + row, q = first_column + column;
        SPEC_ACC gradient = 0;
        int corner = 0;
        if (p < POOLED_P && q < POOLED_Q && k < K) {
          const long long output = (((long long)n * POOLED_P + p) * POOLED_Q + q) * K + k;
          const int chosen = choice[output];
          if (chosen != NOT_POSITIVE) {
            gradient = to_acc(dy[output]);
            corner = (row * POOL_R + chosen / POOL_S) * PITCH + (column * POOL_S + chosen % POOL_S) * C;
          }
        }
        gradients[e] = gradient;
        corners[e] = corner;
      }
      __syncthreads();
      for (int position = slice; position < POSITIONS; position += SLICES) {
        const SPEC_ACC gradient = gradients[position * FILTERS + f];
        if (gradient == SPEC_ACC(0)) continue;
        const SPEC_ACC* pixel = line + corners[position * FILTERS + f];
#pragma unroll
        for (int s = 0; s < S; ++s) sums[s] = multiply_add(gradient, pixel[s * C], sums[s]);
        sums[S] += gradient;
      }
      __syncthreads();
    }

  if (SLICES > 1) {
#pragma unroll
    for (int s = 0; s <= S; ++s) partial[(slice * (S + 1) + s) * LANES + lane] = sums[s];
    __syncthreads();
    if (slice > 0) return;
#pragma unroll
    for (int s = 0; s <= S; ++s)
      for (int other = 1; other < SLICES; ++other) sums[s] += partial[(other * (S + 1) + s) * LANES + lane];
  }
  const int k = first_filter + f;
  if (k >= K) return;
  SPEC_ACC* chunk_sums = workspace + (long long)chunk * (WEIGHTS + K);
#pragma unroll
  for (int s = 0; s < S; ++s) chunk_sums[((k * R + r) * S + s) * C + c] = sums[s];
  if (r == 0 && c == 0) chunk_sums[WEIGHTS + k] = sums[S];
}
