// tensor_core.cpp -- ldmatrix and mma, with the fragment layouts of the PTX ISA.
//
// Lane L has group g = L / 4 and place t = L % 4 in it. The accumulator of every m16n8 shape holds rows g, g, g + 8, g
// + 8 and columns 2t, 2t + 1, 2t, 2t + 1.
#include <cmath>
#include <cstring>

#include "checker.h"
#include "reports.h"
#include "worker.h"

namespace {

struct MultiplySlot {
  float* d;
  const unsigned *a, *b;
};

float as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

float from_half(unsigned bits) {
  const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31u) return as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent) return as_float(sign | (exponent + 112u) << 23 | fraction << 13);
  const float magnitude = (float)fraction * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

float from_bfloat(unsigned bits) { return as_float(bits << 16); }

// The hardware reads the upper 19 bits of an operand.
float from_tf32(unsigned bits) { return as_float(bits & 0xffffe000u); }

// Unpacks element `half` (0 or 1) of a register of two 16-bit numbers.
template <EmulatedMatrixType type>
float unpack(unsigned packed, int half) {
  const unsigned bits = packed >> (16 * half) & 0xffffu;
  return type == emulated_f16 ? from_half(bits) : from_bfloat(bits);
}

float truncated(double exact) {
  const float nearest = (float)exact;
  return std::fabs((double)nearest) > std::fabs(exact) && !std::isinf(nearest) ? std::nextafter(nearest, 0.0f)
                                                                               : nearest;
}

// Rounding to nearest after every product is the default. Tensor cores instead add a group of products to the sum at
// once and cut the result off; the group is that of compute capability 8.0.
template <int K, int group>
void accumulate(const float (&a)[16][K], const float (&b)[K][8], float (&d)[16][8]) {
  if (!current_worker->launch->round_toward_zero) {
    for (int row = 0; row < 16; ++row) {
      for (int k = 0; k < K; ++k) {
        for (int column = 0; column < 8; ++column) d[row][column] = std::fma(a[row][k], b[k][column], d[row][column]);
      }
    }
    return;
  }
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      for (int start = 0; start < K; start += group) {
        double exact = d[row][column];
        for (int k = start; k < start + group; ++k) exact += (double)a[row][k] * (double)b[k][column];
        d[row][column] = truncated(exact);
      }
    }
  }
}

template <int K>
struct Tile {
  float a[16][K], b[K][8], d[16][8];
};

template <int K>
void move_accumulators(void** slots, Tile<K>& tile, bool store) {
  for (int lane = 0; lane < 32; ++lane) {
    float* d = ((MultiplySlot*)slots[lane])->d;
    const int row = lane / 4, column = lane % 4 * 2;
    float* places[4] = {&tile.d[row][column], &tile.d[row][column + 1], &tile.d[row + 8][column],
                        &tile.d[row + 8][column + 1]};
    for (int i = 0; i < 4; ++i) {
      if (store) {
        d[i] = *places[i];
      } else {
        *places[i] = d[i];
      }
    }
  }
}

void multiply_tf32(void** slots, unsigned) {
  Tile<8> tile;
  move_accumulators(slots, tile, false);
  for (int lane = 0; lane < 32; ++lane) {
    const MultiplySlot& slot = *(MultiplySlot*)slots[lane];
    const int g = lane / 4, t = lane % 4;
    tile.a[g][t] = from_tf32(slot.a[0]);
    tile.a[g + 8][t] = from_tf32(slot.a[1]);
    tile.a[g][t + 4] = from_tf32(slot.a[2]);
    tile.a[g + 8][t + 4] = from_tf32(slot.a[3]);
    tile.b[t][g] = from_tf32(slot.b[0]);
    tile.b[t + 4][g] = from_tf32(slot.b[1]);
  }
  accumulate<8, 4>(tile.a, tile.b, tile.d);
  move_accumulators(slots, tile, true);
}

