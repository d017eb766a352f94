// gather.cu -- a batch of rows picked from a data set by an index array, cast on the way.
//
// Computes  y[r, c] = source[order[cursor[0] + r], c], rounded once to nearest even
// Layout    y: (ROWS, WIDTH) SPEC_T (floating, or int for labels); source: (SOURCE_ROWS, WIDTH) SPEC_SOURCE_T;
//           order: (ORDER_LENGTH) int; cursor: 1 int; contiguous
// Compiled  SPEC_*: GatherSpec;  run time: ROWS, WIDTH, SOURCE_ROWS, ORDER_LENGTH
// Launch    row_grid.cuh over (ROWS, WIDTH)
// Writes    every element of y exactly once. A position outside the order, or an index outside the source, reads nothing and
//           gives a row of NaN, or of -1 when SPEC_T is an integer.
// Cost      traffic of y and of the rows read: memory bound
// Tested    tests/operations/test_gather.py
#include "conversion.cuh"
#include "mathematics.cuh"
#include "row_grid.cuh"

template <class T>
struct Missing {
  __device__ __forceinline__ static T value() { return Converted<T>::of(quiet_nan(0.0f)); }
};
template <>
struct Missing<int> {
  __device__ __forceinline__ static int value() { return -1; }
};
template <>
struct Missing<unsigned char> {
  __device__ __forceinline__ static unsigned char value() { return (unsigned char)255; }
};

GPUCNN_KERNEL gather_forward_direct(SPEC_T* __restrict__ y, const SPEC_SOURCE_T* __restrict__ source, const int* __restrict__ order,
                                    const int* __restrict__ cursor, int ROWS, int WIDTH, int SOURCE_ROWS, int ORDER_LENGTH) {
  const RowPosition at = row_position(WIDTH);
  if (at.row >= ROWS || at.column >= WIDTH) return;
  const long long position = cursor[0] + at.row;
  const int index = position >= 0 && position < ORDER_LENGTH ? order[position] : -1;
  const bool found = index >= 0 && index < SOURCE_ROWS;
  y[at.row * WIDTH + at.column] = found ? converted<SPEC_T>(source[(long long)index * WIDTH + at.column]) : Missing<SPEC_T>::value();
}
