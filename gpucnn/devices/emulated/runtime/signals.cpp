// signals.cpp -- faults and endless loops inside kernels become reports.
#include "signals.h"

#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "reports.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

namespace {

constexpr int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction earlier_handlers[4];  // of the faults, then of the watchdog

int watchdog_signal() { return SIGRTMIN + 3; }

const uint8_t* interrupted_at(void* context) {
#if defined(__x86_64__)
  return (const uint8_t*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
  return (const uint8_t*)((ucontext_t*)context)->uc_mcontext.pc;
#else
  (void)context;
  return nullptr;
#endif
}

bool in_module(const Worker& worker, const uint8_t* code) {
  return code >= worker.image_low && code < worker.image_low + worker.launch->image_bytes;
}

void on_fault(int signal, siginfo_t* information, void* context) {
  Worker* worker = current_worker;
  if (!worker || !worker->running_kernel) {
    // Not ours: put the earlier handler back and return, which repeats the fault under it.
    for (int i = 0; i < 3; ++i) {
      if (fault_signals[i] == signal) sigaction(signal, &earlier_handlers[i], nullptr);
    }
    return;
  }
  const uint8_t* address = (const uint8_t*)information->si_addr;
  Report* report = nullptr;
  if (signal == SIGFPE) {
    report = add_report(ReportKind::divide_by_zero, "integer division by zero, or of the least integer by -1");
  } else {
    bool overflow = false;
    for (const Fiber* fiber : worker->all_fibers) {
      overflow |= address >= fiber->stack - page_bytes && address < fiber->stack;
    }
    if (overflow) {
      report = add_report(ReportKind::stack_overflow, "local arrays need more than the %zu KiB of a thread's stack",
                          stack_bytes / 1024);
    } else if (!address) {
      report =
          add_report(ReportKind::memory_fault, "access through a null or wild pointer, or a misaligned vector access");
    } else {
      report = add_report(ReportKind::memory_fault, "access to inaccessible memory");
      if (report) locate(report, *worker, address);
    }
  }
  const uint8_t* code = interrupted_at(context);
  if (report) report->code_offset = in_module(*worker, code) ? worker->code_offset(code + 1) : worker->working_for;
  worker->working_for = 0;
  siglongjmp(worker->escape, 1);
}

// Jumping out is safe only from the kernel's own code: the runtime may hold a lock of the allocator. There the flag is
// enough, because the runtime looks at it, and the timer goes off again.
void on_watchdog(int, siginfo_t*, void* context) {
  Worker* worker = current_worker;
  if (!worker || !worker->running_kernel) return;
  const uint8_t* code = interrupted_at(context);
  if (!in_module(*worker, code)) {
    worker->timed_out = 1;
    return;
  }
  Report* report = add_report(ReportKind::timeout, endless_message, worker->launch->timeout_seconds);
  if (report) report->code_offset = worker->code_offset(code + 1);
  siglongjmp(worker->escape, 1);
}

void install(int signal, void (*handler)(int, siginfo_t*, void*), struct sigaction* earlier) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  // Not blocked while handled: the handler leaves by a jump that does not restore the mask.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(signal, &action, earlier);
}

}  // namespace

FaultHandlers::FaultHandlers() {
  for (int i = 0; i < 3; ++i) install(fault_signals[i], on_fault, &earlier_handlers[i]);
  install(watchdog_signal(), on_watchdog, &earlier_handlers[3]);
}

FaultHandlers::~FaultHandlers() {
  for (int i = 0; i < 3; ++i) sigaction(fault_signals[i], &earlier_handlers[i], nullptr);
  sigaction(watchdog_signal(), &earlier_handlers[3], nullptr);
}

WorkerSignals::WorkerSignals(Worker& worker) {
  worker.handler_stack.resize(64 * 1024);
  stack_t stack;
  memset(&stack, 0, sizeof stack);
  stack.ss_sp = worker.handler_stack.data();
  stack.ss_size = worker.handler_stack.size();
  sigaltstack(&stack, &earlier_stack_);

  worker.timed_out = 0;
  const double seconds = worker.launch->timeout_seconds;
  if (seconds <= 0) return;
  sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = watchdog_signal();
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &watchdog_) != 0) {
    error_ = errno;
    return;
  }
  has_watchdog_ = true;
  itimerspec when;
  memset(&when, 0, sizeof when);
  when.it_value.tv_sec = (time_t)seconds;
  when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9) | 1;  // zero would mean never
  when.it_interval.tv_nsec = 1000000;
  timer_settime(watchdog_, 0, &when, nullptr);
}

WorkerSignals::~WorkerSignals() {
  if (has_watchdog_) timer_delete(watchdog_);
  sigaltstack(&earlier_stack_, nullptr);
}
