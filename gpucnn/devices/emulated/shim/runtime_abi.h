// runtime_abi.h -- what a compiled kernel module and the runtime library know of each other.
//
// No standard header is included on this side: NVRTC offers kernels none, and a name that leaks in here would compile
// under the emulator and fail on the GPU.
#pragma once

typedef decltype(sizeof(0)) size_t;

struct uint3 {
  unsigned x, y, z;
};

// Kernels see the built-in variables as constants: they are, for one thread, so the compiler may keep them in registers
// across barriers and the thread sanitizer leaves them alone. The runtime, which sets them, defines this macro empty.
#ifndef EMULATED_BUILTIN
#define EMULATED_BUILTIN const
#endif
#define EMULATED_THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))

// Runs once per warp operation, on the last lane to arrive; `slots` holds what each lane of `mask` posted.
typedef void (*EmulatedCombine)(void** slots, unsigned mask);

extern "C" {
extern EMULATED_BUILTIN EMULATED_THREAD_LOCAL uint3 emulated_thread_index;
extern EMULATED_BUILTIN EMULATED_THREAD_LOCAL uint3 emulated_block_index;
extern EMULATED_BUILTIN EMULATED_THREAD_LOCAL uint3 emulated_block_size;
extern EMULATED_BUILTIN EMULATED_THREAD_LOCAL uint3 emulated_grid_size;
extern EMULATED_THREAD_LOCAL void* EMULATED_BUILTIN emulated_dynamic_shared;

// Block barriers. `operation`: 0 count, 1 and, 2 or.
void emulated_syncthreads(const char* file, int line);
int emulated_syncthreads_reduce(const char* file, int line, int predicate, int operation);

// Warps. Only syncwarp orders memory; a collective exchanges what its slots point to.
void emulated_syncwarp(const char* file, int line, unsigned mask);
void emulated_warp_collective(const char* file, int line, unsigned mask, void* slot, EmulatedCombine combine);
unsigned emulated_active_mask();
unsigned emulated_lane();

// cp.async: copies happen at the wait that covers them.
void emulated_copy_async(void* shared, const void* global, int bytes, int valid_bytes);
void emulated_copy_async_commit();
void emulated_copy_async_wait(int groups_left_pending);
void emulated_copy_async_wait_all();

// Matrix fragments, laid out per lane as the PTX ISA says. `d` is accumulated into.
enum EmulatedMatrixType { emulated_tf32 = 0, emulated_f16 = 1, emulated_bf16 = 2 };
void emulated_matrix_multiply(const char* file, int line, int type, float* d, const unsigned* a, const unsigned* b);
void emulated_load_matrices(const char* file, int line, unsigned* fragments, const void* row, int count,
                            int transposed);

// Called by the check build for accesses that the compiler does not instrument.
void emulated_check_read(const void* address, int bytes);
void emulated_check_atomic(const void* address, int bytes);

void emulated_fail(const char* message, const char* file, int line) __attribute__((noreturn));
}
