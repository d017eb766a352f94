// block_sum.cu -- y[b] = the sum of block b's part of x: an example for `gpucnn check`.
//
//   gpucnn check block_sum.cu --launch block_sum_launch.py
//
// It is clean. Take a fault in and see it reported with its lines and threads: remove the barrier inside the loop (a
// race), write `i <= n` for `i < n` (an access out of bounds), or begin the loop at BLOCK / 4 (a wrong output).

#ifndef BLOCK
#define BLOCK 256
#endif

extern "C" __global__ void block_sum(float* y, const float* __restrict__ x, int n) {
  __shared__ float partial[BLOCK];
  const int t = threadIdx.x;
  const int i = blockIdx.x * BLOCK + t;
  partial[t] = i < n ? x[i] : 0.0f;
  __syncthreads();
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    if (t < half) partial[t] += partial[t + half];
    __syncthreads();
  }
  if (t == 0) y[blockIdx.x] = partial[0];
}
