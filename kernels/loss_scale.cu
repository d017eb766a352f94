// loss_scale.cu -- dynamic loss scaling before an optimizer step: are all gradients finite, and how to go on.
//
// Computes  finite = no gradient of a trainable segment is infinite or NaN
//           finite: active = flags; good steps += 1; after INTERVAL of them the scale doubles, up to LARGEST, and they count anew
//           else:   active = 0, so that the step changes nothing; steps -= 1, so that it does not count; good steps = 0;
//                   skipped steps += 1; the scale halves, down to SMALLEST
// Layout    factors: float [scale, 1 / scale], powers of two, so exact; tally: int [good steps, skipped steps]; steps:
//           ceil(count / SPEC_PER_COUNT) equal int, which the optimizer will increase; gradients: count elements of SPEC_T, aligned to TUNE_WIDTH elements (at most 16 bytes);
//           flags, active: one byte for SPEC_PER_FLAG elements, bit 0 trainable; workspace: one SPEC_ACC for each block of
//           loss_scale_check, 1 if it met a gradient that is not finite, else 0
// Compiled  SPEC_*: LossScaleSpec;  TUNE_WIDTH: elements in a load, TUNE_BLOCK (THREADS): threads a block, TUNE_PER_THREAD: loads a
//           thread, and flags a thread;  run time: count, INTERVAL
// Launch    loss_scale_check: grid (ceil(count / (WIDTH * THREADS * PER_THREAD))), block (THREADS), a block checks a run of elements;
//           loss_scale_update: grid (ceil(flags / (THREADS * PER_THREAD))), block (THREADS), each block adds up the whole
//           workspace and owns a run of flags; the first thread of the first block owns the numbers
// Assumes   grids of at least one block; count at least 1
// Writes    workspace and active exactly once; factors, tally and steps after reading them, each by one thread
// Cost      traffic of the gradients, memory bound; then latency bound
// Tested    tests/operations/test_loss_scale.py
// Source    Micikevicius et al., "Mixed precision training", arXiv:1710.03740
#include "common.cuh"
#include "pack.cuh"
#include "team.cuh"

constexpr int WIDTH = TUNE_WIDTH, THREADS = TUNE_BLOCK, PER_THREAD = TUNE_PER_THREAD, PER_FLAG = SPEC_PER_FLAG;
constexpr float LARGEST = SPEC_LARGEST, SMALLEST = SPEC_SMALLEST;
constexpr unsigned TRAINABLE = 1u;
static_assert(PER_FLAG % WIDTH == 0, "a pack has one flag");
static_assert(PER_FLAG <= SPEC_PER_COUNT, "threads for all flags are threads for all counts of the steps");

__device__ __forceinline__ int blocks_of_check(long long count) {
  return (int)ceil_div(count, (long long)WIDTH * THREADS * PER_THREAD);
}

__device__ __forceinline__ bool is_finite(SPEC_T value) {
  const SPEC_ACC wide = to_acc(value);
  return wide - wide == SPEC_ACC(0);
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
loss_scale_check(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ gradients, const unsigned char* __restrict__ flags,
                 long long count) {
  __shared__ int scratch[THREADS / 32];
  const BlockTeam<int, THREADS> team(scratch);
  int bad = 0;
  for (int i = 0; i < PER_THREAD; ++i) {
    const long long first = (((long long)blockIdx.x * PER_THREAD + i) * THREADS + threadIdx.x) * WIDTH;
    if (first >= count || !(flags[first / PER_FLAG] & TRAINABLE)) continue;
    if (first + WIDTH <= count) {
      const Pack<SPEC_T, WIDTH> pack = load_pack<WIDTH>(gradients + first);
#pragma unroll
      for (int j = 0; j < WIDTH; ++j) bad |= !is_finite(pack.values[j]);
    } else {
      for (long long j = first; j < count; ++j) bad |= !is_finite(gradients[j]);
    }
  }
  bad = team.largest(bad);
  if (threadIdx.x == 0) workspace[blockIdx.x] = SPEC_ACC(bad);
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
loss_scale_update(GPUCNN_INOUT float* __restrict__ factors, GPUCNN_INOUT int* __restrict__ tally, GPUCNN_INOUT int* __restrict__ steps,
                  unsigned char* __restrict__ active, const SPEC_ACC* __restrict__ workspace, const unsigned char* __restrict__ flags,
                  long long count, int INTERVAL) {
  __shared__ int scratch[THREADS / 32];
  const BlockTeam<int, THREADS> team(scratch);
  int bad = 0;
  for (int block = (int)threadIdx.x; block < blocks_of_check(count); block += THREADS) bad |= workspace[block] != SPEC_ACC(0);
  bad = team.largest(bad);
  const int number = (int)ceil_div(count, (long long)PER_FLAG), counts = (int)ceil_div(count, (long long)SPEC_PER_COUNT);
  for (int i = 0; i < PER_THREAD; ++i) {
    const int place = ((int)blockIdx.x * PER_THREAD + i) * THREADS + (int)threadIdx.x;
    if (place < number) active[place] = bad ? (unsigned char)0 : flags[place];
    if (place < counts) steps[place] -= bad;
  }
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  const bool grows = !bad && tally[0] + 1 >= INTERVAL;
  float scale = factors[0];
  if (bad) scale = scale * 0.5f > SMALLEST ? scale * 0.5f : SMALLEST;
  if (grows) scale = scale * 2.0f < LARGEST ? scale * 2.0f : LARGEST;
  factors[0] = scale;
  factors[1] = 1.0f / scale;
  tally[0] = bad || grows ? 0 : tally[0] + 1;
  tally[1] += bad;
}
