// conv2d_forward_tensor_core.cu -- 2-D convolution as a matrix product on tensor cores whose left matrix is read from
// the image.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), c over the channels of k's group, x zero outside the
//           image; with FLIP the filter is mirrored. As products, one for each group: rows (n,p,q), columns k, depth
//           (r,s,c)
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS; both operands are contiguous along
//           depth
// Compiled  SPEC_*: Conv2dSpec; TUNE_*: see tensor_core_tile.cuh; run time: N
// Launch    grid = row tiles * groups * column tiles, columns first, so that blocks that share image rows run
//           together; one block owns ROWS positions x COLUMNS filters of a group
// Assumes   C/GROUPS a multiple of the elements in 16 bytes; arrays aligned to 16 bytes; see tensor_core_tile.cuh
// Writes    every y once, in 16-byte stores where K/GROUPS allows; sums in the order r, s, c, see tensor_core_tile.cuh.
//           The padding enters as zeros, which differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles, three times that with SPLIT; each x is copied
//           from cache K/COLUMNS * R*S times, the weight once per ROWS positions: bound by the tensor cores when K and
//           R*S*C are not small, else by memory: x, weight and y once each
// Tested    tests/operations/test_conv2d.py
// Source    S. Chetlur et al., "cuDNN: efficient primitives for deep learning", arXiv:1410.0759, section 3
#include "activation.cuh"
#include "conv2d.cuh"
#include "tensor_core_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(GROUP_K, COLUMNS);
constexpr int VECTOR_K = GROUP_K % VECTOR == 0 ? VECTOR : 1;

static_assert(GROUP_C % VECTOR == 0, "a chunk lies within one tap");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no pixel and stay within int");

struct ImageOperand {
  typedef OperandTile<ROWS, true> Tile;
  const SPEC_T* x;  // at the group's first channel
  const WindowStart* windows;

  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
    const int depth = step * DEPTH + Tile::offset(), c = depth % GROUP_C, tap = depth / GROUP_C;
    const int down = tap / S * DILATION_H, across = tap % S * DILATION_W;
    const long long shift = ((long long)down * W + across) * C + c;
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const WindowStart window = windows[Tile::line(i)];
      // The operator & leaves no branches.
      const bool valid = (depth < FILTER) & inside(window.h + down, H) & inside(window.w + across, W);
      Tile::copy(tile, i, x + window.element + shift, valid);
    }
  }
};

struct FilterOperand {
  typedef OperandTile<COLUMNS, true> Tile;
  const SPEC_T* weight;  // of the group
  int first;

  __device__ __forceinline__ void copy(int step, SPEC_T* tile) const {
    const int depth = step * DEPTH + Tile::offset(), c = depth % GROUP_C, tap = depth / GROUP_C;
    const int element = stored_tap(tap / S, tap % S) * GROUP_C + c;
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      const int k = first + Tile::line(i);
      Tile::copy(tile, i, weight + (long long)k * FILTER + element, depth < FILTER && k < GROUP_K);
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_forward_tensor_core(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                           const SPEC_T* __restrict__ bias, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  __shared__ WindowStart windows[ROWS];
  const unsigned positions = (unsigned)N * P * Q, first_row = blockIdx.x / (COLUMN_TILES * GROUPS) * ROWS;
  const int group = (int)(blockIdx.x / COLUMN_TILES % GROUPS);
  const int first_column = (int)(blockIdx.x % COLUMN_TILES) * COLUMNS;

  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) windows[row] = window_start(first_row + row, positions);
  __syncthreads();

  const ImageOperand image{x + group * GROUP_C, windows};
  const FilterOperand filters{weight + group * GROUP_K * FILTER, first_column};
  Sums sums;
  multiply(image, filters, ceil_div(FILTER, DEPTH), tiles, sums);

#pragma unroll
  for (int j = 0; j < STRIPS; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int k = first_column + sum_column(j, e);
      const float offset = SPEC_BIAS && k < GROUP_K ? to_acc(bias[group * GROUP_K + k]) : 0.0f;
#pragma unroll
      for (int i = 0; i < BANDS; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float& sum = sums[i][j][2 * half + e];
          sum = activate(SPEC_BIAS ? sum + offset : sum);
        }
      }
    }
  }
  for_each_pack<VECTOR>(sums, [=](int row, int column, const float(&values)[VECTOR]) {
    const unsigned m = first_row + row;
    if (m >= positions) return;
#pragma unroll
    for (int v = 0; v < VECTOR; v += VECTOR_K) {
      const int k = first_column + column + v;
      if (k >= GROUP_K) return;
      Pack<SPEC_T, VECTOR_K> pack;
#pragma unroll
      for (int u = 0; u < VECTOR_K; ++u) pack.values[u] = from_acc<SPEC_T>(values[v + u]);
      store_pack<VECTOR_K>(y + (long long)m * K + (group * GROUP_K + k), pack);
    }
  });
}
