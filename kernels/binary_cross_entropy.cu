// binary_cross_entropy.cu -- binary cross-entropy of logits, and its gradient in the same pass.
//
// Computes  with logits z and targets t: l = max(z, 0) - z t + log(1 + e^-|z|), dlogits = sigmoid(z) - t
//           loss = each l (SPEC_REDUCTION 0), their sum (1), their mean (2)
//           backward: dx = dlogits * dy, divided by count for the mean; dy of the loss's shape
// Layout    logits, targets, dlogits, dx: count elements of SPEC_T; loss, dy: 1 or count SPEC_T;
//           workspace: the sum of each chunk of CHUNK elements, SPEC_ACC
// Compiled  SPEC_*: BinaryCrossEntropySpec;  TUNE_BLOCK: threads a block, TUNE_PER_THREAD: elements a thread and chunk;  run time: count
// Launch    block (TUNE_BLOCK). SPEC_REDUCTION 0: binary_cross_entropy_forward_direct, grid (ceil(count / TUNE_BLOCK)).
//           Else binary_cross_entropy_forward_chunks, grid (ceil(count / CHUNK)), one block owns a chunk; then
//           binary_cross_entropy_forward_total, grid (1). Backward: grid (ceil(count / TUNE_BLOCK)).
// Writes    every output element exactly once; chunks, and the elements within, are added in a fixed order
// Cost      1 exponential and 1 logarithm an element, 3 arrays of traffic: memory bound
// Tested    tests/operations/test_loss.py
#include "activation.cuh"
#include "team.cuh"

constexpr int REDUCTION = SPEC_REDUCTION, NONE = 0, MEAN = 2;
constexpr int CHUNK = TUNE_PER_THREAD * TUNE_BLOCK;

// The loss of element i; writes its gradient.
__device__ __forceinline__ SPEC_ACC element(SPEC_T* dlogits, const SPEC_T* logits, const SPEC_T* targets, long long i) {
  const SPEC_ACC z = to_acc(logits[i]), t = to_acc(targets[i]);
  dlogits[i] = from_acc<SPEC_T>(sigmoid(z) - t);
  return (z <= SPEC_ACC(0) ? SPEC_ACC(0) : z) - z * t + logarithm_of_1_plus(exponential(-magnitude(z)));
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
binary_cross_entropy_forward_direct(SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                                    const SPEC_T* __restrict__ targets, long long count) {
  const long long i = global_thread();
  if (i < count) loss[i] = from_acc<SPEC_T>(element(dlogits, logits, targets, i));
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
binary_cross_entropy_forward_chunks(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, const SPEC_T* __restrict__ logits,
                                    const SPEC_T* __restrict__ targets, long long count) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> team(scratch);
  const long long begin = (long long)blockIdx.x * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
  SPEC_ACC sum = 0;
  for (long long i = begin + team.rank; i < end; i += team.size) sum += element(dlogits, logits, targets, i);
  sum = team.sum(sum);
  if (team.rank == 0) workspace[blockIdx.x] = sum;
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
binary_cross_entropy_forward_total(SPEC_T* __restrict__ loss, const SPEC_ACC* __restrict__ workspace, long long count) {
  __shared__ SPEC_ACC scratch[TUNE_BLOCK / 32];
  const BlockTeam<SPEC_ACC, TUNE_BLOCK> team(scratch);
  const long long chunks = ceil_div(count, (long long)CHUNK);
  SPEC_ACC sum = 0;
  for (long long chunk = team.rank; chunk < chunks; chunk += team.size) sum += workspace[chunk];
  sum = team.sum(sum);
  if (team.rank == 0) loss[0] = from_acc<SPEC_T>(REDUCTION == MEAN ? sum / SPEC_ACC(count) : sum);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
binary_cross_entropy_backward_logits_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ dlogits,
                                            long long count) {
  const long long i = global_thread();
  if (i >= count) return;
  const SPEC_ACC gradient = to_acc(dlogits[i]) * to_acc(dy[REDUCTION == NONE ? i : 0]);
  dx[i] = from_acc<SPEC_T>(REDUCTION == MEAN ? gradient / SPEC_ACC(count) : gradient);
}
