// dropout.cu -- dropout with a mask that is a function of the element's number, so it is never stored.
//
// Computes  y[i] = x[i] * scale if word i of the random stream >= threshold, else 0; kept_state = state
//           dx likewise from dy, with the kept state. Words 4j .. 4j+3 are Philox4x32-10 of
//           key (state[0], state[1]) and counter (j low, j high, stream, state[2]).
// Layout    y, x, dx, dy: count elements of SPEC_T, contiguous, aligned to TUNE_WIDTH elements (at most 16 bytes);
//           state, kept_state: unsigned [seed low, seed high, step]
// Compiled  SPEC_*: DropoutSpec;  TUNE_WIDTH: elements a load (1, 2, 4), TUNE_BLOCK: threads a block;
//           run time: threshold, scale, stream, count
// Launch    grid (ceil(count / (4 * TUNE_BLOCK))), block (TUNE_BLOCK >= 3); one thread owns the 4 elements of one counter
// Writes    every output element exactly once; a dropped element is 0 whatever x is
// Cost      10 rounds of 2 multiplications for 4 elements, 2 arrays of traffic: memory bound
// Tested    tests/operations/test_random.py
// Source    Srivastava et al., "Dropout", JMLR 15 (2014), inverted
#include "pack.cuh"
#include "random.cuh"

constexpr int WIDTH = TUNE_WIDTH, WORDS = 4;
static_assert(WORDS % WIDTH == 0, "a load stays within the words of one counter");
static_assert(TUNE_BLOCK >= 3, "the first block copies the state");

__device__ __forceinline__ SPEC_T dropped(SPEC_T x, unsigned word, unsigned threshold, SPEC_ACC scale) {
  return from_acc<SPEC_T>(word >= threshold ? to_acc(x) * scale : SPEC_ACC(0));
}

__device__ __forceinline__ void dropout(SPEC_T* y, const SPEC_T* x, const unsigned* state, unsigned threshold, SPEC_ACC scale,
                                        unsigned stream, long long count) {
  const long long number = global_thread(), first = number * WORDS;
  if (first >= count) return;
  const uint4 random = philox4x32(make_uint4((unsigned)number, (unsigned)(number >> 32), stream, state[2]), make_uint2(state[0], state[1]));
  const unsigned words[WORDS] = {random.x, random.y, random.z, random.w};
  if (first + WORDS <= count) {
#pragma unroll
    for (int part = 0; part < WORDS; part += WIDTH) {
      Pack<SPEC_T, WIDTH> pack = load_pack<WIDTH>(x + first + part);
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) pack.values[i] = dropped(pack.values[i], words[part + i], threshold, scale);
      store_pack<WIDTH>(y + first + part, pack);
    }
  } else {
#pragma unroll
    for (int i = 0; i < WORDS; ++i) {
      if (first + i < count) y[first + i] = dropped(x[first + i], words[i], threshold, scale);
    }
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
dropout_forward_direct(SPEC_T* __restrict__ y, unsigned* __restrict__ kept_state, const SPEC_T* __restrict__ x,
                       const unsigned* __restrict__ state, unsigned threshold, SPEC_ACC scale, unsigned stream, long long count) {
  if (global_thread() < 3) kept_state[threadIdx.x] = state[threadIdx.x];
  dropout(y, x, state, threshold, scale, stream, count);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
dropout_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const unsigned* __restrict__ state,
                              unsigned threshold, SPEC_ACC scale, unsigned stream, long long count) {
  dropout(dx, dy, state, threshold, scale, stream, count);
}
