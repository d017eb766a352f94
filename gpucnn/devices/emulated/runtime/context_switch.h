// context_switch.h -- leave one stack for another.
//
// x86-64 has a switch of 14 instructions; elsewhere ucontext does it, five times slower as it saves the signal
// mask with a system call.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(EMULATED_USE_UCONTEXT)

extern "C" void emulated_switch_stacks(void** save_stack_pointer, void* load_stack_pointer);

asm(R"(
.text
.globl emulated_switch_stacks
.hidden emulated_switch_stacks
.type emulated_switch_stacks,@function
emulated_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch_stacks,.-emulated_switch_stacks
)");

struct Context {
  void* stack_pointer;
};

inline void switch_context(Context& from, Context& to) {
  emulated_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

inline void make_context(Context& context, uint8_t* stack, size_t bytes, void (*function)()) {
  void** top = (void**)((uintptr_t)(stack + bytes) & ~(uintptr_t)15);
  *--top = nullptr;  // where a return address would lie, so that the stack is aligned as after a call
  *--top = (void*)function;
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  context.stack_pointer = top;
}

#else

#include <ucontext.h>

struct Context {
  ucontext_t state;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void make_context(Context& context, uint8_t* stack, size_t bytes, void (*function)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  ::makecontext(&context.state, function, 0);
}

#endif
