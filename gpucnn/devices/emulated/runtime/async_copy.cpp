// async_copy.cpp -- cp.async, deferred to the wait that covers it, so that a wait too lax or missing is visible.
#include <cstring>

#include "checker.h"
#include "reports.h"
#include "worker.h"

extern "C" {

__attribute__((noinline)) void emulated_copy_async(void* shared, const void* global, int bytes, int valid_bytes) {
  Worker& worker = *current_worker;
  void* caller = __builtin_return_address(0);
  Report* report = nullptr;
  if (bytes != 4 && bytes != 8 && bytes != 16) {
    report = add_report(ReportKind::async_copy, "cp.async copies 4, 8 or 16 bytes, not %d", bytes);
  } else if ((uintptr_t)shared % (uintptr_t)bytes || (valid_bytes && (uintptr_t)global % (uintptr_t)bytes)) {
    report = add_report(ReportKind::misaligned, "cp.async of %d bytes from an address %% 16 = %d to one %% 16 = %d",
                        bytes, (int)((uintptr_t)global % 16), (int)((uintptr_t)shared % 16));
  } else {
    if (worker.launch->check) check_copy_start(worker, shared, global, bytes, valid_bytes, caller);
    AsyncCopies& copies = worker.copies_here();
    copies.pending.push_back(PendingCopy{shared, global, bytes, valid_bytes, copies.group, worker.code_offset(caller)});
    return;
  }
  if (report) report->code_offset = worker.code_offset(caller);
  abandon_block(worker);
}

void emulated_copy_async_commit() { ++current_worker->copies_here().group; }

void emulated_copy_async_wait(int groups_left_pending) {
  Worker& worker = *current_worker;
  AsyncCopies& copies = worker.copies_here();
  size_t kept = 0;
  for (const PendingCopy& copy : copies.pending) {
    if (copy.group >= copies.group - groups_left_pending) {
      copies.pending[kept++] = copy;
      continue;
    }
    if (worker.launch->check) check_copy_end(worker, copy);
    worker.working_for = copy.code_offset;
    memcpy(copy.target, copy.source, (size_t)copy.valid_bytes);
    memset((char*)copy.target + copy.valid_bytes, 0, (size_t)(copy.bytes - copy.valid_bytes));
  }
  worker.working_for = 0;
  copies.pending.resize(kept);
}

void emulated_copy_async_wait_all() {
  emulated_copy_async_commit();
  emulated_copy_async_wait(0);
}
}
