// warp.h -- shuffles, votes, reductions and __syncwarp as warp collectives.
//
// Every lane posts a record that lies on its own stack; the last lane of the mask to arrive fills in all the answers.
#pragma once

namespace gpucnn_emulated {

template <class T>
struct ShuffleSlot {
  T value, answer;
  int source_lane;
};

template <class T>
EMULATED_UNCHECKED inline void combine_shuffle(void** slots, unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    ShuffleSlot<T>* slot = (ShuffleSlot<T>*)slots[lane];
    const int source = slot->source_lane & 31;
    if (mask >> source & 1u) {
      slot->answer = ((ShuffleSlot<T>*)slots[source])->value;
    } else {
      memset((void*)&slot->answer, 0xff, sizeof(T));  // undefined on a GPU: poison, so that a test notices
    }
  }
}

template <class T>
EMULATED_UNCHECKED inline T shuffle(const char* file, int line, unsigned mask, T value, int source_lane) {
  static_assert(sizeof(T) <= 8, "shuffles move 4 or 8 bytes");
  ShuffleSlot<T> slot;
  slot.value = value;
  slot.source_lane = source_lane;
  emulated_warp_collective(file, line, mask, &slot, combine_shuffle<T>);
  return slot.answer;
}

template <class T>
EMULATED_UNCHECKED inline T shuffle_index(const char* file, int line, unsigned mask, T value, int lane,
                                          int width = 32) {
  const int me = (int)emulated_lane();
  return shuffle(file, line, mask, value, (me & ~(width - 1)) | (lane & (width - 1)));
}

template <class T>
EMULATED_UNCHECKED inline T shuffle_up(const char* file, int line, unsigned mask, T value, unsigned delta,
                                       int width = 32) {
  const int me = (int)emulated_lane(), source = me - (int)delta;
  return shuffle(file, line, mask, value, source < (me & ~(width - 1)) ? me : source);
}

template <class T>
EMULATED_UNCHECKED inline T shuffle_down(const char* file, int line, unsigned mask, T value, unsigned delta,
                                         int width = 32) {
  const int me = (int)emulated_lane(), source = me + (int)delta;
  return shuffle(file, line, mask, value, source > (me | (width - 1)) ? me : source);
}

template <class T>
EMULATED_UNCHECKED inline T shuffle_xor(const char* file, int line, unsigned mask, T value, int lanes, int width = 32) {
  const int me = (int)emulated_lane(), source = me ^ lanes;
  return shuffle(file, line, mask, value, source > (me | (width - 1)) ? me : source);
}

struct VoteSlot {
  bool predicate;
  unsigned answer;
};

EMULATED_UNCHECKED inline void combine_vote(void** slots, unsigned mask) {
  unsigned ballot = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1u) && ((VoteSlot*)slots[lane])->predicate) ballot |= 1u << lane;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1u) ((VoteSlot*)slots[lane])->answer = ballot;
  }
}

EMULATED_UNCHECKED inline unsigned ballot(const char* file, int line, unsigned mask, bool predicate) {
  VoteSlot slot{predicate, 0u};
  emulated_warp_collective(file, line, mask, &slot, combine_vote);
  return slot.answer;
}

// The mask as a warp of fewer than 32 threads can fulfil it: lanes that do not exist always agree.
EMULATED_UNCHECKED inline bool vote_all(const char* file, int line, unsigned mask, bool predicate) {
  return ballot(file, line, mask, !predicate) == 0u;
}

template <class T>
struct ReductionSlot {
  T value, answer;
};

template <class T, class Operation>
EMULATED_UNCHECKED inline void combine_reduction(void** slots, unsigned mask) {
  bool first = true;
  T total{};
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    const T value = ((ReductionSlot<T>*)slots[lane])->value;
    total = first ? value : Operation::of(total, value);
    first = false;
  }
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1u) ((ReductionSlot<T>*)slots[lane])->answer = total;
  }
}

template <class Operation, class T>
EMULATED_UNCHECKED inline T reduce(const char* file, int line, unsigned mask, T value) {
  static_assert(T(1) / T(2) == T(0) && sizeof(T) == 4, "__reduce_*_sync takes 32-bit integers");
  ReductionSlot<T> slot{value, value};
  emulated_warp_collective(file, line, mask, &slot, combine_reduction<T, Operation>);
  return slot.answer;
}

struct Add {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return (T)((unsigned)a + (unsigned)b);
  }
};
struct Minimum {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return b < a ? b : a;
  }
};
struct Maximum {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return a < b ? b : a;
  }
};
struct And {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  EMULATED_UNCHECKED static T of(T a, T b) {
    return a ^ b;
  }
};

template <class T>
EMULATED_UNCHECKED inline void combine_match(void** slots, unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1u)) continue;
    ShuffleSlot<T>* slot = (ShuffleSlot<T>*)slots[lane];
    unsigned equal = 0;
    for (int other = 0; other < 32; ++other) {
      if ((mask >> other & 1u) && ((ShuffleSlot<T>*)slots[other])->value == slot->value) equal |= 1u << other;
    }
    slot->source_lane = (int)equal;
  }
}

template <class T>
EMULATED_UNCHECKED inline unsigned match_any(const char* file, int line, unsigned mask, T value) {
  ShuffleSlot<T> slot;
  slot.value = value;
  emulated_warp_collective(file, line, mask, &slot, combine_match<T>);
  return (unsigned)slot.source_lane;
}

EMULATED_UNCHECKED inline void syncwarp(const char* file, int line, unsigned mask = 0xffffffffu) {
  emulated_syncwarp(file, line, mask);
}

}  // namespace gpucnn_emulated

#define __shfl_sync(...) gpucnn_emulated::shuffle_index(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) gpucnn_emulated::shuffle_up(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) gpucnn_emulated::shuffle_down(__FILE__, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) gpucnn_emulated::shuffle_xor(__FILE__, __LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) gpucnn_emulated::ballot(__FILE__, __LINE__, mask, (predicate) != 0)
#define __any_sync(mask, predicate) (gpucnn_emulated::ballot(__FILE__, __LINE__, mask, (predicate) != 0) != 0u)
#define __all_sync(mask, predicate) gpucnn_emulated::vote_all(__FILE__, __LINE__, mask, (predicate) != 0)
#define __match_any_sync(mask, value) gpucnn_emulated::match_any(__FILE__, __LINE__, mask, value)
#define __reduce_add_sync(mask, value) gpucnn_emulated::reduce<gpucnn_emulated::Add>(__FILE__, __LINE__, mask, value)
#define __reduce_min_sync(mask, value) \
  gpucnn_emulated::reduce<gpucnn_emulated::Minimum>(__FILE__, __LINE__, mask, value)
#define __reduce_max_sync(mask, value) \
  gpucnn_emulated::reduce<gpucnn_emulated::Maximum>(__FILE__, __LINE__, mask, value)
#define __reduce_and_sync(mask, value) gpucnn_emulated::reduce<gpucnn_emulated::And>(__FILE__, __LINE__, mask, value)
#define __reduce_or_sync(mask, value) gpucnn_emulated::reduce<gpucnn_emulated::Or>(__FILE__, __LINE__, mask, value)
#define __reduce_xor_sync(mask, value) gpucnn_emulated::reduce<gpucnn_emulated::Xor>(__FILE__, __LINE__, mask, value)
#define __syncwarp(...) gpucnn_emulated::syncwarp(__FILE__, __LINE__, ##__VA_ARGS__)
#define __activemask() emulated_active_mask()
