// reduce.h -- the emulator's look-alike of cooperative_groups/reduce.h: reductions over a tile, in butterflies.
#pragma once

#include <cooperative_groups.h>

namespace cooperative_groups {

#define EMULATED_OPERATION(name, expression)              \
  template <class T>                                      \
  struct name {                                           \
    __forceinline__ T operator()(const T& a, const T& b) const { return expression; } \
  };
EMULATED_OPERATION(plus, a + b)
EMULATED_OPERATION(less, b < a ? b : a)
EMULATED_OPERATION(greater, a < b ? b : a)
EMULATED_OPERATION(bit_and, a & b)
EMULATED_OPERATION(bit_or, a | b)
EMULATED_OPERATION(bit_xor, a ^ b)
#undef EMULATED_OPERATION

template <unsigned Size, class Parent, class T, class Operation>
EMULATED_UNCHECKED inline T reduce(const thread_block_tile<Size, Parent>& tile, T value, const Operation& operation,
                                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  for (unsigned lanes = Size / 2; lanes > 0; lanes /= 2) {
    value = operation(value, tile.shfl_xor(value, lanes, file, line));
  }
  return value;
}

}  // namespace cooperative_groups
