// guarded_memory.h -- memory that ends at an inaccessible page.
#pragma once

#include <cstddef>
#include <cstdint>

struct GuardedBlock {
  uint8_t* memory;  // first accessible byte; the pages before and behind it are guards
  size_t bytes;     // accessible, a multiple of the page size
};

GuardedBlock take_guarded(size_t bytes);
void give_back_guarded(GuardedBlock block);

// Where `bytes` lie as close to the end of the block as an address with address % alignment == residue allows.
uint8_t* place_at_end(const GuardedBlock& block, size_t bytes, size_t alignment, size_t residue);

// The same, as close to the start of the block.
uint8_t* place_at_start(const GuardedBlock& block, size_t alignment, size_t residue);

// The bytes between an array and its guard page hold a pattern that tells whether they were written.
void paint_slack(const GuardedBlock& block, const uint8_t* end_of_array);
bool slack_is_intact(const uint8_t* end_of_array);
