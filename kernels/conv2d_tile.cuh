// conv2d_tile.cuh -- the tiled matrix product inside the three implicit-GEMM convolutions.
//
// Computes  sums[row][column] = sum over depth of left[depth][row] * right[depth][column], for the ROWS x COLUMNS
//           tile of one block; what rows, columns and depth mean is the including kernel's matter
// Layout    shared memory, in SPEC_ACC: left [2][DEPTH][ROWS + SKEW], right [2][DEPTH][COLUMNS + SKEW]; two buffers,
//           so that one barrier per DEPTH suffices: the next tile is loaded to registers, this one multiplied, the
//           next one stored
//                 left                     right                      a thread's sums, 2 row squares, 1 column square:
//              d [ . . . rows . . . ]   d [ . . columns . . ]           4 x 4 at (4*down,          4*across)
//                                                                       4 x 4 at (4*down + ROWS/2, 4*across)
//           so that the threads of a warp read neighbouring 16 bytes of a shared line, or the same ones
// Compiled  TUNE_ROWS, TUNE_COLUMNS, TUNE_DEPTH: the tile; TUNE_ROW_SQUARES, TUNE_COLUMN_SQUARES: squares of 4 x 4
//           sums per thread; TUNE_VECTOR: elements per global access where the number of channels divides by it, 1
//           or 4
// Issues    for each DEPTH of a thread DEPTH * 16 * squares multiply-adds and DEPTH * (row squares + column squares) loads
//           from shared memory; besides these, on sm_90a, about 4 instructions for each row and column copied: 87 % of
//           the main loop multiplies in 128x64, 89 % in 128x128, 82 % in 64x64
// Launch    block = THREADS, which follows from the tile
// Assumes   TUNE_VECTOR 4 needs every array aligned to 16 bytes
// Writes    sums in ascending depth, one fused multiply-add each: the bits do not depend on the tile
// Source    V. Volkov, J. Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008
#pragma once

#include "conv2d.cuh"
#include "pack.cuh"

constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, DEPTH = TUNE_DEPTH;
constexpr int ROW_SQUARES = TUNE_ROW_SQUARES, COLUMN_SQUARES = TUNE_COLUMN_SQUARES;
constexpr int DOWN = ROWS / (4 * ROW_SQUARES), ACROSS = COLUMNS / (4 * COLUMN_SQUARES);  // the block's threads
constexpr int THREADS = DOWN * ACROSS;
constexpr int VECTOR_C = C % TUNE_VECTOR == 0 ? TUNE_VECTOR : 1, VECTOR_K = K % TUNE_VECTOR == 0 ? TUNE_VECTOR : 1;
constexpr int SKEW = 4;  // spreads transposed stores over the banks and keeps lines aligned to 16 bytes

static_assert(GROUPS == 1, "the implicit GEMM has no groups");
static_assert(TUNE_VECTOR == 1 || TUNE_VECTOR == 4, "TUNE_VECTOR: 1 or 4");
static_assert(DOWN * 4 * ROW_SQUARES == ROWS && ACROSS * 4 * COLUMN_SQUARES == COLUMNS, "squares fill the tile");
static_assert(THREADS % 32 == 0 && THREADS <= 1024, "whole warps");
static_assert(misses_image(DEPTH), "taps of a row that is OFF_IMAGE reach no pixel and stay within int");

// What one thread carries of a DEPTH x EXTENT operand tile from global to shared memory: packs of VECTOR elements,
// which are contiguous along depth (then they are transposed on the way) or along the extent. A line is what is
// contiguous in global memory; all packs of a thread have the same offset in their lines.
template <int EXTENT, int VECTOR, bool ALONG_DEPTH>
struct Carrier {
  static constexpr int LENGTH = ALONG_DEPTH ? DEPTH : EXTENT, LINES = ALONG_DEPTH ? EXTENT : DEPTH;
  static constexpr int STEP = THREADS / (LENGTH / VECTOR);  // lines that the block carries at a time
  static constexpr int COUNT = ceil_div(LINES, STEP);
  static_assert(LENGTH % VECTOR == 0 && THREADS % (LENGTH / VECTOR) == 0, "the block carries whole lines");

