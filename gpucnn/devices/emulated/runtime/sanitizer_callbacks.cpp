// sanitizer_callbacks.cpp -- what -fsanitize=thread and -fsanitize=bounds,... make the compiler call.
//
// Modules of the check build are linked without libtsan and libubsan; these functions take their place.
#include <cstdint>
#include <cstring>

#include "checker.h"
#include "reports.h"

#define CALLER __builtin_return_address(0)

#define ACCESS_CALLBACKS(bytes)                                                                                     \
  void __tsan_read##bytes(void* address) { check_access(address, bytes, Access::read, CALLER, true); }              \
  void __tsan_write##bytes(void* address) { check_access(address, bytes, Access::write, CALLER, true); }            \
  void __tsan_volatile_read##bytes(void* address) { check_access(address, bytes, Access::read, CALLER, true); }     \
  void __tsan_volatile_write##bytes(void* address) { check_access(address, bytes, Access::write, CALLER, true); }   \
  void __tsan_unaligned_read##bytes(void* address) { check_access(address, bytes, Access::read, CALLER, false); }   \
  void __tsan_unaligned_write##bytes(void* address) { check_access(address, bytes, Access::write, CALLER, false); } \
  void __tsan_unaligned_volatile_read##bytes(void* address) {                                                       \
    check_access(address, bytes, Access::read, CALLER, false);                                                      \
  }                                                                                                                 \
  void __tsan_unaligned_volatile_write##bytes(void* address) {                                                      \
    check_access(address, bytes, Access::write, CALLER, false);                                                     \
  }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

ACCESS_CALLBACKS(1)
ACCESS_CALLBACKS(2)
ACCESS_CALLBACKS(4)
ACCESS_CALLBACKS(8)
ACCESS_CALLBACKS(16)

void __tsan_read_range(void* address, size_t bytes) { check_access(address, (int)bytes, Access::read, CALLER, false); }
void __tsan_write_range(void* address, size_t bytes) {
  check_access(address, (int)bytes, Access::write, CALLER, false);
}

void emulated_check_read(const void* address, int bytes) { check_access(address, bytes, Access::read, CALLER, true); }
void emulated_check_atomic(const void* address, int bytes) {
  check_access(address, bytes, Access::atomic, CALLER, true);
}
}

// Every record that UBSan's handlers get starts with the place in the source.
struct SourcePlace {
  const char* file;
  uint32_t line, column;
};

static Report* undefined_behaviour(const SourcePlace* place, ReportKind kind, const char* message, long long value) {
  Worker* worker = current_worker;
  if (!worker || !worker->running_kernel || !first_report((uintptr_t)place, kind)) return nullptr;
  Report* report = add_report(kind, message, value);
  set_site(report, Site{place->file, (int)place->line});
  return report;
}

extern "C" {

void __ubsan_handle_out_of_bounds(SourcePlace* place, uintptr_t index) {
  undefined_behaviour(place, ReportKind::index_out_of_range, "the index %lld is outside the array", (long long)index);
  abandon_block(*current_worker);
}

void __ubsan_handle_type_mismatch_v1(SourcePlace* place, uintptr_t address) {
  locate(undefined_behaviour(place, ReportKind::misaligned, "the address %% 16 is %lld, which its type does not allow",
                             (long long)(address % 16)),
         *current_worker, (void*)address);
}

void __ubsan_handle_shift_out_of_bounds(SourcePlace* place, uintptr_t, uintptr_t amount) {
  undefined_behaviour(place, ReportKind::bad_shift, "a shift by %lld, or of a negative number", (long long)amount);
}

void __ubsan_handle_divrem_overflow(SourcePlace* place, uintptr_t left, uintptr_t) {
  undefined_behaviour(place, ReportKind::divide_by_zero, "%lld divided by zero, or the least integer by -1",
                      (long long)left);
  abandon_block(*current_worker);
}

void __ubsan_handle_add_overflow(SourcePlace* place, uintptr_t left, uintptr_t) {
  undefined_behaviour(place, ReportKind::integer_overflow, "signed addition to %lld overflows", (long long)left);
}

void __ubsan_handle_sub_overflow(SourcePlace* place, uintptr_t left, uintptr_t) {
  undefined_behaviour(place, ReportKind::integer_overflow, "signed subtraction from %lld overflows", (long long)left);
}

void __ubsan_handle_mul_overflow(SourcePlace* place, uintptr_t left, uintptr_t) {
  undefined_behaviour(place, ReportKind::integer_overflow, "signed multiplication of %lld overflows", (long long)left);
}

void __ubsan_handle_negate_overflow(SourcePlace* place, uintptr_t value) {
  undefined_behaviour(place, ReportKind::integer_overflow, "negation of %lld overflows", (long long)value);
}
}
