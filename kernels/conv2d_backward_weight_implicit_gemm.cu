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
#include "conv2d_pixels.cuh"
#include "conv2d_tile.cuh"

constexpr int CHUNK = TUNE_CHUNK;
constexpr int COLUMN_TILES = ceil_div(FILTER, COLUMNS), ROW_TILES = ceil_div(K, ROWS);
static_assert(CHUNK % DEPTH == 0, "TUNE_CHUNK is a multiple of TUNE_DEPTH");

typedef PixelWalk<DEPTH> Pixel;

struct Operands {
  Carrier<ROWS, VECTOR_K, false> left;
  Carrier<COLUMNS, VECTOR_C, false> right;
  const SPEC_T* gradient;  // dy at this thread's filter and first position
  int left_positions, right_positions;  // of the chunk from this thread's first on
  TapOffset tap;
  Pixel pixels[SAME_PIXELS ? 1 : decltype(right)::COUNT];
  bool used_filter, used_weight;

  __device__ __forceinline__ Operands(const SPEC_T* dy, const SPEC_T* x, int first_row, int first_column, unsigned begin,
                                      unsigned end)
      : gradient(dy + ((long long)(begin + left.line(0)) * K + first_row + left.offset())),
        left_positions((int)(end - begin) - left.line(0)),
        right_positions((int)(end - begin) - right.line(0)),
        used_filter(K % ROWS == 0 || first_row + left.offset() < K) {
    const int column = first_column + right.offset();
    used_weight = FILTER % COLUMNS == 0 || column < FILTER;
    tap = TapOffset(column);
#pragma unroll
    for (int i = 0; i < (SAME_PIXELS ? 1 : right.COUNT); ++i) pixels[i] = Pixel::of(x + tap.channel, tap, begin + right.line(i));
  }
  __device__ __forceinline__ void fetch() {
#pragma unroll
    for (int i = 0; i < left.COUNT; ++i) {
      left.packs[i] = {};
      // The operator & leaves no branches.
      if (used_filter & left.carries(i) & (i * left.STEP < left_positions))
        left.packs[i] = load_pack<VECTOR_K>(gradient + (long long)i * left.STEP * K);
    }
#pragma unroll
    for (int i = 0; i < right.COUNT; ++i) {
      const Pixel& pixel = pixels[SAME_PIXELS ? 0 : i];
      right.packs[i] = {};
      const bool valid = used_weight & right.carries(i) & (i * right.STEP < right_positions);
      if (valid & (SAME_PIXELS || pixel.in_image()))
        right.packs[i] = load_pack<VECTOR_C>(pixel.source + (SAME_PIXELS ? (long long)i * right.STEP * C : 0));
    }
  }
  __device__ __forceinline__ void advance() {
    left_positions -= DEPTH;
    right_positions -= DEPTH;
    gradient += (long long)DEPTH * K;
    if (SAME_PIXELS) pixels[0].source += (long long)DEPTH * C;
#pragma unroll
    for (int i = 0; i < (SAME_PIXELS ? 0 : right.COUNT); ++i) pixels[i].advance(tap);
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

  Operands operands(dy, x, first_row, first_column, begin, end);
  Sums sums = {};
  multiply(operands, (int)ceil_div<unsigned>(end - begin, DEPTH), left_tiles, right_tiles, sums);

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
