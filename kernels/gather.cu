// gather.cu -- the next batch of a data set: rows picked by an index array and cast, their labels, and the cursor moved on.
//
// Computes  y[r, c] = source[order[cursor + r], c], rounded once to nearest even;  picked[r] = labels[order[cursor + r]];
//           cursor += ROWS
// Layout    y: (ROWS, WIDTH) SPEC_T; picked: (ROWS) int; source: (SOURCE_ROWS, WIDTH) SPEC_SOURCE_T; labels: (SOURCE_ROWS) int;
//           order: (ORDER_LENGTH) int; cursor: int, one equal copy for each block; contiguous
// Compiled  SPEC_*: GatherSpec;  TUNE_BLOCK: threads a block, TUNE_PER_THREAD: elements a thread and turn;
//           run time: ROWS, WIDTH, SOURCE_ROWS, ORDER_LENGTH
// Launch    grid: as many blocks as the cursor has copies, for every batch, so that all copies move on and no block waits for
//           another; block (TUNE_BLOCK). A block takes every gridDim.x-th part of TUNE_BLOCK * TUNE_PER_THREAD elements of a row.
//           gather_update: without labels; gather_labelled_update: with
// Writes    every element of y and picked exactly once; the cursor after reading it. A position outside the order, or an index
//           outside the source, reads nothing and gives a row of NaN and the label -1.
// Cost      traffic of y and of the rows read: memory bound
// Tested    tests/operations/test_gather.py
#include "conversion.cuh"
#include "mathematics.cuh"

constexpr int THREADS = TUNE_BLOCK, PER_THREAD = TUNE_PER_THREAD, PART = THREADS * PER_THREAD;

// Where the batch begins; the block's copy of the cursor moves on. Every thread calls it once.
__device__ __forceinline__ int advance(int* cursor, int rows) {
  const int begin = cursor[blockIdx.x];
  __syncthreads();  // all have read
  if (threadIdx.x == 0) cursor[blockIdx.x] = (int)((unsigned)begin + (unsigned)rows);
  return begin;
}

template <bool LABELLED>
__device__ __forceinline__ void gather(int begin, SPEC_T* y, int* picked, const SPEC_SOURCE_T* source, const int* labels, const int* order,
                                       int rows, int width, int source_rows, int order_length) {
  const int parts = (width - 1) / PART + 1;
  const long long items = (long long)rows * parts;
  for (long long item = blockIdx.x; item < items; item += gridDim.x) {
    const long long row = item / parts, position = begin + row;
    const int first = (int)(item - row * parts) * PART;
    const int index = position >= 0 && position < order_length ? order[position] : -1;
    const bool found = index >= 0 && index < source_rows;
    const long long from = (long long)index * width, to = row * width;
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
      const long long c = (long long)first + i * THREADS + (int)threadIdx.x;
      if (c < width) y[to + c] = found ? converted<SPEC_T>(source[from + c]) : Converted<SPEC_T>::of(quiet_nan(0.0f));
    }
    if (LABELLED && first == 0 && threadIdx.x == 0) picked[row] = found ? labels[index] : -1;
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
gather_update(GPUCNN_INOUT int* __restrict__ cursor, SPEC_T* __restrict__ y, const SPEC_SOURCE_T* __restrict__ source,
              const int* __restrict__ order, int ROWS, int WIDTH, int SOURCE_ROWS, int ORDER_LENGTH) {
  gather<false>(advance(cursor, ROWS), y, nullptr, source, nullptr, order, ROWS, WIDTH, SOURCE_ROWS, ORDER_LENGTH);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
gather_labelled_update(GPUCNN_INOUT int* __restrict__ cursor, SPEC_T* __restrict__ y, int* __restrict__ picked,
                       const SPEC_SOURCE_T* __restrict__ source, const int* __restrict__ labels, const int* __restrict__ order, int ROWS,
                       int WIDTH, int SOURCE_ROWS, int ORDER_LENGTH) {
  gather<true>(advance(cursor, ROWS), y, picked, source, labels, order, ROWS, WIDTH, SOURCE_ROWS, ORDER_LENGTH);
}
