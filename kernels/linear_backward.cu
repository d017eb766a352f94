// linear_backward.cu -- every gradient of a dense layer in one launch: the two products, the bias's sums, the activation.
//
// Computes  with dz[r,u] = dy[r,u] * activation'(y[r,u]), taken when dy is loaded:
//           dx[r,f] = sum over u of dz[r,u] * weight[u,f]
//           dw[u,f] = sum over r of dz[r,u] * x[r,f];  db[u] = sum over r of dz[r,u], the column of x that is all ones
// Layout    dy, y (ROWS, UNITS); x, dx (ROWS, FEATURES); weight, dw (UNITS, FEATURES); db (UNITS); y null when linear;
//           workspace (chunks of rows, UNITS, FEATURES + 1) SPEC_ACC; all C-contiguous
// Compiled  SPEC_*: LinearSpec; TUNE_*: gemm_tile.cuh; run-time: ROWS, UNITS, FEATURES
// Launch    operands_direct: grid tiles of dx, then tiles of (dw, db); weight_direct and input_direct: those tiles alone;
//           operands_split_rows: grid tiles of dx, then tiles of (dw, db) * chunks of CHUNK rows; weight_split_rows: without dx;
//           a block of (TILE_M/THREAD_M) * (TILE_N/THREAD_N) threads owns a tile;
//           weight_split_rows_sum: grid ceil(UNITS * (FEATURES + 1) / 256), block 256, a thread owns one element
//           shared (static) 2 * TILE_K * (TILE_M + TILE_N + padding) SPEC_ACC
// Assumes   every matrix, and (UNITS, FEATURES + 1), has less than 2^31 elements [LinearSpec]
// Writes    every element once. Every sum starts at 0 and adds its terms in order with one multiply_add each, then 0 * 0, whatever
//           the tile; split_rows does so within chunks of CHUNK rows, weight_split_rows_sum adds the chunks in order. A row of dx
//           does not depend on the other rows.
// Cost      4*ROWS*UNITS*FEATURES flops; dz is computed again for each tile that needs it: one comparison for relu
// Tested    tests/operations/test_linear.py
// Source    see gemm_tile.cuh
#include "activation.cuh"
#include "common.cuh"
#include "gemm_tile.cuh"

constexpr bool LINEAR = SPEC_ACTIVATION == ACTIVATION_LINEAR;

// dz: its lines are rows, its terms units, or the reverse where not ALONG.
template <bool ALONG>
struct BeforeActivation {
  static constexpr bool ALONG_K = ALONG;
  struct Raw {
    Neighbours dy, y;
  };
  const SPEC_T* __restrict__ dy;
  const SPEC_T* __restrict__ y;
  int units;

  __device__ __forceinline__ int place(int line, int k) const { return ALONG ? line * units + k : k * units + line; }
  __device__ __forceinline__ static SPEC_ACC slope(SPEC_T gradient, SPEC_T output) {
    const SPEC_ACC of_y = to_acc(gradient);
    return LINEAR ? of_y : activation_gradient_from_output<SPEC_ACTIVATION>(of_y, SPEC_ACC(to_acc(output)), SPEC_ACC(SPEC_SLOPE));
  }
  __device__ __forceinline__ SPEC_ACC element(int line, int k) const {
    const int i = place(line, k);
    return slope(dy[i], LINEAR ? dy[i] : y[i]);
  }
  __device__ __forceinline__ bool whole() const { return whole_rows(dy, units) && (LINEAR || whole_rows(y, units)); }
  __device__ __forceinline__ Raw load(int line, int k) const {
    const Neighbours gradients = load_pack<WIDTH>(dy + place(line, k));
    return Raw{gradients, LINEAR ? gradients : load_pack<WIDTH>(y + place(line, k))};
  }
  __device__ __forceinline__ static SPEC_ACC value(const Raw& raw, int i) { return slope(raw.dy.values[i], raw.y.values[i]); }
};

// x with a column of ones behind its features; its terms are rows.
struct WithOnes {
  static constexpr bool ALONG_K = false;
  using Raw = Neighbours;
  const SPEC_T* __restrict__ x;
  int features;

  __device__ __forceinline__ SPEC_ACC element(int line, int k) const {
    return line < features ? SPEC_ACC(to_acc(x[k * features + line])) : SPEC_ACC(1);
  }
  __device__ __forceinline__ bool whole() const { return whole_rows(x, features); }
  __device__ __forceinline__ Raw load(int line, int k) const {
    return line < features ? load_pack<WIDTH>(x + k * features + line) : Raw{{from_acc<SPEC_T>(SPEC_ACC(1))}};
  }
  __device__ __forceinline__ static SPEC_ACC value(const Raw& raw, int i) { return to_acc(raw.values[i]); }
};

__device__ __forceinline__ int tiles_of(int m, int n) { return blocks_along(m, TILE_M) * blocks_along(n, TILE_N); }

__device__ __forceinline__ void input_tile(TileBuffers& buffers, int tile, SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                           const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ weight, int ROWS, int UNITS,
                                           int FEATURES) {
  const BeforeActivation<true> dz{dy, y, UNITS};
  const TileProduct product(buffers, tile, dz, StoredOperand<false>{weight, FEATURES, UNITS}, ROWS, FEATURES, 0, UNITS);
  product.for_each(ROWS, FEATURES, [=](int r, int f, SPEC_ACC sum) { dx[r * FEATURES + f] = from_acc<SPEC_T>(sum); });
}

