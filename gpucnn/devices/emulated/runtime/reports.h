// reports.h -- findings of a launch.
#pragma once

#include "worker.h"

// Adds a report that names the running thread and block; nullptr when the kind is ignored or there is no room left.
Report* add_report(ReportKind kind, const char* format, ...) __attribute__((format(printf, 2, 3)));

// One report per place and kind is enough. `where` is a code offset or the address of a source record.
bool first_report(uintptr_t where, ReportKind kind);
void forget_reports();

constexpr char endless_message[] =
    "the kernel ran for more than %g s of processor time; threads that wait for one another by spinning never end here";

void set_site(Report* report, Site site);
void set_other_site(Report* report, Site site);
void set_other_thread(Report* report, const Worker& worker, int thread);
void copy_index(uint32_t target[3], const uint3& index);
uint3 block_index(const Launch& launch, uint32_t block_number);

// Points the report at the array or shared memory nearest to the address.
void locate(Report* report, const Worker& worker, const void* address);
