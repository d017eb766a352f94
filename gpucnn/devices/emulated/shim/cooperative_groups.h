// cooperative_groups.h -- the emulator's look-alike of the toolkit's header: blocks, and tiles of at most a warp.
//
// Barriers and collectives are those of the block and of the warp, with the caller's file and line. There are no grid
// barriers, no coalesced groups and no tiles of several warps: a kernel that asks for them does not compile here.
#pragma once

namespace cooperative_groups {

#define EMULATED_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

// A block, or lanes of a warp: those of `mask`, 0 standing for the block.
class thread_group {
 public:
  unsigned thread_rank() const { return rank; }
  unsigned size() const { return threads; }
  unsigned num_threads() const { return threads; }
  EMULATED_UNCHECKED void sync(EMULATED_CALLER) const {
    if (mask) {
      gpucnn_emulated::syncwarp(file, line, mask);
    } else {
      emulated_syncthreads(file, line);
    }
  }

 protected:
  __forceinline__ thread_group(unsigned rank_, unsigned threads_, unsigned mask_)
      : rank(rank_), threads(threads_), mask(mask_) {}
  unsigned rank, threads, mask;

  friend thread_group tiled_partition(const thread_group& parent, unsigned tile);
};

class thread_block : public thread_group {
 public:
  static dim3 group_index() { return dim3(blockIdx); }
  static dim3 thread_index() { return dim3(threadIdx); }
  static dim3 group_dim() { return dim3(blockDim); }
  static dim3 dim_threads() { return dim3(blockDim); }

 private:
  __forceinline__ thread_block()
      : thread_group(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z),
                     blockDim.x * blockDim.y * blockDim.z, 0u) {}
  friend thread_block this_thread_block();
};

__forceinline__ thread_block this_thread_block() { return thread_block(); }

// `Size` neighbours of a warp, the whole of them: lanes 0 to Size - 1, and so on.
template <unsigned Size, class Parent = void>
class thread_block_tile : public thread_group {
  static_assert(Size >= 1 && Size <= 32 && (Size & (Size - 1)) == 0, "a tile is 1, 2, 4, 8, 16 or 32 threads");

 public:
  template <class Other>
  __forceinline__ thread_block_tile(const thread_block_tile<Size, Other>& other)
      : thread_group(other), meta_rank(other.meta_group_rank()), meta_size(other.meta_group_size()) {}

  unsigned meta_group_rank() const { return meta_rank; }
  unsigned meta_group_size() const { return meta_size; }

  template <class T>
  EMULATED_UNCHECKED T shfl(T value, int source, EMULATED_CALLER) const {
    return gpucnn_emulated::shuffle_index(file, line, mask, value, source, (int)Size);
  }
  template <class T>
  EMULATED_UNCHECKED T shfl_up(T value, unsigned delta, EMULATED_CALLER) const {
    return gpucnn_emulated::shuffle_up(file, line, mask, value, delta, (int)Size);
  }
  template <class T>
  EMULATED_UNCHECKED T shfl_down(T value, unsigned delta, EMULATED_CALLER) const {
    return gpucnn_emulated::shuffle_down(file, line, mask, value, delta, (int)Size);
  }
  template <class T>
  EMULATED_UNCHECKED T shfl_xor(T value, unsigned lanes, EMULATED_CALLER) const {
    return gpucnn_emulated::shuffle_xor(file, line, mask, value, (int)lanes, (int)Size);
  }
  EMULATED_UNCHECKED unsigned ballot(int predicate, EMULATED_CALLER) const {
    return gpucnn_emulated::ballot(file, line, mask, predicate != 0) >> first();
  }
  EMULATED_UNCHECKED int any(int predicate, EMULATED_CALLER) const {
    return gpucnn_emulated::ballot(file, line, mask, predicate != 0) != 0u;
  }
  EMULATED_UNCHECKED int all(int predicate, EMULATED_CALLER) const {
    return gpucnn_emulated::vote_all(file, line, mask, predicate != 0);
  }
  template <class T>
  EMULATED_UNCHECKED unsigned match_any(T value, EMULATED_CALLER) const {
    return gpucnn_emulated::match_any(file, line, mask, value) >> first();
  }

 private:
  __forceinline__ thread_block_tile(unsigned meta_rank_, unsigned meta_size_)
      : thread_group(emulated_lane() & (Size - 1), Size, (Size == 32 ? ~0u : (1u << Size % 32) - 1u) << first()),
        meta_rank(meta_rank_),
        meta_size(meta_size_) {}
  static unsigned first() { return emulated_lane() & ~(Size - 1); }
  unsigned meta_rank, meta_size;

  template <unsigned Tile>
  friend thread_block_tile<Tile, thread_block> tiled_partition(const thread_block& parent);
  template <unsigned Tile, unsigned Whole, class Grandparent>
  friend thread_block_tile<Tile, thread_block_tile<Whole, Grandparent>> tiled_partition(
      const thread_block_tile<Whole, Grandparent>& parent);
};

template <unsigned Tile>
__forceinline__ thread_block_tile<Tile, thread_block> tiled_partition(const thread_block& parent) {
  return thread_block_tile<Tile, thread_block>(parent.thread_rank() / Tile, (parent.size() + Tile - 1) / Tile);
}
template <unsigned Tile, unsigned Whole, class Grandparent>
__forceinline__ thread_block_tile<Tile, thread_block_tile<Whole, Grandparent>> tiled_partition(
    const thread_block_tile<Whole, Grandparent>& parent) {
  static_assert(Tile <= Whole, "a tile is cut into smaller ones");
  return thread_block_tile<Tile, thread_block_tile<Whole, Grandparent>>(parent.thread_rank() / Tile, Whole / Tile);
}

// A tile whose size only the call knows: it synchronises and counts, and exchanges nothing.
EMULATED_UNCHECKED inline thread_group tiled_partition(const thread_group& parent, unsigned tile) {
  if (tile == 0u || tile > 32u || (tile & (tile - 1u)) || (parent.mask && tile > parent.threads)) {
    emulated_fail("tiled_partition: a tile is 1, 2, 4, 8, 16 or 32 threads of its parent", __FILE__, __LINE__);
  }
  const unsigned first = emulated_lane() & ~(tile - 1u);
  return thread_group(emulated_lane() - first, tile, (tile == 32u ? ~0u : (1u << tile) - 1u) << first);
}

template <class Group>
EMULATED_UNCHECKED inline void sync(const Group& group, EMULATED_CALLER) {
  group.sync(file, line);
}
template <class Group>
__forceinline__ unsigned thread_rank(const Group& group) {
  return group.thread_rank();
}
template <class Group>
__forceinline__ unsigned group_size(const Group& group) {
  return group.size();
}

#undef EMULATED_CALLER

}  // namespace cooperative_groups
