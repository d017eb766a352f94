"""The checker as a tool: a kernel file of one's own, compiled for real architectures and run where faults are seen."""

from gpucnn.kernel_check.description import Launch, read_launch
from gpucnn.kernel_check.registers import Compilation, compile_for
from gpucnn.kernel_check.run import Finding, run_checked
from gpucnn.kernel_check.source import read_kernel

__all__ = ["Compilation", "Finding", "Launch", "compile_for", "read_kernel", "read_launch", "run_checked"]
