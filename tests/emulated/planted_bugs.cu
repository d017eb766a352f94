// planted_bugs.cu -- one fault per kernel, as it happens in practice. With -D CLEAN_TWINS every fault is mended.
//
// "HERE name" marks the line that a report must name, "OTHER name" the line of the second access or barrier.
#ifdef CLEAN_TWINS
#define MENDED(...) __VA_ARGS__
#define FAULTY(...)
#else
#define MENDED(...)
#define FAULTY(...) __VA_ARGS__
#endif

// ------------------------------------------------------------------------------------------------- races

extern "C" __global__ void barrier_before_read_missing(float* y, const float* x) {
  __shared__ float tile[64];
  tile[threadIdx.x] = x[threadIdx.x];       // OTHER barrier_before_read_missing
  MENDED(__syncthreads();)
  y[threadIdx.x] = tile[63 - threadIdx.x];  // HERE barrier_before_read_missing
}

extern "C" __global__ void barrier_before_reuse_missing(float* y, const float* x) {
  __shared__ float tile[64];
  float sum = 0.0f;
  for (int step = 0; step < 2; ++step) {
    tile[threadIdx.x] = x[threadIdx.x] + step;  // HERE barrier_before_reuse_missing
    __syncthreads();
    sum += tile[63 - threadIdx.x];  // OTHER barrier_before_reuse_missing
    MENDED(__syncthreads();)
  }
  y[threadIdx.x] = sum;
}

extern "C" __global__ void barrier_in_tree_missing(float* y, const float* x) {
  __shared__ float part[128];
  const int t = threadIdx.x;
  part[t] = x[t];
  __syncthreads();
  for (int half = 64; half > 0; half >>= 1) {
    if (t < half) part[t] += part[t + half];  // HERE barrier_in_tree_missing
    MENDED(__syncthreads();)
  }
  if (t == 0) y[0] = part[0];
}

extern "C" __global__ void syncwarp_missing(float* y, const float* x) {
  __shared__ float line[32];
  line[threadIdx.x] = x[threadIdx.x];  // OTHER syncwarp_missing
  MENDED(__syncwarp();)
  y[threadIdx.x] = line[31 - threadIdx.x];  // HERE syncwarp_missing
}

extern "C" __global__ void syncwarp_of_half_a_warp(float* y, const float* x) {
  __shared__ float line[32];
  line[threadIdx.x] = x[threadIdx.x];  // OTHER syncwarp_of_half_a_warp
  __syncwarp(FAULTY(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u) MENDED(0xffffffffu));
  y[threadIdx.x] = line[31 - threadIdx.x];  // HERE syncwarp_of_half_a_warp
}

extern "C" __global__ void shuffle_taken_for_syncwarp(float* y, const float* x) {
  __shared__ float line[32];
  line[threadIdx.x] = x[threadIdx.x];  // OTHER shuffle_taken_for_syncwarp
  const float mine = __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
  MENDED(__syncwarp();)
  y[threadIdx.x] = line[31 - threadIdx.x] + mine;  // HERE shuffle_taken_for_syncwarp
}

extern "C" __global__ void blocks_write_one_element(float* y) {
  MENDED(if (blockIdx.x == 0))
  if (threadIdx.x == 0) y[0] = blockIdx.x;  // HERE blocks_write_one_element
}

extern "C" __global__ void scatter_without_atomic(GPUCNN_INOUT float* y, const int* place, const float* x) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  FAULTY(y[place[i]] += x[i];)  // HERE scatter_without_atomic
  MENDED(atomicAdd(&y[place[i]], x[i]);)
}

extern "C" __global__ void atomic_mixed_with_plain(GPUCNN_INOUT int* count, int* y) {
  atomicAdd(count, 1);  // HERE atomic_mixed_with_plain
  MENDED(y[threadIdx.x] = 0;)
  FAULTY(y[threadIdx.x] = *count;)  // OTHER atomic_mixed_with_plain
}

extern "C" __global__ void halves_of_a_word(unsigned short* y) {
  __shared__ unsigned short pair[64];
  pair[threadIdx.x FAULTY(/ 2)] = threadIdx.x;  // HERE halves_of_a_word
  __syncthreads();
  y[threadIdx.x] = pair[threadIdx.x FAULTY(/ 2)];
}

// ------------------------------------------------------------------------------------------------- bounds

extern "C" __global__ void tail_guard_missing(float* y, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  MENDED(if (i < n)) y[i] = 2.0f;  // HERE tail_guard_missing
}

