// cross_entropy.cu -- softmax cross-entropy with class weights and label smoothing, its gradient, and the totals of an epoch.
//
// Computes  with p = softmax(z), y = label, w = class weights (1 unless SPEC_WEIGHTED), e = smoothing, C = CLASSES:
//           row loss   l = -(1-e) w[y] log p[y] - (e/C) sum over j of w[j] log p[j]
//           row slope  g[j] = (1-e) w[y] (p[j] - [j = y]) + (e/C) (p[j] sum w - w[j])
//           loss = l of each row (SPEC_REDUCTION 0), their sum (1), their sum * factor (2)
//           factor = 1, 1, and for the mean 1 / ROWS or, weighted, 1 / sum of w[y], which cross_entropy_forward_factor computes
//           dlogits = g * factor;  backward: dx = g * factor * dy, dy of the loss's shape
//           totals += [loss * ROWS, correct rows, ROWS]; a row is correct when its first largest logit stands at its label
//           and it holds no NaN
// Layout    logits, dlogits, dx: (ROWS, CLASSES) SPEC_T; labels: (ROWS) int; weight: (CLASSES) SPEC_T or null; loss, dy: 1 or ROWS
//           SPEC_T; factor: 1 SPEC_ACC, null unless a weighted mean; totals: 3 double;
//           workspace: row losses (ROWS), then for the totals 1 for each correct row, else 0 (ROWS), SPEC_ACC
// Compiled  SPEC_*: CrossEntropySpec;  TUNE_BLOCK: threads a block;  run time: ROWS, CLASSES, smoothing
// Launch    A weighted mean begins with cross_entropy_forward_factor: block (TUNE_BLOCK), grid (1). Then, for sums of rows
//           _one_launch: block (lanes a row: a power of two up to 32, rows), grid (1), the block walks over all rows; for
//           SPEC_REDUCTION 0 grid (ceil(ROWS / rows)); or in two launches
//           _warp: the same block, grid (ceil(ROWS / rows)); or _direct: block (TUNE_BLOCK), grid (ROWS), one block owns a row;
//           and _total: block (TUNE_BLOCK), grid (1), or for SPEC_REDUCTION 0 grid (ceil(ROWS / TUNE_BLOCK)).
//           With totals, not for SPEC_REDUCTION 0: cross_entropy_one_launch_update; or _forward_and_count_warp or _direct, then
//           cross_entropy_total_update. cross_entropy_backward_logits_warp and _direct: as the rows of two launches
// Writes    every output element exactly once; rows are added in a fixed order that the plan and ROWS determine. A label
//           outside 0 .. CLASSES-1 makes its row's loss and gradient NaN, reads nothing, and does not count in the sum of weights.
// Cost      2 exponentials an element; reads logits 3 times, mostly from cache, writes dlogits: memory bound, in one launch
//           latency bound
// Tested    tests/operations/test_loss.py
// Source    Szegedy et al., arXiv:1512.00567 (label smoothing); weights as in torch.nn.CrossEntropyLoss
#include "common.cuh"
#include "cross_entropy.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_factor(SPEC_ACC* __restrict__ factor, const int* __restrict__ labels, const SPEC_T* __restrict__ weight, int ROWS,
                             int CLASSES) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> team(scratch);
  SPEC_ACC weights = 0;
  for (int row = team.rank; row < ROWS; row += team.size) {
    const int label = labels[row];
    weights += label >= 0 && label < CLASSES ? class_weight(weight, label) : SPEC_ACC(0);
  }
  weights = team.sum(weights);
  if (team.rank == 0) factor[0] = SPEC_ACC(1) / weights;
}

