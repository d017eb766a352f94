// cross_entropy.cu -- softmax cross-entropy with class weights and label smoothing, and its gradient in the same pass.
//
// Computes  with p = softmax(z), y = label, w = class weights (1 unless SPEC_WEIGHTED), e = smoothing, C = CLASSES:
//           row loss   l = -(1-e) w[y] log p[y] - (e/C) sum over j of w[j] log p[j]
//           dlogits[j] = (1-e) w[y] (p[j] - [j = y]) + (e/C) (p[j] sum w - w[j])
//           loss = l of each row (SPEC_REDUCTION 0), their sum (1), their sum * factor (2); factor = 1, 1, 1 / sum of w[y]
//           backward: dx[r, j] = dlogits[r, j] * factor * dy, dy of the loss's shape
// Layout    logits, dlogits, dx: (ROWS, CLASSES) SPEC_T; labels: (ROWS) int; weight: (CLASSES) SPEC_T; loss, dy: 1 or ROWS SPEC_T;
//           factor: 1 SPEC_ACC; workspace: row losses (ROWS), then for a weighted mean the w[y] (ROWS), SPEC_ACC
// Compiled  SPEC_*: CrossEntropySpec;  TUNE_BLOCK: threads a block;  run time: ROWS, CLASSES, smoothing
// Launch    cross_entropy_forward_warp: block (lanes a row: a power of two up to 32, rows), grid (ceil(ROWS / rows)); or
//           cross_entropy_forward_direct: block (TUNE_BLOCK), grid (ROWS), one block owns a row; then
//           cross_entropy_forward_total: block (TUNE_BLOCK), grid (1), or for SPEC_REDUCTION 0 grid (ceil(ROWS / TUNE_BLOCK))
//           cross_entropy_backward_logits_direct: row_grid.cuh
// Writes    every output element exactly once; rows are added in a fixed order that ROWS determines. A label outside
//           0 .. CLASSES-1 makes its row's loss and gradient NaN, reads nothing, and does not count in the sum of weights.
// Cost      2 exponentials an element; reads logits 3 times, mostly from cache, writes dlogits: memory bound
// Tested    tests/operations/test_loss.py
// Source    Szegedy et al., arXiv:1512.00567 (label smoothing); weights as in torch.nn.CrossEntropyLoss
#include "common.cuh"
#include "mathematics.cuh"
#include "row_grid.cuh"
#include "team.cuh"

constexpr bool WEIGHTED = SPEC_WEIGHTED;
constexpr int REDUCTION = SPEC_REDUCTION, NONE = 0, MEAN = 2;

__device__ __forceinline__ SPEC_ACC class_weight(const SPEC_T* weight, int c) { return WEIGHTED ? to_acc(weight[c]) : SPEC_ACC(1); }

// One row: its gradient, and the loss to workspace[row]. Threads outside the last row come with classes = 0.
template <class Team>
__device__ __forceinline__ void forward_row(const Team& team, SPEC_ACC* workspace, SPEC_T* dlogits, const SPEC_T* logits, const int* labels,
                                            const SPEC_T* weight, int row, int rows, int classes, SPEC_ACC smoothing) {
  const long long start = (long long)row * classes;
  const SPEC_T* z = logits + start;
  SPEC_ACC largest = minus_infinity(SPEC_ACC(0));
  for (int c = team.rank; c < classes; c += team.size) largest = larger(largest, to_acc(z[c]));
  largest = team.largest(largest);
  SPEC_ACC sum = 0, distance = 0, weights = 0;
  for (int c = team.rank; c < classes; c += team.size) {
    const SPEC_ACC below = to_acc(z[c]) - largest, w = class_weight(weight, c);
    sum += exponential(below);
    distance += w * below;
    weights += w;
  }
  sum = team.sum(sum);
  if (smoothing > SPEC_ACC(0)) {  // otherwise 0 * -inf of an impossible class would be NaN
    distance = team.sum(distance);
    weights = team.sum(weights);
  } else {
    distance = weights = SPEC_ACC(0);
  }
  if (classes == 0) return;
  const int label = labels[row];
  const bool known = label >= 0 && label < classes;
  const SPEC_ACC label_weight = known ? class_weight(weight, label) : quiet_nan(SPEC_ACC(0));
  const SPEC_ACC log_sum = logarithm(sum), hit = (SPEC_ACC(1) - smoothing) * label_weight, spread = smoothing / SPEC_ACC(classes);
  for (int c = team.rank; c < classes; c += team.size) {
    const SPEC_ACC p = exponential(to_acc(z[c]) - largest) / sum;
    const SPEC_ACC towards_label = hit * (p - SPEC_ACC(c == label)), towards_all = spread * (p * weights - class_weight(weight, c));
    dlogits[start + c] = from_acc<SPEC_T>(towards_label + towards_all);
  }
  if (team.rank == 0) {
    const SPEC_ACC log_p = known ? (to_acc(z[label]) - largest) - log_sum : quiet_nan(SPEC_ACC(0));
    workspace[row] = -hit * log_p - spread * (distance - log_sum * weights);
    if (WEIGHTED && REDUCTION == MEAN) workspace[(long long)rows + row] = known ? label_weight : SPEC_ACC(0);
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_warp(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                           const int* __restrict__ labels, const SPEC_T* __restrict__ weight, int ROWS, int CLASSES, SPEC_ACC smoothing) {
  const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
  forward_row(LaneTeam(), workspace, dlogits, logits, labels, weight, row < ROWS ? (int)row : 0, ROWS, row < ROWS ? CLASSES : 0, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_direct(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                             const int* __restrict__ labels, const SPEC_T* __restrict__ weight, int ROWS, int CLASSES, SPEC_ACC smoothing) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  forward_row(BlockTeam<SPEC_ACC, TUNE_BLOCK>(scratch), workspace, dlogits, logits, labels, weight, (int)blockIdx.x, ROWS, CLASSES, smoothing);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_forward_total(SPEC_T* __restrict__ loss, SPEC_ACC* __restrict__ factor, const SPEC_ACC* __restrict__ workspace, int ROWS) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  if (REDUCTION == NONE) {
    const long long row = global_thread();
    if (row < ROWS) loss[row] = from_acc<SPEC_T>(workspace[row]);
    if (row == 0) factor[0] = SPEC_ACC(1);
    return;
  }
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> team(scratch);
  SPEC_ACC sum = 0, weights = 0;
  for (int row = team.rank; row < ROWS; row += team.size) {
    sum += workspace[row];
    if (WEIGHTED && REDUCTION == MEAN) weights += workspace[(long long)ROWS + row];
  }
  sum = team.sum(sum);
  if (WEIGHTED && REDUCTION == MEAN) weights = team.sum(weights);
  if (team.rank == 0) {
    const SPEC_ACC scale = REDUCTION != MEAN ? SPEC_ACC(1) : SPEC_ACC(1) / (WEIGHTED ? weights : SPEC_ACC(ROWS));
    loss[0] = from_acc<SPEC_T>(sum * scale);
    factor[0] = scale;
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
cross_entropy_backward_logits_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ dlogits,
                                     const SPEC_ACC* __restrict__ factor, int ROWS, int CLASSES) {
  const RowPosition at = row_position(CLASSES);
  if (at.row >= ROWS || at.column >= CLASSES) return;
  const long long i = at.row * CLASSES + at.column;
  dx[i] = from_acc<SPEC_T>(to_acc(dlogits[i]) * factor[0] * to_acc(dy[REDUCTION == NONE ? at.row : 0]));
}
