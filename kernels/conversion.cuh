// conversion.cuh -- element types turned into each other with one rounding, to nearest even.
//
// converted<T>(x): through float where float holds every value of the source, through double for int and double. A double
// becomes a 16-bit type by way of a float rounded to odd, which keeps the bits that decide the second rounding.
#pragma once

#include "common.cuh"

__device__ __forceinline__ float widened(unsigned char x) { return (float)x; }
__device__ __forceinline__ float widened(float16 x) { return to_acc(x); }
__device__ __forceinline__ float widened(bfloat16 x) { return to_acc(x); }
__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(int x) { return (double)x; }
__device__ __forceinline__ double widened(double x) { return x; }

// The float next to x whose last bit is odd, or x itself when a float holds it.
__device__ __forceinline__ float rounded_to_odd(double x) {
  const float nearest = (float)x, size = fabsf(nearest);
  const unsigned bits = __float_as_uint(nearest);
  if ((double)nearest == x || (bits & 1u) || !(size <= 3.402823466e38f)) return nearest;
  return __uint_as_float((double)size < fabs(x) ? bits + 1u : bits - 1u);
}

template <class T>
struct Converted {  // integers: the fraction is cut off
  template <class W>
  __device__ __forceinline__ static T of(W value) {
    return (T)value;
  }
};
template <>
struct Converted<float16> {
  __device__ __forceinline__ static float16 of(float value) { return float16{float_to_half_bits(value)}; }
  __device__ __forceinline__ static float16 of(double value) { return of(rounded_to_odd(value)); }
};
template <>
struct Converted<bfloat16> {
  __device__ __forceinline__ static bfloat16 of(float value) { return bfloat16{float_to_bfloat_bits(value)}; }
  __device__ __forceinline__ static bfloat16 of(double value) { return of(rounded_to_odd(value)); }
};

template <class T, class S>
__device__ __forceinline__ T converted(S value) {
  return Converted<T>::of(widened(value));
}
