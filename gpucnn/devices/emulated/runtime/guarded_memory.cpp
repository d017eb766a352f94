// guarded_memory.cpp -- memory that ends at an inaccessible page, for arguments, shared memory and the device's arrays.
#include "guarded_memory.h"

#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "worker.h"

namespace {

constexpr size_t most_pooled_bytes = (size_t)256 << 20;
constexpr uint8_t slack_pattern = 0xcb;
constexpr size_t array_alignment = 256;

std::mutex memory_mutex;
std::unordered_map<size_t, std::vector<uint8_t*>> pool;  // by size
size_t pooled_bytes = 0;
std::unordered_map<uint8_t*, GuardedBlock> device_arrays;  // by address

uintptr_t end_of_page(const uint8_t* address) {
  return ((uintptr_t)address + page_bytes - 1) & ~(uintptr_t)(page_bytes - 1);
}

}  // namespace

GuardedBlock take_guarded(size_t bytes) {
  const size_t rounded = (bytes + page_bytes - 1) / page_bytes * page_bytes;
  const size_t size = rounded ? rounded : page_bytes;
  {
    std::lock_guard<std::mutex> guard(memory_mutex);
    auto found = pool.find(size);
    if (found != pool.end() && !found->second.empty()) {
      uint8_t* memory = found->second.back();
      found->second.pop_back();
      pooled_bytes -= size;
      return GuardedBlock{memory, size};
    }
  }
  void* all = mmap(nullptr, size + 2 * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return GuardedBlock{nullptr, 0};
  uint8_t* memory = (uint8_t*)all + page_bytes;
  if (mprotect(memory, size, PROT_READ | PROT_WRITE) != 0) {
    munmap(all, size + 2 * page_bytes);
    return GuardedBlock{nullptr, 0};
  }
  return GuardedBlock{memory, size};
}

void give_back_guarded(GuardedBlock block) {
  {
    std::lock_guard<std::mutex> guard(memory_mutex);
    if (pooled_bytes + block.bytes <= most_pooled_bytes) {
      pool[block.bytes].push_back(block.memory);
      pooled_bytes += block.bytes;
      return;
    }
  }
  munmap(block.memory - page_bytes, block.bytes + 2 * page_bytes);
}

uint8_t* place_at_end(const GuardedBlock& block, size_t bytes, size_t alignment, size_t residue) {
  uint8_t* address = block.memory + block.bytes - bytes;
  return address - (((uintptr_t)address - residue) & (alignment - 1));
}

uint8_t* place_at_start(const GuardedBlock& block, size_t alignment, size_t residue) {
  return block.memory + ((residue - (uintptr_t)block.memory) & (alignment - 1));
}

void paint_slack(const GuardedBlock& block, const uint8_t* end_of_array) {
  memset((void*)end_of_array, slack_pattern, (size_t)(block.memory + block.bytes - end_of_array));
}

bool slack_is_intact(const uint8_t* end_of_array) {
  const uint8_t* guard = (const uint8_t*)end_of_page(end_of_array);
  for (const uint8_t* byte = end_of_array; byte < guard; ++byte) {
    if (*byte != slack_pattern) return false;
  }
  return true;
}

extern "C" {

// Memory for an array of the device, filled with 0xFF; nullptr when there is none left.
void* emulated_allocate(size_t bytes) {
  const GuardedBlock block = take_guarded(bytes + array_alignment);
  if (!block.memory) return nullptr;
  uint8_t* address = place_at_end(block, bytes, array_alignment, 0);
  memset(address, 0xff, bytes);
  paint_slack(block, address + bytes);
  std::lock_guard<std::mutex> guard(memory_mutex);
  device_arrays[address] = block;
  return address;
}

// Poisons what is freed, so that whoever still points there reads NaN.
void emulated_free(void* address) {
  GuardedBlock block;
  {
    std::lock_guard<std::mutex> guard(memory_mutex);
    auto found = device_arrays.find((uint8_t*)address);
    if (found == device_arrays.end()) return;
    block = found->second;
    device_arrays.erase(found);
  }
  memset(block.memory, 0xff, block.bytes);
  give_back_guarded(block);
}
}
