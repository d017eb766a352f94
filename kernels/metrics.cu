// metrics.cu -- running loss and accuracy in device memory.
//
// Computes  totals += [loss * ROWS, correct, ROWS], where correct counts
//           rows whose label is among the TOP largest logits, of equal ones the first, and that hold no NaN;
//           with SPEC_BINARY elements on the side of 0 where their target is of 1/2, (z > 0) == (t > 1/2), z not NaN, divided
//           by CLASSES; in metrics_loss_update nothing
// Layout    totals: 3 double; loss: 1 SPEC_T; logits: (ROWS, CLASSES) SPEC_T; targets: SPEC_TARGET, (ROWS) int, or
//           with SPEC_BINARY (ROWS, CLASSES) SPEC_T; workspace: what each block counted, SPEC_ACC (whole numbers, so exact)
// Compiled  SPEC_*: MetricsSpec;  TUNE_BLOCK: threads a block, TUNE_PER_THREAD: rows a team, or elements a thread, and block;
//           run time: ROWS, CLASSES, TOP
// Launch    block (lanes a row: a power of two up to 32, TUNE_BLOCK / lanes rows), with SPEC_BINARY (TUNE_BLOCK).
//           metrics_update: grid (1), the block walks over everything. Or metrics_correct: grid (ceil(ROWS / (PER_THREAD * rows)))
//           or (ceil(ROWS * CLASSES / (PER_THREAD * TUNE_BLOCK))), then metrics_totals_update: block (TUNE_BLOCK), grid (1).
//           metrics_loss_update: one thread
// Writes    totals, after reading them; counting integers, so every order gives the same bits
// Cost      one comparison an element, traffic of logits: memory bound, for one block latency bound
// Tested    tests/operations/test_metrics.py
#include "common.cuh"
#include "mathematics.cuh"
#include "team.cuh"
#include "totals.cuh"

constexpr int PER_THREAD = TUNE_PER_THREAD, THREADS = TUNE_BLOCK;
constexpr bool BINARY = SPEC_BINARY;

// Which of rows begin .. end-1 that this thread looks at are correct; all threads of the block must call it.
__device__ __forceinline__ int count_rows(const SPEC_T* logits, const int* labels, long long begin, long long end, int classes, int top) {
  const LaneTeam team;
  int correct = 0;
  for (long long first = begin; first < end; first += blockDim.y) {  // the same number of turns for all: the lanes exchange values
    const long long row = first + threadIdx.y;
    const int label = row < end ? labels[row] : -1;
    const bool known = label >= 0 && label < classes;
    const SPEC_ACC at_label = known ? to_acc(logits[row * classes + label]) : SPEC_ACC(0);
    int before = 0, nan = 0;
    for (int c = team.rank; known && c < classes; c += team.size) {
      const SPEC_ACC logit = to_acc(logits[row * classes + c]);
      nan |= is_nan(logit);
      before += logit > at_label || (logit == at_label && c < label);
    }
    before = team.sum(before);
    nan = team.largest(nan);
    correct += team.rank == 0 && known && !nan && before < top;
  }
  return correct;
}

// Which of elements begin .. end-1 that this thread looks at are correct.
__device__ __forceinline__ int count_elements(const SPEC_T* logits, const SPEC_T* targets, long long begin, long long end) {
  int correct = 0;
  for (long long i = begin + threadIdx.x; i < end; i += THREADS) {
    const SPEC_ACC logit = to_acc(logits[i]);
    correct += !is_nan(logit) && (logit > SPEC_ACC(0)) == (to_acc(targets[i]) > SPEC_ACC(0.5));
  }
  return correct;
}

__device__ __forceinline__ int count(const SPEC_T* logits, const int* labels, long long begin, long long end, int classes, int top) {
  return count_rows(logits, labels, begin, end, classes, top);
}
__device__ __forceinline__ int count(const SPEC_T* logits, const SPEC_T* targets, long long begin, long long end, int, int) {
  return count_elements(logits, targets, begin, end);
}

// What is counted one by one: rows or elements.
__device__ __forceinline__ long long items(int rows, int classes) { return BINARY ? (long long)rows * classes : (long long)rows; }

__device__ __forceinline__ void add(double* totals, const SPEC_T* loss, double correct, int rows, int classes) {
  add_totals(totals, to_acc(loss[0]), BINARY ? correct / (double)classes : correct, rows);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_update(GPUCNN_INOUT double* __restrict__ totals, const SPEC_T* __restrict__ loss, const SPEC_T* __restrict__ logits,
               const SPEC_TARGET* __restrict__ targets, int ROWS, int CLASSES, int TOP) {
  __shared__ int scratch[THREADS / 32];
  const BlockTeam<int, THREADS> team(scratch);
  const int correct = team.sum(count(logits, targets, 0, items(ROWS, CLASSES), CLASSES, TOP));
  if (team.rank == 0) add(totals, loss, (double)correct, ROWS, CLASSES);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_correct(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ logits, const SPEC_TARGET* __restrict__ targets, int ROWS,
                int CLASSES, int TOP) {
  __shared__ int scratch[THREADS / 32];
  const BlockTeam<int, THREADS> team(scratch);
  const long long each = (long long)PER_THREAD * (BINARY ? THREADS : (int)blockDim.y), all = items(ROWS, CLASSES);
  const long long begin = blockIdx.x * each, end = begin + each < all ? begin + each : all;
  const int correct = team.sum(count(logits, targets, begin, end, CLASSES, TOP));
  if (team.rank == 0) workspace[blockIdx.x] = SPEC_ACC(correct);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
metrics_totals_update(GPUCNN_INOUT double* __restrict__ totals, const SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ loss,
                      int ROWS, int CLASSES) {
  __shared__ double scratch[THREADS / 32];
  const BlockTeam<double, THREADS> team(scratch);
  int lanes = 1;
  while (!BINARY && lanes < CLASSES && lanes < 32) lanes *= 2;
  const int blocks = (int)ceil_div(items(ROWS, CLASSES), (long long)PER_THREAD * (THREADS / lanes));
  double correct = 0;
  for (int block = team.rank; block < blocks; block += team.size) correct += (double)workspace[block];
  correct = team.sum(correct);
  if (team.rank == 0) add(totals, loss, correct, ROWS, CLASSES);
}

GPUCNN_KERNEL __launch_bounds__(1)
metrics_loss_update(GPUCNN_INOUT double* __restrict__ totals, const SPEC_T* __restrict__ loss, int ROWS) {
  add_totals(totals, to_acc(loss[0]), 0.0, ROWS);
}
