// bits.h -- reinterpretation, integer intrinsics, conversions with a rounding mode, cached loads.
#pragma once

namespace gpucnn_emulated {

template <class To, class From>
EMULATED_UNCHECKED __forceinline__ To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From), "only the type changes");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Float to integer as a GPU does it: saturating, NaN gives zero.
template <class Integer, class Real>
EMULATED_UNCHECKED __forceinline__ Integer saturate(Real rounded, Integer least, Integer most) {
  if (rounded != rounded) return 0;
  if (rounded <= (Real)least) return least;
  if (rounded >= (Real)most) return most;
  return (Integer)rounded;
}

}  // namespace gpucnn_emulated

__forceinline__ int __float_as_int(float x) { return gpucnn_emulated::reinterpret<int>(x); }
__forceinline__ unsigned __float_as_uint(float x) { return gpucnn_emulated::reinterpret<unsigned>(x); }
__forceinline__ float __int_as_float(int x) { return gpucnn_emulated::reinterpret<float>(x); }
__forceinline__ float __uint_as_float(unsigned x) { return gpucnn_emulated::reinterpret<float>(x); }
__forceinline__ long long __double_as_longlong(double x) { return gpucnn_emulated::reinterpret<long long>(x); }
__forceinline__ double __longlong_as_double(long long x) { return gpucnn_emulated::reinterpret<double>(x); }

__forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
__forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
__forceinline__ int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
__forceinline__ int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ int __ffsll(long long x) { return __builtin_ffsll(x); }
__forceinline__ unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= ((x >> bit) & 1u) << (31 - bit);
  return reversed;
}
__forceinline__ unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const unsigned long long bytes = ((unsigned long long)high << 32) | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = (selector >> (4 * i)) & 0xfu;
    unsigned byte = (unsigned)(bytes >> (8 * (choice & 7u))) & 0xffu;
    if (choice & 8u) byte = byte & 0x80u ? 0xffu : 0u;
    result |= byte << (8 * i);
  }
  return result;
}
__forceinline__ unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((((unsigned long long)high << 32) | low) << (shift & 31u)) >> 32);
}
__forceinline__ unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)((((unsigned long long)high << 32) | low) >> (shift & 31u));
}
__forceinline__ int __mul24(int a, int b) {
  const unsigned sign = 0x800000u, low = 0xffffffu;
  return (int)((((unsigned)a & low ^ sign) - sign) * (((unsigned)b & low ^ sign) - sign));
}
__forceinline__ unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
__forceinline__ int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
__forceinline__ unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
__forceinline__ long long __mul64hi(long long a, long long b) { return (long long)(((__int128)a * b) >> 64); }
__forceinline__ unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
__forceinline__ int __dp4a(int a, int b, int sum) {
  unsigned total = (unsigned)sum;
  for (int i = 0; i < 4; ++i) total += (unsigned)((int)(signed char)(a >> (8 * i)) * (int)(signed char)(b >> (8 * i)));
  return (int)total;
}

#define EMULATED_TO_INTEGER(name, Real, Integer, least, most, rounding) \
  __forceinline__ Integer name(Real x) { return gpucnn_emulated::saturate<Integer>(rounding(x), least, most); }
#define EMULATED_TO_INTEGERS(prefix, Real, suffix, Integer, least, most)      \
  EMULATED_TO_INTEGER(prefix##suffix##_rn, Real, Integer, least, most, rint)  \
  EMULATED_TO_INTEGER(prefix##suffix##_rz, Real, Integer, least, most, trunc) \
  EMULATED_TO_INTEGER(prefix##suffix##_ru, Real, Integer, least, most, ceil)  \
  EMULATED_TO_INTEGER(prefix##suffix##_rd, Real, Integer, least, most, floor)
EMULATED_TO_INTEGERS(__float2, float, int, int, -__INT_MAX__ - 1, __INT_MAX__)
EMULATED_TO_INTEGERS(__float2, float, uint, unsigned, 0u, ~0u)
EMULATED_TO_INTEGERS(__float2, float, ll, long long, -__LONG_LONG_MAX__ - 1, __LONG_LONG_MAX__)
EMULATED_TO_INTEGERS(__float2, float, ull, unsigned long long, 0ull, ~0ull)
EMULATED_TO_INTEGERS(__double2, double, int, int, -__INT_MAX__ - 1, __INT_MAX__)
EMULATED_TO_INTEGERS(__double2, double, uint, unsigned, 0u, ~0u)
EMULATED_TO_INTEGERS(__double2, double, ll, long long, -__LONG_LONG_MAX__ - 1, __LONG_LONG_MAX__)
EMULATED_TO_INTEGERS(__double2, double, ull, unsigned long long, 0ull, ~0ull)
__forceinline__ float __int2float_rn(int x) { return (float)x; }
__forceinline__ float __uint2float_rn(unsigned x) { return (float)x; }
__forceinline__ float __ll2float_rn(long long x) { return (float)x; }
__forceinline__ float __ull2float_rn(unsigned long long x) { return (float)x; }
__forceinline__ double __int2double_rn(int x) { return (double)x; }
__forceinline__ double __uint2double_rn(unsigned x) { return (double)x; }
__forceinline__ double __ll2double_rn(long long x) { return (double)x; }
__forceinline__ float __double2float_rn(double x) { return (float)x; }

// Cache hints change nothing here.
#define EMULATED_LOAD(name)                  \
  template <class T>                         \
  __forceinline__ T name(const T* address) { \
    return *address;                         \
  }
#define EMULATED_STORE(name)                       \
  template <class T>                               \
  __forceinline__ void name(T* address, T value) { \
    *address = value;                              \
  }
EMULATED_LOAD(__ldg)
EMULATED_LOAD(__ldca)
EMULATED_LOAD(__ldcg)
EMULATED_LOAD(__ldcs)
EMULATED_LOAD(__ldlu)
EMULATED_LOAD(__ldcv)
EMULATED_STORE(__stwb)
EMULATED_STORE(__stcg)
EMULATED_STORE(__stcs)
EMULATED_STORE(__stwt)