  Pack<SPEC_T, VECTOR> packs[COUNT];

  __device__ __forceinline__ static int offset() { return (int)threadIdx.x % (LENGTH / VECTOR) * VECTOR; }
  __device__ __forceinline__ static int line(int i) { return (int)threadIdx.x / (LENGTH / VECTOR) + i * STEP; }
  __device__ __forceinline__ static bool carries(int i) { return LINES % STEP == 0 || line(i) < LINES; }

  __device__ __forceinline__ void store(SPEC_ACC (&tile)[DEPTH][EXTENT + SKEW]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      if (!carries(i)) continue;
      Pack<SPEC_ACC, VECTOR> converted;
#pragma unroll
      for (int v = 0; v < VECTOR; ++v) {
        converted.values[v] = to_acc(packs[i].values[v]);
        if (ALONG_DEPTH) tile[offset() + v][line(i)] = converted.values[v];
      }
      if (!ALONG_DEPTH) store_pack_in_shared<VECTOR>(&tile[line(i)][offset()], converted);
    }
  }
};

// Where the i-th row (column) of a thread's sums stands in the tile.
__device__ __forceinline__ int tile_row(int i) { return (i / 4 * DOWN + (int)threadIdx.x / ACROSS) * 4 + i % 4; }
__device__ __forceinline__ int tile_column(int j) { return (j / 4 * ACROSS + (int)threadIdx.x % ACROSS) * 4 + j % 4; }

typedef SPEC_ACC Sums[4 * ROW_SQUARES][4 * COLUMN_SQUARES];
typedef SPEC_ACC LeftTiles[2][DEPTH][ROWS + SKEW];
typedef SPEC_ACC RightTiles[2][DEPTH][COLUMNS + SKEW];

__device__ __forceinline__ void multiply_tiles(const SPEC_ACC (&left)[DEPTH][ROWS + SKEW],
                                               const SPEC_ACC (&right)[DEPTH][COLUMNS + SKEW], Sums& sums) {
#pragma unroll
  for (int d = 0; d < DEPTH; ++d) {
    Pack<SPEC_ACC, 4> rows[ROW_SQUARES], columns[COLUMN_SQUARES];
#pragma unroll
    for (int i = 0; i < ROW_SQUARES; ++i) rows[i] = load_pack<4>(&left[d][tile_row(4 * i)]);
#pragma unroll
    for (int j = 0; j < COLUMN_SQUARES; ++j) columns[j] = load_pack<4>(&right[d][tile_column(4 * j)]);
#pragma unroll
    for (int i = 0; i < 4 * ROW_SQUARES; ++i)
#pragma unroll
      for (int j = 0; j < 4 * COLUMN_SQUARES; ++j)
        sums[i][j] = multiply_add(rows[i / 4].values[i % 4], columns[j / 4].values[j % 4], sums[i][j]);
  }
}

// The whole product. Operands have carriers `left` and `right`, fetch(), which loads a tile of each to registers, and
// advance(), which goes on to the next.
template <class Operands>
__device__ __forceinline__ void multiply(Operands& operands, int steps, LeftTiles& left_tiles, RightTiles& right_tiles, Sums& sums) {
  if (steps == 0) return;
  operands.fetch();
  operands.left.store(left_tiles[0]);
  operands.right.store(right_tiles[0]);
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int buffer = step & 1;
    if (step + 1 < steps) {
      operands.advance();
      operands.fetch();
    }
    multiply_tiles(left_tiles[buffer], right_tiles[buffer], sums);
    if (step + 1 < steps) {
      operands.left.store(left_tiles[1 - buffer]);
      operands.right.store(right_tiles[1 - buffer]);
    }
    __syncthreads();
  }
}
