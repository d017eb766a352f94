// launch_glue.h -- what a module exports for each entry: its signature as the compiler sees it, and a trampoline.
#pragma once

namespace gpucnn_emulated {

template <class T>
struct Unqualified {
  typedef T type;
  static constexpr bool is_const = false;
};
template <class T>
struct Unqualified<const T> {
  typedef T type;
  static constexpr bool is_const = true;
};
template <class T>
struct Unqualified<volatile T> : Unqualified<T> {};
template <class T>
struct Unqualified<const volatile T> : Unqualified<const T> {};

template <class T>
struct Pointee {
  typedef T type;
  static constexpr bool is_pointer = false;
};
template <class T>
struct Pointee<T*> {
  typedef T type;
  static constexpr bool is_pointer = true;
};

template <class T>
struct SizeOf {
  static constexpr size_t bytes = sizeof(T);
};
template <>
struct SizeOf<void> {
  static constexpr size_t bytes = 1;
};

// __PRETTY_FUNCTION__ spells the type behind every typedef and macro: "... [with T = unsigned char]".
template <class T>
EMULATED_UNCHECKED inline const char* spelled() {
  return __PRETTY_FUNCTION__;
}

struct ParameterRecord {
  const char* spelling;  // the element type, inside __PRETTY_FUNCTION__
  size_t bytes;          // of the element
  int is_pointer, is_const;
};

template <class T>
EMULATED_UNCHECKED inline ParameterRecord describe() {
  typedef typename Pointee<typename Unqualified<T>::type>::type Element;
  typedef typename Unqualified<Element>::type Bare;
  return ParameterRecord{spelled<Bare>(), SizeOf<Bare>::bytes, Pointee<typename Unqualified<T>::type>::is_pointer,
                         Unqualified<Element>::is_const};
}

// Writes at most `capacity` records and returns the number of parameters.
template <class... A>
EMULATED_UNCHECKED inline int signature(void (*)(A...), ParameterRecord* records, int capacity) {
  const ParameterRecord all[] = {describe<A>()..., ParameterRecord{}};
  for (int i = 0; i < (int)sizeof...(A) && i < capacity; ++i) records[i] = all[i];
  return (int)sizeof...(A);
}

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  typedef Indices<I...> type;
};

template <class... A, int... I>
EMULATED_UNCHECKED inline void call_with(void (*entry)(A...), void** values, Indices<I...>) {
  entry(*(typename Unqualified<A>::type*)values[I]...);
}
template <class... A>
EMULATED_UNCHECKED inline void call(void (*entry)(A...), void** values) {
  call_with(entry, values, typename MakeIndices<sizeof...(A)>::type());
}

}  // namespace gpucnn_emulated

#define EMULATED_EXPORT extern "C" EMULATED_UNCHECKED __attribute__((visibility("default")))

#define EMULATED_ENTRY(name, most_threads)                                                                 \
  EMULATED_EXPORT void emulated_call_##name(void** values) { gpucnn_emulated::call(name, values); }        \
  EMULATED_EXPORT int emulated_signature_##name(gpucnn_emulated::ParameterRecord* records, int capacity) { \
    return gpucnn_emulated::signature(name, records, capacity);                                            \
  }                                                                                                        \
  EMULATED_EXPORT int emulated_most_threads_##name() { return most_threads; }

// A thread's copy of the module's shared memory does not exist until something touches it; the address of this variable
// also tells where the copy lies.
#define EMULATED_MODULE_END                             \
  static __thread volatile char emulated_shared_anchor; \
  EMULATED_EXPORT char* emulated_touch_shared() {       \
    emulated_shared_anchor = 1;                         \
    return (char*)&emulated_shared_anchor;              \
  }
