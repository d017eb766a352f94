// matmul_tensor_core.cu -- matrix product with bias and activation on tensor cores.
//
// Computes  y[m,n] = activation(bias[n] + sum over k of op(a)[m,k] * op(b)[k,n]): rows m, columns n, depth k
// Layout    as gemm.cu: a (M, K), or (K, M) with SPEC_TRANSPOSE_A; b (K, N), or (N, K) with SPEC_TRANSPOSE_B; y (M, N); bias (N)
//           or null; workspace (chunks, M, N) of SPEC_ACC; all C-contiguous
// Compiled  SPEC_*: MatmulSpec; TUNE_*: see tensor_core_tile.cuh; TUNE_CHUNK: 0, or the terms a block of split_k adds, a multiple
//           of TUNE_DEPTH; run time: M, N, K
// Launch    tensor_core: grid = row tiles * column tiles, columns first; one block owns ROWS x COLUMNS of y
//           tensor_core_split_k: grid = that * chunks, a block owns a tile of one chunk's sums; gemm.cu's
//           matmul_forward_split_k_sum follows, compiled for the same chunk
// Assumes   the contiguous axes of a and b multiples of the elements in 16 bytes; arrays aligned to 16 bytes and of less than
//           2^31 elements; compute capability 8.0; see tensor_core_tile.cuh
// Writes    every element once, in 16-byte stores where N allows; sums in the order k, see tensor_core_tile.cuh, whatever the tile
// Cost      2*M*N*K flops, rounded up to whole tiles, three times that with SPLIT; a read N/COLUMNS times, b M/ROWS times: bound
//           by the tensor cores when M, N and K are large, by memory when one of them is small
// Tested    tests/operations/test_matmul_tensor_core.py
// Source    NVIDIA CUTLASS, "Efficient GEMM in CUDA" (documentation): tiles over a pipeline of copies
#include "activation.cuh"
#include "tensor_core_tile.cuh"

constexpr bool TRANSPOSE_A = SPEC_TRANSPOSE_A, TRANSPOSE_B = SPEC_TRANSPOSE_B, BIAS = SPEC_BIAS;
constexpr unsigned CHUNK = TUNE_CHUNK;
static_assert(CHUNK % DEPTH == 0, "a chunk ends with a step, so that zeros are added only at K");

// Rows (of op(a)) or columns (of op(b)) from `first`, the terms from `begin` to `end`.
template <int EXTENT, bool ALONG_DEPTH>
struct MatrixOperand {
  typedef OperandTile<EXTENT, ALONG_DEPTH> Tile;
  struct Place {
    const SPEC_T* source;
    int terms;  // from there to the end, which may lie before
  };
  const SPEC_T* start;  // of this thread's first chunk
  int terms, others;    // from there to the ends of both axes
  unsigned stride;

  __device__ __forceinline__ MatrixOperand(const SPEC_T* matrix, unsigned first, unsigned extent, unsigned begin,
                                           unsigned end, unsigned line_stride)
      : stride(line_stride) {
    const unsigned line = (ALONG_DEPTH ? first : begin) + Tile::line(0);
    const unsigned place = (ALONG_DEPTH ? begin : first) + Tile::offset();
    start = matrix + ((long long)line * stride + place);
    terms = (int)(end - (ALONG_DEPTH ? place : line));
    others = (int)(extent - (ALONG_DEPTH ? line : place));
  }
  __device__ __forceinline__ void copy(const Place& place, SPEC_T* tile, bool wanted) const {
#pragma unroll
    for (int i = 0; i < Tile::COUNT; ++i) {
      if (!Tile::copies(i)) continue;
      // The operator & leaves no branches.
      const int line = i * Tile::STEP;
      const bool valid = ((ALONG_DEPTH ? 0 : line) < place.terms) & ((ALONG_DEPTH ? line : 0) < others);
      Tile::copy(tile, i, place.source + (unsigned long long)stride * line, valid, wanted);
    }
  }
  __device__ __forceinline__ void advance(Place& place) const {
    place.source += ALONG_DEPTH ? DEPTH : (unsigned long long)stride * DEPTH;
    place.terms -= DEPTH;
  }
};

