// arguments.h -- array arguments, as the kernel sees them for one launch.
#pragma once

#include <vector>

#include "guarded_memory.h"
#include "launch.h"

class PlacedArguments {
 public:
  // Copies each array against a guard page (or takes it where it is), poisons outputs and fills Launch::values in.
  explicit PlacedArguments(Launch& launch);
  ~PlacedArguments();
  PlacedArguments(const PlacedArguments&) = delete;
  PlacedArguments& operator=(const PlacedArguments&) = delete;

  bool complete() const { return complete_; }
  // Reports arrays with a write past their end, then copies what the kernel wrote back to the caller.
  void copy_back();

 private:
  Launch& launch_;
  std::vector<GuardedBlock> blocks_;  // per argument; empty for direct ones
  bool complete_ = true;
};