__device__ __forceinline__ void write_gradient(SPEC_T* dw, SPEC_T* db, int u, int f, int features, SPEC_ACC sum) {
  if (f < features) {
    dw[u * features + f] = from_acc<SPEC_T>(sum);
  } else {
    db[u] = from_acc<SPEC_T>(sum);
  }
}

#if TUNE_CHUNK == 0
__device__ __forceinline__ void weight_tile(TileBuffers& buffers, int tile, SPEC_T* __restrict__ dw, SPEC_T* __restrict__ db,
                                            const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x,
                                            int ROWS, int UNITS, int FEATURES) {
  const BeforeActivation<false> dz{dy, y, UNITS};
  const TileProduct product(buffers, tile, dz, WithOnes{x, FEATURES}, UNITS, FEATURES + 1, 0, ROWS);
  product.for_each(UNITS, FEATURES + 1, [=](int u, int f, SPEC_ACC sum) { write_gradient(dw, db, u, f, FEATURES, sum); });
}

#if SPEC_OF_INPUT && SPEC_OF_WEIGHT
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    linear_backward_operands_direct(SPEC_T* __restrict__ dx, SPEC_T* __restrict__ dw, SPEC_T* __restrict__ db,
                                    const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x,
                                    const SPEC_T* __restrict__ weight, int ROWS, int UNITS, int FEATURES) {
  __shared__ TileBuffers buffers;
  const int tile = (int)blockIdx.x, input_tiles = tiles_of(ROWS, FEATURES);
  if (tile < input_tiles) {
    input_tile(buffers, tile, dx, dy, y, weight, ROWS, UNITS, FEATURES);
  } else {
    weight_tile(buffers, tile - input_tiles, dw, db, dy, y, x, ROWS, UNITS, FEATURES);
  }
}

#elif SPEC_OF_WEIGHT
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    linear_backward_weight_direct(SPEC_T* __restrict__ dw, SPEC_T* __restrict__ db, const SPEC_T* __restrict__ dy,
                                  const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int ROWS, int UNITS, int FEATURES) {
  __shared__ TileBuffers buffers;
  weight_tile(buffers, (int)blockIdx.x, dw, db, dy, y, x, ROWS, UNITS, FEATURES);
}

#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    linear_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y,
                                 const SPEC_T* __restrict__ weight, int ROWS, int UNITS, int FEATURES) {
  __shared__ TileBuffers buffers;
  input_tile(buffers, (int)blockIdx.x, dx, dy, y, weight, ROWS, UNITS, FEATURES);
}
#endif
#else
__device__ __forceinline__ void weight_chunk(TileBuffers& buffers, int block, SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                             const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int ROWS, int UNITS, int FEATURES) {
  const int tiles = tiles_of(UNITS, FEATURES + 1), chunk = block / tiles, row_begin = chunk * CHUNK;
  const int row_end = ROWS - row_begin < CHUNK ? ROWS : row_begin + CHUNK;
  const BeforeActivation<false> dz{dy, y, UNITS};
  const TileProduct product(buffers, block % tiles, dz, WithOnes{x, FEATURES}, UNITS, FEATURES + 1, row_begin, row_end);
  SPEC_ACC* const sums = workspace + (long long)chunk * UNITS * (FEATURES + 1);
  product.for_each(UNITS, FEATURES + 1, [=](int u, int f, SPEC_ACC sum) { sums[u * (FEATURES + 1) + f] = sum; });
}

#if SPEC_OF_INPUT
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    linear_backward_operands_split_rows(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                                        const SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                                        int ROWS, int UNITS, int FEATURES) {
  __shared__ TileBuffers buffers;
  const int block = (int)blockIdx.x, input_tiles = tiles_of(ROWS, FEATURES);
  if (block < input_tiles) {
    input_tile(buffers, block, dx, dy, y, weight, ROWS, UNITS, FEATURES);
  } else {
    weight_chunk(buffers, block - input_tiles, workspace, dy, y, x, ROWS, UNITS, FEATURES);
  }
}

#else
GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
    linear_backward_weight_split_rows(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y,
                                      const SPEC_T* __restrict__ x, int ROWS, int UNITS, int FEATURES) {
  __shared__ TileBuffers buffers;
  weight_chunk(buffers, (int)blockIdx.x, workspace, dy, y, x, ROWS, UNITS, FEATURES);
}
#endif

GPUCNN_KERNEL __launch_bounds__(256)
    linear_backward_weight_split_rows_sum(SPEC_T* __restrict__ dw, SPEC_T* __restrict__ db, const SPEC_ACC* __restrict__ workspace,
                                          int ROWS, int UNITS, int FEATURES) {
  const long long thread = global_thread();
  const int count = UNITS * (FEATURES + 1);
  if (thread >= count) return;
  const int element = (int)thread, chunks = blocks_along(ROWS, CHUNK);
  SPEC_ACC sum = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) sum += workspace[(long long)chunk * count + element];
  write_gradient(dw, db, element / (FEATURES + 1), element % (FEATURES + 1), FEATURES, sum);
}
#endif
