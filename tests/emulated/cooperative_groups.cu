// Kernels that use cooperative groups as people write them: NVRTC compiles this text with the toolkit's own headers.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

namespace cg = cooperative_groups;

extern "C" __global__ void ranks(unsigned* y) {
  cg::thread_block block = cg::this_thread_block();
  cg::thread_block_tile<16> tile = cg::tiled_partition<16>(block);  // of any parent
  auto quad = cg::tiled_partition<4>(tile);
  auto one = cg::tiled_partition<1>(quad);
  unsigned* row = y + block.thread_rank() * 12;
  row[0] = block.size() + block.num_threads();
  row[1] = block.group_index().x + 10 * block.thread_index().y + 100 * block.group_dim().z;
  row[2] = tile.thread_rank();
  row[3] = tile.size();
  row[4] = tile.meta_group_rank();
  row[5] = tile.meta_group_size();
  row[6] = quad.thread_rank();
  row[7] = quad.num_threads();
  row[8] = quad.meta_group_rank();
  row[9] = quad.meta_group_size();
  row[10] = one.thread_rank() + one.size();
  row[11] = one.meta_group_rank();
}

extern "C" __global__ void exchanges(int* y, const int* x) {
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  const int t = threadIdx.x, v = x[t];
  y[t] = tile.shfl(v, 5);
  y[64 + t] = tile.shfl_up(v, 3);
  y[128 + t] = tile.shfl_down(v, 3);
  y[192 + t] = tile.shfl_xor(v, 6);
  y[256 + t] = (int)tile.ballot(v % 3 == 0);
  y[320 + t] = tile.any(v == 63) + 2 * tile.all(v >= 0);
  y[384 + t] = (int)tile.match_any(v % 2);
}

extern "C" __global__ void reductions(int* y, float* z, const int* x) {
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  const int t = threadIdx.x, v = x[t];
  y[t] = cg::reduce(tile, v, cg::plus<int>());
  y[64 + t] = cg::reduce(tile, v, cg::less<int>());
  y[128 + t] = cg::reduce(tile, v, cg::greater<int>());
  y[192 + t] = cg::reduce(tile, v, cg::bit_or<int>()) ^ cg::reduce(tile, v, cg::bit_and<int>());
  y[256 + t] = cg::reduce(tile, v, cg::bit_xor<int>());
  z[t] = cg::reduce(tile, (float)v, cg::plus<float>());
}

// The first kernels that most people see: a function of any group, in memory that it shares.
__device__ int sum_of(cg::thread_group group, int* shared, int value) {
  const int rank = group.thread_rank();
  for (int i = group.size() / 2; i > 0; i /= 2) {
    shared[rank] = value;
    group.sync();
    if (rank < i) value += shared[rank + i];
    group.sync();
  }
  return value;  // in rank 0
}

extern "C" __global__ void of_any_group(int* y, const int* x) {
  __shared__ int shared[64];
  auto block = cg::this_thread_block();
  const int whole = sum_of(block, shared, x[block.thread_rank()]);
  cg::thread_group part = cg::tiled_partition(block, 16);
  const int own = sum_of(part, shared + block.thread_rank() / 16 * 16, x[block.thread_rank()]);
  if (block.thread_rank() == 0) y[4] = whole;
  if (part.thread_rank() == 0) y[block.thread_rank() / 16] = own;
}

extern "C" __global__ void reversed(int* y, const int* x, int mended) {
  __shared__ int shared[64];
  auto block = cg::this_thread_block();
  shared[block.thread_rank()] = x[block.thread_rank()];
  if (mended) cg::sync(block);
  y[block.thread_rank()] = shared[block.size() - 1 - block.thread_rank()];
}

extern "C" __global__ void reversed_in_tiles(int* y, const int* x, int mended) {
  __shared__ int shared[64];
  auto tile = cg::tiled_partition<16>(cg::this_thread_block());
  int* own = shared + tile.meta_group_rank() * 16;
  own[tile.thread_rank()] = x[threadIdx.x];
  if (mended) tile.sync();
  y[threadIdx.x] = own[15 - tile.thread_rank()];
}

extern "C" __global__ void barrier_of_some(int* y) {
  auto block = cg::this_thread_block();
  if (block.thread_rank() < 32) block.sync();
  y[block.thread_rank()] = 1;
}