// -- one launch ------------------------------------------------------------------------------------------------------------
template <bool TOTALS>
__device__ __forceinline__ void walk_over_rows(double* totals, SPEC_T* loss, SPEC_T* dlogits, const SPEC_T* logits, const int* labels,
                                               const SPEC_T* weight, const SPEC_ACC* factor, int rows, int classes, SPEC_ACC smoothing) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  __shared__ int counts[TUNE_BLOCK / 32];
  const LaneTeam team;
  const SPEC_ACC share = share_of_row(factor, rows);
  const long long turn = (long long)gridDim.x * blockDim.y;
  SPEC_ACC sum = 0;
  int correct = 0;
  for (long long first = (long long)blockIdx.x * blockDim.y; first < rows; first += turn) {  // the same turns for all: lanes exchange
    const long long row = first + threadIdx.y;
    const Row<LaneTeam> here(team, logits + row * classes, labels, weight, row, rows, classes, smoothing);
    here.write_gradient(dlogits + row * classes, share, SPEC_ACC(1));
    const bool right = TOTALS && here.correct();
    if (row >= rows || team.rank != 0) continue;
    correct += right;
    if (REDUCTION == NONE) {
      loss[row] = from_acc<SPEC_T>(here.loss());
    } else {
      sum += here.loss();
    }
  }
  if (REDUCTION == NONE) return;
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> block(scratch);
  sum = block.sum(sum);
  if (TOTALS) correct = BlockTeam<int, TUNE_BLOCK>(counts).sum(correct);
  if (block.rank == 0) {
    const SPEC_T total = from_acc<SPEC_T>(sum * share);
    loss[0] = total;
    if (TOTALS) add_totals(totals, to_acc(total), (double)correct, rows);
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_one_launch(SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                                 const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor,
                                 int ROWS, int CLASSES, SPEC_ACC smoothing) {
  walk_over_rows<false>(nullptr, loss, dlogits, logits, labels, weight, factor, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_one_launch_update(GPUCNN_INOUT double* __restrict__ totals, SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits,
                                const SPEC_T* __restrict__ logits, const int* __restrict__ labels, const SPEC_T* __restrict__ weight,
                                const SPEC_ACC* __restrict__ factor, int ROWS, int CLASSES, SPEC_ACC smoothing) {
  walk_over_rows<true>(totals, loss, dlogits, logits, labels, weight, factor, ROWS, CLASSES, smoothing);
}

// -- two launches ----------------------------------------------------------------------------------------------------------
template <bool TOTALS, class Team>
__device__ __forceinline__ void forward_row(const Team& team, SPEC_ACC* workspace, SPEC_T* dlogits, const SPEC_T* logits, const int* labels,
                                            const SPEC_T* weight, const SPEC_ACC* factor, long long row, int rows, int classes,
                                            SPEC_ACC smoothing) {
  const Row<Team> here(team, logits + row * classes, labels, weight, row, rows, classes, smoothing);
  here.write_gradient(dlogits + row * classes, share_of_row(factor, rows), SPEC_ACC(1));
  const bool right = TOTALS && here.correct();
  if (row >= rows || team.rank != 0) return;
  workspace[row] = here.loss();
  if (TOTALS) workspace[rows + row] = SPEC_ACC(right);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_warp(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                           const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor, int ROWS,
                           int CLASSES, SPEC_ACC smoothing) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  forward_row<false>(LaneTeam(), workspace, dlogits, logits, labels, weight, factor, row, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_direct(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                             const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor, int ROWS,
                             int CLASSES, SPEC_ACC smoothing) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  forward_row<false>(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), workspace, dlogits, logits, labels, weight, factor, blockIdx.x, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_and_count_warp(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                                     const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor, int ROWS,
                                     int CLASSES, SPEC_ACC smoothing) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  forward_row<true>(LaneTeam(), workspace, dlogits, logits, labels, weight, factor, row, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_and_count_direct(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                                       const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor, int ROWS,
                                       int CLASSES, SPEC_ACC smoothing) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  forward_row<true>(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), workspace, dlogits, logits, labels, weight, factor, blockIdx.x, ROWS, CLASSES, smoothing);
}

template <bool TOTALS>
__device__ __forceinline__ void total_of_rows(double* totals, SPEC_T* loss, const SPEC_ACC* workspace, const SPEC_ACC* factor, int rows) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  __shared__ int counts[TUNE_BLOCK / 32];
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> team(scratch);
  SPEC_ACC sum = 0;
  int correct = 0;
  for (int row = team.rank; row < rows; row += team.size) {
    sum += workspace[row];
    if (TOTALS) correct += (int)workspace[(long long)rows + row];
  }
  sum = team.sum(sum);
  if (TOTALS) correct = BlockTeam<int, TUNE_BLOCK>(counts).sum(correct);
  if (team.rank == 0) {
    const SPEC_T total = from_acc<SPEC_T>(sum * share_of_row(factor, rows));
    loss[0] = total;
    if (TOTALS) add_totals(totals, to_acc(total), (double)correct, rows);
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_total(SPEC_T* __restrict__ loss, const SPEC_ACC* __restrict__ workspace, const SPEC_ACC* __restrict__ factor, int ROWS) {
  if (REDUCTION == NONE) {
    const long long row = global_thread();
    if (row < ROWS) loss[row] = from_acc<SPEC_T>(workspace[row]);
    return;
  }
  total_of_rows<false>(nullptr, loss, workspace, factor, ROWS);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_total_update(GPUCNN_INOUT double* __restrict__ totals, SPEC_T* __restrict__ loss, const SPEC_ACC* __restrict__ workspace,
                           const SPEC_ACC* __restrict__ factor, int ROWS) {
  total_of_rows<true>(totals, loss, workspace, factor, ROWS);
}

// -- backward, where dy is not 1 -------------------------------------------------------------------------------------------
template <class Team>
__device__ __forceinline__ void backward_row(const Team& team, SPEC_T* dx, const SPEC_T* dy, const SPEC_T* logits, const int* labels,
                                             const SPEC_T* weight, const SPEC_ACC* factor, long long row, int rows, int classes,
                                             SPEC_ACC smoothing) {
  const Row<Team> here(team, logits + row * classes, labels, weight, row, rows, classes, smoothing);
  const SPEC_ACC slope = to_acc(dy[REDUCTION == NONE && row < rows ? row : 0]);
  here.write_gradient(dx + row * classes, share_of_row(factor, rows), slope);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_backward_logits_warp(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ logits,
                                   const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor,
                                   int ROWS, int CLASSES, SPEC_ACC smoothing) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  backward_row(LaneTeam(), dx, dy, logits, labels, weight, factor, row, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_backward_logits_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ logits,
                                     const int* __restrict__ labels, const SPEC_T* __restrict__ weight, const SPEC_ACC* __restrict__ factor,
                                     int ROWS, int CLASSES, SPEC_ACC smoothing) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  backward_row(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), dx, dy, logits, labels, weight, factor, blockIdx.x, ROWS, CLASSES, smoothing);
}
