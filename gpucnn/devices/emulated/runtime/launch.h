// launch.h -- what Python passes in and gets back; runtime_library.py mirrors these structures field by field.
#pragma once

#include <cstdint>

#define EMULATED_BUILTIN
#include "../shim/runtime_abi.h"

typedef void (*EntryFunction)(void** values);
typedef char* (*TouchFunction)();

enum class Order : int32_t { forward = 0, reversed = 1, random = 2 };

// How an array argument is treated.
enum class Role : int32_t { input = 0, output = 1, inout = 2 };

enum class Target : int32_t { none = 0, argument = 1, dynamic_shared = 2, static_shared = 3 };

enum class ReportKind : int32_t {
  out_of_bounds = 0,
  index_out_of_range,
  race_shared,
  race_global,
  uninitialised_shared,
  uninitialised_global,
  misaligned,
  write_to_const,
  unwritten_output,
  divergent_barrier,
  incomplete_collective,
  warp_mask,
  async_copy,
  divide_by_zero,
  bad_shift,
  integer_overflow,
  memory_fault,
  stack_overflow,
  assertion,
  timeout,
};

struct Report {
  int32_t kind;
  int32_t line;  // 0: resolve `code_offset` instead
  const char* file;
  int64_t code_offset, other_code_offset;  // return addresses relative to the module's load address; 0 for none
  uint32_t thread[3], block[3];
  uint32_t other_thread[3], other_block[3];
  int32_t has_other;
  int32_t target;        // a Target
  int32_t argument;      // index into Launch::arguments, for Target::argument
  int32_t bytes;         // size of the access
  int64_t offset;        // in bytes from the start of the target
  int64_t target_bytes;  // size of the target
  int32_t other_line;
  int32_t has_thread;
  const char* other_file;
  char message[160];
};

struct Argument {
  void* host;  // what the caller passed
  int64_t bytes;
  int32_t item_bytes;
  int32_t role;             // a Role
  int32_t value_index;      // which parameter of the entry
  int32_t direct;           // guarded memory of the device already: no copy is made
  void* address;            // what the kernel sees
  int64_t unwritten;        // check build: elements that were never written ...
  int64_t first_unwritten;  // ... and the first of them
};

struct SharedVariable {
  uint32_t offset, bytes;
  int32_t internal;  // a compiler's guard variable, not the kernel's
};

struct Launch {
  EntryFunction entry;
  TouchFunction touch_shared;
  void** values;
  Argument* arguments;
  SharedVariable* shared_variables;
  Report* reports;
  uint8_t* image_low;            // where the module is loaded ...
  int64_t image_bytes;           // ... and its extent
  int64_t shared_anchor_offset;  // of the touched variable inside the module's shared memory
  int64_t static_shared_bytes;
  double timeout_seconds;  // of processor time per worker; 0 for none
  uint32_t grid[3], block[3];
  uint32_t dynamic_shared_bytes;
  int32_t order;
  uint32_t seed;
  int32_t workers;
  int32_t check;
  int32_t allow_exit;
  int32_t poison;
  int32_t argument_count;
  int32_t shared_variable_count;
  int32_t report_capacity;
  int32_t report_count;       // may exceed the capacity
  uint32_t ignored_kinds;     // a bit per ReportKind
  int32_t round_toward_zero;  // how emulated tensor cores accumulate
  int64_t thread_switches;
};
