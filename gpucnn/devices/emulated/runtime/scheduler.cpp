// scheduler.cpp -- runs the threads of one block as fibers, and block barriers.
//
// A fiber starts one thread after the other for as long as none of them waits, so a kernel without barriers is a plain
// loop on one stack. A thread that waits keeps its fiber; what runs next is the first thread that may go on, else a new
// fiber that starts more threads.
#include "worker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "checker.h"
#include "reports.h"

EMULATED_THREAD_LOCAL Worker* current_worker;

extern "C" {
EMULATED_THREAD_LOCAL uint3 emulated_thread_index, emulated_block_index, emulated_block_size, emulated_grid_size;
EMULATED_THREAD_LOCAL void* emulated_dynamic_shared;
}

void ReadyQueue::reset(unsigned threads) {
  unsigned capacity = 64;
  while (capacity < threads + 1) capacity *= 2;
  if (ring_.size() < capacity) ring_.resize(capacity);
  mask_ = (unsigned)ring_.size() - 1;
  head_ = tail_ = 0;
}

int ReadyQueue::pop_random(std::mt19937& random) {
  std::swap(ring_[head_ & mask_], ring_[(head_ + random() % (tail_ - head_)) & mask_]);
  return pop();
}

static Fiber* take_fiber(Worker& worker) {
  if (!worker.free_fibers.empty()) {
    Fiber* fiber = worker.free_fibers.back();
    worker.free_fibers.pop_back();
    return fiber;
  }
  void* memory = mmap(nullptr, stack_bytes + page_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mprotect(memory, page_bytes, PROT_NONE);
  Fiber* fiber = new Fiber;
  fiber->stack = (uint8_t*)memory + page_bytes;
  // Stacks that all began at the same place in a page would compete for the same lines of the cache.
  fiber->usable_bytes = stack_bytes - worker.all_fibers.size() % 32 * 128;
  worker.all_fibers.push_back(fiber);
  return fiber;
}

static void run_fresh_threads();

// The context that runs next. It is the scheduler's when nothing can run: the block is done, failed or stuck.
static Context& next_context(Worker& worker) {
  if (worker.failed) return worker.scheduler;
  if (!worker.ready.empty()) {
    const bool random = (Order)worker.launch->order == Order::random;
    worker.current = random ? worker.ready.pop_random(worker.random) : worker.ready.pop();
    return worker.here().fiber->context;
  }
  if (worker.next_to_start < worker.thread_count) {
    Fiber* fiber = take_fiber(worker);
    if (!fiber) {
      add_report(ReportKind::memory_fault, "the emulator has no memory for another thread's stack");
      worker.failed = true;
      return worker.scheduler;
    }
    make_context(fiber->context, fiber->stack, fiber->usable_bytes, run_fresh_threads);
    worker.threads[(size_t)worker.start_order[worker.next_to_start]].fiber = fiber;
    worker.current = -1;
    return fiber->context;
  }
  return worker.scheduler;
}

void wait_here(Worker& worker) {
  const int me = worker.current;
  Context& mine = worker.threads[(size_t)me].fiber->context;
  Context& next = next_context(worker);
  ++worker.switches;
  if (&next != &mine) switch_context(mine, next);
  worker.current = me;
  worker.here().state = State::running;
  emulated_thread_index = worker.here().index;
  stop_if_timed_out(worker);
}

void abandon_block(Worker& worker) {
  worker.failed = true;
  Context abandoned;
  switch_context(abandoned, worker.scheduler);
  __builtin_unreachable();
}

static bool same_site(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

// Called when every thread has either reached a barrier or finished.
static bool barrier_is_sound(Worker& worker) {
  int first = -1, elsewhere = -1, gone = -1;
  unsigned gone_count = 0;
  for (unsigned i = 0; i < worker.thread_count; ++i) {
    const KernelThread& thread = worker.threads[i];
    if (thread.state == State::finished) {
      if (gone < 0) gone = (int)i;
      ++gone_count;
    } else if (first < 0) {
      first = (int)i;
    } else if (elsewhere < 0 && !same_site(thread.site, worker.threads[(size_t)first].site)) {
      elsewhere = (int)i;
    }
  }
  if (elsewhere < 0 && (gone < 0 || worker.launch->allow_exit)) return true;
  worker.current = first;
  Report* report =
      elsewhere >= 0
          ? add_report(ReportKind::divergent_barrier, "threads of one block wait at different barriers")
          : add_report(ReportKind::divergent_barrier, "%u of %u threads have exited while others wait at a barrier",
                       gone_count, worker.thread_count);
  set_site(report, worker.here().site);
  set_other_thread(report, worker, elsewhere >= 0 ? elsewhere : gone);
  if (elsewhere >= 0) set_other_site(report, worker.threads[(size_t)elsewhere].site);
  return false;
}

static void release_barrier(Worker& worker) {
  worker.predicate_count = worker.predicate_voters = 0;
  for (unsigned i = 0; i < worker.thread_count; ++i) {
    const int k = worker.start_order[i];
    const KernelThread& thread = worker.threads[(size_t)k];
    if (thread.state != State::at_barrier) continue;
    ++worker.predicate_voters;
    worker.predicate_count += thread.predicate;
    worker.ready.push(k);
  }
  worker.waiting_at_barrier = 0;
  ++worker.barrier_epoch;
}

static void check_no_copy_is_pending(Worker& worker) {
  const std::vector<PendingCopy>& pending = worker.copies_here().pending;
  if (pending.empty()) return;
  Report* report = add_report(ReportKind::async_copy, "the thread exits with %d cp.async copies never waited for",
                              (int)pending.size());
  if (report) report->code_offset = pending.front().code_offset;
  worker.failed = true;
}

static void finish_thread(Worker& worker) {
  KernelThread& thread = worker.here();
  thread.state = State::finished;
  ++worker.finished;
  worker.exited_lanes[(size_t)worker.current >> 5] |= 1u << (worker.current & 31);
  if (worker.copies_used) check_no_copy_is_pending(worker);
  if (worker.waiting_at_barrier && worker.waiting_at_barrier + worker.finished == worker.thread_count) {
    if (barrier_is_sound(worker)) {
      release_barrier(worker);
    } else {
      worker.failed = true;
    }
  }
}

// The body of every fiber.
static void run_fresh_threads() {
  Worker& worker = *current_worker;
  Fiber* fiber = worker.threads[(size_t)worker.start_order[worker.next_to_start]].fiber;
  do {
    worker.current = worker.start_order[worker.next_to_start++];
    const int me = worker.current;
    KernelThread& thread = worker.here();
    thread.fiber = fiber;
    thread.state = State::running;
    emulated_thread_index = thread.index;
    worker.launch->entry(worker.launch->values);
    worker.current = me;
    finish_thread(worker);
  } while (worker.next_to_start < worker.thread_count && !worker.failed && worker.ready.empty());
  worker.free_fibers.push_back(fiber);
  Context ended;
  Context& next = next_context(worker);
  ++worker.switches;
  switch_context(ended, next);
  __builtin_unreachable();
}

static void report_stuck(Worker& worker) {
  for (unsigned i = 0; i < worker.thread_count; ++i) {
    const KernelThread& thread = worker.threads[i];
    if (thread.state != State::in_collective) continue;
    worker.current = (int)i;
    unsigned arrived = 0;
    for (const PendingCollective& pending : worker.collectives[i >> 5]) {
      if (pending.arrived >> (i & 31u) & 1u) arrived = pending.arrived;
    }
    Report* report =
        add_report(ReportKind::incomplete_collective,
                   "the warp operation names lanes 0x%08x, but only 0x%08x ever reach it", thread.mask, arrived);
    set_site(report, thread.site);
    return;
  }
  for (unsigned i = 0; i < worker.thread_count; ++i) {
    if (worker.threads[i].state != State::at_barrier) continue;
    worker.current = (int)i;
    set_site(add_report(ReportKind::divergent_barrier, "the barrier never completes"), worker.threads[i].site);
    return;
  }
}

void prepare_threads(Worker& worker) {
  const Launch& launch = *worker.launch;
  const unsigned count = launch.block[0] * launch.block[1] * launch.block[2], warps = (count + 31) / 32;
  worker.thread_count = count;
  worker.threads.assign(count, KernelThread());
  worker.copies.assign(count, AsyncCopies());
  worker.start_order.resize(count);
  worker.collectives.resize(warps);
  worker.exited_lanes.assign(warps, 0u);
  if (launch.check) worker.clocks.assign((size_t)count * 32, 0u);
  for (unsigned i = 0; i < count; ++i) {
    worker.threads[i].index =
        uint3{i % launch.block[0], i / launch.block[0] % launch.block[1], i / (launch.block[0] * launch.block[1])};
    worker.start_order[i] = (int)((Order)launch.order == Order::reversed ? count - 1 - i : i);
  }
}

// Nothing per thread needs resetting: an earlier block that did not fail has left every thread finished.
static void reset_block(Worker& worker) {
  worker.next_to_start = worker.finished = worker.waiting_at_barrier = 0;
  worker.failed = false;
  worker.current = -1;
  worker.ready.reset(worker.thread_count);
  ++worker.barrier_epoch;
  for (auto& pending : worker.collectives) pending.clear();
  std::fill(worker.exited_lanes.begin(), worker.exited_lanes.end(), 0u);
  if (worker.copies_used) std::fill(worker.copies.begin(), worker.copies.end(), AsyncCopies());
  worker.copies_used = false;
  if ((Order)worker.launch->order == Order::random) {
    std::shuffle(worker.start_order.begin(), worker.start_order.end(), worker.random);
  }
  if (worker.launch->check) reset_clocks(worker);
}

void run_block(Worker& worker, uint32_t block_number) {
  worker.block_number = block_number;
  emulated_block_index = block_index(*worker.launch, block_number);
  if (worker.launch->poison) {
    memset(worker.shared_low, 0xff, (size_t)worker.launch->static_shared_bytes);
    memset(worker.dynamic_low, 0xff, worker.launch->dynamic_shared_bytes);
  }
  reset_block(worker);
  // A fault inside the kernel jumps back here from the signal handler.
  if (sigsetjmp(worker.escape, 0) == 0) {
    worker.running_kernel = 1;
    while (worker.finished < worker.thread_count && !worker.failed) {
      Context& next = next_context(worker);
      if (&next == &worker.scheduler) {
        if (!worker.failed) report_stuck(worker);
        worker.failed = true;
        break;
      }
      switch_context(worker.scheduler, next);
    }
  } else {
    worker.failed = true;
  }
  worker.running_kernel = 0;
  worker.current = -1;
  if (worker.failed) worker.free_fibers = worker.all_fibers;  // some threads still held theirs
}

void stop_if_timed_out(Worker& worker, const void* caller) {
  if (__builtin_expect(worker.timed_out == 0, 1)) return;
  Report* report = add_report(ReportKind::timeout, endless_message, worker.launch->timeout_seconds);
  if (report && caller) report->code_offset = worker.code_offset(caller);
  abandon_block(worker);
}

extern "C" void emulated_syncthreads(const char* file, int line) {
  Worker& worker = *current_worker;
  KernelThread& thread = worker.here();
  thread.state = State::at_barrier;
  thread.site = Site{file, line};
  ++worker.waiting_at_barrier;
  if (worker.waiting_at_barrier + worker.finished == worker.thread_count) {
    if (!barrier_is_sound(worker)) abandon_block(worker);
    release_barrier(worker);
  }
  wait_here(worker);
}

extern "C" int emulated_syncthreads_reduce(const char* file, int line, int predicate, int operation) {
  Worker& worker = *current_worker;
  worker.here().predicate = predicate != 0;
  emulated_syncthreads(file, line);
  worker.here().predicate = false;
  // The next barrier cannot complete before this thread reaches it, so the totals are still this barrier's.
  if (operation == 0) return worker.predicate_count;
  return operation == 1 ? worker.predicate_count == worker.predicate_voters : worker.predicate_count != 0;
}

extern "C" void emulated_fail(const char* message, const char* file, int line) {
  set_site(add_report(ReportKind::assertion, "%s", message), Site{file, line});
  abandon_block(*current_worker);
}