extern "C" __global__ void halo_read_unguarded(float* y, const float* x, int n) {
  const int i = threadIdx.x;
  const float left = MENDED(i == 0 ? 0.0f :) x[i - 1];  // HERE halo_read_unguarded
  y[i] = left;
}

extern "C" __global__ void dynamic_shared_too_small(float* y, const float* x) {
  extern __shared__ float staged[];
  staged[threadIdx.x] = x[threadIdx.x];  // HERE dynamic_shared_too_small
  __syncthreads();
  y[threadIdx.x] = staged[threadIdx.x];
}

extern "C" __global__ void shared_array_overrun(float* y, int n) {
  __shared__ float only[64];
  float* p = only;
  only[threadIdx.x] = 0.0f;
  __syncthreads();
  y[threadIdx.x] = p[threadIdx.x FAULTY(+n)];  // HERE shared_array_overrun
}

extern "C" __global__ void inner_index_too_large(float* y, const float* x) {
  __shared__ float tile[8][9];
  const int row = threadIdx.x / 8, column = threadIdx.x % 8;
  tile[row][column] = x[threadIdx.x];
  if (column == 0) tile[row][8] = 0.0f;
  __syncthreads();
  y[threadIdx.x] = tile[row][column FAULTY(+2)];  // HERE inner_index_too_large
}

extern "C" __global__ void local_array_overflow(float* y, int n) {
  float window[4];
  for (int i = 0; i < FAULTY(n) MENDED(4); ++i) window[i] = i;  // HERE local_array_overflow
  y[threadIdx.x] = window[threadIdx.x & 3];
}

extern "C" __global__ void stack_too_small(float* y, int n) {
  volatile float local[FAULTY(65536) MENDED(16)];
  for (int i = 0; i < 16; ++i) local[i] = i;
  y[threadIdx.x] = local[n];
}

extern "C" __global__ void null_pointer(float* y, const float* bias) {
  y[threadIdx.x] = MENDED(bias == nullptr ? 0.0f :) bias[threadIdx.x];  // HERE null_pointer
}

// --------------------------------------------------------------------------------- initialisation, outputs

extern "C" __global__ void shared_not_initialised(float* y) {
  __shared__ float flags[64];
  FAULTY(if (threadIdx.x != 7)) flags[threadIdx.x] = 1.0f;
  __syncthreads();
  y[threadIdx.x] = flags[threadIdx.x];  // HERE shared_not_initialised
}

extern "C" __global__ void output_read_before_written(float* y, const float* x) {
  y[threadIdx.x] = x[threadIdx.x] FAULTY(+y[threadIdx.x]);  // HERE output_read_before_written
}

extern "C" __global__ void last_element_skipped(float* y, const float* x, int n) {
  const int i = threadIdx.x;
  if (i < n FAULTY(-1)) y[i] = x[i];
}

extern "C" __global__ void const_written(float* y, const float* x) {
  y[threadIdx.x] = x[threadIdx.x];
  FAULTY(const_cast<float*>(x)[threadIdx.x] = 0.0f;)  // HERE const_written
}

// ----------------------------------------------------------------------------------------------- alignment

extern "C" __global__ void shared_vector_misaligned(float* y) {
  __shared__ __align__(16) float tile[132];
  for (int i = threadIdx.x; i < 132; i += 32) tile[i] = i;
  __syncthreads();
  const float4 v = *reinterpret_cast<float4*>(&tile[4 * threadIdx.x FAULTY(+1)]);  // HERE shared_vector_misaligned
  y[threadIdx.x] = v.x;
}

extern "C" __global__ void global_vector_misaligned(float* y, const float* x) {
  const float2 v = *reinterpret_cast<const float2*>(x + 2 * threadIdx.x FAULTY(+1));  // HERE global_vector_misaligned
  y[threadIdx.x] = v.x;
}

// --------------------------------------------------------------------------------------- barriers and warps

extern "C" __global__ void return_before_barrier(float* y, int n) {
  __shared__ float part[64];
  FAULTY(if (threadIdx.x >= n) return;)
  part[threadIdx.x] = 1.0f;
  __syncthreads();  // HERE return_before_barrier
  MENDED(if (threadIdx.x < n))
  y[threadIdx.x] = part[threadIdx.x];
}

