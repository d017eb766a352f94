// softmax.cu -- softmax and log-softmax of rows, and their gradients.
//
// Computes  y[r, c] = e^(x[r, c] - m) / s with m = max over c of x, s = sum over c of e^(x - m); with SPEC_LOG x - m - log s
//           dx = y * (dy - sum over c of dy * y); with SPEC_LOG dx = dy - e^y * sum over c of dy
// Layout    x, y, dx, dy: (ROWS, COLUMNS) of SPEC_T, contiguous
// Compiled  SPEC_*: SoftmaxSpec;  TUNE_BLOCK: threads a block;  run time: ROWS, COLUMNS
// Launch    *_warp: block (lanes a row: a power of two up to 32, rows), grid (ceil(ROWS / rows)), for short rows
//           *_direct: block (TUNE_BLOCK), grid (ROWS); one block owns a row; TUNE_BLOCK / 32 elements of shared memory
// Writes    every output element exactly once; NaN or +inf anywhere in a row, or nothing but -inf, makes the row NaN
// Cost      1 exponential (2 with SPEC_LOG or backward) an element and pass; reads 3 (2) times, mostly from cache: memory bound
// Tested    tests/operations/test_softmax.py
#include "common.cuh"
#include "mathematics.cuh"
#include "team.cuh"

constexpr bool LOGARITHM = SPEC_LOG;

// Threads outside the last row come with columns = 0, because all lanes must take part in the team's sums.
template <class Team>
__device__ __forceinline__ void forward_row(const Team& team, SPEC_T* y, const SPEC_T* x, int columns) {
  SPEC_ACC largest = minus_infinity(SPEC_ACC(0));
  for (int c = team.rank; c < columns; c += team.size) largest = larger(largest, to_acc(x[c]));
  largest = team.largest(largest);
  SPEC_ACC sum = 0;
  for (int c = team.rank; c < columns; c += team.size) sum += exponential(to_acc(x[c]) - largest);
  sum = team.sum(sum);
  if (LOGARITHM) {
    const SPEC_ACC log_sum = logarithm(sum);
    for (int c = team.rank; c < columns; c += team.size) y[c] = from_acc<SPEC_T>((to_acc(x[c]) - largest) - log_sum);
  } else {
    for (int c = team.rank; c < columns; c += team.size) y[c] = from_acc<SPEC_T>(exponential(to_acc(x[c]) - largest) / sum);
  }
}

template <class Team>
__device__ __forceinline__ void backward_row(const Team& team, SPEC_T* dx, const SPEC_T* dy, const SPEC_T* y, int columns) {
  SPEC_ACC sum = 0;
  for (int c = team.rank; c < columns; c += team.size) sum += LOGARITHM ? to_acc(dy[c]) : to_acc(dy[c]) * to_acc(y[c]);
  sum = team.sum(sum);
  for (int c = team.rank; c < columns; c += team.size) {
    const SPEC_ACC out = to_acc(y[c]), gradient = to_acc(dy[c]);
    dx[c] = from_acc<SPEC_T>(LOGARITHM ? gradient - exponential(out) * sum : out * (gradient - sum));
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
softmax_forward_warp(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int ROWS, int COLUMNS) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y, start = row < ROWS ? row * COLUMNS : 0;
  forward_row(LaneTeam(), y + start, x + start, row < ROWS ? COLUMNS : 0);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
softmax_backward_input_warp(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y, int ROWS, int COLUMNS) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y, start = row < ROWS ? row * COLUMNS : 0;
  backward_row(LaneTeam(), dx + start, dy + start, y + start, row < ROWS ? COLUMNS : 0);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
softmax_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int COLUMNS) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  const long long start = (long long)blockIdx.x * COLUMNS;
  forward_row(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), y + start, x + start, COLUMNS);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
softmax_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ y, int COLUMNS) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  const long long start = (long long)blockIdx.x * COLUMNS;
  backward_row(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), dx + start, dy + start, y + start, COLUMNS);
}
