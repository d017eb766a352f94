// conv2d_backward_weight_direct.cu -- gradient of a 2-D convolution's weight, first of two launches: one thread for
// one weight and one chunk of output positions.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the CHUNK positions (n,p,q) of a chunk of dy[n,p,q,k] * x[n,
//           p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c of the group of k], x zero
//           outside the image; conv2d_backward_weight_sum adds the chunks
// Layout    channels-last, see conv2d.cuh; workspace (ceil(N*P*Q / CHUNK), K, R, S, C/GROUPS) in SPEC_ACC
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CHUNK: positions per chunk, never a function of N;
//           TUNE_THREADS: block size; run time: N
// Launch    grid = ceil(WEIGHTS * chunks / THREADS), block = THREADS; neighbouring threads own neighbouring weights
// Assumes   nothing beyond conv2d.cuh: it is legal for every Spec
// Writes    every element of the workspace once; sums in the order n, p, q, one fused multiply-add each. Taps in the
//           padding are left out, so that they differ from products with zero only where dy is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, two loads from cache for each two of them: bound by loads
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d.cuh"

constexpr int THREADS = TUNE_THREADS, CHUNK = TUNE_CHUNK;

GPUCNN_KERNEL __launch_bounds__(THREADS, 8)
conv2d_backward_weight_direct(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                              const SPEC_T* __restrict__ x, int N) {
  const unsigned positions = (unsigned)N * P * Q, chunks = ceil_div<unsigned>(positions, CHUNK);
  const long long index = global_thread();
  if (index >= (long long)chunks * WEIGHTS) return;
  const unsigned begin = (unsigned)(index / WEIGHTS) * CHUNK, end = min(begin + CHUNK, positions);
  const int element = (int)(index % WEIGHTS), k = element / FILTER, group = k / GROUP_K;
  const int c = element % GROUP_C, stored = element % FILTER / GROUP_C, tap = FLIP ? R * S - 1 - stored : stored;
  const int from_top = tap / S * DILATION_H - PAD_TOP, from_left = tap % S * DILATION_W - PAD_LEFT;
  const SPEC_T* channel = x + group * GROUP_C + c;

  SPEC_ACC sum = 0;
  OutputPosition at = output_position(begin);
  for (unsigned m = begin; m < end; ++m) {
    const int h = at.p * STRIDE_H + from_top, w = at.q * STRIDE_W + from_left;
    if (inside(h, H) && inside(w, W))
      sum = multiply_add(to_acc(dy[(long long)m * K + k]), to_acc(channel[at.n * IMAGE + (h * W + w) * C]), sum);
    if (++at.q == Q) {
      at.q = 0;
      if (++at.p == P) {
        at.p = 0;
        ++at.n;
      }
    }
  }
  workspace[index] = sum;
}
