// conv2d_backward_input_direct.cu -- gradient of a 2-D convolution's input, one thread for a few channels of one
// pixel.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], over the taps for which h + PAD_TOP -
//           r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have solutions p, q inside the
//           output; k over the group of c; with FLIP the filter is mirrored
// Layout    channels-last, see conv2d.cuh
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CHANNELS: channels per thread, a divisor of C/GROUPS;
//           TUNE_THREADS: block size; run time: N
// Launch    grid = ceil(N*H*W * C/CHANNELS / THREADS), block = THREADS; neighbouring threads own neighbouring
//           channels
// Assumes   nothing beyond conv2d.cuh: it is legal for every Spec
// Writes    every dx once, also where no window reaches; sums in the order r, s, k, one fused multiply-add each
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops; dy is read from cache C/CHANNELS times per tap: bound by loads
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d.cuh"

constexpr int THREADS = TUNE_THREADS, CHANNELS = TUNE_CHANNELS;
constexpr int CHANNEL_BLOCKS = C / CHANNELS;
static_assert(GROUP_C % CHANNELS == 0, "TUNE_CHANNELS divides the channels of a group");

GPUCNN_KERNEL __launch_bounds__(THREADS, 8)
conv2d_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy,
                             const SPEC_T* __restrict__ weight, int N) {
  const long long index = global_thread();
  if (index >= (long long)N * H * W * CHANNEL_BLOCKS) return;
  const unsigned pixel = (unsigned)(index / CHANNEL_BLOCKS), row = pixel / W;
  const int w = (int)(pixel % W), h = (int)(row % H), n = (int)(row / H);
  const int first = (int)(index % CHANNEL_BLOCKS) * CHANNELS, group = first / GROUP_C, k0 = group * GROUP_K;
  const SPEC_T* output = dy + (long long)n * P * Q * K + k0;
  const SPEC_T* filters = weight + k0 * FILTER + first % GROUP_C;

  SPEC_ACC sums[CHANNELS] = {};
  for (int r = 0; r < R; ++r) {
    const int p = (h + PAD_TOP - r * DILATION_H) / STRIDE_H;
    if (p * STRIDE_H != h + PAD_TOP - r * DILATION_H || !inside(p, P)) continue;
    for (int s = 0; s < S; ++s) {
      const int q = (w + PAD_LEFT - s * DILATION_W) / STRIDE_W;
      if (q * STRIDE_W != w + PAD_LEFT - s * DILATION_W || !inside(q, Q)) continue;
      const SPEC_T* gradient = output + (p * Q + q) * K;
      const SPEC_T* tap = filters + stored_tap(r, s) * GROUP_C;
      for (int k = 0; k < GROUP_K; ++k) {
        const SPEC_ACC value = to_acc(gradient[k]);
#pragma unroll
        for (int f = 0; f < CHANNELS; ++f) sums[f] = multiply_add(value, to_acc(tap[k * FILTER + f]), sums[f]);
      }
    }
  }
#pragma unroll
  for (int f = 0; f < CHANNELS; ++f) dx[index * CHANNELS + f] = from_acc<SPEC_T>(sums[f]);
}
