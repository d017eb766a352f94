// activation.cu -- activations and their gradients, element by element.
//
// Computes  activation_forward: y = activation(x)
//           activation_backward_input: dx = dy * activation', from saved = y (linear, relu, leaky_relu, sigmoid, tanh,
//           elu, softplus) or saved = x (gelu, silu); see activation.cuh
// Layout    y, x, dx, dy, saved: count elements of SPEC_T, contiguous, aligned to TUNE_WIDTH elements (at most 16 bytes)
// Compiled  SPEC_*: ActivationSpec;  TUNE_WIDTH: elements a thread (1, 2, 4, 8);  TUNE_BLOCK: threads a block;  run time: count
// Launch    grid (ceil(count / (TUNE_WIDTH * TUNE_BLOCK))), block (TUNE_BLOCK); one thread owns TUNE_WIDTH elements
// Writes    every output element exactly once
// Cost      2 (forward) or 3 (backward) arrays of traffic: memory bound
// Tested    tests/operations/test_elementwise.py
// Source    Hendrycks & Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415; Elfwing et al., arXiv:1702.03118 (silu);
//           Clevert et al., arXiv:1511.07289 (elu)
#include "activation.cuh"
#include "pack.cuh"

constexpr int ACTIVATION = SPEC_ACTIVATION;
constexpr int WIDTH = TUNE_WIDTH;

template <int KIND>  // a template, because only then is the branch that does not apply left uncompiled
__device__ __forceinline__ SPEC_ACC gradient(SPEC_ACC dy, SPEC_ACC saved) {
  if constexpr (KIND < ACTIVATION_GELU) {
    return activation_gradient_from_output<KIND, SPEC_ACC>(dy, saved, SPEC_ACC(SPEC_SLOPE));
  } else {
    return activation_gradient_from_input<KIND, SPEC_ACC>(dy, saved);
  }
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
activation_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, long long count) {
  map_elements<WIDTH>(y, x, count, [](SPEC_T v) { return from_acc<SPEC_T>(activate(to_acc(v))); });
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
activation_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ saved, long long count) {
  map_pairs<WIDTH>(dx, dy, saved, count, [](SPEC_T d, SPEC_T s) { return from_acc<SPEC_T>(gradient<ACTIVATION>(to_acc(d), to_acc(s))); });
}
