// cuda_shim.h -- lets g++ compile CUDA C++ kernels. Force-included (and precompiled) before the kernel text.
//
// It is as strict as NVRTC: no standard header, no std::, no INFINITY, NAN or M_PI.
#pragma once

#include "runtime_abi.h"

#include "keywords.h"

#include "vector_types.h"

#include "mathematics.h"

#include "bits.h"

#include "warp.h"

#include "atomics.h"

#include "launch_glue.h"
