// mma.cuh -- tensor cores, ldmatrix and cp.async: with common.cuh the only place that holds inline PTX.
//
// Every wrapper has a PTX branch and a portable one for the emulator, which keeps the PTX ISA's layout of fragments
// over the lanes of a warp. All lanes of a warp must call a wrapper together (the copies excepted).
//
// Fragments, with group g = lane / 4 and place t = lane % 4:
//   d (16x8, float)      d[0], d[1]: row g, columns 2t, 2t+1;  d[2], d[3]: row g+8, the same columns
//   a (16x8, tf32)       a[0]: (g, t);  a[1]: (g+8, t);  a[2]: (g, t+4);  a[3]: (g+8, t+4)
//   b (8x8, tf32)        b[0]: (t, g);  b[1]: (t+4, g)
//   a (16x16, 16 bits)   a[0]: (g, 2t..2t+1);  a[1]: (g+8, 2t..);  a[2]: (g, 2t+8..);  a[3]: (g+8, 2t+8..)
//   b (16x8, 16 bits)    b[0]: (2t..2t+1, g);  b[1]: (2t+8..2t+9, g)
// Of two 16-bit elements in one register the one with the lower index lies in the lower half.
//
// Source: PTX ISA, sections "Matrix Fragments for mma.m16n8k8 / mma.m16n8k16", "ldmatrix" and "cp.async".
#pragma once

#ifdef GPUCNN_EMULATED

#define GPUCNN_MATRIX_MULTIPLY(type) emulated_matrix_multiply(__FILE__, __LINE__, type, d, a, b)

__device__ __forceinline__ unsigned to_tf32(float value) {
  const unsigned bits = __float_as_uint(value);
  // Halfway cases to even, as cvt.rn does; infinities and NaN stay what they are.
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0xfffu + ((bits >> 13) & 1u)) & 0xffffe000u;
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MATRIX_MULTIPLY(emulated_tf32);
}
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MATRIX_MULTIPLY(emulated_f16);
}
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MATRIX_MULTIPLY(emulated_bf16);
}

__device__ __forceinline__ void ldmatrix_x4(unsigned (&fragments)[4], const void* row) {
  emulated_load_matrices(__FILE__, __LINE__, fragments, row, 4, 0);
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&fragments)[2], const void* row) {
  emulated_load_matrices(__FILE__, __LINE__, fragments, row, 2, 0);
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&fragments)[4], const void* row) {
  emulated_load_matrices(__FILE__, __LINE__, fragments, row, 4, 1);
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&fragments)[2], const void* row) {
  emulated_load_matrices(__FILE__, __LINE__, fragments, row, 2, 1);
}

__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
  emulated_copy_async(shared, global, 16, valid ? 16 : 0);
}
__device__ __forceinline__ void cp_async_16_if(bool wanted, void* shared, const void* global, bool valid) {
  if (wanted) emulated_copy_async(shared, global, 16, valid ? 16 : 0);
}
__device__ __forceinline__ void cp_async_8(void* shared, const void* global, bool valid) {
  emulated_copy_async(shared, global, 8, valid ? 8 : 0);
}
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool valid) {
  emulated_copy_async(shared, global, 4, valid ? 4 : 0);
}
__device__ __forceinline__ void cp_async_commit() { emulated_copy_async_commit(); }
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  emulated_copy_async_wait(N);
}

#undef GPUCNN_MATRIX_MULTIPLY

#else  // a GPU

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return (unsigned)__cvta_generic_to_shared(pointer);
}

// Round to tf32, ties to even, before sm_90 away from zero: there nothing else is one instruction of PTX, and even that
// takes two. mma reads the upper 19 bits of an operand, so a plain float is cut off instead.
__device__ __forceinline__ unsigned to_tf32(float value) {
#if __CUDA_ARCH__ >= 900
  unsigned rounded;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
#elif __CUDA_ARCH__ >= 800
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
#else
  const unsigned bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#endif
}

#if __CUDA_ARCH__ >= 800

// d += a * b.
#define GPUCNN_MMA(instruction)                                                                                   \
  asm volatile("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  GPUCNN_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

#undef GPUCNN_MMA

#else  // sm_75: f16 in two halves; tf32 and bf16, which its tensor cores lack, by shuffles

__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
}

