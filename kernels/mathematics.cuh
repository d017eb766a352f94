// mathematics.cuh -- one spelling of the elementary functions for both accumulators, so that kernels written in SPEC_ACC
// reach the precise float function for float and the double one for double.
#pragma once

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float exponential_minus_1(float x) { return expm1f(x); }
__device__ __forceinline__ double exponential_minus_1(double x) { return expm1(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float logarithm_of_1_plus(float x) { return log1pf(x); }
__device__ __forceinline__ double logarithm_of_1_plus(double x) { return log1p(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }
__device__ __forceinline__ float complementary_error(float x) { return erfcf(x); }
__device__ __forceinline__ double complementary_error(double x) { return erfc(x); }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }
__device__ __forceinline__ float power(float x, float exponent) { return powf(x, exponent); }
__device__ __forceinline__ double power(double x, double exponent) { return pow(x, exponent); }
__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }

// The arguments name the type only: quiet_nan(SPEC_ACC(0)).
__device__ __forceinline__ float quiet_nan(float) { return __uint_as_float(0x7fc00000u); }
__device__ __forceinline__ double quiet_nan(double) { return __longlong_as_double(0x7ff8000000000000LL); }
__device__ __forceinline__ float minus_infinity(float) { return __uint_as_float(0xff800000u); }
__device__ __forceinline__ double minus_infinity(double) { return __longlong_as_double((long long)0xfff0000000000000ULL); }
