// inline_ptx.cu -- one entry for each wrapper of mma.cuh and each of common.cuh that holds inline PTX.
//
// A thread hands its registers to the wrapper and stores what comes back; inline_ptx.py packs matrices into fragments and
// says what they must be, by the PTX ISA alone.
#include "common.cuh"
#include "mma.cuh"

template <int COUNT, class T>
__device__ __forceinline__ void load_registers(T (&registers)[COUNT], const T* source) {
  for (int i = 0; i < COUNT; ++i) registers[i] = source[global_thread() * COUNT + i];
}
template <int COUNT, class T>
__device__ __forceinline__ void store_registers(T* target, const T (&registers)[COUNT]) {
  for (int i = 0; i < COUNT; ++i) target[global_thread() * COUNT + i] = registers[i];
}

// d = a * b + c, one 16x8 tile a warp; all arguments are fragments, lane by lane.
#define MATRIX_MULTIPLY(instruction) \
  unsigned left[4], right[2];        \
  float sum[4];                      \
  load_registers(left, a);           \
  load_registers(right, b);          \
  load_registers(sum, c);            \
  instruction(sum, left, right);     \
  store_registers(d, sum)

GPUCNN_KERNEL probe_mma_m16n8k8_tf32(float* __restrict__ d, const unsigned* __restrict__ a,
                                     const unsigned* __restrict__ b, const float* __restrict__ c) {
  MATRIX_MULTIPLY(mma_m16n8k8_tf32);
}
GPUCNN_KERNEL probe_mma_m16n8k16_f16(float* __restrict__ d, const unsigned* __restrict__ a,
                                     const unsigned* __restrict__ b, const float* __restrict__ c) {
  MATRIX_MULTIPLY(mma_m16n8k16_f16);
}
GPUCNN_KERNEL probe_mma_m16n8k16_bf16(float* __restrict__ d, const unsigned* __restrict__ a,
                                      const unsigned* __restrict__ b, const float* __restrict__ c) {
  MATRIX_MULTIPLY(mma_m16n8k16_bf16);
}

// Fragments of 8x8 matrices whose rows (16 bytes) lie anywhere in shared memory: lane L names row place[L] of 64.
#define LOAD_MATRICES(instruction, count)                                \
  __shared__ alignas(16) unsigned shared[256];                           \
  for (int i = threadIdx.x; i < 256; i += 32) shared[i] = rows[i];       \
  __syncthreads();                                                       \
  unsigned loaded[count];                                                \
  instruction(loaded, shared + 4 * place[threadIdx.x]);                  \
  store_registers(fragments, loaded)

GPUCNN_KERNEL probe_ldmatrix_x4(unsigned* __restrict__ fragments, const unsigned* __restrict__ rows,
                                const int* __restrict__ place) {
  LOAD_MATRICES(ldmatrix_x4, 4);
}
GPUCNN_KERNEL probe_ldmatrix_x2(unsigned* __restrict__ fragments, const unsigned* __restrict__ rows,
                                const int* __restrict__ place) {
  LOAD_MATRICES(ldmatrix_x2, 2);
}
GPUCNN_KERNEL probe_ldmatrix_x4_trans(unsigned* __restrict__ fragments, const unsigned* __restrict__ rows,
                                      const int* __restrict__ place) {
  LOAD_MATRICES(ldmatrix_x4_trans, 4);
}
GPUCNN_KERNEL probe_ldmatrix_x2_trans(unsigned* __restrict__ fragments, const unsigned* __restrict__ rows,
                                      const int* __restrict__ place) {
  LOAD_MATRICES(ldmatrix_x2_trans, 2);
}