__device__ __forceinline__ unsigned lane_of_warp() {
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// Adds the products of one k: `upper` and `lower` are a(g, k) and a(g+8, k), `left` and `right` are b(k, 2t) and
// b(k, 2t+1).
__device__ __forceinline__ void add_products(float (&d)[4], unsigned upper, unsigned lower, unsigned left,
                                             unsigned right) {
  d[0] = fmaf(__uint_as_float(upper), __uint_as_float(left), d[0]);
  d[1] = fmaf(__uint_as_float(upper), __uint_as_float(right), d[1]);
  d[2] = fmaf(__uint_as_float(lower), __uint_as_float(left), d[2]);
  d[3] = fmaf(__uint_as_float(lower), __uint_as_float(right), d[3]);
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const unsigned lane = lane_of_warp(), row = lane & ~3u, column = (lane & 3u) * 8u, kept = 0xffffe000u;
#pragma unroll
  for (unsigned k = 0; k < 8; ++k) {
    const unsigned t = k & 3u, part = k >> 2;
    const unsigned upper = __shfl_sync(0xffffffffu, a[2 * part], row + t) & kept;
    const unsigned lower = __shfl_sync(0xffffffffu, a[2 * part + 1], row + t) & kept;
    const unsigned left = __shfl_sync(0xffffffffu, b[part], column + t) & kept;
    const unsigned right = __shfl_sync(0xffffffffu, b[part], column + 4u + t) & kept;
    add_products(d, upper, lower, left, right);
  }
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const unsigned lane = lane_of_warp(), row = lane & ~3u, column = (lane & 3u) * 8u;
#pragma unroll
  for (unsigned pair = 0; pair < 8; ++pair) {  // elements k = 2 * pair and 2 * pair + 1 lie in one register
    const unsigned t = pair & 3u, part = pair >> 2;
    const unsigned upper = __shfl_sync(0xffffffffu, a[2 * part], row + t);
    const unsigned lower = __shfl_sync(0xffffffffu, a[2 * part + 1], row + t);
    const unsigned left = __shfl_sync(0xffffffffu, b[part], column + t);
    const unsigned right = __shfl_sync(0xffffffffu, b[part], column + 4u + t);
    add_products(d, upper << 16, lower << 16, left << 16, right << 16);
    add_products(d, upper & 0xffff0000u, lower & 0xffff0000u, left & 0xffff0000u, right & 0xffff0000u);
  }
}

#endif

// Load 8x8 matrices of 16-bit elements from shared memory. Lanes 8i to 8i+7 give the addresses of the rows of matrix i
// (16 bytes each, 16-byte aligned); lane L gets elements 2t, 2t+1 of row g of matrix i in fragments[i]. The transposed
// form gives it elements g of rows 2t and 2t+1.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&fragments)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&fragments)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragments[0]), "=r"(fragments[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&fragments)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragments[0]), "=r"(fragments[1]), "=r"(fragments[2]), "=r"(fragments[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&fragments)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragments[0]), "=r"(fragments[1])
               : "r"(shared_address(row))
               : "memory");
}

// Copy from global to shared memory in the background, both aligned to the size. When not `valid` nothing is read and
// zeros are written. A copy is there for its own thread after the cp_async_wait that covers it, for others after a
// barrier besides. Before sm_80 the copy is made at once.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
#else
  *reinterpret_cast<uint4*>(shared) = valid ? *reinterpret_cast<const uint4*>(global) : make_uint4(0u, 0u, 0u, 0u);
#endif
}
// The same where `wanted`, and else nothing, without a branch.
__device__ __forceinline__ void cp_async_16_if(bool wanted, void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "{\n"
      ".reg .pred wanted;\n"
      "setp.ne.b32 wanted, %3, 0;\n"
      "@wanted cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
      "}" ::"r"(shared_address(shared)),
      "l"(global), "r"(valid ? 16 : 0), "r"((int)wanted)
      : "memory");
#else
  if (wanted) cp_async_16(shared, global, valid);
#endif
}
__device__ __forceinline__ void cp_async_8(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 8 : 0)
               : "memory");
#else
  *reinterpret_cast<uint2*>(shared) = valid ? *reinterpret_cast<const uint2*>(global) : make_uint2(0u, 0u);
#endif
}
__device__ __forceinline__ void cp_async_4(void* shared, const void* global, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 4 : 0)
               : "memory");
#else
  *reinterpret_cast<unsigned*>(shared) = valid ? *reinterpret_cast<const unsigned*>(global) : 0u;
#endif
}

// Close the group of copies issued since the last commit; wait until at most N of the latest groups are under way.
__device__ __forceinline__ void cp_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

#endif
