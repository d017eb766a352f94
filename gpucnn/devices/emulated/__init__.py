"""The emulated device: kernels compiled with g++, run on NumPy arrays, and checked as compute-sanitizer checks them.

A kernel text becomes a shared object (`module`, `source_rewrite`, `toolchain`, `object_cache`); the headers in `shim/`
give it CUDA's language, and the library in `runtime/` runs its threads as fibers and holds its memory between guard
pages. The check build adds the compiler's instrumentation, whose callbacks the runtime implements.

Not emulated: inline PTX (`mma.cuh` and `common.cuh` have portable branches), wgmma, TMA, mbarrier and clusters,
textures, cooperative groups other than blocks and tiles of a warp, grid barriers, dynamic parallelism, device malloc,
streams, and anything about time. Spin-waits between threads never end, which the watchdog reports. Maths functions are
those of the C library and g++ fuses multiply-adds where it likes, so numbers agree with a GPU's within tolerances, not
in bits.

Known misses of the check build: overflow from one `__shared__` array exactly into its neighbour through a raw pointer;
use of uninitialised local variables; order-dependent atomics; a launch that relies on what another launch should have
written. Known false report: a last block that reduces what other blocks wrote, ordered by fences and an atomic counter;
leave "race-global" out with `ignore` there.
"""

from gpucnn.devices.emulated.device import EmulatedDevice
from gpucnn.devices.emulated.kernel import EmulatedKernel
from gpucnn.devices.emulated.module import EmulatedModule
from gpucnn.devices.emulated.reports import KINDS, Actor, Place, Report

__all__ = ["KINDS", "Actor", "EmulatedDevice", "EmulatedKernel", "EmulatedModule", "Place", "Report"]
