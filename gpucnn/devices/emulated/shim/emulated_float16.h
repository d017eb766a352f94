// emulated_float16.h -- conversions between float and the bits of 16-bit floating-point types, to nearest even.
#pragma once

namespace gpucnn_emulated {

EMULATED_UNCHECKED inline float half_to_float(unsigned short bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31u) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent) return __uint_as_float(sign | (exponent + 112u) << 23 | fraction << 13);
  const float magnitude = (float)fraction * 5.9604644775390625e-8f;  // subnormal: fraction * 2^-24
  return sign ? -magnitude : magnitude;
}

EMULATED_UNCHECKED inline unsigned short float_to_half(float value) {
  const unsigned all = __float_as_uint(value), sign = all >> 16 & 0x8000u, magnitude = all & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (unsigned short)0x7fffu;
  if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);  // rounds past 65504
  if (magnitude < 0x38800000u) {
    // Adding 0.5 puts the last bit of a subnormal half at the last bit of the float, which rounds it.
    const float shifted = __uint_as_float(magnitude) + 0.5f;
    return (unsigned short)(sign | (__float_as_uint(shifted) - 0x3f000000u));
  }
  const unsigned rebased = magnitude - (112u << 23);
  return (unsigned short)(sign | (rebased + 0xfffu + (rebased >> 13 & 1u)) >> 13);
}

EMULATED_UNCHECKED inline float bfloat_to_float(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

EMULATED_UNCHECKED inline unsigned short float_to_bfloat(float value) {
  const unsigned all = __float_as_uint(value);
  if ((all & 0x7fffffffu) > 0x7f800000u) return (unsigned short)0x7fffu;
  return (unsigned short)((all + 0x7fffu + (all >> 16 & 1u)) >> 16);
}

}  // namespace gpucnn_emulated

// What __half and __nv_bfloat16 have in common: arithmetic in float, rounded once. `T` converts from and to float, in
// functions that are inlined and instrumented: an element of shared memory may be converted where it lies.
#define EMULATED_FLOAT16_ARITHMETIC(T, T2)                                                                  \
  struct alignas(4) T2 {                                                                                    \
    T x, y;                                                                                                 \
  };                                                                                                        \
  __forceinline__ T __hadd(T a, T b) { return T((float)a + (float)b); }                                     \
  __forceinline__ T __hsub(T a, T b) { return T((float)a - (float)b); }                                     \
  __forceinline__ T __hmul(T a, T b) { return T((float)a * (float)b); }                                     \
  __forceinline__ T __hdiv(T a, T b) { return T((float)a / (float)b); }                                     \
  __forceinline__ T __hneg(T a) { return T(-(float)a); }                                                    \
  __forceinline__ T __habs(T a) { return T(fabsf((float)a)); }                                              \
  __forceinline__ T __hfma(T a, T b, T c) {                                                                 \
    return T((float)fma((double)(float)a, (double)(float)b, (double)(float)c));                             \
  }                                                                                                         \
  __forceinline__ T __hmax(T a, T b) { return T(fmaxf((float)a, (float)b)); }                               \
  __forceinline__ T __hmin(T a, T b) { return T(fminf((float)a, (float)b)); }                               \
  __forceinline__ bool __hisnan(T a) { return isnan((float)a); }                                            \
  __forceinline__ bool __heq(T a, T b) { return (float)a == (float)b; }                                     \
  __forceinline__ bool __hne(T a, T b) { return (float)a != (float)b; }                                     \
  __forceinline__ bool __hlt(T a, T b) { return (float)a < (float)b; }                                      \
  __forceinline__ bool __hle(T a, T b) { return (float)a <= (float)b; }                                     \
  __forceinline__ bool __hgt(T a, T b) { return (float)a > (float)b; }                                      \
  __forceinline__ bool __hge(T a, T b) { return (float)a >= (float)b; }                                     \
  __forceinline__ T2 __hadd2(T2 a, T2 b) { return T2{__hadd(a.x, b.x), __hadd(a.y, b.y)}; }                 \
  __forceinline__ T2 __hsub2(T2 a, T2 b) { return T2{__hsub(a.x, b.x), __hsub(a.y, b.y)}; }                 \
  __forceinline__ T2 __hmul2(T2 a, T2 b) { return T2{__hmul(a.x, b.x), __hmul(a.y, b.y)}; }                 \
  __forceinline__ T2 __hfma2(T2 a, T2 b, T2 c) { return T2{__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  __forceinline__ T2 __hmax2(T2 a, T2 b) { return T2{__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                 \
  __forceinline__ T2 __hmin2(T2 a, T2 b) { return T2{__hmin(a.x, b.x), __hmin(a.y, b.y)}; }                 \
  __forceinline__ T operator+(T a, T b) { return __hadd(a, b); }                                            \
  __forceinline__ T operator-(T a, T b) { return __hsub(a, b); }                                            \
  __forceinline__ T operator*(T a, T b) { return __hmul(a, b); }                                            \
  __forceinline__ T operator/(T a, T b) { return __hdiv(a, b); }                                            \
  __forceinline__ T operator-(T a) { return __hneg(a); }                                                    \
  __forceinline__ T& operator+=(T& a, T b) { return a = __hadd(a, b); }                                     \
  __forceinline__ T& operator-=(T& a, T b) { return a = __hsub(a, b); }                                     \
  __forceinline__ T& operator*=(T& a, T b) { return a = __hmul(a, b); }                                     \
  EMULATED_ATOMIC(atomicAdd, T, __hadd(old, operand))
