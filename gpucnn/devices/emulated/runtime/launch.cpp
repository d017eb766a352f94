// launch.cpp -- one launch: arguments, workers, blocks.
#include "launch.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "arguments.h"
#include "checker.h"
#include "reports.h"
#include "signals.h"
#include "worker.h"

namespace {

std::vector<std::unique_ptr<Worker>> workers;

// Which block runs as the i-th.
class BlockOrder {
 public:
  BlockOrder(const Launch& launch, uint32_t count) : order_((Order)launch.order), count_(count) {
    if (order_ != Order::random) return;
    shuffled_.resize(count);
    for (uint32_t i = 0; i < count; ++i) shuffled_[i] = i;
    std::mt19937 random(launch.seed);
    std::shuffle(shuffled_.begin(), shuffled_.end(), random);
  }
  uint32_t count() const { return count_; }
  uint32_t operator[](uint32_t i) const {
    return order_ == Order::random ? shuffled_[i] : order_ == Order::reversed ? count_ - 1 - i : i;
  }

 private:
  Order order_;
  uint32_t count_;
  std::vector<uint32_t> shuffled_;
};

void run_blocks(Worker& worker, int number, Launch& launch, const BlockOrder& order, std::atomic<uint64_t>& next,
                std::atomic<bool>& stop, std::atomic<int>& unwatched) {
  current_worker = &worker;
  worker.launch = &launch;
  worker.current = -1;
  worker.switches = 0;
  worker.random.seed(launch.seed * 977u + (unsigned)number);
  worker.free_fibers = worker.all_fibers;
  prepare_threads(worker);

  worker.image_low = launch.image_low;
  worker.shared_low = (uint8_t*)launch.touch_shared() - launch.shared_anchor_offset;

  constexpr size_t shared_alignment = 128;
  const GuardedBlock dynamic = take_guarded(launch.dynamic_shared_bytes + shared_alignment);
  worker.dynamic_low = place_at_end(dynamic, launch.dynamic_shared_bytes, shared_alignment, 0);
  const uint8_t* dynamic_end = worker.dynamic_low + launch.dynamic_shared_bytes;
  paint_slack(dynamic, dynamic_end);
  emulated_dynamic_shared = worker.dynamic_low;
  emulated_block_size = uint3{launch.block[0], launch.block[1], launch.block[2]};
  emulated_grid_size = uint3{launch.grid[0], launch.grid[1], launch.grid[2]};

  {
    WorkerSignals signals(worker);
    std::unique_ptr<CheckedLaunch> checked;
    worker.failed = false;
    if (launch.check) checked.reset(new CheckedLaunch(worker));
    if (worker.failed) stop = true;
    if (signals.error()) {
      unwatched = signals.error();
      stop = true;
    }
    while (!stop) {
      const uint64_t i = next++;
      if (i >= order.count()) break;
      run_block(worker, order[(uint32_t)i]);
      if (worker.failed) stop = true;
    }
    if (checked && !stop) checked->count_unwritten();
  }
  if (!slack_is_intact(dynamic_end)) {
    Report* report = add_report(ReportKind::out_of_bounds, "write behind the end of dynamic shared memory");
    if (report) {
      report->target = (int32_t)Target::dynamic_shared;
      report->offset = report->target_bytes = launch.dynamic_shared_bytes;
    }
  }
  give_back_guarded(dynamic);
  __atomic_fetch_add(&launch.thread_switches, worker.switches, __ATOMIC_RELAXED);
}

}  // namespace

extern "C" {

// Returns 0, -1 when memory for the arguments could not be had, or the errno of a watchdog that could not be set; then
// not every block has run. The caller lets only one launch run at a time.
int emulated_launch(Launch* launch) {
  const uint32_t blocks = launch->grid[0] * launch->grid[1] * launch->grid[2];
  const int count = launch->check ? 1 : std::max(1, std::min(launch->workers, (int)std::min(blocks, 1024u)));
  while ((int)workers.size() < count) workers.emplace_back(new Worker);

  forget_reports();
  PlacedArguments arguments(*launch);
  if (!arguments.complete()) return -1;
  const BlockOrder order(*launch, blocks);
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::atomic<int> unwatched{0};
  {
    FaultHandlers handlers;
    std::vector<std::thread> others;
    for (int i = 1; i < count; ++i) {
      others.emplace_back([&, i] {
        run_blocks(*workers[(size_t)i], i, *launch, order, next, stop, unwatched);
        current_worker = nullptr;
      });
    }
    run_blocks(*workers[0], 0, *launch, order, next, stop, unwatched);
    for (std::thread& other : others) other.join();
  }
  arguments.copy_back();
  fflush(stdout);  // what kernels printed appears before what Python prints next
  current_worker = nullptr;
  return unwatched;
}

// Where the module that holds a piece of code is loaded.
void* emulated_image_of(void* code) {
  Dl_info module;
  memset(&module, 0, sizeof module);
  dladdr(code, &module);
  return module.dli_fbase;
}

int emulated_sizeof_launch() { return (int)sizeof(Launch); }
int emulated_sizeof_report() { return (int)sizeof(Report); }
int emulated_sizeof_argument() { return (int)sizeof(Argument); }
int emulated_sizeof_shared_variable() { return (int)sizeof(SharedVariable); }
}
