// linear_cross_entropy.cu -- a classifier's last dense layer and its mean cross-entropy in one launch, for small batches.
//
// Computes  z[r,c] = bias[c] + sum over f of x[r,f] * weight[c,f];  loss = mean over r of -log softmax(z[r])[labels[r]];
//           dlogits = its gradient with respect to z;  totals += [loss * ROWS, correct rows, ROWS], as in cross_entropy.cu
// Layout    x: (ROWS, FEATURES), weight: (CLASSES, FEATURES), bias: (CLASSES) or null, logits (z), dlogits: (ROWS, CLASSES), loss: 1,
//           all SPEC_T; labels: (ROWS) int; totals: 3 double; contiguous
// Compiled  SPEC_*: LinearCrossEntropySpec;  TUNE_BLOCK: threads a block;  run time: ROWS, CLASSES, FEATURES
// Launch    grid (1), block (lanes: the least power of two that covers CLASSES, TUNE_BLOCK / lanes rows); the block walks over all
//           rows, a lane owns one logit. linear_cross_entropy_one_launch_update also adds to the totals.
//           Static shared memory: TUNE_BLOCK SPEC_T
// Assumes   CLASSES at most 32 [LinearCrossEntropySpec]
// Writes    every output element exactly once. A logit starts at 0 and adds f = 0, 1, 2, ... with one multiply_add each, then the
//           bias, as gemm.cu does, so that its bits do not depend on the batch; then as cross_entropy.cu's one launch.
// Cost      2*ROWS*CLASSES*FEATURES flops in one block: latency bound, and worth a launch saved for few rows and features
// Tested    tests/operations/test_linear_cross_entropy.py
// Source    see cross_entropy.cu
#include "common.cuh"
#include "cross_entropy.cuh"

constexpr bool BIAS = SPEC_BIAS;

__device__ __forceinline__ SPEC_T logit(const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias,
                                        long long row, int c, int features) {
  const SPEC_T* sample = x + row * features;
  const SPEC_T* factors = weight + (long long)c * features;
  SPEC_ACC sum = 0;
#pragma unroll 8
  for (int f = 0; f < features; ++f) sum = multiply_add(SPEC_ACC(to_acc(sample[f])), SPEC_ACC(to_acc(factors[f])), sum);
  return from_acc<SPEC_T>(BIAS ? sum + to_acc(bias[c]) : sum);
}

template <bool TOTALS>
__device__ __forceinline__ void classify(double* totals, SPEC_T* loss, SPEC_T* dlogits, SPEC_T* logits, const SPEC_T* __restrict__ x,
                                         const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias, const int* labels, int rows,
                                         int classes, int features) {
  __shared__ SPEC_T shared[TUNE_BLOCK];
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  __shared__ int counts[TUNE_BLOCK / 32];
  const LaneTeam team;
  const SPEC_ACC share = share_of_row(nullptr, rows);
  SPEC_T* const own = shared + threadIdx.y * blockDim.x;
  SPEC_ACC sum = 0;
  int correct = 0;
  for (int first = 0; first < rows; first += (int)blockDim.y) {  // the same turns for all: lanes exchange
    const int row = first + (int)threadIdx.y;
    const long long start = (long long)row * classes;
    if (row < rows && team.rank < classes) {
      const SPEC_T z = logit(x, weight, bias, row, team.rank, features);
      own[team.rank] = z;
      logits[start + team.rank] = z;
    }
    __syncwarp();  // the row's logits are complete
    const Row<LaneTeam> here(team, own, labels, nullptr, row, rows, classes, SPEC_ACC(0));
    here.write_gradient(dlogits + start, share, SPEC_ACC(1));
    const bool right = TOTALS && here.correct();
    if (row < rows && team.rank == 0) {
      correct += right;
      sum += here.loss();
    }
    __syncwarp();  // nobody reads them any more
  }
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> block(scratch);
  sum = block.sum(sum);
  if (TOTALS) correct = BlockTeam<int, TUNE_BLOCK>(counts).sum(correct);
  if (block.rank == 0) {
    const SPEC_T total = from_acc<SPEC_T>(sum * share);
    loss[0] = total;
    if (TOTALS) add_totals(totals, to_acc(total), (double)correct, rows);
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK, 1)
linear_cross_entropy_forward_one_launch(SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits, SPEC_T* __restrict__ logits,
                                        const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias,
                                        const int* __restrict__ labels, int ROWS, int CLASSES, int FEATURES) {
  classify<false>(nullptr, loss, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK, 1)
linear_cross_entropy_one_launch_update(GPUCNN_INOUT double* __restrict__ totals, SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits,
                                       SPEC_T* __restrict__ logits, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                                       const SPEC_T* __restrict__ bias, const int* __restrict__ labels, int ROWS, int CLASSES,
                                       int FEATURES) {
  classify<true>(totals, loss, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}
