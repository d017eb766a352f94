// conv2d_backward_weight_implicit_gemm.cu -- gradient of a 2-D convolution's weight, first of two launches: tiled
// matrix products over chunks of output positions.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the CHUNK positions (n,p,q) of a chunk of dy[n,p,q,k] * x[n,
//           p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c], x zero outside the image;
//           conv2d_backward_weight_sum adds the chunks. As a product: rows k, columns (r,s,c), depth (n,p,q)
// Layout    channels-last, see conv2d.cuh; workspace (ceil(N*P*Q / CHUNK), K, R, S, C) in SPEC_ACC; dy is contiguous
//           along rows, x along columns
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CHUNK: positions per chunk, a multiple of DEPTH, never a
//           function of N; TUNE_*: see conv2d_tile.cuh; run time: N
// Launch    grid = chunks * row tiles * column tiles, columns first; one block owns ROWS filters x COLUMNS weights
//           of one chunk
// Assumes   GROUPS = 1; see conv2d_tile.cuh
// Writes    every element of the workspace once; sums in the order n, p, q, one fused multiply-add each. The padding
//           enters as zeros, which differ from taps left out only where dy is not finite
// Cost      2*N*P*Q*K*R*S*C flops, rounded up to whole tiles; dy is read R*S*C/COLUMNS times, x K/ROWS * R*S times
//           from cache, WEIGHTS * chunks sums are written: bound by arithmetic when K and R*S*C are not small
// Tested    tests/operations/test_conv2d.py
// Source    see conv2d_forward_implicit_gemm.cu
#include "conv2d_tile.cuh"

constexpr int CHUNK = TUNE_CHUNK;
constexpr int COLUMN_TILES = ceil_div(FILTER, COLUMNS), ROW_TILES = ceil_div(K, ROWS);
static_assert(CHUNK % DEPTH == 0, "TUNE_CHUNK is a multiple of TUNE_DEPTH");

struct GradientOperand {
  Carrier<ROWS, VECTOR_K, false> carrier;
  const SPEC_T* dy;
  int first;
  unsigned begin, end;

  __device__ __forceinline__ void fetch(int step) {
    const int k = first + carrier.offset();
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      const unsigned m = begin + step * DEPTH + carrier.line(i);
      carrier.packs[i] = {};
      if (carrier.carries(i) && m < end && k < K) carrier.packs[i] = load_pack<VECTOR_K>(dy + (long long)m * K + k);
    }
  }
};

struct ImageOperand {
  Carrier<COLUMNS, VECTOR_C, false> carrier;
  const SPEC_T* x;
  int c, from_top, from_left;  // this thread's channel and tap, relative to a window's first pixel inside the image
  bool used;
  unsigned begin, end;

  __device__ __forceinline__ ImageOperand(const SPEC_T* image, int first, unsigned chunk_begin, unsigned chunk_end)
      : x(image), begin(chunk_begin), end(chunk_end) {
    const int column = first + carrier.offset(), stored = column / C, tap = FLIP ? R * S - 1 - stored : stored;
    used = column < FILTER;
    c = column % C;
    from_top = used ? tap / S * DILATION_H - PAD_TOP : 0;
    from_left = used ? tap % S * DILATION_W - PAD_LEFT : 0;
  }
  __device__ __forceinline__ void fetch(int step) {
#pragma unroll
    for (int i = 0; i < carrier.COUNT; ++i) {
      const unsigned m = begin + step * DEPTH + carrier.line(i);
      carrier.packs[i] = {};
      if (!carrier.carries(i) || m >= end || !used) continue;
      const OutputPosition at = output_position(m);
      const int h = at.p * STRIDE_H + from_top, w = at.q * STRIDE_W + from_left;
      if (inside(h, H) && inside(w, W)) carrier.packs[i] = load_pack<VECTOR_C>(x + at.n * IMAGE + (h * W + w) * C + c);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS, 2)
conv2d_backward_weight_implicit_gemm(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                     const SPEC_T* __restrict__ x, int N) {
  __shared__ __align__(16) LeftTiles left_tiles;
  __shared__ __align__(16) RightTiles right_tiles;
  const unsigned positions = (unsigned)N * P * Q, chunk = blockIdx.x / (COLUMN_TILES * ROW_TILES);
  const unsigned begin = chunk * CHUNK, end = min(begin + CHUNK, positions);
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;
  const int first_row = (int)(blockIdx.x / COLUMN_TILES % ROW_TILES) * ROWS;

  GradientOperand gradient{{}, dy, first_row, begin, end};
  ImageOperand image(x, first_column, begin, end);
  Sums sums = {};
  multiply(gradient, image, (int)ceil_div<unsigned>(end - begin, DEPTH), left_tiles, right_tiles, sums);

  SPEC_ACC* chunk_sums = workspace + (long long)chunk * WEIGHTS;
#pragma unroll
  for (int j = 0; j < 4 * COLUMN_SQUARES; j += VECTOR_C) {
    const int column = first_column + tile_column(j);
    if (column >= FILTER) continue;
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i) {
      const int k = first_row + tile_row(i);
      if (k >= K) continue;
      Pack<SPEC_ACC, VECTOR_C> pack;
#pragma unroll
      for (int v = 0; v < VECTOR_C; ++v) pack.values[v] = sums[i][j + v];
      // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
      store_pack<VECTOR_C>(chunk_sums + (unsigned)(k * FILTER + column), pack);
    }
  }
}
