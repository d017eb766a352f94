// adam.cu -- one step of Adam or AdamW on a flat buffer of parameters.
//
// Computes  where decayed: SPEC_DECOUPLED ? p -= rate * decay * p : g += decay * p
//           m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//           p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// Layout    parameters p, first_moment m, second_moment v, gradients g: count elements of SPEC_T, aligned to TUNE_WIDTH elements
//           (at most 16 bytes); flags: one byte for SPEC_PER_FLAG elements, bit 0 trainable, bit 1 decayed;
//           hyper: SPEC_ACC [beta1, beta2, epsilon, decay]; steps: ceil(count / SPEC_PER_COUNT) equal int, t - 1;
//           rates, schedule: see flat_buffer.cuh
// Compiled  SPEC_*: AdamSpec;  TUNE_WIDTH: elements a thread (1, 2, 4), TUNE_BLOCK: threads a block;  run time: count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    p, m, v of trainable elements exactly once, after reading them; the others are not touched, so they keep their bits;
//           steps: t, each by the block that reads it
// Cost      7 arrays of traffic: memory bound
// Tested    tests/operations/test_optimizer.py
// Source    Kingma & Ba, arXiv:1412.6980; Loshchilov & Hutter, arXiv:1711.05101
#include "flat_buffer.cuh"
#include "mathematics.cuh"

constexpr bool DECOUPLED = SPEC_DECOUPLED;

// 1 - beta^t without cancellation: at t = 2 and beta = 0.999 the plain form keeps only 15 of a float's 24 bits.
__device__ __forceinline__ SPEC_ACC bias_correction(SPEC_ACC beta, int t) {
  return -exponential_minus_1(SPEC_ACC(t) * logarithm(beta));
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
adam_update(GPUCNN_INOUT SPEC_T* __restrict__ parameters, GPUCNN_INOUT SPEC_T* __restrict__ first_moment,
            GPUCNN_INOUT SPEC_T* __restrict__ second_moment, GPUCNN_INOUT int* __restrict__ steps, const SPEC_T* __restrict__ gradients,
            const unsigned char* __restrict__ flags, const SPEC_ACC* __restrict__ hyper, const SPEC_ACC* __restrict__ rates,
            const int* __restrict__ schedule, long long count) {
  const int t = count_step(steps, count);
  const SPEC_ACC rate = scheduled_rate(rates, schedule, t), beta1 = hyper[0], beta2 = hyper[1], epsilon = hyper[2], decay = hyper[3];
  const SPEC_ACC correction1 = bias_correction(beta1, t), correction2 = bias_correction(beta2, t);
  update_elements(flags, count, [=](long long first, auto width, bool decayed) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<SPEC_T, WIDTH> p = load_pack<WIDTH>(parameters + first);
    Pack<SPEC_T, WIDTH> m = load_pack<WIDTH>(first_moment + first), v = load_pack<WIDTH>(second_moment + first);
    const Pack<SPEC_T, WIDTH> g = load_pack<WIDTH>(gradients + first);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      SPEC_ACC value = to_acc(p.values[i]), gradient = to_acc(g.values[i]);
      if (decayed && DECOUPLED) value -= rate * decay * value;
      if (decayed && !DECOUPLED) gradient += decay * value;
      const SPEC_ACC mean = beta1 * to_acc(m.values[i]) + (SPEC_ACC(1) - beta1) * gradient;
      const SPEC_ACC square = beta2 * to_acc(v.values[i]) + (SPEC_ACC(1) - beta2) * gradient * gradient;
      m.values[i] = from_acc<SPEC_T>(mean);
      v.values[i] = from_acc<SPEC_T>(square);
      p.values[i] = from_acc<SPEC_T>(value - rate * (mean / correction1) / (square_root(square / correction2) + epsilon));
    }
    store_pack<WIDTH>(parameters + first, p);
    store_pack<WIDTH>(first_moment + first, m);
    store_pack<WIDTH>(second_moment + first, v);
  });
}
