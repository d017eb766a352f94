// worker.h -- a worker: one OS thread that runs one block at a time, its CUDA threads being fibers.
#pragma once

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <random>
#include <vector>

#include "context_switch.h"
#include "launch.h"

#if defined(__x86_64__)
constexpr size_t page_bytes = 4096;
#else
constexpr size_t page_bytes = 65536;  // the largest page any supported system uses
#endif
constexpr size_t stack_bytes = 128 * 1024;

struct Fiber {
  Context context;
  uint8_t* stack;  // the page below it is a guard
  size_t usable_bytes;
};

struct Site {
  const char* file;
  int line;
};

enum class State : uint8_t { fresh, running, at_barrier, in_collective, finished };

struct PendingCopy {
  void* target;
  const void* source;
  int bytes, valid_bytes;
  int group;
  uint32_t code_offset;
};

struct KernelThread {
  Fiber* fiber = nullptr;
  uint3 index = {0, 0, 0};
  State state = State::fresh;
  Site site = {nullptr, 0};  // where it waits
  unsigned mask = 0;         // of the warp operation it waits in
  bool predicate = false;    // of __syncthreads_count and its kin
};

// What a thread has copied by cp.async and not waited for.
struct AsyncCopies {
  int group = 0;  // number of groups committed
  std::vector<PendingCopy> pending;
};

// A warp operation that some lanes of its mask have not reached yet.
struct PendingCollective {
  Site site;
  EmulatedCombine combine;
  unsigned mask, arrived;
  void* slots[32];
};

class ReadyQueue {
 public:
  void reset(unsigned threads);
  bool empty() const { return head_ == tail_; }
  void push(int thread) { ring_[tail_++ & mask_] = (uint16_t)thread; }
  int pop() { return ring_[head_++ & mask_]; }
  int pop_random(std::mt19937& random);

 private:
  std::vector<uint16_t> ring_;
  unsigned head_ = 0, tail_ = 0, mask_ = 0;
};

struct Worker {
  Launch* launch = nullptr;
  Context scheduler;
  std::vector<Fiber*> all_fibers, free_fibers;
  std::vector<KernelThread> threads;
  std::vector<AsyncCopies> copies;  // per thread, apart from KernelThread because most kernels have none
  bool copies_used = false;         // by the current block
  std::vector<std::vector<PendingCollective>> collectives;  // per warp
  std::vector<unsigned> exited_lanes;                       // per warp
  std::vector<int> start_order;
  ReadyQueue ready;
  std::mt19937 random;

  unsigned thread_count = 0, next_to_start = 0, finished = 0, waiting_at_barrier = 0;
  int current = -1;  // the running thread; -1 when none is
  uint32_t block_number = 0;
  uint32_t barrier_epoch = 1;
  int predicate_count = 0, predicate_voters = 0;
  bool failed = false;
  int64_t switches = 0;

  // Happens-before inside a warp: clocks[thread * 32 + lane] is what `thread` has seen of that lane. Check build only.
  std::vector<uint32_t> clocks;

  uint8_t* shared_low = nullptr;  // static __shared__ variables of the module, for this OS thread
  uint8_t* dynamic_low = nullptr;
  uint8_t* image_low = nullptr;

  std::vector<uint8_t> handler_stack;
  sigjmp_buf escape;
  uint32_t working_for = 0;  // code offset of the kernel's call that the runtime is serving, for faults in the runtime
  volatile sig_atomic_t running_kernel = 0;
  volatile sig_atomic_t timed_out = 0;

  KernelThread& here() { return threads[(size_t)current]; }
  AsyncCopies& copies_here() {
    copies_used = true;
    return copies[(size_t)current];
  }
  unsigned lanes_of_warp(unsigned warp) const {
    const unsigned lanes = thread_count - warp * 32 < 32 ? thread_count - warp * 32 : 32;
    return lanes == 32 ? 0xffffffffu : (1u << lanes) - 1u;
  }
  uint32_t code_offset(const void* address) const { return (uint32_t)((uint8_t*)address - image_low); }
};

extern EMULATED_THREAD_LOCAL Worker* current_worker;

// scheduler.cpp
void prepare_threads(Worker& worker);
void run_block(Worker& worker, uint32_t block_number);
void wait_here(Worker& worker);
[[noreturn]] void abandon_block(Worker& worker);
void stop_if_timed_out(Worker& worker, const void* caller = nullptr);
