// conv_pool2d_backward_weight_sum.cu -- gradients of the weight and bias of a fused block, second of two launches: the
// chunks' sums added.
//
// Computes  dw[i] = sum over chunks of workspace[chunk][i], db[k] = sum over chunks of workspace[chunk][WEIGHTS + k]
// Layout    workspace (ceil(N / IMAGES), WEIGHTS + K) in SPEC_ACC, dw (WEIGHTS,) and db (K,) in SPEC_T
// Compiled  SPEC_*: ConvPool2dSpec without bias; TUNE_IMAGES as in the first launch; TUNE_SLICES: threads that share the chunks
//           of one sum; TUNE_LANES: sums of a block; run time: N
// Launch    grid = ceil((WEIGHTS + K) / LANES), block = (LANES, SLICES)
// Assumes   the first launch wrote the whole workspace
// Writes    every dw and db once; slice i adds chunks i, i + SLICES, ... in this order, then the slices are added in theirs
// Cost      reads (WEIGHTS + K) * chunks sums once: bound by memory
// Tested    tests/operations/test_conv_pool2d.py
#include "conv_pool2d.cuh"

constexpr int IMAGES = TUNE_IMAGES, SLICES = TUNE_SLICES, LANES = TUNE_LANES, SUMS = WEIGHTS + K;

GPUCNN_KERNEL __launch_bounds__(LANES* SLICES)
conv_pool2d_backward_weight_sum(SPEC_T* __restrict__ dw, SPEC_T* __restrict__ db, const SPEC_ACC* __restrict__ workspace, int N) {
  __shared__ SPEC_ACC partial[SLICES][LANES];
  const int lane = (int)threadIdx.x, slice = (int)threadIdx.y, i = (int)blockIdx.x * LANES + lane;
  const int chunks = ceil_div(N, IMAGES);

  SPEC_ACC sum = 0;
  if (i < SUMS) {
#pragma unroll 8
    for (int chunk = slice; chunk < chunks; chunk += SLICES) sum += workspace[(long long)chunk * SUMS + i];
  }
  partial[slice][lane] = sum;
  __syncthreads();
  if (slice > 0 || i >= SUMS) return;
#pragma unroll
  for (int other = 1; other < SLICES; ++other) sum += partial[other][lane];
  if (i < WEIGHTS)
    dw[i] = from_acc<SPEC_T>(sum);
  else
    db[i - WEIGHTS] = from_acc<SPEC_T>(sum);
}
