// warp.cpp -- operations that the lanes of a warp perform together.
#include "checker.h"
#include "reports.h"
#include "worker.h"

static void check_mask(Worker& worker, Site site, unsigned mask, unsigned lane, unsigned existing, unsigned exited) {
  Report* report = nullptr;
  if (!(mask >> lane & 1u)) {
    report = add_report(ReportKind::warp_mask, "lane %u calls a warp operation whose mask 0x%08x does not name it",
                        lane, mask);
  } else if (mask & existing & exited) {
    report = add_report(ReportKind::warp_mask, "the mask 0x%08x names lanes that have exited (0x%08x)", mask, exited);
  } else if ((mask & ~existing) && mask != 0xffffffffu) {
    report = add_report(ReportKind::warp_mask, "the mask 0x%08x names lanes that do not exist", mask);
  } else {
    return;
  }
  set_site(report, site);
  abandon_block(worker);
}

// Returns on every lane once all of them have arrived; `combine` has run by then.
static void collective(Site site, unsigned mask, void* slot, EmulatedCombine combine, bool orders_memory) {
  Worker& worker = *current_worker;
  const unsigned warp = (unsigned)worker.current >> 5, lane = (unsigned)worker.current & 31u;
  const unsigned existing = worker.lanes_of_warp(warp);
  check_mask(worker, site, mask, lane, existing, worker.exited_lanes[warp]);
  mask &= existing;

  std::vector<PendingCollective>& pending = worker.collectives[warp];
  PendingCollective* mine = nullptr;
  for (PendingCollective& candidate : pending) {
    if (candidate.mask == mask && candidate.site.line == site.line && candidate.combine == combine &&
        !(candidate.arrived >> lane & 1u)) {
      mine = &candidate;
      break;
    }
  }
  if (!mine) {
    pending.push_back(PendingCollective{site, combine, mask, 0u, {}});
    mine = &pending.back();
  }
  mine->arrived |= 1u << lane;
  mine->slots[lane] = slot;
  KernelThread& thread = worker.here();
  if (mine->arrived != mask) {
    thread.state = State::in_collective;
    thread.site = site;
    thread.mask = mask;
    wait_here(worker);
    return;
  }
  if (combine) combine(mine->slots, mask);
  if (orders_memory && worker.launch->check) join_clocks(worker, warp, mask);
  const bool reversed = (Order)worker.launch->order == Order::reversed;
  for (unsigned i = 0; i < 32; ++i) {
    const unsigned other = reversed ? 31 - i : i;
    if ((mask >> other & 1u) && other != lane) worker.ready.push((int)(warp * 32 + other));
  }
  *mine = pending.back();
  pending.pop_back();
}

extern "C" {

void emulated_warp_collective(const char* file, int line, unsigned mask, void* slot, EmulatedCombine combine) {
  collective(Site{file, line}, mask, slot, combine, false);
}

void emulated_syncwarp(const char* file, int line, unsigned mask) {
  collective(Site{file, line}, mask, nullptr, nullptr, true);
}

unsigned emulated_lane() { return (unsigned)current_worker->current & 31u; }

unsigned emulated_active_mask() {
  const Worker& worker = *current_worker;
  const unsigned warp = (unsigned)worker.current >> 5;
  return worker.lanes_of_warp(warp) & ~worker.exited_lanes[warp];
}
}
