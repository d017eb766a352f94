// conv2d_backward_weight_depthwise.cu -- gradient of the weight of a depthwise 2-D convolution, first of two launches: a band of
// rows, or a few whole images, summed in registers.
//
// Computes  workspace[chunk][c,r,s] = sum over the outputs (n,p,q) of a chunk of dy[n,p,q,c] * x[n, p*STRIDE_H - PAD_TOP +
//           r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c]; conv2d_backward_weight_sum adds the chunks
// Layout    see conv2d_depthwise.cuh; workspace (ceil(N / IMAGES) * IMAGE_CHUNKS, C, R, S) in SPEC_ACC
//           shared memory, in SPEC_ACC: partial [SLICES][R][BLOCK_CHANNELS]
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_IMAGES, TUNE_IMAGE_CHUNKS: a chunk is IMAGES whole images or, if
//           IMAGE_CHUNKS > 1, one of that many bands of an image, never a function of N; TUNE_COLUMNS: outputs of a strip;
//           TUNE_SLICES: threads that share the strips; TUNE_*: see conv2d_depthwise.cuh; run time: N
// Launch    grid = chunks * CHANNEL_BLOCKS, block = (LANES, R, SLICES); a thread owns a row of taps on WIDTH channels, over every
//           SLICES-th strip; registers for two blocks of a multiprocessor, as for three NVRTC 13 spills a few
// Assumes   see conv2d_depthwise.cuh; IMAGES = 1 or IMAGE_CHUNKS = 1
// Writes    every element of the workspace once. Slice i adds strips i, i + SLICES, ... of the chunk in the order n, p, q, one
//           fused multiply-add each; then the slices are added in order. Rows in the padding are left out, columns in it
//           enter as zeros, which differ from taps left out only where dy is not finite
// Cost      2*N*P*Q*C*R*S flops, few beside the traffic: x and dy are read from memory once, R times and more from cache: bound
//           by memory
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d_depthwise.cuh"

constexpr int IMAGES = TUNE_IMAGES, IMAGE_CHUNKS = TUNE_IMAGE_CHUNKS, BAND = ceil_div(P, IMAGE_CHUNKS);
constexpr int COLUMNS = TUNE_COLUMNS, SLICES = TUNE_SLICES, ACROSS = ceil_div(Q, COLUMNS);
constexpr int SEEN_W = (COLUMNS - 1) * STRIDE_W + (S - 1) * DILATION_W + 1;
static_assert(IMAGES == 1 || IMAGE_CHUNKS == 1, "a chunk is images or a band");

GPUCNN_KERNEL __launch_bounds__(LANES* R* SLICES, LANES* R* SLICES > 384 ? 1 : 2)
conv2d_backward_weight_depthwise(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ x, int N) {
  __shared__ __align__(16) SPEC_ACC partial[SLICES * R * BLOCK_CHANNELS];
  const int chunk = (int)(blockIdx.x / CHANNEL_BLOCKS), lane = (int)threadIdx.x * WIDTH;
  const int c = (int)(blockIdx.x % CHANNEL_BLOCKS) * BLOCK_CHANNELS + lane, r = (int)threadIdx.y, slice = (int)threadIdx.z;
  const int first_image = chunk / IMAGE_CHUNKS * IMAGES, images = min(IMAGES, N - first_image);
  const int top = chunk % IMAGE_CHUNKS * BAND, rows = min(BAND, P - top);

  Sums sums[S] = {};
  for (int strip = slice; c < C && strip < images * rows * ACROSS; strip += SLICES) {
    const int line = strip / ACROSS, column = strip % ACROSS * COLUMNS, p = top + line % rows;
    const long long n = first_image + line / rows;
    const int h = p * STRIDE_H - PAD_TOP + r * DILATION_H, left = column * STRIDE_W - PAD_LEFT;
    if (!inside(h, H)) continue;
    const SPEC_T* pixels = x + n * IMAGE + h * W * C + c;
    const SPEC_T* gradients = dy + ((n * P + p) * Q + column) * C + c;
    Sums seen[SEEN_W];
#pragma unroll
    for (int j = 0; j < SEEN_W; ++j) {
      seen[j] = {};
      if (inside(left + j, W)) seen[j] = widened(load_pack<WIDTH>(pixels + (left + j) * C));
    }
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      if (column + j >= Q) continue;
      const Sums gradient = widened(load_pack<WIDTH>(gradients + j * C));
#pragma unroll
      for (int s = 0; s < S; ++s) accumulate(sums[s], gradient, seen[j * STRIDE_W + s * DILATION_W]);
    }
  }

#pragma unroll
  for (int s = 0; s < S; ++s) {
    store_pack_in_shared<WIDTH>(partial + (slice * R + r) * BLOCK_CHANNELS + lane, sums[s]);
    __syncthreads();
    if (slice == 0 && c < C) {
      for (int v = 0; v < WIDTH; ++v) {
        SPEC_ACC sum = sums[s].values[v];
        for (int other = 1; other < SLICES; ++other) sum += partial[(other * R + r) * BLOCK_CHANNELS + lane + v];
        workspace[(long long)chunk * WEIGHTS + (c + v) * R * S + stored_tap(r, s)] = sum;
      }
    }
    __syncthreads();
  }
}
