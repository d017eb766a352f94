// atomics.h -- atomic operations as compare-and-swap loops, sound also when several workers run blocks.
#pragma once

namespace gpucnn_emulated {

template <int bytes>
struct BitsOf;
template <>
struct BitsOf<2> {
  typedef unsigned short type;
};
template <>
struct BitsOf<4> {
  typedef unsigned type;
};
template <>
struct BitsOf<8> {
  typedef unsigned long long type;
};

// Replaces *address by operation(*address, operand) and returns what was there.
template <class T, class Operation>
EMULATED_UNCHECKED inline T atomic_update(T* address, T operand, Operation operation) {
  typedef typename BitsOf<sizeof(T)>::type Bits;
  Bits* bits = (Bits*)address;
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
  T old;
  do {
    memcpy(&old, &before, sizeof(T));
    const T result = operation(old, operand);
    memcpy(&after, &result, sizeof(T));
  } while (!__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}

template <class T>
EMULATED_UNCHECKED inline T atomic_compare_and_swap(T* address, T expected, T desired) {
  __atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

}  // namespace gpucnn_emulated

// The check is called from the inlined wrapper, so that its return address is the kernel's line.
#define EMULATED_ATOMIC(name, T, expression)                                                                    \
  __forceinline__ T name(T* address, T value) {                                                                 \
    EMULATED_CHECK_ATOMIC(address, sizeof(T));                                                                  \
    return gpucnn_emulated::atomic_update(address, value,                                                       \
                                          [](T old, T operand) EMULATED_UNCHECKED -> T { return expression; }); \
  }
#define EMULATED_ATOMIC_INTEGERS(name, expression) \
  EMULATED_ATOMIC(name, int, expression)           \
  EMULATED_ATOMIC(name, unsigned, expression)      \
  EMULATED_ATOMIC(name, long long, expression)     \
  EMULATED_ATOMIC(name, unsigned long long, expression)

EMULATED_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)operand))
EMULATED_ATOMIC(atomicAdd, unsigned, old + operand)
EMULATED_ATOMIC(atomicAdd, unsigned long long, old + operand)
EMULATED_ATOMIC(atomicAdd, float, old + operand)
EMULATED_ATOMIC(atomicAdd, double, old + operand)
EMULATED_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)operand))
EMULATED_ATOMIC(atomicSub, unsigned, old - operand)
EMULATED_ATOMIC_INTEGERS(atomicMin, operand < old ? operand : old)
EMULATED_ATOMIC_INTEGERS(atomicMax, operand > old ? operand : old)
EMULATED_ATOMIC_INTEGERS(atomicAnd, (old & operand))
EMULATED_ATOMIC_INTEGERS(atomicOr, old | operand)
EMULATED_ATOMIC_INTEGERS(atomicXor, old ^ operand)
EMULATED_ATOMIC(atomicExch, int, ((void)old, operand))
EMULATED_ATOMIC(atomicExch, unsigned, ((void)old, operand))
EMULATED_ATOMIC(atomicExch, unsigned long long, ((void)old, operand))
EMULATED_ATOMIC(atomicExch, float, ((void)old, operand))
EMULATED_ATOMIC(atomicInc, unsigned, old >= operand ? 0u : old + 1u)
EMULATED_ATOMIC(atomicDec, unsigned, old == 0u || old > operand ? operand : old - 1u)

#define EMULATED_ATOMIC_CAS(T)                                                   \
  __forceinline__ T atomicCAS(T* address, T expected, T desired) {               \
    EMULATED_CHECK_ATOMIC(address, sizeof(T));                                   \
    return gpucnn_emulated::atomic_compare_and_swap(address, expected, desired); \
  }
EMULATED_ATOMIC_CAS(int)
EMULATED_ATOMIC_CAS(unsigned)
EMULATED_ATOMIC_CAS(unsigned long long)
EMULATED_ATOMIC_CAS(unsigned short)