struct Operands {
  typedef MatrixOperand<ROWS, !TRANSPOSE_A> A;
  typedef MatrixOperand<COLUMNS, TRANSPOSE_B> B;
  typedef typename A::Tile Left;
  typedef typename B::Tile Right;
  struct Place {
    typename A::Place a;
    typename B::Place b;
  };
  A a;
  B b;

  __device__ __forceinline__ Place first() const { return {{a.start, a.terms}, {b.start, b.terms}}; }
  __device__ __forceinline__ void copy(const Place& place, SPEC_T* left, SPEC_T* right, bool wanted) const {
    a.copy(place.a, left, wanted);
    b.copy(place.b, right, wanted);
  }
  __device__ __forceinline__ void advance(Place& place) const {
    a.advance(place.a);
    b.advance(place.b);
  }
};

// The sums of the tile whose first element is (m0, n0).
__device__ __forceinline__ void multiply_matrices(unsigned m0, unsigned n0, const SPEC_T* a, const SPEC_T* b, unsigned M, unsigned N,
                                                  unsigned K, unsigned begin, unsigned end, SPEC_T* tiles, Sums& sums) {
  const Operands operands{{a, m0, M, begin, end, TRANSPOSE_A ? M : K}, {b, n0, N, begin, end, TRANSPOSE_B ? K : N}};
  multiply(operands, (int)ceil_div<unsigned>(end - begin, DEPTH), tiles, sums);
}

// y[m][n] = the sums, packed into 16 bytes where rows of y start at multiples of that.
template <int WIDTH, class T>
__device__ __forceinline__ void store_sums(T* y, const Sums& sums, unsigned m0, unsigned n0, unsigned M, unsigned N) {
  const bool packed = N % WIDTH == 0;
  for_each_pack<WIDTH, Operands>(sums, [=](int row, int column, const float(&values)[WIDTH]) {
    const unsigned m = m0 + row, n = n0 + column;
    if (m >= M || n >= N) return;
    T* const place = y + (m * N + n);
    if (packed) {
      Pack<T, WIDTH> pack;
#pragma unroll
      for (int v = 0; v < WIDTH; ++v) pack.values[v] = from_acc<T>(values[v]);
      store_pack<WIDTH>(place, pack);
    } else {
#pragma unroll
      for (int v = 0; v < WIDTH; ++v)
        if (n + v < N) place[v] = from_acc<T>(values[v]);
    }
  });
}

#if TUNE_CHUNK == 0
GPUCNN_KERNEL __launch_bounds__(THREADS)
matmul_forward_tensor_core(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b,
                           const SPEC_T* __restrict__ bias, int M, int N, int K) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned tiles_n = ceil_div<unsigned>(N, COLUMNS);
  const unsigned m0 = blockIdx.x / tiles_n * ROWS, n0 = blockIdx.x % tiles_n * COLUMNS;
  Sums sums;
  multiply_matrices(m0, n0, a, b, M, N, K, 0, K, tiles, sums);
#pragma unroll
  for (int j = 0; j < STRIPS; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const unsigned n = n0 + warp_column() + Operands::Right::column(j, e);
      const float offset = BIAS && n < (unsigned)N ? to_acc(bias[n]) : 0.0f;
#pragma unroll
      for (int i = 0; i < BANDS; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float& sum = sums[i][j][2 * half + e];
          sum = activate(BIAS ? sum + offset : sum);
        }
      }
    }
  }
  store_sums<VECTOR>(y, sums, m0, n0, M, N);
}
#else
GPUCNN_KERNEL __launch_bounds__(THREADS)
matmul_forward_tensor_core_split_k(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ a, const SPEC_T* __restrict__ b, int M,
                                   int N, int K) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned tiles_n = ceil_div<unsigned>(N, COLUMNS), tiles_m = ceil_div<unsigned>(M, ROWS);
  const unsigned chunk = blockIdx.x / (tiles_n * tiles_m), tile = blockIdx.x % (tiles_n * tiles_m);
  const unsigned m0 = tile / tiles_n * ROWS, n0 = tile % tiles_n * COLUMNS;
  const unsigned begin = chunk * CHUNK, end = (unsigned)K - begin < CHUNK ? (unsigned)K : begin + CHUNK;
  Sums sums;
  multiply_matrices(m0, n0, a, b, M, N, K, begin, end, tiles, sums);
  store_sums<4>(workspace + (long long)chunk * M * N, sums, m0, n0, M, N);
}
#endif
