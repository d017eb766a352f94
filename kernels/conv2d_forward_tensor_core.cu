// conv2d_forward_tensor_core.cu -- 2-D convolution as a matrix product on tensor cores whose left matrix is read from
// the image.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), c over the channels of k's group, x zero outside the
//           image; with FLIP the filter is mirrored. As products, one for each group: rows (n,p,q), columns k, depth
//           (r,s,c)
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS; both operands are contiguous along
//           depth; workspace (CHUNKS, N, P, Q, K) of SPEC_ACC
// Compiled  SPEC_*: Conv2dSpec; TUNE_*: see tensor_core_tile.cuh; TUNE_CHUNKS: 1, or the chunks of TUNE_CHUNK terms
//           into which split_depth cuts the depth; run time: N
// Launch    tensor_core: grid = row tiles * groups * column tiles, columns first, so that blocks that share image rows
//           run together; one block owns ROWS positions x COLUMNS filters of a group
//           tensor_core_split_depth: grid = that * chunks, chunks first; a block owns a tile of one chunk's sums;
//           conv2d_split_depth_sum.cu follows
// Assumes   C/GROUPS a multiple of the elements in 16 bytes; arrays aligned to 16 bytes; see tensor_core_tile.cuh
// Writes    every y once, in 16-byte stores where K/GROUPS allows; sums in the order r, s, c, see tensor_core_tile.cuh.
//           The padding enters as zeros, which differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles, three times that with SPLIT; each x is copied
//           from cache K/COLUMNS * R*S times, the weight once per ROWS positions: bound by the tensor cores when K and
//           R*S*C are not small, else by memory: x, weight and y once each
// Tested    tests/operations/test_conv2d_tensor_core.py, test_conv2d_split_depth.py
// Source    S. Chetlur et al., "cuDNN: efficient primitives for deep learning", arXiv:1410.0759, section 3
#include "activation.cuh"
#include "conv2d_taps.cuh"
#include "tensor_core_tile.cuh"

constexpr int COLUMN_TILES = ceil_div(GROUP_K, COLUMNS);

