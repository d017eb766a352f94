// arguments.cpp -- array arguments, as the kernel sees them for one launch.
#include "arguments.h"

#include <cstring>

#include "reports.h"

// Copies keep the caller's alignment up to this, which vector loads need and guard pages can afford.
static constexpr size_t kept_alignment = 16;

PlacedArguments::PlacedArguments(Launch& launch) : launch_(launch), blocks_((size_t)launch.argument_count) {
  for (int i = 0; i < launch.argument_count; ++i) {
    Argument& argument = launch.arguments[i];
    const size_t bytes = (size_t)argument.bytes;
    const bool poisoned = launch.poison && (Role)argument.role == Role::output;
    if (argument.direct) {
      argument.address = argument.host;
      if (poisoned) memset(argument.address, 0xff, bytes);
    } else {
      GuardedBlock& block = blocks_[(size_t)i] = take_guarded(bytes + kept_alignment);
      if (!block.memory) {
        complete_ = false;
        return;
      }
      const size_t residue = (uintptr_t)argument.host % kept_alignment;
      // The reversed order meets the guard before the array, so that the two orders together find both kinds of
      // overrun.
      uint8_t* address = (Order)launch.order == Order::reversed ? place_at_start(block, kept_alignment, residue)
                                                                : place_at_end(block, bytes, kept_alignment, residue);
      paint_slack(block, address + bytes);
      if (poisoned) {
        memset(address, 0xff, bytes);
      } else {
        memcpy(address, argument.host, bytes);
      }
      argument.address = address;
    }
    launch.values[argument.value_index] = &argument.address;
  }
}

PlacedArguments::~PlacedArguments() {
  for (const GuardedBlock& block : blocks_) {
    if (block.memory) give_back_guarded(block);
  }
}

void PlacedArguments::copy_back() {
  for (int i = 0; i < launch_.argument_count; ++i) {
    const Argument& argument = launch_.arguments[i];
    const uint8_t* end = (const uint8_t*)argument.address + argument.bytes;
    if (!slack_is_intact(end)) {
      Report* report = add_report(ReportKind::out_of_bounds, "write behind the end of the array");
      if (report) {
        report->target = (int32_t)Target::argument;
        report->argument = i;
        report->offset = report->target_bytes = argument.bytes;
      }
      const size_t slack = page_bytes - (uintptr_t)end % page_bytes;
      if (argument.direct) memset((void*)end, 0xcb, slack % page_bytes);
    }
    if (!argument.direct && (Role)argument.role != Role::input) {
      memcpy(argument.host, argument.address, (size_t)argument.bytes);
    }
  }
}
