// squared_norm.cu -- sums of the squares of the gradients in a flat buffer, for clipping by norm.
//
// Computes  sums[j] = sum over the pieces of group j and their elements of g^2; pieces of frozen segments count 0
// Layout    sums: (GROUPS) SPEC_ACC; gradients g: SPEC_T, aligned to TUNE_WIDTH elements (at most 16 bytes); flags: one byte for a
//           segment of SPEC_PER_FLAG elements, bit 0 trainable; pieces: (PIECES, 3) int [group, first segment, segments], those of
//           a group together, a piece within one parameter; bounds: (GROUPS + 1) int, group j has pieces
//           bounds[j] .. bounds[j + 1] - 1; workspace: (PIECES) SPEC_ACC
// Compiled  SPEC_*: SquaredNormSpec;  TUNE_WIDTH: elements in a load, TUNE_BLOCK (THREADS): threads a block; run time: nothing
// Launch    squared_norm_forward_pieces: grid (PIECES); squared_norm_forward_sums: grid (GROUPS); block (THREADS) in both
// Assumes   whole segments [ParameterBuffer]
// Writes    every element of workspace and of sums exactly once. Order of a sum: thread t of T takes packs t, t + T, ..., then
//           team.cuh's; likewise over the pieces of a group. It follows from the pieces alone.
// Cost      two operations an element, in double so that no square overflows [SquaredNormSpec]; traffic of the gradients: memory bound
// Tested    tests/operations/test_clip.py
#include "common.cuh"
#include "pack.cuh"
#include "team.cuh"

constexpr int WIDTH = TUNE_WIDTH, THREADS = TUNE_BLOCK, PER_FLAG = SPEC_PER_FLAG;
constexpr unsigned TRAINABLE = 1u;
static_assert(PER_FLAG % WIDTH == 0, "segments are whole packs");

GPUCNN_KERNEL __launch_bounds__(THREADS)
squared_norm_forward_pieces(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ gradients, const unsigned char* __restrict__ flags,
                            const int* __restrict__ pieces) {
  __shared__ SPEC_ACC scratch[THREADS / 32];
  const BlockTeam<SPEC_ACC, THREADS> team(scratch);
  const int first = pieces[3 * blockIdx.x + 1], segments = pieces[3 * blockIdx.x + 2];
  const SPEC_T* own = gradients + (long long)first * PER_FLAG;
  const int packs = flags[first] & TRAINABLE ? segments * (PER_FLAG / WIDTH) : 0;
  SPEC_ACC sum = 0;
  for (int i = team.rank; i < packs; i += team.size) {
    const Pack<SPEC_T, WIDTH> pack = load_pack<WIDTH>(own + i * WIDTH);
#pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      const SPEC_ACC value = (SPEC_ACC)to_acc(pack.values[j]);
      sum = multiply_add(value, value, sum);
    }
  }
  sum = team.sum(sum);
  if (team.rank == 0) workspace[blockIdx.x] = sum;
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
squared_norm_forward_sums(SPEC_ACC* __restrict__ sums, const SPEC_ACC* __restrict__ workspace, const int* __restrict__ bounds) {
  __shared__ SPEC_ACC scratch[THREADS / 32];
  const BlockTeam<SPEC_ACC, THREADS> team(scratch);
  SPEC_ACC sum = 0;
  for (int piece = bounds[blockIdx.x] + team.rank; piece < bounds[blockIdx.x + 1]; piece += team.size) sum += workspace[piece];
  sum = team.sum(sum);
  if (team.rank == 0) sums[blockIdx.x] = sum;
}
