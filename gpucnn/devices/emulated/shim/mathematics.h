// mathematics.h -- the device functions of CUDA's maths library that kernels may call without a header.
//
// Results are those of the C library: close to a GPU's, never bit for bit.
#pragma once

#define EMULATED_MATH_1(name)               \
  extern "C" double name(double) noexcept;  \
  extern "C" float name##f(float) noexcept; \
  __forceinline__ float name(float x) { return name##f(x); }
#define EMULATED_MATH_2(name)                      \
  extern "C" double name(double, double) noexcept; \
  extern "C" float name##f(float, float) noexcept; \
  __forceinline__ float name(float x, float y) { return name##f(x, y); }

EMULATED_MATH_1(sqrt)
EMULATED_MATH_1(cbrt)
EMULATED_MATH_1(exp)
EMULATED_MATH_1(exp2)
EMULATED_MATH_1(exp10)
EMULATED_MATH_1(expm1)
EMULATED_MATH_1(log)
EMULATED_MATH_1(log2)
EMULATED_MATH_1(log10)
EMULATED_MATH_1(log1p)
EMULATED_MATH_1(sin)
EMULATED_MATH_1(cos)
EMULATED_MATH_1(tan)
EMULATED_MATH_1(asin)
EMULATED_MATH_1(acos)
EMULATED_MATH_1(atan)
EMULATED_MATH_1(sinh)
EMULATED_MATH_1(cosh)
EMULATED_MATH_1(tanh)
EMULATED_MATH_1(asinh)
EMULATED_MATH_1(acosh)
EMULATED_MATH_1(atanh)
EMULATED_MATH_1(erf)
EMULATED_MATH_1(erfc)
EMULATED_MATH_1(lgamma)
EMULATED_MATH_1(tgamma)
EMULATED_MATH_1(floor)
EMULATED_MATH_1(ceil)
EMULATED_MATH_1(trunc)
EMULATED_MATH_1(round)
EMULATED_MATH_1(rint)
EMULATED_MATH_1(nearbyint)
EMULATED_MATH_1(fabs)
EMULATED_MATH_2(pow)
EMULATED_MATH_2(fmod)
EMULATED_MATH_2(remainder)
EMULATED_MATH_2(atan2)
EMULATED_MATH_2(hypot)
EMULATED_MATH_2(copysign)
EMULATED_MATH_2(nextafter)
EMULATED_MATH_2(fmin)
EMULATED_MATH_2(fmax)
EMULATED_MATH_2(fdim)

extern "C" {
double fma(double, double, double) noexcept;
float fmaf(float, float, float) noexcept;
double ldexp(double, int) noexcept;
float ldexpf(float, int) noexcept;
double scalbn(double, int) noexcept;
float scalbnf(float, int) noexcept;
void sincos(double, double*, double*) noexcept;
void sincosf(float, float*, float*) noexcept;
}
__forceinline__ float fma(float a, float b, float c) { return fmaf(a, b, c); }
__forceinline__ float ldexp(float x, int exponent) { return ldexpf(x, exponent); }

__forceinline__ float rsqrtf(float x) { return 1.0f / sqrtf(x); }
__forceinline__ double rsqrt(double x) { return 1.0 / sqrt(x); }
__forceinline__ float rsqrt(float x) { return 1.0f / sqrtf(x); }
__forceinline__ float fdividef(float a, float b) { return a / b; }
__forceinline__ float sinpif(float x) { return (float)sin(3.14159265358979323846 * (double)x); }
__forceinline__ float cospif(float x) { return (float)cos(3.14159265358979323846 * (double)x); }
__forceinline__ double sinpi(double x) { return sin(3.14159265358979323846 * x); }
__forceinline__ double cospi(double x) { return cos(3.14159265358979323846 * x); }
__forceinline__ void sincospif(float x, float* sine, float* cosine) {
  *sine = sinpif(x);
  *cosine = cospif(x);
}

__forceinline__ bool isnan(float x) { return __builtin_isnan(x); }
__forceinline__ bool isnan(double x) { return __builtin_isnan(x); }
__forceinline__ bool isinf(float x) { return __builtin_isinf(x); }
__forceinline__ bool isinf(double x) { return __builtin_isinf(x); }
__forceinline__ bool isfinite(float x) { return __builtin_isfinite(x); }
__forceinline__ bool isfinite(double x) { return __builtin_isfinite(x); }
__forceinline__ bool signbit(float x) { return __builtin_signbit(x); }
__forceinline__ bool signbit(double x) { return __builtin_signbit(x); }

extern "C" int abs(int) noexcept;
extern "C" long labs(long) noexcept;
extern "C" long long llabs(long long) noexcept;
__forceinline__ long abs(long x) { return labs(x); }
__forceinline__ long long abs(long long x) { return llabs(x); }
__forceinline__ float abs(float x) { return fabsf(x); }
__forceinline__ double abs(double x) { return fabs(x); }

#define EMULATED_MIN_MAX(R, A, B)                                       \
  __forceinline__ R min(A a, B b) { return (R)b < (R)a ? (R)b : (R)a; } \
  __forceinline__ R max(A a, B b) { return (R)a < (R)b ? (R)b : (R)a; }
EMULATED_MIN_MAX(int, int, int)
EMULATED_MIN_MAX(unsigned, unsigned, unsigned)
EMULATED_MIN_MAX(unsigned, int, unsigned)
EMULATED_MIN_MAX(unsigned, unsigned, int)
EMULATED_MIN_MAX(long, long, long)
EMULATED_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMULATED_MIN_MAX(long long, long long, long long)
EMULATED_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
__forceinline__ float min(float a, float b) { return fminf(a, b); }
__forceinline__ float max(float a, float b) { return fmaxf(a, b); }
__forceinline__ double min(double a, double b) { return fmin(a, b); }
__forceinline__ double max(double a, double b) { return fmax(a, b); }

// The approximate intrinsics compute the accurate function.
__forceinline__ float __expf(float x) { return expf(x); }
__forceinline__ float __exp10f(float x) { return exp10f(x); }
__forceinline__ float __logf(float x) { return logf(x); }
__forceinline__ float __log2f(float x) { return log2f(x); }
__forceinline__ float __log10f(float x) { return log10f(x); }
__forceinline__ float __powf(float x, float y) { return powf(x, y); }
__forceinline__ float __sinf(float x) { return sinf(x); }
__forceinline__ float __cosf(float x) { return cosf(x); }
__forceinline__ float __tanf(float x) { return tanf(x); }
__forceinline__ float __tanhf(float x) { return tanhf(x); }
__forceinline__ float __fdividef(float a, float b) { return a / b; }
__forceinline__ float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
__forceinline__ float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }

// Rounded to nearest without contraction into a multiply-add: the volatile keeps g++ from fusing them.
#define EMULATED_EXACT(name, T, operation) \
  __forceinline__ T name(T a, T b) {       \
    T result = a operation b;              \
    __asm__ volatile("" : "+m"(result));   \
    return result;                         \
  }
EMULATED_EXACT(__fadd_rn, float, +)
EMULATED_EXACT(__fsub_rn, float, -)
EMULATED_EXACT(__fmul_rn, float, *)
EMULATED_EXACT(__fdiv_rn, float, /)
EMULATED_EXACT(__dadd_rn, double, +)
EMULATED_EXACT(__dsub_rn, double, -)
EMULATED_EXACT(__dmul_rn, double, *)
EMULATED_EXACT(__ddiv_rn, double, /)
__forceinline__ float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
__forceinline__ double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
__forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
__forceinline__ double __drcp_rn(double x) { return 1.0 / x; }
__forceinline__ float __fsqrt_rn(float x) { return sqrtf(x); }
__forceinline__ double __dsqrt_rn(double x) { return sqrt(x); }
