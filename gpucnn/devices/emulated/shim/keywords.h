// keywords.h -- CUDA's keywords and built-in variables, for g++.
#pragma once

#define GPUCNN_EMULATED 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(n)
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))

// One worker thread runs one block at a time, so a block's shared memory is its worker's thread-local storage. "used"
// tells the compiler that others see it: it would fold reads of what nobody writes to zero, and hide the fault.
#define __shared__ static __thread __attribute__((used))

// The shim's own code must not report to the checker what kernels did not do.
#define EMULATED_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))

#ifdef GPUCNN_EMULATED_CHECK
#define EMULATED_CHECK_ATOMIC(address, bytes) emulated_check_atomic(address, bytes)
#else
#define EMULATED_CHECK_ATOMIC(address, bytes) ((void)0)
#endif

#define threadIdx emulated_thread_index
#define blockIdx emulated_block_index
#define blockDim emulated_block_size
#define gridDim emulated_grid_size
static constexpr int warpSize = 32;

#define __syncthreads() emulated_syncthreads(__FILE__, __LINE__)
#define __syncthreads_count(predicate) emulated_syncthreads_reduce(__FILE__, __LINE__, (predicate) != 0, 0)
#define __syncthreads_and(predicate) emulated_syncthreads_reduce(__FILE__, __LINE__, (predicate) != 0, 1)
#define __syncthreads_or(predicate) emulated_syncthreads_reduce(__FILE__, __LINE__, (predicate) != 0, 2)

__forceinline__ void __threadfence() { __sync_synchronize(); }
__forceinline__ void __threadfence_block() { __sync_synchronize(); }
__forceinline__ void __threadfence_system() { __sync_synchronize(); }

#define assert(condition) ((condition) ? (void)0 : emulated_fail("assertion failed: " #condition, __FILE__, __LINE__))
#define __trap() emulated_fail("__trap()", __FILE__, __LINE__)

// What device code may call without a header.
extern "C" {
void* memcpy(void* target, const void* source, size_t bytes) noexcept;
void* memset(void* target, int value, size_t bytes) noexcept;
int printf(const char* format, ...);
}
__forceinline__ long long clock64() { return 0; }
__forceinline__ void __nanosleep(unsigned) {}

// PTX wrappers take shared addresses as 32-bit numbers; the emulator's wrappers keep the pointer instead.
__forceinline__ size_t __cvta_generic_to_shared(const void* pointer) { return (size_t)pointer; }
