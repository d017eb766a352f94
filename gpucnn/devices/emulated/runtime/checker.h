// checker.h -- the check build's view of every memory access; see checker.cpp.
#pragma once

#include "worker.h"

enum class Access : int { read = 0, write = 1, atomic = 2 };

class CheckedLaunch {
 public:
  // Sets up shadow memory for the arguments and shared memory of a launch by the one worker.
  explicit CheckedLaunch(Worker& worker);
  ~CheckedLaunch();
  CheckedLaunch(const CheckedLaunch&) = delete;
  CheckedLaunch& operator=(const CheckedLaunch&) = delete;

  // Fills Argument::unwritten in.
  void count_unwritten();
};

void check_access(const void* address, int bytes, Access access, const void* caller, bool aligned_by_type);

// cp.async: from start to end the target belongs to the copy.
void check_copy_start(Worker& worker, void* target, const void* source, int bytes, int valid_bytes, const void* caller);
void check_copy_end(Worker& worker, const PendingCopy& copy);

// Happens-before inside warps.
void reset_clocks(Worker& worker);
void join_clocks(Worker& worker, unsigned warp, unsigned mask);
