// conv2d_forward_direct.cu -- 2-D convolution, one thread for a few filters at one output position.
//
// Computes  y[n,p,q,k] = activation(bias[k] + sum over r,s,c of x[n, p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W
//           - PAD_LEFT + s*DILATION_W, c] * weight[k,r,s,c]), x zero outside the image, c over the group of k; with
//           FLIP the filter is mirrored
// Layout    channels-last, see conv2d.cuh; bias (K,) or null without SPEC_BIAS
// Compiled  SPEC_*: Conv2dSpec; TUNE_FILTERS: filters per thread, a divisor of K/GROUPS; TUNE_THREADS: block size;
//           run time: N
// Launch    grid = ceil(N*P*Q * K/FILTERS / THREADS), block = THREADS; neighbouring threads own neighbouring filters
// Assumes   nothing beyond conv2d.cuh: it is legal for every Spec
// Writes    every y once; sums in the order r, s, c, one fused multiply-add each. Taps in the padding are left out,
//           so that they differ from products with zero only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops; each x is read from cache K/FILTERS times R*S, the weight once per
//           position: bound by loads, not by arithmetic, unless FILTERS is large
// Tested    tests/operations/test_conv2d.py
// Source    the definition
#include "activation.cuh"
#include "conv2d.cuh"

constexpr int THREADS = TUNE_THREADS, FILTERS = TUNE_FILTERS;
constexpr int FILTER_BLOCKS = K / FILTERS;
static_assert(GROUP_K % FILTERS == 0, "TUNE_FILTERS divides the filters of a group");

GPUCNN_KERNEL __launch_bounds__(THREADS, 8)
conv2d_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                      const SPEC_T* __restrict__ bias, int N) {
  const long long index = global_thread();
  if (index >= (long long)N * P * Q * FILTER_BLOCKS) return;
  const OutputPosition at = output_position((unsigned)(index / FILTER_BLOCKS));
  const int first = (int)(index % FILTER_BLOCKS) * FILTERS, group = first / GROUP_K;
  const SPEC_T* image = x + at.n * IMAGE + group * GROUP_C;
  const SPEC_T* filters = weight + first * FILTER;

  SPEC_ACC sums[FILTERS] = {};
  for (int r = 0; r < R; ++r) {
    const int h = at.p * STRIDE_H - PAD_TOP + r * DILATION_H;
    if (!inside(h, H)) continue;
    for (int s = 0; s < S; ++s) {
      const int w = at.q * STRIDE_W - PAD_LEFT + s * DILATION_W;
      if (!inside(w, W)) continue;
      const SPEC_T* pixel = image + (h * W + w) * C;
      const SPEC_T* tap = filters + stored_tap(r, s) * GROUP_C;
      for (int c = 0; c < GROUP_C; ++c) {
        const SPEC_ACC value = to_acc(pixel[c]);
#pragma unroll
        for (int f = 0; f < FILTERS; ++f) sums[f] = multiply_add(value, to_acc(tap[f * FILTER + c]), sums[f]);
      }
    }
  }
#pragma unroll
  for (int f = 0; f < FILTERS; ++f) {
    const SPEC_ACC biased = SPEC_BIAS ? sums[f] + to_acc(bias[first + f]) : sums[f];
    y[index * FILTERS + f] = from_acc<SPEC_T>(activate(biased));
  }
}
