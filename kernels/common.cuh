// common.cuh -- what every kernel file shares: entry and argument markers, storage types, index helpers.
//
// The 16-bit storage types are structs of bits, so that no compiler needs a header of the CUDA toolkit. Kernels compute in
// SPEC_ACC: load with to_acc, store with from_acc<SPEC_T>, which rounds to nearest even.
#pragma once

#define GPUCNN_KERNEL extern "C" __global__ void
#define GPUCNN_INOUT  // marks an in/out pointer of an `_update` entry: neither poisoned nor checked as an output

struct float16 {
  unsigned short bits;
};
struct bfloat16 {
  unsigned short bits;
};

__device__ __forceinline__ unsigned float_bits(float value) { return __float_as_uint(value); }

// IEEE half to float: exact.
__device__ __forceinline__ float half_bits_to_float(unsigned short bits) {
#ifdef GPUCNN_EMULATED
  const unsigned sign = (unsigned)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31u) return __uint_as_float(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0u) return __uint_as_float(sign | ((exponent + 112u) << 23) | (fraction << 13));
  const float magnitude = (float)fraction * 5.9604644775390625e-8f;  // subnormal: fraction * 2^-24
  return sign ? -magnitude : magnitude;
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#endif
}

// Float to IEEE half, round to nearest even.
__device__ __forceinline__ unsigned short float_to_half_bits(float value) {
#ifdef GPUCNN_EMULATED
  const unsigned all = __float_as_uint(value), sign = (all >> 16) & 0x8000u, magnitude = all & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (unsigned short)0x7fffu;                    // NaN
  if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);          // rounds past 65504
  if (magnitude < 0x33000000u) return (unsigned short)sign;                       // below half of 2^-24
  const unsigned exponent = magnitude >> 23;
  if (exponent < 113u) {                                                          // subnormal result
    const unsigned fraction = (magnitude & 0x7fffffu) | 0x800000u, shift = 126u - exponent;
    const unsigned kept = fraction >> shift, rest = fraction & ((1u << shift) - 1u), middle = 1u << (shift - 1u);
    return (unsigned short)(sign | (kept + (rest > middle || (rest == middle && (kept & 1u)))));
  }
  const unsigned rebased = magnitude - (112u << 23);
  return (unsigned short)(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
#else
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#endif
}

// Float to bfloat16, round to nearest even: one instruction from sm_80 on, whose NaN is 0x7fff too.
__device__ __forceinline__ unsigned short float_to_bfloat_bits(float value) {
#if !defined(GPUCNN_EMULATED) && __CUDA_ARCH__ >= 800
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  const unsigned all = __float_as_uint(value);
  if ((all & 0x7fffffffu) > 0x7f800000u) return (unsigned short)0x7fffu;  // NaN
  return (unsigned short)((all + 0x7fffu + ((all >> 16) & 1u)) >> 16);
#endif
}

__device__ __forceinline__ float to_acc(float value) { return value; }
__device__ __forceinline__ double to_acc(double value) { return value; }
__device__ __forceinline__ float to_acc(float16 value) { return half_bits_to_float(value.bits); }
__device__ __forceinline__ float to_acc(bfloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }
__device__ __forceinline__ float to_acc(unsigned char value) { return (float)value; }
__device__ __forceinline__ float to_acc(int value) { return (float)value; }

// from_acc<T>(v): an accumulator rounded to the storage type.
template <class T>
struct Rounded;
template <>
struct Rounded<float> {
  __device__ __forceinline__ static float of(float value) { return value; }
  __device__ __forceinline__ static float of(double value) { return (float)value; }
};
template <>
struct Rounded<double> {
  __device__ __forceinline__ static double of(double value) { return value; }
};
template <>
struct Rounded<float16> {
  __device__ __forceinline__ static float16 of(float value) { return float16{float_to_half_bits(value)}; }
};
template <>
struct Rounded<bfloat16> {
  __device__ __forceinline__ static bfloat16 of(float value) { return bfloat16{float_to_bfloat_bits(value)}; }
};
template <class T, class A>
__device__ __forceinline__ T from_acc(A value) {
  return Rounded<T>::of(value);
}

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

// Store a struct that is aligned to its size, or to 16 bytes, in global memory, 16 bytes at a time. NVRTC 13 splits a plain
// assignment into its members wherever it cannot tell the alignment from the address's arithmetic. The compiler may move
// loads across it: kernels read nothing that they wrote.
template <class T>
__device__ __forceinline__ void store_at_once(T* target, const T& value) {
#ifdef GPUCNN_EMULATED
  *target = value;
#else
  constexpr int WORDS = sizeof(T) / 4;
  if constexpr (sizeof(T) % 16 != 0 && sizeof(T) != 8 && sizeof(T) != 4) {
    *target = value;
  } else {
    unsigned words[WORDS];
    memcpy(words, &value, sizeof(T));
    const unsigned long long address = __cvta_generic_to_global(target);
    if constexpr (WORDS == 1) asm volatile("st.global.b32 [%0], %1;" ::"l"(address), "r"(words[0]));
    if constexpr (WORDS == 2) asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words[0]), "r"(words[1]));
    if constexpr (WORDS % 4 == 0) {
#pragma unroll
      for (int i = 0; i < WORDS; i += 4)
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address + 4 * i), "r"(words[i]), "r"(words[i + 1]),
                     "r"(words[i + 2]), "r"(words[i + 3]));
    }
  }
#endif
}

// A pointer into global memory that came by way of shared memory, so that the compiler does not load through it by the
// slower instructions for any memory.
template <class T>
__device__ __forceinline__ const T* in_global(const T* pointer) {
#ifndef GPUCNN_EMULATED
  __builtin_assume(__isGlobal(pointer));
#endif
  return pointer;
}

// Multiply-add in one rounding where the hardware has it: the same spelling for both accumulators.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

__device__ __forceinline__ bool is_nan(float value) { return value != value; }
__device__ __forceinline__ bool is_nan(double value) { return value != value; }

// The linear index of a thread in a one-dimensional launch, 64-bit so that any count fits.
__device__ __forceinline__ long long global_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
