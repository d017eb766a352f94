// conv2d_split_depth_sum.cu -- 2-D convolution whose depth is split, second of two launches: the chunks' sums added,
// and the epilogue of the forward pass.
//
// Computes  y[i] = activation(bias[i % FILTERS] + sum over chunks of workspace[chunk][i]) for the forward pass,
//           dx[i] = sum over chunks of workspace[chunk][i] for the gradient of the input
// Layout    workspace (CHUNKS, N * OUTPUTS) in SPEC_ACC; y (N, OUTPUTS) and dx alike in SPEC_T, filters or channels last;
//           bias (FILTERS,) or null without SPEC_BIAS
// Compiled  SPEC_T, SPEC_ACC and, for the forward pass, SPEC_BIAS, SPEC_ACTIVATION, SPEC_SLOPE: Conv2dSpec's, whose
//           sizes are run-time arguments: one module serves many layers; TUNE_CHUNKS as in the first launch;
//           TUNE_WIDTH: neighbours of a thread, of which FILTERS, or the channels, are a multiple; TUNE_BLOCK: threads;
//           run time: N, OUTPUTS (of an image), FILTERS
// Launch    grid = ceil(N * OUTPUTS / WIDTH / BLOCK), block = BLOCK
// Assumes   the first launch wrote the whole workspace; arrays aligned to 16 bytes where WIDTH > 1
// Writes    every y or dx once; the chunks are added in order, then bias, then activation
// Cost      reads N * OUTPUTS * CHUNKS sums once: bound by L2, in which they mostly still lie
// Tested    tests/operations/test_conv2d_split_depth.py
#include "activation.cuh"
#include "pack.cuh"

constexpr int CHUNKS = TUNE_CHUNKS, WIDTH = TUNE_WIDTH, BLOCK = TUNE_BLOCK;

// out[first + v] = finish(first, v, the sum of that element's chunks) for the WIDTH elements of a thread, which begin
// with `first`.
template <class Finish>
__device__ __forceinline__ void add_chunks(SPEC_T* out, const SPEC_ACC* workspace, long long count, Finish finish) {
  const long long first = global_thread() * WIDTH;
  if (first >= count) return;
  Pack<SPEC_ACC, WIDTH> chunks[CHUNKS];
#pragma unroll
  for (int chunk = 0; chunk < CHUNKS; ++chunk) chunks[chunk] = load_pack<WIDTH>(workspace + (chunk * count + first));
  Pack<SPEC_ACC, WIDTH> sums = chunks[0];
#pragma unroll
  for (int chunk = 1; chunk < CHUNKS; ++chunk)
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) sums.values[v] += chunks[chunk].values[v];
  Pack<SPEC_T, WIDTH> pack;
#pragma unroll
  for (int v = 0; v < WIDTH; ++v) pack.values[v] = from_acc<SPEC_T>(finish(first, v, sums.values[v]));
  store_pack<WIDTH>(out + first, pack);
}

#ifdef SPEC_ACTIVATION
GPUCNN_KERNEL __launch_bounds__(BLOCK)
conv2d_forward_split_depth_sum(SPEC_T* __restrict__ y, const SPEC_ACC* __restrict__ workspace,
                               const SPEC_T* __restrict__ bias, int N, int OUTPUTS, int FILTERS) {
  add_chunks(y, workspace, (long long)N * OUTPUTS, [=](long long first, int v, SPEC_ACC sum) {
    return activate(SPEC_BIAS ? sum + to_acc(bias[first % FILTERS + v]) : sum);
  });
}
#else
GPUCNN_KERNEL __launch_bounds__(BLOCK)
conv2d_backward_input_split_depth_sum(SPEC_T* __restrict__ dx, const SPEC_ACC* __restrict__ workspace, int N,
                                      int OUTPUTS) {
  add_chunks(dx, workspace, (long long)N * OUTPUTS, [](long long, int, SPEC_ACC sum) { return sum; });
}
#endif
