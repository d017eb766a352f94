// cuda_bf16.h -- the emulator's look-alike of the toolkit's header: what kernels commonly use of __nv_bfloat16.
#pragma once

#include "emulated_float16.h"

struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  __forceinline__ __nv_bfloat16(float value) : bits(gpucnn_emulated::float_to_bfloat(value)) {}
  __forceinline__ explicit __nv_bfloat16(double value) : __nv_bfloat16((float)value) {}
  __forceinline__ explicit __nv_bfloat16(int value) : __nv_bfloat16((float)value) {}
  __forceinline__ operator float() const { return gpucnn_emulated::bfloat_to_float(bits); }
};

EMULATED_FLOAT16_ARITHMETIC(__nv_bfloat16, __nv_bfloat162)

__forceinline__ __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
__forceinline__ __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
__forceinline__ __nv_bfloat16 __double2bfloat16(double value) { return __nv_bfloat16(value); }
__forceinline__ float __bfloat162float(__nv_bfloat16 value) { return (float)value; }
__forceinline__ __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return __nv_bfloat162{a, b}; }
__forceinline__ __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return __nv_bfloat162{__nv_bfloat16(a), __nv_bfloat16(b)};
}
__forceinline__ float2 __bfloat1622float2(__nv_bfloat162 v) { return make_float2((float)v.x, (float)v.y); }
__forceinline__ __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
__forceinline__ __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
__forceinline__ unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
__forceinline__ __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 value;
  value.bits = bits;
  return value;
}
