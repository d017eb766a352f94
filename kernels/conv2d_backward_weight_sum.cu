// conv2d_backward_weight_sum.cu -- gradient of a 2-D convolution's weight, second of two launches: the chunks' sums
// added.
//
// Computes  dw[i] = sum over chunks of workspace[chunk][i]
// Layout    workspace (chunks, WEIGHTS) in SPEC_ACC, dw (WEIGHTS,) in SPEC_T
// Compiled  SPEC_T, SPEC_ACC: Conv2dSpec's, whose sizes are run-time arguments: one module serves many layers; as in
//           the first launch, TUNE_CHUNK: ceil(N * POSITIONS / CHUNK) chunks, or TUNE_IMAGES and TUNE_IMAGE_CHUNKS:
//           ceil(N / IMAGES) * IMAGE_CHUNKS; TUNE_SLICES: threads that share the chunks of one weight; TUNE_LANES:
//           weights per block; run time: N, POSITIONS (P*Q), WEIGHTS
// Launch    grid = ceil(WEIGHTS / LANES), block = (LANES, SLICES)
// Assumes   the first launch wrote the whole workspace
// Writes    every dw once; slice i adds chunks i, i + SLICES, ... in this order, then the slices are added in theirs
// Cost      reads WEIGHTS * chunks sums once: bound by memory
// Tested    tests/operations/test_conv2d.py
#include "common.cuh"

constexpr int SLICES = TUNE_SLICES, LANES = TUNE_LANES;

__device__ __forceinline__ int chunks_of(int N, int POSITIONS) {
#ifdef TUNE_CHUNK
  return (int)ceil_div<unsigned>((unsigned)N * POSITIONS, TUNE_CHUNK);
#else
  return ceil_div(N, TUNE_IMAGES) * TUNE_IMAGE_CHUNKS;
#endif
}

GPUCNN_KERNEL __launch_bounds__(LANES* SLICES)
conv2d_backward_weight_sum(SPEC_T* __restrict__ dw, const SPEC_ACC* __restrict__ workspace, int N, int POSITIONS,
                           int WEIGHTS) {
  __shared__ SPEC_ACC partial[SLICES][LANES];
  const int lane = (int)threadIdx.x, slice = (int)threadIdx.y;
  const long long i = (long long)blockIdx.x * LANES + lane;
  const int chunks = chunks_of(N, POSITIONS);

  SPEC_ACC sum = 0;
  if (i < WEIGHTS) {
    for (int chunk = slice; chunk < chunks; chunk += SLICES) sum += workspace[(long long)chunk * WEIGHTS + i];
  }
  partial[slice][lane] = sum;
  __syncthreads();
  if (slice == 0 && i < WEIGHTS) {
#pragma unroll
    for (int other = 1; other < SLICES; ++other) sum += partial[other][lane];
    dw[i] = from_acc<SPEC_T>(sum);
  }
}
