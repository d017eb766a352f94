// cuda_fp16.h -- the emulator's look-alike of the toolkit's header: what kernels commonly use of __half and __half2.
#pragma once

#include "emulated_float16.h"

struct __half {
  unsigned short bits;
  __half() = default;
  __forceinline__ __half(float value) : bits(gpucnn_emulated::float_to_half(value)) {}
  __forceinline__ explicit __half(double value) : __half((float)value) {}
  __forceinline__ explicit __half(int value) : __half((float)value) {}
  __forceinline__ operator float() const { return gpucnn_emulated::half_to_float(bits); }
};

EMULATED_FLOAT16_ARITHMETIC(__half, __half2)

typedef __half half;
typedef __half2 half2;

__forceinline__ __half __float2half(float value) { return __half(value); }
__forceinline__ __half __float2half_rn(float value) { return __half(value); }
__forceinline__ __half __double2half(double value) { return __half(value); }
__forceinline__ __half __int2half_rn(int value) { return __half((float)value); }
__forceinline__ float __half2float(__half value) { return (float)value; }
__forceinline__ __half2 __halves2half2(__half a, __half b) { return __half2{a, b}; }
__forceinline__ __half2 make_half2(__half a, __half b) { return __half2{a, b}; }
__forceinline__ __half2 __half2half2(__half a) { return __half2{a, a}; }
__forceinline__ __half2 __floats2half2_rn(float a, float b) { return __half2{__half(a), __half(b)}; }
__forceinline__ __half2 __float22half2_rn(float2 v) { return __floats2half2_rn(v.x, v.y); }
__forceinline__ __half2 __float2half2_rn(float a) { return __floats2half2_rn(a, a); }
__forceinline__ float2 __half22float2(__half2 v) { return make_float2((float)v.x, (float)v.y); }
__forceinline__ __half __low2half(__half2 v) { return v.x; }
__forceinline__ __half __high2half(__half2 v) { return v.y; }
__forceinline__ float __low2float(__half2 v) { return (float)v.x; }
__forceinline__ float __high2float(__half2 v) { return (float)v.y; }
__forceinline__ unsigned short __half_as_ushort(__half value) { return value.bits; }
__forceinline__ __half __ushort_as_half(unsigned short bits) {
  __half value;
  value.bits = bits;
  return value;
}
__forceinline__ __half hexp(__half x) { return __half(expf((float)x)); }
__forceinline__ __half hlog(__half x) { return __half(logf((float)x)); }
__forceinline__ __half hsqrt(__half x) { return __half(sqrtf((float)x)); }
__forceinline__ __half hrsqrt(__half x) { return __half(rsqrtf((float)x)); }
__forceinline__ __half htanh(__half x) { return __half(tanhf((float)x)); }
