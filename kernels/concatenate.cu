// concatenate.cu -- up to four arrays side by side, and the part of a gradient that belongs to one of them.
//
// Computes  y[r, :] = x0[r, :], x1[r, :], x2[r, :], x3[r, :] one behind the other;    dx[r, c] = dy[r, FIRST + c]
// Layout    xi: (ROWS, WIDTHi), null where WIDTHi is 0; y, dy: (ROWS, WIDTH); dx: (ROWS, PART); all SPEC_T, contiguous. Axes
//           before the joined one are ROWS, it and those behind it the widths
// Compiled  SPEC_*: ConcatenateSpec; run time: ROWS, WIDTH and WIDTHi, or FIRST and PART
// Launch    block (elements of a row, rows), grid flattened: see row_grid.cuh; a thread owns one element of y (of dx)
// Assumes   a row of y has less than 2^31 elements [ConcatenateSpec]
// Writes    every element once
// Cost      every element read and written once: memory bound
// Tested    tests/operations/test_concatenate.py
#include "common.cuh"
#include "row_grid.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
concatenate_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x0, const SPEC_T* __restrict__ x1,
                           const SPEC_T* __restrict__ x2, const SPEC_T* __restrict__ x3, int ROWS, int WIDTH, int WIDTH0, int WIDTH1,
                           int WIDTH2, int WIDTH3) {
  const RowPosition at = row_position(WIDTH);
  if (at.row >= ROWS || at.column >= WIDTH) return;
  const SPEC_T* part = x0;
  int width = WIDTH0, column = at.column;
  if (column >= width) {
    column -= width;
    part = x1;
    width = WIDTH1;
    if (column >= width) {
      column -= width;
      part = x2;
      width = WIDTH2;
      if (column >= width) {
        column -= width;
        part = x3;
        width = WIDTH3;
      }
    }
  }
  y[at.row * WIDTH + at.column] = part[at.row * width + column];
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
concatenate_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, int ROWS, int WIDTH, int FIRST, int PART) {
  const RowPosition at = row_position(PART);
  if (at.row >= ROWS || at.column >= PART) return;
  dx[at.row * PART + at.column] = dy[at.row * WIDTH + FIRST + at.column];
}
