// conv2d_backward_weight_tensor_core.cu -- gradient of a 2-D convolution's weight on tensor cores, first of two
// launches: matrix products over chunks of output positions.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the CHUNK positions (n,p,q) of a chunk of dy[n,p,q,k] * x[n,
//           p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c], c over the channels of k's
//           group, x zero outside the image; conv2d_backward_weight_sum adds the chunks. As products, one for each
//           group: rows k, columns (r,s,c), depth (n,p,q)
// Layout    channels-last, see conv2d.cuh; workspace (ceil(N*P*Q / CHUNK), K, R, S, C/GROUPS) in float; dy is
//           contiguous along rows, x along columns
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CHUNK: positions per chunk, a multiple of DEPTH, never a
//           function of N; TUNE_*: see tensor_core_tile.cuh; run time: N
// Launch    grid = chunks * groups * row tiles * column tiles, columns first; one block owns ROWS filters x COLUMNS
//           weights of one chunk and group
// Assumes   C/GROUPS and K/GROUPS multiples of the elements in 16 bytes; arrays aligned to 16 bytes; see
//           tensor_core_tile.cuh
// Writes    every element of the workspace once, in 16-byte stores; sums in the order n, p, q, see
//           tensor_core_tile.cuh. The padding enters as zeros, which differ from taps left out only where dy is not
//           finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles, three times that with SPLIT; dy is copied
//           R*S*C/COLUMNS times, x K/ROWS * R*S times from cache, WEIGHTS * chunks sums are written: bound by the
//           tensor cores when K and R*S*C are not small, else by memory: dy and x once, the workspace
// Tested    tests/operations/test_conv2d_tensor_core.py
// Source    see conv2d_forward_tensor_core.cu
#include "conv2d.cuh"
#include "tensor_core_tile.cuh"

constexpr int CHUNK = TUNE_CHUNK;
constexpr int COLUMN_TILES = ceil_div(FILTER, COLUMNS), ROW_TILES = ceil_div(GROUP_K, ROWS);
constexpr int WIDTH = 4;  // sums in 16 bytes

static_assert(CHUNK % DEPTH == 0, "TUNE_CHUNK is a multiple of TUNE_DEPTH");
static_assert(GROUP_C % VECTOR == 0 && GROUP_K % VECTOR == 0, "a chunk lies within one tap, and within one group");

struct GradientOperand {
  typedef OperandTile<ROWS, false> Tile;
  const SPEC_T* dy;  // at the group's first filter
  int first;
  unsigned begin, end;

  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
    const int k = first + Tile::offset();
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const unsigned m = begin + step * DEPTH + Tile::line(i);
      Tile::copy(tile, i, dy + (long long)m * K + k, m < end && k < GROUP_K);
    }
  }
};

struct ImageOperand {
  typedef OperandTile<COLUMNS, false> Tile;
  const SPEC_T* x;             // at the group's first channel
  int c, from_top, from_left;  // this thread's channel and tap, relative to a window's first pixel inside the image
  bool used;
  unsigned begin, end;

  __device__ __forceinline__ ImageOperand(const SPEC_T* image, int first, unsigned chunk_begin, unsigned chunk_end)
      : x(image), begin(chunk_begin), end(chunk_end) {
    const int column = first + Tile::offset(), stored = column / GROUP_C, tap = FLIP ? R * S - 1 - stored : stored;
    used = column < FILTER;
    c = column % GROUP_C;
    from_top = used ? tap / S * DILATION_H - PAD_TOP : 0;
    from_left = used ? tap % S * DILATION_W - PAD_LEFT : 0;
  }
  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const unsigned m = begin + step * DEPTH + Tile::line(i);
      const OutputPosition at = output_position(m);
      const int h = at.p * STRIDE_H + from_top, w = at.q * STRIDE_W + from_left;
      // The operator & leaves no branches.
      const bool valid = (m < end) & used & inside(h, H) & inside(w, W);
      Tile::copy(tile, i, x + at.n * IMAGE + ((long long)h * W + w) * C + c, valid);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_weight_tensor_core(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                   const SPEC_T* __restrict__ x, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned tile = blockIdx.x % (COLUMN_TILES * ROW_TILES), product = blockIdx.x / (COLUMN_TILES * ROW_TILES);
  const int first_column = (int)(tile % COLUMN_TILES) * COLUMNS, first_row = (int)(tile / COLUMN_TILES) * ROWS;
  const int group = (int)(product % GROUPS);
  const unsigned positions = (unsigned)N * P * Q, chunk = product / GROUPS;
  const unsigned begin = chunk * CHUNK, end = min(begin + CHUNK, positions);

  const GradientOperand gradient{dy + group * GROUP_K, first_row, begin, end};
  const ImageOperand image(x + group * GROUP_C, first_column, begin, end);
  Sums sums;
  multiply(gradient, image, (int)ceil_div<unsigned>(end - begin, DEPTH), tiles, sums);

  SPEC_ACC* chunk_sums = workspace + ((long long)chunk * WEIGHTS + group * GROUP_K * FILTER);
  for_each_pack<WIDTH>(sums, [=](int row, int column, const float(&values)[WIDTH]) {
    const int k = first_row + row, weight = first_column + column;
    if (k >= GROUP_K || weight >= FILTER) return;
    Pack<SPEC_ACC, WIDTH> pack;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) pack.values[v] = values[v];
    // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
    store_pack<WIDTH>(chunk_sums + (unsigned)(k * FILTER + weight), pack);
  });
}