static_assert(GROUP_C % VECTOR == 0, "a chunk lies within one tap");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no pixel and stay within int");
#if TUNE_CHUNKS > 1
static_assert(TUNE_CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at the end");
static_assert((TUNE_CHUNKS - 1) * TUNE_CHUNK < FILTER && FILTER <= TUNE_CHUNKS * TUNE_CHUNK, "chunks cover the depth");
#endif

typedef TapRow<DILATION_H, DILATION_W, H, W> Window;

struct Operands {
  typedef OperandTile<ROWS, true> Left;
  typedef OperandTile<COLUMNS, true> Right;
  typedef DepthWalk<GROUP_C, DEPTH> Walk;
  struct Place {
    Walk walk;
    long long pixel;  // from a window's start
    const SPEC_T* weight;
  };
  const SPEC_T* weight;  // of the first filter that this thread copies
  int filters;           // from there on
  int begin;             // of the depth
  Window windows[Left::COUNT];

  __device__ __forceinline__ Operands(const Window* of_rows, const SPEC_T* group_weight, int first, int begin)
      : weight(group_weight + (long long)(first + Right::line(0)) * FILTER),
        filters(GROUP_K - first - Right::line(0)),
        begin(begin) {
#pragma unroll
    for (int i = 0; i < Left::COUNT; ++i)
      if (Left::copies(i)) windows[i] = of_rows[Left::line(i)];
  }
  __device__ __forceinline__ Place first() const {
    const Walk walk(begin + Left::offset(), S);
    const long long pixel = ((long long)walk.i * DILATION_H * W + walk.j * DILATION_W) * C + walk.channel;
    return {walk, pixel, weight + (stored_tap(walk.i, walk.j) * GROUP_C + walk.channel)};
  }
  __device__ __forceinline__ void copy(const Place& place, SPEC_T* left, SPEC_T* right, bool wanted) const {
    const bool inside_filter = FILTER % DEPTH == 0 || place.walk.i < R;
#pragma unroll
    for (int i = 0; i < Left::COUNT; ++i)
      if (Left::copies(i))
        Left::copy(left, i, windows[i].source + place.pixel, windows[i].meets(place.walk, R), wanted);
#pragma unroll
    for (int i = 0; i < Right::COUNT; ++i)
      if (Right::copies(i)) {
        const bool valid = inside_filter & (GROUP_K % COLUMNS == 0 || i * Right::STEP < filters);
        Right::copy(right, i, place.weight + (long long)i * Right::STEP * FILTER, valid, wanted);
      }
  }
  __device__ __forceinline__ void advance(Place& place) const {
    place.pixel += DEPTH;
    place.weight += DEPTH;
    place.walk.advance(S, [&](bool next_tap, bool next_row) {
      constexpr long long TAP = (long long)DILATION_W * C - GROUP_C;
      constexpr long long ROW = ((long long)DILATION_H * W - (long long)S * DILATION_W) * C;
      place.pixel += (next_tap ? TAP : 0) + (next_row ? ROW : 0);
      if (FLIP) place.weight -= next_tap ? 2 * GROUP_C : 0;
    });
  }
};

// A block's tile: its first row and column, and its group.
struct TilePlace {
  unsigned row;
  int group, column;
  __device__ __forceinline__ explicit TilePlace(unsigned tile)
      : row(tile / (COLUMN_TILES * GROUPS) * ROWS),
        group((int)(tile / COLUMN_TILES % GROUPS)),
        column((int)(tile % COLUMN_TILES) * COLUMNS) {}
};

// The sums of a tile over the depth from `begin` to `end`.
__device__ __forceinline__ void add_terms(const TilePlace& at, const SPEC_T* x, const SPEC_T* weight,
                                          unsigned positions, int begin, int end, SPEC_T* tiles, Sums& sums) {
  __shared__ Window windows[ROWS];
  for (int row = (int)threadIdx.x; row < ROWS; row += THREADS) {
    const WindowStart start = window_start(at.row + row, positions);
    windows[row] = Window::of(x + (start.element + at.group * GROUP_C), start.h, start.w, R, S);
  }
  __syncthreads();

  const Operands operands(windows, weight + at.group * GROUP_K * FILTER, at.column, begin);
  multiply(operands, ceil_div(end - begin, DEPTH), tiles, sums);
}

// y[m][k] = the sums, in packs of WIDTH where rows of a group start at multiples of that.
template <int WIDTH, class T>
__device__ __forceinline__ void store_sums(T* y, const Sums& sums, const TilePlace& at, unsigned positions) {
  constexpr int PACKED = GROUP_K % WIDTH == 0 ? WIDTH : 1;
  for_each_pack<WIDTH, Operands>(sums, [=](int row, int column, const float(&values)[WIDTH]) {
    const unsigned m = at.row + row;
    if (m >= positions) return;
#pragma unroll
    for (int v = 0; v < WIDTH; v += PACKED) {
      const int k = at.column + column + v;
      if (k >= GROUP_K) return;
      Pack<T, PACKED> pack;
#pragma unroll
      for (int u = 0; u < PACKED; ++u) pack.values[u] = from_acc<T>(values[v + u]);
      store_pack<PACKED>(y + (long long)m * K + (at.group * GROUP_K + k), pack);
    }
  });
}

#if TUNE_CHUNKS == 1
GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_forward_tensor_core(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                           const SPEC_T* __restrict__ bias, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned positions = (unsigned)N * P * Q;
  const TilePlace at(blockIdx.x);
  Sums sums;
  add_terms(at, x, weight, positions, 0, FILTER, tiles, sums);
#pragma unroll
  for (int j = 0; j < STRIPS; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int k = at.column + warp_column() + Operands::Right::column(j, e);
      const float offset = SPEC_BIAS && k < GROUP_K ? to_acc(bias[at.group * GROUP_K + k]) : 0.0f;
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
  store_sums<VECTOR>(y, sums, at, positions);
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_forward_tensor_core_split_depth(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ x,
                                       const SPEC_T* __restrict__ weight, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned positions = (unsigned)N * P * Q, chunk = blockIdx.x % TUNE_CHUNKS;
  const int begin = (int)chunk * TUNE_CHUNK;
  const TilePlace at(blockIdx.x / TUNE_CHUNKS);
  Sums sums;
  add_terms(at, x, weight, positions, begin, min(begin + TUNE_CHUNK, FILTER), tiles, sums);
  store_sums<4>(workspace + (long long)chunk * positions * K, sums, at, positions);
}
#endif
