// conv_pool2d_forward_direct.cu -- convolution, bias, max-pooling and ReLU in one launch; the convolution's output exists in
// registers only.
//
// Computes  z[p,q,k] = bias[k] + sum over r,s,c of x[n, p - PAD_TOP + r, q - PAD_LEFT + s, c] * weight[k,r,s,c], x zero
//           outside the image; y[n,i,j,k] = relu(max of z over the window of POOL_R x POOL_S pixels from
//           (i*POOL_R, j*POOL_S)), which is the maximum of relu(z) because both are monotone; choice: see conv_pool2d.cuh
// Layout    see conv_pool2d.cuh; bias (K,) or null without SPEC_BIAS
//           shared memory: the image tile, and filters [TAPS][BLOCK_FILTERS], so that a thread's filters are neighbours
// Compiled  SPEC_*: ConvPool2dSpec; TUNE_ROWS, TUNE_COLUMNS: pooled outputs of a tile; TUNE_FILTERS: filters of a thread, 4, 6
//           or 8; TUNE_GROUPS: threads' groups of filters in a block; TUNE_VECTOR: elements per store, 1 or 4;
//           TUNE_THREADS: block size; run time: the batch, as grid
// Launch    grid = N * ROW_TILES * COLUMN_TILES * FILTER_BLOCKS, block = THREADS; a thread owns the whole window of an output for
//           FILTERS filters, WINDOW * FILTERS sums; neighbouring threads own neighbouring outputs, so that they read the
//           same filters
// Assumes   VECTOR 4 needs arrays aligned to 16 bytes and K a multiple of 4
// Writes    every y and choice once. Sums in the order r, s, c, one fused multiply-add each, the padding as zeros, then the
//           bias, then rounded to SPEC_T: the bits of conv2d_forward_implicit_gemm. Ties go to the first pixel in row-major
//           order, as does NaN, which beats every number and passes the ReLU: y is that of the unfused chain, bit for bit,
//           and so is choice wherever y is not 0
// Cost      2*N*POOLED_P*POOLED_Q*WINDOW*K*TAPS flops; x is read once per tile, y and choice are written, no other traffic.
//           Each tap takes WINDOW + FILTERS/4 loads from shared memory for WINDOW * FILTERS multiply-adds, 6 to 32 for
//           2 x 2 and 8 filters: bound by arithmetic
// Tested    tests/operations/test_conv_pool2d.py
// Source    pooling before ReLU: https://github.com/tuomaso/train_mnist_fast
#include "conv_pool2d.cuh"
#include "mathematics.cuh"
#include "pack.cuh"

constexpr int FILTERS = TUNE_FILTERS, BLOCK_FILTERS = FILTERS * TUNE_GROUPS, FILTER_BLOCKS = ceil_div(K, BLOCK_FILTERS);
constexpr int PACK = FILTERS % 4 == 0 ? 4 : 2, VECTOR = TUNE_VECTOR;
static_assert(FILTERS % PACK == 0, "a thread's filters are whole packs");
static_assert(VECTOR == 1 || (VECTOR == 4 && FILTERS % 4 == 0 && K % 4 == 0), "stores are whole packs");

// Whether a pixel displaces one that comes before it in the window: ties do not, and nothing displaces NaN.
__device__ __forceinline__ bool displaces(SPEC_ACC value, SPEC_ACC chosen) { return !is_nan(chosen) && !(value <= chosen); }

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv_pool2d_forward_direct(SPEC_T* __restrict__ y, unsigned char* __restrict__ choice, const SPEC_T* __restrict__ x,
                           const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias) {
  __shared__ __align__(16) SPEC_ACC filters[TAPS * BLOCK_FILTERS];
  __shared__ SPEC_ACC image[TILE_H * PITCH];
  const int first_filter = (int)(blockIdx.x % FILTER_BLOCKS) * BLOCK_FILTERS;
  const unsigned tile = blockIdx.x / FILTER_BLOCKS;
  const int first_column = (int)(tile % COLUMN_TILES) * COLUMNS;
  const int first_row = (int)(tile / COLUMN_TILES % ROW_TILES) * ROWS;
  const long long n = tile / (COLUMN_TILES * ROW_TILES);

  load_image_tile(image, x + n * IMAGE, first_row, first_column);
  for (int e = (int)threadIdx.x; e < TAPS * BLOCK_FILTERS; e += THREADS) {
    const int f = e / TAPS, tap = e % TAPS, k = first_filter + f;
    filters[tap * BLOCK_FILTERS + f] = k < K ? to_acc(weight[k * TAPS + tap]) : SPEC_ACC(0);
  }
  __syncthreads();

  for (int item = (int)threadIdx.x; item < POSITIONS * TUNE_GROUPS; item += THREADS) {
    const int position = item % POSITIONS, first = item / POSITIONS * FILTERS;
    const int row = position / COLUMNS, column = position % COLUMNS;
    const SPEC_ACC* corner = image + row * POOL_R * PITCH + column * POOL_S * C;
    SPEC_ACC sums[WINDOW][FILTERS] = {};
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int s = 0; s < S; ++s)
        for (int c = 0; c < C; ++c) {
          Pack<SPEC_ACC, PACK> taps[FILTERS / PACK];
#pragma unroll
          for (int i = 0; i < FILTERS / PACK; ++i)
            taps[i] = load_pack<PACK>(filters + ((r * S + s) * C + c) * BLOCK_FILTERS + first + i * PACK);
#pragma unroll
          for (int i = 0; i < WINDOW; ++i) {
            const SPEC_ACC value = corner[(i / POOL_S + r) * PITCH + (i % POOL_S + s) * C + c];
#pragma unroll
            for (int f = 0; f < FILTERS; ++f)
              sums[i][f] = multiply_add(value, taps[f / PACK].values[f % PACK], sums[i][f]);
          }
        }

    const int p = first_row + row, q = first_column + column;
    if (p >= POOLED_P || q >= POOLED_Q) continue;
    const long long output = ((n * POOLED_P + p) * POOLED_Q + q) * K;
#pragma unroll
    for (int v = 0; v < FILTERS; v += VECTOR) {
      const int k = first_filter + first + v;
      if (k >= K) continue;
      Pack<SPEC_T, VECTOR> values;
      Pack<unsigned char, VECTOR> offsets;
#pragma unroll
      for (int f = 0; f < VECTOR; ++f) {
        const SPEC_ACC offset = SPEC_BIAS ? to_acc(bias[k + f]) : SPEC_ACC(0);
        SPEC_ACC best = minus_infinity(SPEC_ACC(0));
        int chosen = 0;
#pragma unroll
        for (int i = 0; i < WINDOW; ++i) {
          // Rounded before it is compared, so that equal stored values tie.
          const SPEC_ACC sum = sums[i][v + f], value = to_acc(from_acc<SPEC_T>(SPEC_BIAS ? sum + offset : sum));
          if (displaces(value, best)) {
            best = value;
            chosen = i;
          }
        }
        const bool off = best <= SPEC_ACC(0);
        values.values[f] = from_acc<SPEC_T>(off ? SPEC_ACC(0) : best);
        offsets.values[f] = off ? NOT_POSITIVE : (unsigned char)chosen;
      }
      store_pack<VECTOR>(y + output + k, values);
      store_pack<VECTOR>(choice + output + k, offsets);
    }
  }
}
