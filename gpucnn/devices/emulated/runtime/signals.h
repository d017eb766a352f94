// signals.h -- faults and endless loops inside kernels become reports.
#pragma once

#include <csignal>
#include <ctime>

#include "worker.h"

// While one exists, SIGSEGV, SIGBUS and SIGFPE of a running kernel become reports; others go to the earlier handlers.
class FaultHandlers {
 public:
  FaultHandlers();
  ~FaultHandlers();
  FaultHandlers(const FaultHandlers&) = delete;
  FaultHandlers& operator=(const FaultHandlers&) = delete;
};

// Gives the calling thread a stack for signal handlers, and a watchdog over its processor time.
class WorkerSignals {
 public:
  explicit WorkerSignals(Worker& worker);
  ~WorkerSignals();
  WorkerSignals(const WorkerSignals&) = delete;
  WorkerSignals& operator=(const WorkerSignals&) = delete;

  // Why there is no watchdog where one is wanted: an errno, else 0.
  int error() const { return error_; }

 private:
  int error_ = 0;
  stack_t earlier_stack_;
  timer_t watchdog_;
  bool has_watchdog_ = false;
};
