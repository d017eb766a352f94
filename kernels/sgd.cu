// sgd.cu -- one step of stochastic gradient descent on a flat buffer of parameters.
//
// Computes  g += decay * p where decayed;  sgd_update: p -= rate * g
//           sgd_momentum_update: v = momentum * v + g;  p -= rate * (SPEC_NESTEROV ? g + momentum * v : v)
// Layout    parameters p, velocity v, gradients g: count elements of SPEC_T, aligned to TUNE_WIDTH elements (at most 16 bytes);
//           flags: one byte for SPEC_PER_FLAG elements, bit 0 trainable, bit 1 decayed; hyper: SPEC_ACC [momentum, decay];
//           steps: ceil(count / SPEC_PER_COUNT) equal int, how many there have been; rates, schedule: see flat_buffer.cuh
// Compiled  SPEC_*: SgdSpec;  TUNE_WIDTH: elements a thread (1, 2, 4), TUNE_BLOCK: threads a block;  run time: count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    p and v of trainable elements exactly once, after reading them; the others are not touched, so they keep their bits;
//           steps: one more, each by the block that reads it
// Cost      3 (5 with momentum) arrays of traffic: memory bound
// Tested    tests/operations/test_optimizer.py
// Source    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in PyTorch's form
#include "flat_buffer.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
sgd_update(GPUCNN_INOUT SPEC_T* __restrict__ parameters, GPUCNN_INOUT int* __restrict__ steps, const SPEC_T* __restrict__ gradients,
           const unsigned char* __restrict__ flags, const SPEC_ACC* __restrict__ hyper, const SPEC_ACC* __restrict__ rates,
           const int* __restrict__ schedule, long long count) {
  const int t = count_step(steps, count);
  const SPEC_ACC rate = scheduled_rate(rates, schedule, t), decay = hyper[1];
  update_elements(flags, count, [=](long long first, auto width, bool decayed) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<SPEC_T, WIDTH> p = load_pack<WIDTH>(parameters + first);
    const Pack<SPEC_T, WIDTH> g = load_pack<WIDTH>(gradients + first);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const SPEC_ACC before = to_acc(p.values[i]);
      const SPEC_ACC gradient = decayed ? multiply_add(decay, before, SPEC_ACC(to_acc(g.values[i]))) : to_acc(g.values[i]);
      p.values[i] = from_acc<SPEC_T>(before - rate * gradient);
    }
    store_pack<WIDTH>(parameters + first, p);
  });
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
sgd_momentum_update(GPUCNN_INOUT SPEC_T* __restrict__ parameters, GPUCNN_INOUT SPEC_T* __restrict__ velocity,
                    GPUCNN_INOUT int* __restrict__ steps, const SPEC_T* __restrict__ gradients, const unsigned char* __restrict__ flags,
                    const SPEC_ACC* __restrict__ hyper, const SPEC_ACC* __restrict__ rates, const int* __restrict__ schedule,
                    long long count) {
  const int t = count_step(steps, count);
  const SPEC_ACC rate = scheduled_rate(rates, schedule, t), momentum = hyper[0], decay = hyper[1];
  update_elements(flags, count, [=](long long first, auto width, bool decayed) {
    constexpr int WIDTH = decltype(width)::value;
    Pack<SPEC_T, WIDTH> p = load_pack<WIDTH>(parameters + first), v = load_pack<WIDTH>(velocity + first);
    const Pack<SPEC_T, WIDTH> g = load_pack<WIDTH>(gradients + first);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
      const SPEC_ACC before = to_acc(p.values[i]);
      const SPEC_ACC gradient = decayed ? multiply_add(decay, before, SPEC_ACC(to_acc(g.values[i]))) : to_acc(g.values[i]);
      const SPEC_ACC speed = multiply_add(momentum, SPEC_ACC(to_acc(v.values[i])), gradient);
      v.values[i] = from_acc<SPEC_T>(speed);
      p.values[i] = from_acc<SPEC_T>(before - rate * (SPEC_NESTEROV ? multiply_add(momentum, speed, gradient) : speed));
    }
    store_pack<WIDTH>(parameters + first, p);
    store_pack<WIDTH>(velocity + first, v);
  });
}
