// vector_types.h -- float4 and its relatives, aligned as CUDA aligns them.
#pragma once

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return uint3{x, y, z}; }
};

#define EMULATED_VECTOR_1(name, element) \
  struct name##1 { element x; };         \
  __forceinline__ name##1 make_##name##1(element x) { return name##1 {x}; }
#define EMULATED_VECTOR_2(name, element)                         \
  struct alignas(2 * sizeof(element)) name##2 { element x, y; }; \
  __forceinline__ name##2 make_##name##2(element x, element y) { return name##2 {x, y}; }
#define EMULATED_VECTOR_3(name, element) \
  struct name##3 { element x, y, z; };   \
  __forceinline__ name##3 make_##name##3(element x, element y, element z) { return name##3 {x, y, z}; }
#define EMULATED_VECTOR_4(name, element)                                                               \
  struct alignas(4 * sizeof(element) < 16 ? 4 * sizeof(element) : 16) name##4 { element x, y, z, w; }; \
  __forceinline__ name##4 make_##name##4(element x, element y, element z, element w) { return name##4 {x, y, z, w}; }
#define EMULATED_VECTORS(name, element) \
  EMULATED_VECTOR_1(name, element)      \
  EMULATED_VECTOR_2(name, element)      \
  EMULATED_VECTOR_3(name, element)      \
  EMULATED_VECTOR_4(name, element)

EMULATED_VECTORS(char, signed char)
EMULATED_VECTORS(uchar, unsigned char)
EMULATED_VECTORS(short, short)
EMULATED_VECTORS(ushort, unsigned short)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(long, long)
EMULATED_VECTORS(ulong, unsigned long)
EMULATED_VECTORS(longlong, long long)
EMULATED_VECTORS(ulonglong, unsigned long long)
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(double, double)
// uint3 comes from runtime_abi.h, which also declares threadIdx.
EMULATED_VECTOR_1(uint, unsigned)
EMULATED_VECTOR_2(uint, unsigned)
__forceinline__ uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return uint3{x, y, z}; }
EMULATED_VECTOR_4(uint, unsigned)
