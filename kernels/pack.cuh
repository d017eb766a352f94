// pack.cuh -- WIDTH neighbouring elements as one load or store, and element-wise loops over them.
//
// A thread of a map owns the elements global_thread() * WIDTH .. + WIDTH - 1, so a launch has ceil(count / WIDTH) threads.
// WIDTH 1 is the plain loop. Above 1 every array must be aligned to min(16, WIDTH elements) bytes, which Plans assure by
// Launch.alignment; the elements behind the last whole pack are done one by one.
#pragma once

#include "common.cuh"

template <class T, int WIDTH>
struct alignas(sizeof(T) * WIDTH < 16 ? sizeof(T) * WIDTH : 16) Pack {
  static_assert(WIDTH > 0 && (WIDTH & (WIDTH - 1)) == 0, "a pack is a power of two");
  T values[WIDTH];
};

template <int WIDTH, class T>
__device__ __forceinline__ Pack<T, WIDTH> load_pack(const T* x) {
  return *reinterpret_cast<const Pack<T, WIDTH>*>(x);
}

// To an output, in global memory.
template <int WIDTH, class T>
__device__ __forceinline__ void store_pack(T* y, const Pack<T, WIDTH>& pack) {
  store_at_once(reinterpret_cast<Pack<T, WIDTH>*>(y), pack);
}

template <int WIDTH, class T>
__device__ __forceinline__ void store_pack_in_shared(T* y, const Pack<T, WIDTH>& pack) {
  *reinterpret_cast<Pack<T, WIDTH>*>(y) = pack;
}

// y[i] = f(x[i])
template <int WIDTH, class Y, class X, class F>
__device__ __forceinline__ void map_elements(Y* y, const X* x, long long count, F f) {
  const long long first = global_thread() * WIDTH;
  if (first + WIDTH <= count) {
    const Pack<X, WIDTH> in = load_pack<WIDTH>(x + first);
    Pack<Y, WIDTH> out;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) out.values[i] = f(in.values[i]);
    store_pack<WIDTH>(y + first, out);
  } else {
    for (long long i = first; i < count; ++i) y[i] = f(x[i]);
  }
}

// y[i] = f(a[i], b[i]); y may be a, for updates in place
template <int WIDTH, class Y, class A, class B, class F>
__device__ __forceinline__ void map_pairs(Y* y, const A* a, const B* b, long long count, F f) {
  const long long first = global_thread() * WIDTH;
  if (first + WIDTH <= count) {
    const Pack<A, WIDTH> left = load_pack<WIDTH>(a + first);
    const Pack<B, WIDTH> right = load_pack<WIDTH>(b + first);
    Pack<Y, WIDTH> out;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) out.values[i] = f(left.values[i], right.values[i]);
    store_pack<WIDTH>(y + first, out);
  } else {
    for (long long i = first; i < count; ++i) y[i] = f(a[i], b[i]);
  }
}
