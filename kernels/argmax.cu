// argmax.cu -- the place of each row's largest element.
//
// Computes  y[r] = the smallest c with x[r, c] = max over all c of x[r, c]; -1 for a row that holds NaN
// Layout    y: (ROWS) int; x: (ROWS, COLUMNS) SPEC_T, contiguous
// Compiled  SPEC_*: ArgmaxSpec;  TUNE_BLOCK: threads a block;  run time: ROWS, COLUMNS
// Launch    block (lanes a row: a power of two up to 32, rows), grid (ceil(ROWS / rows))
// Assumes   COLUMNS at least 1 [ArgmaxSpec]
// Writes    every element of y exactly once
// Cost      one comparison an element, traffic of x: memory bound
// Tested    tests/operations/test_argmax.py
#include "common.cuh"
#include "mathematics.cuh"
#include "team.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
argmax_forward_direct(int* __restrict__ y, const SPEC_T* __restrict__ x, int ROWS, int COLUMNS) {
  const LaneTeam team;
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  const int columns = row < ROWS ? COLUMNS : 0;  // all lanes take part in the exchange
  SPEC_ACC best = minus_infinity(SPEC_ACC(0));
  int place = COLUMNS, nan = 0;
  for (int c = team.rank; c < columns; c += team.size) {
    const SPEC_ACC value = to_acc(x[row * COLUMNS + c]);
    nan |= is_nan(value);
    if (place == COLUMNS || value > best) {
      best = value;
      place = c;
    }
  }
  for (int half = team.size / 2; half > 0; half /= 2) {
    const SPEC_ACC other = __shfl_xor_sync(0xffffffffu, best, half);
    const int other_place = __shfl_xor_sync(0xffffffffu, place, half);
    if (other > best || (other == best && other_place < place)) {
      best = other;
      place = other_place;
    }
  }
  nan = team.largest(nan);
  if (row < ROWS && team.rank == 0) y[row] = nan ? -1 : place;
}
