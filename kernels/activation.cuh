// activation.cuh -- activations and their derivatives, for epilogues and for activation.cu.
//
// Computes  activate_as<KIND>(x, slope) and, for a gradient dy of the output,
//           activation_gradient_from_output<KIND>(dy, y, slope)  linear, relu, leaky_relu, sigmoid, tanh, elu, softplus
//           activation_gradient_from_input<KIND>(dy, x)          gelu, silu
//           linear x; relu max(x, 0); leaky_relu x < 0 ? slope x : x; sigmoid 1/(1 + e^-x); tanh;
//           elu x < 0 ? slope (e^x - 1) : x; softplus log(1 + e^x); gelu x Phi(x), exact; silu x sigmoid(x)
// Compiled  a file whose Spec has SPEC_ACTIVATION and SPEC_SLOPE also gets activate(x), which applies that activation;
//           any other file may include this one for the templates alone
// Assumes   float or double arguments; slope >= 0 where a gradient is taken from the output, so that its sign is that of x
// Writes    NaN for NaN; relu, leaky_relu and elu hand dy on where y is NaN
#pragma once

#include "common.cuh"
#include "mathematics.cuh"

// In the order of gpucnn.specs.base.ACTIVATIONS.
enum ActivationNumber {
  ACTIVATION_LINEAR,
  ACTIVATION_RELU,
  ACTIVATION_LEAKY_RELU,
  ACTIVATION_SIGMOID,
  ACTIVATION_TANH,
  ACTIVATION_ELU,
  ACTIVATION_SOFTPLUS,
  ACTIVATION_GELU,
  ACTIVATION_SILU,
  ACTIVATION_COUNT
};

template <class A>
__device__ __forceinline__ A sigmoid(A x) {
  const A decayed = exponential(-magnitude(x));  // of -|x|: never overflows
  return (x < A(0) ? decayed : A(1)) / (A(1) + decayed);
}

// Phi(x), the normal distribution function; through erfc because 1 + erf cancels for negative x.
template <class A>
__device__ __forceinline__ A normal_distribution(A x) {
  return A(0.5) * complementary_error(x * A(-0.70710678118654752440));
}

template <class A>
__device__ __forceinline__ A softplus(A x) {
  const A rest = logarithm_of_1_plus(exponential(-magnitude(x)));  // of -|x|: never overflows
  return x <= A(0) ? rest : x + rest;
}

template <int KIND, class A>
__device__ __forceinline__ A activate_as(A x, A slope) {
  static_assert(KIND >= 0 && KIND < ACTIVATION_COUNT, "unknown activation");
  if (KIND == ACTIVATION_RELU) return x <= A(0) ? A(0) : x;
  if (KIND == ACTIVATION_LEAKY_RELU) return x < A(0) ? slope * x : x;
  if (KIND == ACTIVATION_SIGMOID) return sigmoid(x);
  if (KIND == ACTIVATION_TANH) return hyperbolic_tangent(x);
  if (KIND == ACTIVATION_ELU) return x < A(0) ? slope * exponential_minus_1(x) : x;
  if (KIND == ACTIVATION_SOFTPLUS) return softplus(x);
  if (KIND == ACTIVATION_GELU) return x * normal_distribution(x);
  if (KIND == ACTIVATION_SILU) return x * sigmoid(x);
  return x;
}

template <int KIND, class A>
__device__ __forceinline__ A activation_gradient_from_output(A dy, A y, A slope) {
  static_assert(KIND >= 0 && KIND < ACTIVATION_GELU, "the derivative does not follow from the output");
  if (KIND == ACTIVATION_RELU) return y <= A(0) ? A(0) : dy;
  if (KIND == ACTIVATION_LEAKY_RELU) return y <= A(0) ? slope * dy : dy;
  if (KIND == ACTIVATION_SIGMOID) return dy * y * (A(1) - y);
  if (KIND == ACTIVATION_TANH) return dy * (A(1) - y * y);
  if (KIND == ACTIVATION_ELU) return y <= A(0) ? dy * (y + slope) : dy;
  if (KIND == ACTIVATION_SOFTPLUS) return dy * -exponential_minus_1(-y);  // sigmoid(x) = 1 - e^-y
  return dy;
}

template <int KIND, class A>
__device__ __forceinline__ A activation_gradient_from_input(A dy, A x) {
  static_assert(KIND == ACTIVATION_GELU || KIND == ACTIVATION_SILU, "the others follow from the output");
  if (KIND == ACTIVATION_GELU) {
    const A density = A(0.39894228040143267794) * exponential(A(-0.5) * x * x);
    return dy * (normal_distribution(x) + x * density);
  }
  const A s = sigmoid(x);
  return dy * (s * (A(1) + x * (A(1) - s)));
}

#ifdef SPEC_ACTIVATION
__device__ __forceinline__ SPEC_ACC activate(SPEC_ACC x) { return activate_as<SPEC_ACTIVATION, SPEC_ACC>(x, SPEC_ACC(SPEC_SLOPE)); }
#endif
