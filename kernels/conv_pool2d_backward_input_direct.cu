// conv_pool2d_backward_input_direct.cu -- gradient of the input of a fused block; the gradient of the convolution's output
// exists in shared memory only, a tile at a time.
//
// Computes  dz[n,p,q,k] = dy[n, p/POOL_R, q/POOL_S, k] where choice names (p % POOL_R, q % POOL_S), else 0, also behind the
//           last whole window; dx[n,h,w,c] = sum over r,s,k of dz[n, h + PAD_TOP - r, w + PAD_LEFT - s, k] * weight[k,r,s,c]
// Layout    see conv_pool2d.cuh; shared memory, in SPEC_ACC: dz [GRADIENT_H][K][GRADIENT_PITCH], columns fastest, as
//           neighbouring threads own neighbouring columns; the pitch is odd, because dz is filled along k.
//           filters [R*S][K][BLOCK_CHANNELS]
// Compiled  SPEC_*: ConvPool2dSpec without bias; TUNE_PIXELS, TUNE_LINES, TUNE_WIDTH: a tile of x is PIXELS * LINES rows of WIDTH
//           pixels; TUNE_CHANNELS: channels of a thread; TUNE_GROUPS: threads' groups of channels in a block; TUNE_THREADS:
//           block size; run time: the batch, as grid
// Launch    grid = N * tiles of x * channel blocks, block = THREADS; a thread owns PIXELS pixels of a column, LINES rows apart,
//           and CHANNELS channels of each
// Assumes   what conv_pool2d.cuh says
// Writes    every dx once; sums in the order r, s, k, one fused multiply-add each, dz that is 0 included: the bits of
//           conv2d_backward_input_implicit_gemm on the unfused chain's gradient
// Cost      2*N*H*W*C*R*S*K flops (the zeros of dz are multiplied), PIXELS + CHANNELS loads from shared memory for PIXELS *
//           CHANNELS multiply-adds; dy and choice are read WINDOW times from cache, dx is written: bound by shared memory
//           and, with few blocks, by latency
// Tested    tests/operations/test_conv_pool2d.py
// Source    the transpose of the definition
#include "conv_pool2d.cuh"

constexpr int THREADS = TUNE_THREADS, PIXELS = TUNE_PIXELS, LINES = TUNE_LINES, WIDTH = TUNE_WIDTH;
constexpr int CHANNELS = TUNE_CHANNELS, BLOCK_CHANNELS = CHANNELS * TUNE_GROUPS, CHANNEL_BLOCKS = ceil_div(C, BLOCK_CHANNELS);
constexpr int HEIGHT = PIXELS * LINES, DOWN = ceil_div(H, HEIGHT), ACROSS = ceil_div(W, WIDTH);
constexpr int GRADIENT_H = HEIGHT + R - 1, GRADIENT_W = WIDTH + S - 1, GRADIENT_PITCH = GRADIENT_W | 1;

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv_pool2d_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                  const unsigned char* __restrict__ choice, const SPEC_T* __restrict__ weight) {
  __shared__ SPEC_ACC gradient[GRADIENT_H * K * GRADIENT_PITCH];
  __shared__ SPEC_ACC filters[R * S * K * BLOCK_CHANNELS];
  const int first_channel = (int)(blockIdx.x % CHANNEL_BLOCKS) * BLOCK_CHANNELS;
  const unsigned tile = blockIdx.x / CHANNEL_BLOCKS;
  const int left = (int)(tile % ACROSS) * WIDTH, top = (int)(tile / ACROSS % DOWN) * HEIGHT;
  const long long n = tile / (ACROSS * DOWN), pooled = n * POOLED_P * POOLED_Q * K;

  for (int e = (int)threadIdx.x; e < GRADIENT_H * GRADIENT_W * K; e += THREADS) {
    const int k = e % K, column = e / K % GRADIENT_W, line = e / (K * GRADIENT_W);
    const int p = top + PAD_TOP - (R - 1) + line, q = left + PAD_LEFT - (S - 1) + column;
    SPEC_ACC value = 0;
    if (inside(p, POOLED_P * POOL_R) && inside(q, POOLED_Q * POOL_S)) {
      const long long output = pooled + (p / POOL_R * POOLED_Q + q / POOL_S) * K + k;
      if ((int)choice[output] == p % POOL_R * POOL_S + q % POOL_S) value = to_acc(dy[output]);
    }
    gradient[(line * K + k) * GRADIENT_PITCH + column] = value;
  }
  for (int e = (int)threadIdx.x; e < R * S * K * BLOCK_CHANNELS; e += THREADS) {
    const int c = first_channel + e % BLOCK_CHANNELS, k = e / BLOCK_CHANNELS % K, tap = e / (BLOCK_CHANNELS * K);
    filters[e] = c < C ? to_acc(weight[(k * R * S + tap) * C + c]) : SPEC_ACC(0);
  }
  __syncthreads();

  for (int item = (int)threadIdx.x; item < LINES * WIDTH * TUNE_GROUPS; item += THREADS) {
    const int column = item % WIDTH, line = item / WIDTH % LINES, first = item / (WIDTH * LINES) * CHANNELS;
    SPEC_ACC sums[PIXELS][CHANNELS] = {};
    for (int r = 0; r < R; ++r)
      for (int s = 0; s < S; ++s) {
        const SPEC_ACC* seen = gradient + (line + R - 1 - r) * K * GRADIENT_PITCH + column + S - 1 - s;
        const SPEC_ACC* taps = filters + (r * S + s) * K * BLOCK_CHANNELS + first;
#pragma unroll 4
        for (int k = 0; k < K; ++k) {
          SPEC_ACC values[PIXELS];
#pragma unroll
          for (int i = 0; i < PIXELS; ++i) values[i] = seen[(i * LINES * K + k) * GRADIENT_PITCH];
#pragma unroll
          for (int c = 0; c < CHANNELS; ++c) {
            const SPEC_ACC tap = taps[k * BLOCK_CHANNELS + c];
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) sums[i][c] = multiply_add(values[i], tap, sums[i][c]);
          }
        }
      }

    const int w = left + column;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
      const int h = top + i * LINES + line;
      if (h >= H || w >= W) continue;
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c)
        if (first_channel + first + c < C)
          dx[n * IMAGE + (h * W + w) * C + first_channel + first + c] = from_acc<SPEC_T>(sums[i][c]);
    }
  }
}