extern "C" __global__ void barrier_on_two_branches(float* y) {
  __shared__ float part[64];
  part[threadIdx.x] = 1.0f;
  MENDED(__syncthreads();)
  if (threadIdx.x < 32) {
    FAULTY(__syncthreads();)  // HERE barrier_on_two_branches
    y[threadIdx.x] = part[63 - threadIdx.x];
  } else {
    FAULTY(__syncthreads();)  // OTHER barrier_on_two_branches
    y[threadIdx.x] = part[63 - threadIdx.x] + 1.0f;
  }
}

extern "C" __global__ void shuffle_inside_branch(float* y, const float* x, int n) {
  float v = x[threadIdx.x];
  FAULTY(if (threadIdx.x < n)) v += __shfl_down_sync(0xffffffffu, v, 1);  // HERE shuffle_inside_branch
  y[threadIdx.x] = v;
}

extern "C" __global__ void mask_without_caller(float* y) {
  y[threadIdx.x] = __ballot_sync(FAULTY(0x0000ffffu) MENDED(0xffffffffu), 1);  // HERE mask_without_caller
}

extern "C" __global__ void mask_with_exited_lanes(float* y) {
  FAULTY(if (threadIdx.x >= 16) return;)
  y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);  // HERE mask_with_exited_lanes
}

// ------------------------------------------------------------------------------------------------ integers

extern "C" __global__ void divided_by_zero(int* y, int d) {
  y[threadIdx.x] = (int)threadIdx.x / (d MENDED(+1));  // HERE divided_by_zero
}

extern "C" __global__ void shifted_too_far(int* y, int n) {
  y[threadIdx.x] = 1 << (n MENDED(-40));  // HERE shifted_too_far
}

extern "C" __global__ void index_overflows(int* y, int n) {
  y[threadIdx.x] = (int)(MENDED((long long)) n * 3 >> 1);  // HERE index_overflows
}

// ----------------------------------------------------------------------------------------- copies, the rest

extern "C" __global__ void wait_too_lax(float* y, const float* x) {
  __shared__ __align__(16) float stages[2][128];
  for (int stage = 0; stage < 2; ++stage) {
    cp_async_16(&stages[stage][4 * threadIdx.x], &x[128 * stage + 4 * threadIdx.x], true);  // OTHER wait_too_lax
    cp_async_commit();
  }
  cp_async_wait<FAULTY(2) MENDED(1)>();
  y[threadIdx.x] = stages[0][4 * threadIdx.x];  // HERE wait_too_lax
  cp_async_wait<0>();
  y[32 + threadIdx.x] = stages[1][4 * threadIdx.x];
}

extern "C" __global__ void copy_never_waited_for(float* y, const float* x) {
  __shared__ __align__(16) float stage[128];
  cp_async_16(&stage[4 * threadIdx.x], &x[4 * threadIdx.x], true);  // HERE copy_never_waited_for
  cp_async_commit();
  MENDED(cp_async_wait<0>();)
  y[threadIdx.x] = 0.0f;
}

extern "C" __global__ void buffer_overwritten_by_copy(float* y, const float* x) {
  __shared__ __align__(16) float stage[128];
  float sum = 0.0f;
  for (int step = 0; step < 2; ++step) {
    cp_async_16(&stage[4 * threadIdx.x], &x[128 * step + 4 * threadIdx.x], true);  // HERE buffer_overwritten_by_copy
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    sum += stage[127 - 4 * threadIdx.x];  // OTHER buffer_overwritten_by_copy
    MENDED(__syncthreads();)
  }
  y[threadIdx.x] = sum;
}

extern "C" __global__ void matrix_row_misaligned(float* y) {
  __shared__ __align__(16) unsigned short tile[8 * 16 + 8];
  for (int i = threadIdx.x; i < 136; i += 32) tile[i] = i;
  __syncthreads();
  unsigned fragments[2];
  ldmatrix_x2(fragments, &tile[threadIdx.x % 16 * 8 FAULTY(+1)]);  // HERE matrix_row_misaligned
  y[threadIdx.x] = fragments[0];
}

extern "C" __global__ void assertion_fails(float* y, int n) {
  assert(n MENDED(-1) == 0);  // HERE assertion_fails
  y[threadIdx.x] = n;
}

extern "C" __global__ void spins_for_ever(GPUCNN_INOUT volatile int* flag, float* y) {
  FAULTY(while (*flag == 0) {})  // HERE spins_for_ever
  y[threadIdx.x] = 1.0f;
}
