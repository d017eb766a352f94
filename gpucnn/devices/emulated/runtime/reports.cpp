// reports.cpp -- findings of a launch.
#include "reports.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

static std::mutex report_mutex;

static std::vector<std::pair<uintptr_t, ReportKind>> places_reported;

bool first_report(uintptr_t where, ReportKind kind) {
  const std::pair<uintptr_t, ReportKind> entry(where, kind);
  if (std::find(places_reported.begin(), places_reported.end(), entry) != places_reported.end()) return false;
  places_reported.push_back(entry);
  return true;
}

void forget_reports() { places_reported.clear(); }

void copy_index(uint32_t target[3], const uint3& index) {
  target[0] = index.x;
  target[1] = index.y;
  target[2] = index.z;
}

uint3 block_index(const Launch& launch, uint32_t block_number) {
  const uint32_t row = block_number / launch.grid[0];
  return uint3{block_number % launch.grid[0], row % launch.grid[1], row / launch.grid[1]};
}

Report* add_report(ReportKind kind, const char* format, ...) {
  Worker* worker = current_worker;
  Launch& launch = *worker->launch;
  if (launch.ignored_kinds >> (int)kind & 1u) return nullptr;
  std::lock_guard<std::mutex> guard(report_mutex);
  if (launch.report_count++ >= launch.report_capacity) return nullptr;
  Report* report = &launch.reports[launch.report_count - 1];
  memset(report, 0, sizeof *report);
  report->kind = (int32_t)kind;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(report->message, sizeof report->message, format, arguments);
  va_end(arguments);
  if (worker->current >= 0) {
    report->has_thread = 1;
    copy_index(report->thread, worker->here().index);
  }
  copy_index(report->block, emulated_block_index);
  return report;
}

void set_site(Report* report, Site site) {
  if (!report) return;
  report->file = site.file;
  report->line = site.line;
}

void set_other_site(Report* report, Site site) {
  if (!report) return;
  report->other_file = site.file;
  report->other_line = site.line;
}

void set_other_thread(Report* report, const Worker& worker, int thread) {
  if (!report) return;
  report->has_other = 1;
  copy_index(report->other_thread, worker.threads[(size_t)thread].index);
  copy_index(report->other_block, emulated_block_index);
}

void locate(Report* report, const Worker& worker, const void* address) {
  if (!report) return;
  const Launch& launch = *worker.launch;
  int64_t nearest = 1 << 20;  // farther than this, the name would mislead
  auto consider = [&](Target target, int argument, const void* low, int64_t bytes) {
    const int64_t offset = (const uint8_t*)address - (const uint8_t*)low;
    const int64_t distance = offset < 0 ? -offset : offset >= bytes ? offset - bytes + 1 : 0;
    if (distance >= nearest) return;
    nearest = distance;
    report->target = (int32_t)target;
    report->argument = argument;
    report->offset = offset;
    report->target_bytes = bytes;
  };
  for (int i = 0; i < launch.argument_count; ++i) {
    consider(Target::argument, i, launch.arguments[i].address, launch.arguments[i].bytes);
  }
  consider(Target::dynamic_shared, 0, worker.dynamic_low, launch.dynamic_shared_bytes);
  if (launch.shared_variable_count) {
    consider(Target::static_shared, 0, worker.shared_low, launch.static_shared_bytes);
  }
}
