// clip.cu -- gradients in a flat buffer brought within a limit before an optimizer step.
//
// Computes  clip_value_update: g = limit where g > limit, -limit where g < -limit
//           clip_norm_update: n = sqrt(S), S = sums[group], with SPEC_GLOBAL the sum of all SUMS of sums in turn;
//           where n > limit, g *= limit / n; where n is infinite or NaN, g = NaN
//           frozen segments, and gradients within the limit, are not touched; NaN stays NaN
// Layout    gradients g: SPEC_T, aligned to TUNE_WIDTH elements (at most 16 bytes); sums: (SUMS) double, see squared_norm.cu;
//           flags, pieces: as there; limit: 1 double
// Compiled  SPEC_*: ClipSpec;  TUNE_WIDTH: elements in a load, TUNE_BLOCK (THREADS): threads a block;  run time: SUMS
// Launch    grid (PIECES), block (THREADS): a block owns a piece
// Assumes   whole segments [ParameterBuffer]; the sums are not written by the same launch
// Writes    g of the pieces that change, each element by one thread, after reading it
// Cost      one multiplication an element; gradients are read and written where they change: memory bound
// Tested    tests/operations/test_clip.py
// Source    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013
#include "common.cuh"
#include "mathematics.cuh"
#include "pack.cuh"

constexpr int WIDTH = TUNE_WIDTH, THREADS = TUNE_BLOCK, PER_FLAG = SPEC_PER_FLAG;
constexpr unsigned TRAINABLE = 1u;
static_assert(PER_FLAG % WIDTH == 0, "segments are whole packs");

// g = f(g) over the block's piece.
template <class F>
__device__ __forceinline__ void change_piece(SPEC_T* gradients, const unsigned char* flags, const int* pieces, F f) {
  const int first = pieces[3 * blockIdx.x + 1], segments = pieces[3 * blockIdx.x + 2];
  if (!(flags[first] & TRAINABLE)) return;
  SPEC_T* own = gradients + (long long)first * PER_FLAG;
  for (int i = (int)threadIdx.x; i < segments * (PER_FLAG / WIDTH); i += THREADS) {
    Pack<SPEC_T, WIDTH> pack = load_pack<WIDTH>(own + i * WIDTH);
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) pack.values[j] = from_acc<SPEC_T>(f(SPEC_ACC(to_acc(pack.values[j]))));
    store_pack<WIDTH>(own + i * WIDTH, pack);
  }
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
clip_value_update(GPUCNN_INOUT SPEC_T* __restrict__ gradients, const unsigned char* __restrict__ flags, const int* __restrict__ pieces,
                  const double* __restrict__ limit) {
  const SPEC_ACC most = SPEC_ACC(limit[0]);
  change_piece(gradients, flags, pieces, [=](SPEC_ACC g) { return g > most ? most : g < -most ? -most : g; });
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
clip_norm_update(GPUCNN_INOUT SPEC_T* __restrict__ gradients, const double* __restrict__ sums, const unsigned char* __restrict__ flags,
                 const int* __restrict__ pieces, const double* __restrict__ limit, int SUMS) {
  __shared__ double shared_factor;  // one thread computes it: a root and a division in double are slow on many GPUs
  if (threadIdx.x == 0) {
    double squared = 0;
    if (SPEC_GLOBAL) {
      for (int i = 0; i < SUMS; ++i) squared += sums[i];
    } else {
      squared = sums[pieces[3 * blockIdx.x]];
    }
    const double norm = square_root(squared), most = limit[0];
    shared_factor = norm <= most ? 1.0 : most / norm + (norm - norm);  // NaN where the norm is not finite
  }
  __syncthreads();
  const SPEC_ACC factor = SPEC_ACC(shared_factor);
  if (factor == SPEC_ACC(1)) return;
  change_piece(gradients, flags, pieces, [=](SPEC_ACC g) { return g * factor; });
}
