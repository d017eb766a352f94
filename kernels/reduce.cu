// reduce.cu -- sums and means over the middle axis, and their gradient.
//
// Computes  y[o, i] = factor * sum over l of x[o, l, i];    dx[o, l, i] = factor * dy[o, i]
// Layout    x, dx: (OUTER, LENGTH, INNER), y, dy: (OUTER, INNER), all SPEC_T, contiguous;
//           workspace: (OUTER, chunks, INNER) SPEC_ACC, chunks = ceil(LENGTH / (PER_THREAD * THREADS / blockDim.x))
// Compiled  SPEC_*: ReduceSpec;  TUNE_BLOCK (THREADS): threads a block, TUNE_PER_THREAD: elements a thread and chunk;
//           run time: OUTER, LENGTH, INNER, factor
// Launch    Forward: a block is (columns of INNER, threads along LENGTH, rows of OUTER), powers of two, and adds a tile
//           of columns x rows sums; blockDim.x is the least power of two that covers INNER, up to 32.
//           reduce_forward_direct: LENGTH fits one chunk; grid (column tiles * row tiles), up to THREADS threads.
//           reduce_forward_chunks, then reduce_forward_total: grid (column tiles * chunks * row tiles), block
//           (columns, THREADS / columns, 1); then grid (column tiles * row tiles), up to 1024 threads.
//           reduce_backward_input_direct: block (elements of LENGTH * INNER, rows of OUTER), grid flattened.
//           Static shared memory: one SPEC_ACC for each of 1024 threads.
// Assumes   LENGTH * INNER and OUTER * LENGTH below 2^31 [ReduceSpec]
// Writes    every output element exactly once. Order of a sum: thread t of T takes elements t, t + T, ... of its chunk, then a
//           binary tree over the threads, then likewise over the chunks; T and the chunk follow from LENGTH and INNER
//           alone, so neither OUTER nor the device matters.
// Cost      one addition an element; traffic of x: memory bound. Neighbouring threads read neighbouring columns, so that bias
//           gradients (1, N*P*Q, K) and row sums (rows, columns, 1) are both coalesced.
// Tested    tests/operations/test_reduce.py
// Source    Harris, "Optimizing parallel reduction in CUDA", 2007
#include "common.cuh"
#include "row_grid.cuh"

constexpr int THREADS = TUNE_BLOCK, PER_THREAD = TUNE_PER_THREAD, MAX_THREADS = 1024;

// The sum of rows begin .. end-1 of column `inner` of image `outer`, valid in the threads with threadIdx.y == 0.
// Every thread of the block takes part.
template <class T>
__device__ __forceinline__ SPEC_ACC tile_sum(const T* __restrict__ x, bool inside, long long outer, int inner, int begin, int end,
                                             int length, int width) {
  __shared__ SPEC_ACC partial[MAX_THREADS];
  SPEC_ACC sum = 0;
  if (inside) {
    const T* image = x + outer * length * width + inner;
#pragma unroll 4
    for (unsigned row = begin + threadIdx.y; row < (unsigned)end; row += blockDim.y) sum += to_acc(image[row * width]);
  }
  const int here = ((int)threadIdx.z * (int)blockDim.y + (int)threadIdx.y) * (int)blockDim.x + (int)threadIdx.x;
  partial[here] = sum;
  __syncthreads();
  for (int half = (int)blockDim.y / 2; half > 0; half /= 2) {
    if ((int)threadIdx.y < half) partial[here] += partial[here + half * (int)blockDim.x];
    __syncthreads();
  }
  return partial[here];
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
reduce_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int OUTER, int LENGTH, int INNER, SPEC_ACC factor) {
  const int tiles = ceil_div(INNER, (int)blockDim.x);
  const int inner = (int)(blockIdx.x % (unsigned)tiles) * (int)blockDim.x + (int)threadIdx.x;
  const long long outer = (long long)(blockIdx.x / (unsigned)tiles) * blockDim.z + threadIdx.z;
  const bool inside = inner < INNER && outer < OUTER;
  const SPEC_ACC sum = tile_sum(x, inside, outer, inner, 0, LENGTH, LENGTH, INNER);
  if (inside && threadIdx.y == 0) y[outer * INNER + inner] = from_acc<SPEC_T>(sum * factor);
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
reduce_forward_chunks(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ x, int OUTER, int LENGTH, int INNER) {
  const int chunk_rows = PER_THREAD * (int)blockDim.y;
  const unsigned tiles = ceil_div(INNER, (int)blockDim.x), chunks = ceil_div(LENGTH, chunk_rows);
  const int inner = (int)(blockIdx.x % tiles) * (int)blockDim.x + (int)threadIdx.x;
  const int chunk = (int)(blockIdx.x / tiles % chunks);
  const long long outer = blockIdx.x / tiles / chunks;
  const bool inside = inner < INNER && outer < OUTER;
  const int begin = chunk * chunk_rows, end = LENGTH - begin < chunk_rows ? LENGTH : begin + chunk_rows;
  const SPEC_ACC sum = tile_sum(x, inside, outer, inner, begin, end, LENGTH, INNER);
  if (inside && threadIdx.y == 0) workspace[(outer * chunks + chunk) * INNER + inner] = sum;
}

GPUCNN_KERNEL __launch_bounds__(MAX_THREADS)
reduce_forward_total(SPEC_T* __restrict__ y, const SPEC_ACC* __restrict__ workspace, int OUTER, int LENGTH, int INNER, SPEC_ACC factor) {
  const int chunks = ceil_div(LENGTH, PER_THREAD * THREADS / (int)blockDim.x);
  const int tiles = ceil_div(INNER, (int)blockDim.x);
  const int inner = (int)(blockIdx.x % (unsigned)tiles) * (int)blockDim.x + (int)threadIdx.x;
  const long long outer = (long long)(blockIdx.x / (unsigned)tiles) * blockDim.z + threadIdx.z;
  const bool inside = inner < INNER && outer < OUTER;
  const SPEC_ACC sum = tile_sum(workspace, inside, outer, inner, 0, chunks, chunks, INNER);
  if (inside && threadIdx.y == 0) y[outer * INNER + inner] = from_acc<SPEC_T>(sum * factor);
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
reduce_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, int OUTER, int LENGTH, int INNER, SPEC_ACC factor) {
  const int area = LENGTH * INNER;
  const RowPosition at = row_position(area);
  if (at.row >= OUTER || at.column >= area) return;
  dx[at.row * area + at.column] = from_acc<SPEC_T>(to_acc(dy[at.row * INNER + at.column % INNER]) * factor);
}
