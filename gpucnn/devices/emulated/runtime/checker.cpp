// checker.cpp -- follows every memory access of a launch in shadow memory, as compute-sanitizer does on a GPU.
//
// Each element of an array, and each word of shared memory, has a cell that remembers its last write and two reads.
// Whether two accesses are ordered follows from barriers and __syncwarp alone, not from the order in which the emulator
// happened to run the threads, so a race is found whenever both accesses happen.
#include "checker.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "reports.h"

namespace {

struct Mark {
  uint32_t block;  // number + 1; 0 when there was no access
  uint32_t epoch;  // barriers passed
  uint32_t clock;  // of the thread's own lane
  uint32_t code_offset;
  uint16_t thread;
  uint8_t atomic;
  uint8_t pending;  // a cp.async that has not been waited for
};

struct Cell {
  Mark write, read, other_read;
};

struct Area {
  uint8_t* low;
  uint8_t* high;
  int shift;  // a cell covers 1 << shift bytes
  Cell* cells;
  size_t cell_count;
  Target target;
  int argument;
  Role role;

  bool shared() const { return target != Target::argument; }
};

Cell* map_cells(size_t count) {
  void* memory = mmap(nullptr, std::max<size_t>(count, 1) * sizeof(Cell), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : (Cell*)memory;
}

void unmap_cells(Area& area) {
  if (area.cells) munmap(area.cells, std::max<size_t>(area.cell_count, 1) * sizeof(Cell));
}

std::vector<Area> areas;
size_t latest_area = 0;

void add_area(Target target, int argument, Role role, void* low, int64_t bytes, int item_bytes) {
  Area area;
  area.low = (uint8_t*)low;
  area.high = area.low + bytes;
  area.shift = 0;
  while (item_bytes % (2 << area.shift) == 0 && area.shift < 3) ++area.shift;
  area.cell_count = ((size_t)bytes + ((size_t)1 << area.shift) - 1) >> area.shift;
  area.cells = map_cells(area.cell_count);
  area.target = target;
  area.argument = argument;
  area.role = role;
  areas.push_back(area);
}

// Splits cells when a kernel reads or writes parts of what they cover.
void refine(Area& area, int shift) {
  const int factor_shift = area.shift - shift;
  const size_t count = area.cell_count << factor_shift;
  Cell* cells = map_cells(count);
  if (!cells) emulated_fail("the checker has no memory for its shadow cells", __FILE__, __LINE__);
  for (size_t i = 0; i < count; ++i) {
    const Cell& old = area.cells[i >> factor_shift];
    if (old.write.block | old.read.block) cells[i] = old;  // others stay untouched, and so cost no memory
  }
  unmap_cells(area);
  area.cells = cells;
  area.cell_count = count;
  area.shift = shift;
}

Area* area_of(const uint8_t* address) {
  if (latest_area < areas.size()) {
    Area& area = areas[latest_area];
    if (address >= area.low && address < area.high) return &area;
  }
  for (size_t i = 0; i < areas.size(); ++i) {
    if (address >= areas[i].low && address < areas[i].high) {
      latest_area = i;
      return &areas[i];
    }
  }
  return nullptr;
}

const char* spelled(Access access) {
  return access == Access::read ? "read" : access == Access::write ? "write" : "atomic operation";
}

struct Accessor {
  Worker& worker;
  const uint8_t* address;
  int bytes;
  Access access;
  uint32_t code_offset;

  Report* report(const Area* area, ReportKind kind, const char* message) const {
    if (!first_report(code_offset, kind)) return nullptr;
    Report* report = add_report(kind, "%s of %d bytes: %s", spelled(access), bytes, message);
    if (!report) return nullptr;
    report->code_offset = code_offset;
    report->bytes = bytes;
    if (area) {
      report->target = (int32_t)area->target;
      report->argument = area->argument;
      report->offset = address - area->low;
      report->target_bytes = area->high - area->low;
    } else {
      locate(report, worker, address);
    }
    return report;
  }

  void report_with_other(const Area& area, ReportKind kind, const char* message, const Mark& other) const {
    Report* report = this->report(&area, kind, message);
    if (!report) return;
    set_other_thread(report, worker, other.thread);
    copy_index(report->other_block, block_index(*worker.launch, other.block - 1));
    report->other_code_offset = other.code_offset;
  }

  Mark mark() const {
    const uint32_t clock = worker.clocks[(size_t)worker.current * 32 + ((size_t)worker.current & 31)];
    return Mark{worker.block_number + 1,  worker.barrier_epoch,     clock, code_offset,
                (uint16_t)worker.current, access == Access::atomic, 0};
  }

  bool ordered_after(const Mark& earlier) const {
    if (earlier.block != worker.block_number + 1) return false;
    if (earlier.thread == worker.current || earlier.epoch != worker.barrier_epoch) return true;
    if (earlier.thread >> 5 != worker.current >> 5) return false;
    return worker.clocks[(size_t)worker.current * 32 + (earlier.thread & 31u)] >= earlier.clock;
  }

  bool races_with(const Mark& earlier) const {
    return earlier.block && !(earlier.atomic && access == Access::atomic) && !ordered_after(earlier);
  }

  void check_races(const Area& area, const Cell& cell) const {
    const ReportKind kind = area.shared() ? ReportKind::race_shared : ReportKind::race_global;
    if (cell.write.pending && cell.write.block) {
      report_with_other(area, ReportKind::async_copy, "a cp.async into this element has not been waited for",
                        cell.write);
    } else if (races_with(cell.write)) {
      report_with_other(area, kind, "nothing orders it after an earlier write", cell.write);
    }
    if (access == Access::read) return;
    if (races_with(cell.read)) {
      report_with_other(area, kind, "nothing orders it after an earlier read", cell.read);
    } else if (races_with(cell.other_read)) {
      report_with_other(area, kind, "nothing orders it after an earlier read", cell.other_read);
    }
  }

  // Two unordered readers, of different warps where possible, are enough to catch any later write.
  void remember_read(Cell& cell) const {
    if (!cell.read.block || ordered_after(cell.read)) {
      cell.read = mark();
    } else if (!cell.other_read.block || ordered_after(cell.other_read) ||
               cell.other_read.thread >> 5 == cell.read.thread >> 5) {
      cell.other_read = mark();
    }
  }

  // Shared memory starts afresh with every block.
  void forget_earlier_blocks(const Area& area, Cell& cell) const {
    if (!area.shared()) return;
    for (Mark* mark : {&cell.write, &cell.read, &cell.other_read}) {
      if (mark->block != worker.block_number + 1) mark->block = 0;
    }
  }

  template <class Visit>
  void for_each_cell(Area& area, Visit visit) const {
    const size_t offset = (size_t)(address - area.low);
    const size_t part = (offset | (size_t)bytes) & (((size_t)1 << area.shift) - 1);
    if (part) refine(area, __builtin_ctzll(part));
    const size_t last = (offset + (size_t)bytes - 1) >> area.shift;
    for (size_t i = offset >> area.shift; i <= last; ++i) {
      forget_earlier_blocks(area, area.cells[i]);
      visit(area.cells[i]);
    }
  }

  // The area that holds all of the access; leaves the block when there is none.
  Area* find_area() const {
    Area* area = area_of(address);
    if (!area) {
      if (address >= worker.image_low && address < worker.image_low + worker.launch->image_bytes) return nullptr;
      report(nullptr, ReportKind::out_of_bounds, "outside every array and shared variable");
      abandon_block(worker);
    }
    if (address + bytes > area->high) {
      report(area, ReportKind::out_of_bounds, "runs over the end");
      abandon_block(worker);
    }
    if (area->target == Target::static_shared && !inside_shared_variable(*area)) return nullptr;
    return area;
  }

  // Every access to static shared memory must stay within one variable. False for the compiler's own guard variables.
  bool inside_shared_variable(const Area& area) const {
    const uint32_t offset = (uint32_t)(address - area.low);
    const Launch& launch = *worker.launch;
    for (int i = 0; i < launch.shared_variable_count; ++i) {
      const SharedVariable& variable = launch.shared_variables[i];
      if (offset < variable.offset || offset >= variable.offset + variable.bytes) continue;
      if (offset + (uint32_t)bytes <= variable.offset + variable.bytes) return !variable.internal;
      break;
    }
    report(&area, ReportKind::out_of_bounds, "outside every __shared__ variable");
    abandon_block(worker);
  }

  void check_initialised(const Area& area, const Cell& cell) const {
    if (access == Access::write || cell.write.block) return;
    if (area.shared()) {
      report(&area, ReportKind::uninitialised_shared, "this block has not written the element");
    } else if (area.role == Role::output) {
      report(&area, ReportKind::uninitialised_global, "the element of an output has not been written");
    }
  }
};

bool on_own_stack(Worker& worker, const uint8_t* address) {
  const uint8_t* stack = worker.here().fiber->stack;
  return address >= stack && address < stack + stack_bytes;
}

}  // namespace

CheckedLaunch::CheckedLaunch(Worker& worker) {
  const Launch& launch = *worker.launch;
  latest_area = 0;
  constexpr int word = 4;
  add_area(Target::static_shared, 0, Role::inout, worker.shared_low, launch.static_shared_bytes, word);
  add_area(Target::dynamic_shared, 0, Role::inout, worker.dynamic_low, launch.dynamic_shared_bytes, word);
  for (int i = 0; i < launch.argument_count; ++i) {
    const Argument& argument = launch.arguments[i];
    add_area(Target::argument, i, (Role)argument.role, argument.address, argument.bytes, argument.item_bytes);
  }
  for (const Area& area : areas) worker.failed |= area.cells == nullptr;
  if (worker.failed) add_report(ReportKind::memory_fault, "the checker has no memory for its shadow cells");
}

CheckedLaunch::~CheckedLaunch() {
  for (Area& area : areas) unmap_cells(area);
  areas.clear();
}

void CheckedLaunch::count_unwritten() {
  for (const Area& area : areas) {
    if (area.target != Target::argument || area.role != Role::output) continue;
    Argument& argument = current_worker->launch->arguments[area.argument];
    const size_t cells_per_item = (size_t)argument.item_bytes >> area.shift;
    for (size_t i = 0; i < area.cell_count; ++i) {
      if (area.cells[i].write.block) continue;
      const size_t item = i / cells_per_item;
      if (!argument.unwritten++) argument.first_unwritten = (int64_t)item;
      i = (item + 1) * cells_per_item - 1;
    }
  }
}

void check_access(const void* address, int bytes, Access access, const void* caller, bool aligned_by_type) {
  Worker* worker = current_worker;
  if (!worker || !worker->running_kernel || worker->current < 0) return;
  if (on_own_stack(*worker, (const uint8_t*)address)) return;
  stop_if_timed_out(*worker, caller);
  const Accessor accessor{*worker, (const uint8_t*)address, bytes, access, worker->code_offset(caller)};
  Area* area = accessor.find_area();
  if (!area) return;
  if (aligned_by_type && ((uintptr_t)address & (uintptr_t)(bytes - 1))) {
    accessor.report(area, ReportKind::misaligned, "the address is not a multiple of the size");
  }
  if (access != Access::read && area->role == Role::input) {
    accessor.report(area, ReportKind::write_to_const, "the argument is const");
  }
  const bool sole_reader = access == Access::read;
  accessor.for_each_cell(*area, [&](Cell& cell) {
    accessor.check_initialised(*area, cell);
    accessor.check_races(*area, cell);
    if (sole_reader) {
      accessor.remember_read(cell);
    } else {
      cell.write = accessor.mark();
    }
  });
}

void check_copy_start(Worker& worker, void* target, const void* source, int bytes, int valid_bytes,
                      const void* caller) {
  if (valid_bytes) check_access(source, valid_bytes, Access::read, caller, true);
  const Accessor accessor{worker, (const uint8_t*)target, bytes, Access::write, worker.code_offset(caller)};
  Area* area = accessor.find_area();
  if (!area) return;
  accessor.for_each_cell(*area, [&](Cell& cell) {
    accessor.check_races(*area, cell);
    cell.write = accessor.mark();
    cell.write.pending = 1;
  });
}

void check_copy_end(Worker& worker, const PendingCopy& copy) {
  const Accessor accessor{worker, (const uint8_t*)copy.target, copy.bytes, Access::write, copy.code_offset};
  Area* area = accessor.find_area();
  if (area) accessor.for_each_cell(*area, [&](Cell& cell) { cell.write = accessor.mark(); });
}

void reset_clocks(Worker& worker) {
  std::fill(worker.clocks.begin(), worker.clocks.end(), 0u);
  for (unsigned i = 0; i < worker.thread_count; ++i) worker.clocks[(size_t)i * 32 + (i & 31u)] = 1;
}

// Every lane of the mask has now seen what any of them had seen.
void join_clocks(Worker& worker, unsigned warp, unsigned mask) {
  uint32_t joined[32] = {};
  uint32_t* clocks = &worker.clocks[(size_t)warp * 32 * 32];
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    for (unsigned i = 0; i < 32; ++i) joined[i] = std::max(joined[i], clocks[lane * 32 + i]);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    memcpy(clocks + lane * 32, joined, sizeof joined);
    ++clocks[lane * 32 + lane];
  }
}