template <EmulatedMatrixType type>
void multiply_16bit(void** slots, unsigned) {
  Tile<16> tile;
  move_accumulators(slots, tile, false);
  for (int lane = 0; lane < 32; ++lane) {
    const MultiplySlot& slot = *(MultiplySlot*)slots[lane];
    const int g = lane / 4, t = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      tile.a[g][t + half] = unpack<type>(slot.a[0], half);
      tile.a[g + 8][t + half] = unpack<type>(slot.a[1], half);
      tile.a[g][t + 8 + half] = unpack<type>(slot.a[2], half);
      tile.a[g + 8][t + 8 + half] = unpack<type>(slot.a[3], half);
      tile.b[t + half][g] = unpack<type>(slot.b[0], half);
      tile.b[t + 8 + half][g] = unpack<type>(slot.b[1], half);
    }
  }
  accumulate<16, 8>(tile.a, tile.b, tile.d);
  move_accumulators(slots, tile, true);
}

struct LoadSlot {
  unsigned* fragments;
  const void* row;
  int count, transposed;
  uint32_t code_offset;
};

// Lanes 8i to 8i + 7 name the rows of matrix i; every lane gets two 16-bit elements of each matrix.
void load(void** slots, unsigned) {
  const int count = ((LoadSlot*)slots[0])->count;
  for (int matrix = 0; matrix < count; ++matrix) {
    uint16_t rows[8][8];
    for (int i = 0; i < 8; ++i) {
      const LoadSlot& slot = *(LoadSlot*)slots[matrix * 8 + i];
      current_worker->working_for = slot.code_offset;
      memcpy(rows[i], slot.row, sizeof rows[i]);
    }
    current_worker->working_for = 0;
    for (int lane = 0; lane < 32; ++lane) {
      const LoadSlot& slot = *(LoadSlot*)slots[lane];
      const int row = lane / 4, column = lane % 4 * 2;
      const uint16_t low = slot.transposed ? rows[column][row] : rows[row][column];
      const uint16_t high = slot.transposed ? rows[column + 1][row] : rows[row][column + 1];
      slot.fragments[matrix] = (unsigned)low | (unsigned)high << 16;
    }
  }
}

void require_full_warp(const char* file, int line) {
  Worker& worker = *current_worker;
  if (worker.lanes_of_warp((unsigned)worker.current >> 5) == 0xffffffffu) return;
  set_site(add_report(ReportKind::warp_mask, "a matrix operation needs a warp of 32 threads"), Site{file, line});
  abandon_block(worker);
}

}  // namespace

extern "C" {

void emulated_matrix_multiply(const char* file, int line, int type, float* d, const unsigned* a, const unsigned* b) {
  require_full_warp(file, line);
  MultiplySlot slot{d, a, b};
  const EmulatedCombine combine = type == emulated_tf32  ? multiply_tf32
                                  : type == emulated_f16 ? multiply_16bit<emulated_f16>
                                                         : multiply_16bit<emulated_bf16>;
  emulated_warp_collective(file, line, 0xffffffffu, &slot, combine);
}

__attribute__((noinline)) void emulated_load_matrices(const char* file, int line, unsigned* fragments, const void* row,
                                                      int count, int transposed) {
  require_full_warp(file, line);
  Worker& worker = *current_worker;
  void* caller = __builtin_return_address(0);
  const bool names_row = (worker.current & 31) < count * 8;
  if (names_row && (uintptr_t)row % 16) {
    Report* report =
        add_report(ReportKind::misaligned, "ldmatrix: the row's address %% 16 is %d", (int)((uintptr_t)row % 16));
    locate(report, worker, row);
    if (report) report->code_offset = worker.code_offset(caller);
    abandon_block(worker);
  }
  if (worker.launch->check && names_row) check_access(row, 16, Access::read, caller, true);
  LoadSlot slot{fragments, row, count, transposed, worker.code_offset(caller)};
  emulated_warp_collective(file, line, 0xffffffffu, &slot, load);
}
}
