// metrics.cu -- running loss and accuracy in device memory.
//
// Computes  totals += [loss * ROWS, number of correct rows, ROWS]; a row is correct when its first largest logit stands at its
//           label and it holds no NaN
// Layout    totals: 3 double; loss: 1 SPEC_T; logits: (ROWS, CLASSES) SPEC_T; labels: (ROWS) int;
//           workspace: correct rows of each block, SPEC_ACC (whole numbers, so exact)
// Compiled  SPEC_*: MetricsSpec;  TUNE_BLOCK: threads a block, TUNE_PER_THREAD: rows a team and block;
//           run time: ROWS, CLASSES
// Launch    block (lanes a row: a power of two up to 32, TUNE_BLOCK / lanes rows). metrics_update: grid (1), the block walks over
//           all rows. Or metrics_correct_rows: grid (ceil(ROWS / (PER_THREAD * rows))), then metrics_totals_update: block
//           (TUNE_BLOCK), grid (1).
// Writes    totals, after reading them; counting integers, so every order gives the same bits
// Cost      one comparison an element, traffic of logits: memory bound, for one block latency bound
// Tested    tests/operations/test_metrics.py
#include "common.cuh"
#include "mathematics.cuh"
#include "team.cuh"
#include "totals.cuh"

constexpr int PER_THREAD = TUNE_PER_THREAD;

// How many of rows begin .. end-1 are correct, the same in all threads of the block, all of which must call it.
__device__ __forceinline__ int count_correct(int* scratch, const SPEC_T* logits, const int* labels, long long begin, long long end,
                                             int classes) {
  const int lanes = (int)blockDim.x, rows = (int)blockDim.y;
  int correct = 0;
  for (long long first = begin; first < end; first += rows) {  // the same number of turns for all: the lanes exchange values
    const long long row = first + threadIdx.y;
    SPEC_ACC best = minus_infinity(SPEC_ACC(0));
    int place = classes, nan = 0;
    for (int c = (int)threadIdx.x; row < end && c < classes; c += lanes) {
      const SPEC_ACC logit = to_acc(logits[row * classes + c]);
      nan |= is_nan(logit);
      if (place == classes || logit > best) {
        best = logit;
        place = c;
      }
    }
    for (int half = lanes / 2; half > 0; half /= 2) {
      const SPEC_ACC other = __shfl_xor_sync(0xffffffffu, best, half);
      const int other_place = __shfl_xor_sync(0xffffffffu, place, half);
      nan |= __shfl_xor_sync(0xffffffffu, nan, half);
      if (other > best || (other == best && other_place < place)) {
        best = other;
        place = other_place;
      }
    }
    correct += threadIdx.x == 0 && row < end && !nan && labels[row] == place;
  }
  for (int half = 16; half > 0; half /= 2) correct += __shfl_xor_sync(0xffffffffu, correct, half);
  const int thread = (int)(threadIdx.y * blockDim.x + threadIdx.x);
  if (thread % 32 == 0) scratch[thread / 32] = correct;
  __syncthreads();
  int total = 0;
  for (int warp = 0; warp < TUNE_BLOCK / 32; ++warp) total += scratch[warp];
  return total;
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_update(GPUCNN_INOUT double* __restrict__ totals, const SPEC_T* __restrict__ loss, const SPEC_T* __restrict__ logits,
               const int* __restrict__ labels, int ROWS, int CLASSES) {
  __shared__ int scratch[TUNE_BLOCK / 32];
  const int correct = count_correct(scratch, logits, labels, 0, ROWS, CLASSES);
  if (threadIdx.x == 0 && threadIdx.y == 0) add_totals(totals, to_acc(loss[0]), (double)correct, ROWS);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_correct_rows(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ logits, const int* __restrict__ labels, int ROWS,
                     int CLASSES) {
  __shared__ int scratch[TUNE_BLOCK / 32];
  const long long rows = (long long)PER_THREAD * blockDim.y, begin = blockIdx.x * rows, end = begin + rows < ROWS ? begin + rows : ROWS;
  const int correct = count_correct(scratch, logits, labels, begin, end, CLASSES);
  if (threadIdx.x == 0 && threadIdx.y == 0) workspace[blockIdx.x] = SPEC_ACC(correct);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_totals_update(GPUCNN_INOUT double* __restrict__ totals, const SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ loss,
                      int ROWS, int CLASSES) {
  __shared__ double scratch[TUNE_BLOCK / 32];
  const BlockTeam<double, TUNE_BLOCK> team(scratch);
  int lanes = 1;
  while (lanes < CLASSES && lanes < 32) lanes *= 2;
  const int blocks = ceil_div(ROWS, PER_THREAD * (TUNE_BLOCK / lanes));
  double correct = 0;
  for (int block = team.rank; block < blocks; block += team.size) correct += (double)workspace[block];
  correct = team.sum(correct);
  if (team.rank == 0) add_totals(totals, to_acc(loss[0]), correct, ROWS);
}