// y = x where valid, else 0, copied through shared memory in two groups, each read by another thread than copied it;
// what is not copied at all stays 0xabababab.
#define COPY(instruction, WORDS)                                                                        \
  __shared__ alignas(16) unsigned shared[2][32 * WORDS];                                                \
  for (int i = threadIdx.x; i < 32 * WORDS; i += 32) shared[0][i] = shared[1][i] = 0xababababu;         \
  __syncthreads();                                                                                      \
  for (int group = 0; group < 2; ++group) {                                                             \
    const int mine = group * 32 + threadIdx.x;                                                          \
    instruction(&shared[group][threadIdx.x * WORDS], x + mine * WORDS, valid[mine] != 0);               \
    cp_async_commit();                                                                                  \
  }                                                                                                     \
  const int other = 31 - threadIdx.x;                                                                   \
  cp_async_wait<1>();                                                                                   \
  __syncthreads();                                                                                      \
  for (int i = 0; i < WORDS; ++i) y[other * WORDS + i] = shared[0][other * WORDS + i];                  \
  cp_async_wait<0>();                                                                                   \
  __syncthreads();                                                                                      \
  for (int i = 0; i < WORDS; ++i) y[(32 + other) * WORDS + i] = shared[1][other * WORDS + i]

GPUCNN_KERNEL probe_cp_async_16(unsigned* __restrict__ y, const unsigned* __restrict__ x,
                                const int* __restrict__ valid) {
  COPY(cp_async_16, 4);
}
GPUCNN_KERNEL probe_cp_async_8(unsigned* __restrict__ y, const unsigned* __restrict__ x,
                               const int* __restrict__ valid) {
  COPY(cp_async_8, 2);
}
GPUCNN_KERNEL probe_cp_async_4(unsigned* __restrict__ y, const unsigned* __restrict__ x,
                               const int* __restrict__ valid) {
  COPY(cp_async_4, 1);
}
#define WANTED_COPY(target, source, ok) cp_async_16_if(wanted[mine] != 0, target, source, ok)
GPUCNN_KERNEL probe_cp_async_16_if(unsigned* __restrict__ y, const unsigned* __restrict__ x,
                                   const int* __restrict__ valid, const int* __restrict__ wanted) {
  COPY(WANTED_COPY, 4);
}

// y = x, stored COUNT words at a time.
template <int COUNT>
struct alignas(COUNT < 4 ? 4 * COUNT : 16) Words {
  unsigned words[COUNT];
};
template <int COUNT>
__device__ __forceinline__ void store_words(unsigned* y, const unsigned* x) {
  Words<COUNT> value, *const target = reinterpret_cast<Words<COUNT>*>(y) + global_thread();
  load_registers(value.words, x);
  store_at_once(target, value);
}
GPUCNN_KERNEL probe_store_4(unsigned* __restrict__ y, const unsigned* __restrict__ x) { store_words<1>(y, x); }
GPUCNN_KERNEL probe_store_8(unsigned* __restrict__ y, const unsigned* __restrict__ x) { store_words<2>(y, x); }
GPUCNN_KERNEL probe_store_16(unsigned* __restrict__ y, const unsigned* __restrict__ x) { store_words<4>(y, x); }
GPUCNN_KERNEL probe_store_32(unsigned* __restrict__ y, const unsigned* __restrict__ x) { store_words<8>(y, x); }

// y[i] = bits of x[i] in another type; the bits of a half or bfloat16 lie in the lower half of a word.
GPUCNN_KERNEL probe_half_to_float(unsigned* __restrict__ y, const unsigned* __restrict__ x, int count) {
  const long long i = global_thread();
  if (i < count) y[i] = __float_as_uint(half_bits_to_float((unsigned short)x[i]));
}
GPUCNN_KERNEL probe_float_to_half(unsigned* __restrict__ y, const unsigned* __restrict__ x, int count) {
  const long long i = global_thread();
  if (i < count) y[i] = float_to_half_bits(__uint_as_float(x[i]));
}
GPUCNN_KERNEL probe_float_to_bfloat(unsigned* __restrict__ y, const unsigned* __restrict__ x, int count) {
  const long long i = global_thread();
  if (i < count) y[i] = float_to_bfloat_bits(__uint_as_float(x[i]));
}
GPUCNN_KERNEL probe_float_to_tf32(unsigned* __restrict__ y, const unsigned* __restrict__ x, int count) {
  const long long i = global_thread();
  if (i < count) y[i] = to_tf32(__uint_as_float(x[i]));
}
