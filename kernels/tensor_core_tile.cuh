// tensor_core_tile.cuh -- the product of one block on tensor cores: copies in the background, ldmatrix, mma.
//
// Computes  sums[row][column] = sum over depth of left[row][depth] * right[depth][column], for the ROWS x COLUMNS tile
//           of one block; what rows, columns and depth mean is the including kernel's matter. The elements are SPEC_T:
//               float16, bfloat16    as they are
//               float                rounded to tf32; with SPLIT in two parts, big = tf32(x) and low = x - big, as
//                                    low*big + big*low + big*big (low*low is below float32's rounding)
// Layout    dynamic shared memory: STAGES x (left tile, right tile). A tile is lines of 16-byte chunks, along what is
//           contiguous in global memory: [extent][DEPTH] or [DEPTH][extent]. Chunk c of a line lies at c ^ twist(line):
//                 line 0   0 1 2 3 4 5 6 7        so that the 8 rows which one ldmatrix reads, all at the same c,
//                 line 1   1 0 3 2 5 4 7 6        lie in 8 different groups of 4 banks, as do the 8 chunks of a
//                 line 2   2 3 0 1 6 7 4 5        line that 8 threads write; no line is padded
//           A warp owns WARP_ROWS x WARP_COLUMNS sums: BANDS of 16 rows, STRIPS of 8 columns, each 16 x 8 square as
//           mma.cuh lays an accumulator out
// Compiled  TUNE_ROWS, TUNE_COLUMNS, TUNE_DEPTH: the tile; TUNE_WARP_ROWS, TUNE_WARP_COLUMNS: a warp's part of it;
//           TUNE_STAGES: tiles in shared memory, of which all but one are under way; TUNE_SPLIT: float32 accuracy
// Launch    block = THREADS, one warp for each part of the tile; shared bytes = STAGES * (ROWS + COLUMNS) * DEPTH *
//           sizeof(SPEC_T)
// Assumes   compute capability 8.0; operands whose chunks are aligned to 16 bytes
// Writes    sums in ascending depth: one mma for each 16 elements of 16 bits or 8 of tf32, added up inside the tensor
//           core. That cuts its sums off instead of rounding them, so with SPLIT each group of 8 is summed from zero
//           and added to the sum outside: emulated with sums cut off, it errs 0.3 to 0.8 times as much as multiply-adds
//           (root mean square, sums of 100 terms and more; 1.2 to 1.7 times for 8 to 16). The bits do not depend on
//           the tile
// Cost      of a warp and 32 bytes of depth: BANDS * STRIPS mma (SPLIT: three times as many, and 4 additions for every
//           three), 32 * (WARP_ROWS + WARP_COLUMNS) bytes of shared memory read. A block does ROWS*COLUMNS / (ROWS +
//           COLUMNS) flops for each byte it copies, half that of float: bound by the tensor cores where L2 delivers
//           fast enough, with SPLIT by the issue of instructions (sm_90a, 128 x 64: 96 mma of the loop's 515 to 557)
// Source    PTX ISA, "mma" and "ldmatrix"; H. Ootomo, R. Yokota, "Recovering single precision accuracy from tensor
//           cores while surpassing the FP32 theoretical peak performance", IJHPCA 36(4), 2022: low parts, and why sums
//           are kept outside
#pragma once

#include "common.cuh"
#include "mma.cuh"
#include "pack.cuh"

constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS, DEPTH = TUNE_DEPTH;
constexpr int WARP_ROWS = TUNE_WARP_ROWS, WARP_COLUMNS = TUNE_WARP_COLUMNS;
constexpr int STAGES = TUNE_STAGES;
constexpr bool SPLIT = TUNE_SPLIT;

constexpr int BANDS = WARP_ROWS / 16, STRIPS = WARP_COLUMNS / 8;
constexpr int WARPS_ACROSS = COLUMNS / WARP_COLUMNS, WARPS = ROWS / WARP_ROWS * WARPS_ACROSS, THREADS = 32 * WARPS;
constexpr int VECTOR = 16 / sizeof(SPEC_T);                        // elements of a chunk
constexpr int SLICE = 2 * VECTOR, SLICES = DEPTH / SLICE;          // depth of one mma
constexpr bool WIDE = sizeof(SPEC_T) == 4;                         // ldmatrix transposes elements of 16 bits only

static_assert(sizeof(SPEC_T) == 2 || sizeof(SPEC_T) == 4, "float16, bfloat16 or float");
static_assert(!SPLIT || WIDE, "only float has low parts");
static_assert(ROWS % WARP_ROWS == 0 && COLUMNS % WARP_COLUMNS == 0 && THREADS <= 1024, "warps fill the tile");
static_assert(WARP_ROWS % 32 == 0 && WARP_COLUMNS % 32 == 0, "wide tiles have their twist within 32 elements");
static_assert(SLICES * SLICE == DEPTH && STAGES >= 2, "whole slices; one tile is multiplied while others are copied");

typedef float Sums[BANDS][STRIPS][4];
typedef unsigned LeftFragments[BANDS][4];
typedef unsigned RightFragments[STRIPS][2];

__device__ __forceinline__ int lane() { return (int)threadIdx.x % 32; }
__device__ __forceinline__ int warp_row() { return (int)threadIdx.x / 32 / WARPS_ACROSS * WARP_ROWS; }
__device__ __forceinline__ int warp_column() { return (int)threadIdx.x / 32 % WARPS_ACROSS * WARP_COLUMNS; }

// Where sums[.][j][e] of this thread stands in the tile.
__device__ __forceinline__ int sum_column(int j, int e) { return warp_column() + 8 * j + lane() % 4 * 2 + e % 2; }

// An operand's tile of EXTENT rows (or columns), and the chunks of it that one thread copies: all at the same offset
// in their lines.
template <int EXTENT, bool ALONG_DEPTH>
struct OperandTile {
  static constexpr int LENGTH = ALONG_DEPTH ? DEPTH : EXTENT, LINES = ALONG_DEPTH ? EXTENT : DEPTH;
  static constexpr int CHUNKS = LENGTH / VECTOR, ELEMENTS = LINES * LENGTH;
  static constexpr int STEP = THREADS / CHUNKS;  // lines that the block copies at a time
  static constexpr int COUNT = ceil_div(LINES, STEP);
  static_assert(CHUNKS * VECTOR == LENGTH && THREADS % CHUNKS == 0, "the block copies whole lines");
  static_assert(CHUNKS % 8 == 0 || (CHUNKS == 4 && (ALONG_DEPTH || !WIDE)), "lines of 64 bytes or whole 128");

  __device__ __forceinline__ static int offset() { return (int)threadIdx.x % CHUNKS * VECTOR; }
  __device__ __forceinline__ static int line(int i) { return (int)threadIdx.x / CHUNKS + i * STEP; }
  __device__ __forceinline__ static bool copies(int i) { return LINES % STEP == 0 || line(i) < LINES; }

  __device__ __forceinline__ static int place(int line, int chunk) {
    // Of a wide tile along its extent, fragments are single elements: 8 neighbours, two chunks, in each of 4 lines.
    const int twist = WIDE && !ALONG_DEPTH ? line % 4 * 2 : CHUNKS == 4 ? line / 2 % 4 : line % 8;
    return (line * CHUNKS + (chunk ^ twist)) * VECTOR;
  }

  // Start the copy of this thread's i-th chunk; zeros where not `valid`.
  __device__ __forceinline__ static void copy(SPEC_T* tile, int i, const SPEC_T* source, bool valid) {
    cp_async_16(tile + place(line(i), offset() / VECTOR), source, valid);
  }

  // The bits of an element of a wide tile along its extent: place(), with what is constant apart from what depends on
  // the lane, so that few addresses serve all. `within` is a multiple of 8, `depth` of 4.
  __device__ __forceinline__ static unsigned element(const SPEC_T* tile, int first, int within, int depth) {
    const int l = lane(), twisted = (within % 32 / VECTOR + l / 16) ^ (l % 4 * 2);
    const int varying = l % 4 * LENGTH + first + twisted * VECTOR + l / 4 % VECTOR;
    return reinterpret_cast<const unsigned*>(tile)[depth * LENGTH + within / 32 * 32 + varying];
  }

  // 16 rows `within` the warp's, which begin with `first`; one slice of the depth.
  __device__ __forceinline__ static void load_left(unsigned (&fragment)[4], const SPEC_T* tile, int first, int within,
                                                   int slice) {
    const int l = lane();
    if (ALONG_DEPTH) {
      ldmatrix_x4(fragment, tile + place(first + within + l % 16, 2 * slice + l / 16));
    } else if (!WIDE) {
      const int line = slice * SLICE + l / 16 * 8 + l % 8;
      ldmatrix_x4_trans(fragment, tile + place(line, (first + within) / VECTOR + l / 8 % 2));
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        fragment[e] = element(tile, first, within + e % 2 * 8, slice * SLICE + e / 2 * 4);
    }
  }

  // Two strips of 8 columns `within` the warp's, which begin with `first`; one slice of the depth.
  __device__ __forceinline__ static void load_right(unsigned (&strip)[2], unsigned (&next)[2], const SPEC_T* tile,
                                                    int first, int within, int slice) {
    const int l = lane();
    unsigned fragment[4];
    if (ALONG_DEPTH) {
      ldmatrix_x4(fragment, tile + place(first + within + l / 16 * 8 + l % 8, 2 * slice + l / 8 % 2));
    } else if (!WIDE) {
      ldmatrix_x4_trans(fragment, tile + place(slice * SLICE + l % 16, (first + within) / VECTOR + l / 16));
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        fragment[e] = element(tile, first, within + e / 2 * 8, slice * SLICE + e % 2 * 4);
    }
    strip[0] = fragment[0];
    strip[1] = fragment[1];
    next[0] = fragment[2];
    next[1] = fragment[3];
  }
};

__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], float16) {
  mma_m16n8k16_f16(d, a, b);
}
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], bfloat16) {
  mma_m16n8k16_bf16(d, a, b);
}
__device__ __forceinline__ void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], float) {
  mma_m16n8k8_tf32(d, a, b);
}

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }

// Leave the big part in `bits` and return the low one. Of that mma reads the leading 11 bits: all, or all but the last.
template <bool GUARDED>
__device__ __forceinline__ unsigned split(unsigned& bits) {
  const unsigned all = bits;
  if (GUARDED) {
    bits = to_tf32(__uint_as_float(all));
    // The largest floats round to infinity: cut them off instead.
    if ((bits & 0x7fffffffu) == 0x7f800000u) bits = all & 0xffffe000u;
  } else {
    bits = (all + 0x1000u) & 0xffffe000u;  // to_tf32 of a finite number; any other has a low part that is NaN
  }
  return __float_as_uint(__uint_as_float(all) - __uint_as_float(bits));
}

// Where an operand is not finite its low part is NaN, and where one is rounded to infinity its low part is infinite
// with the other sign: the sum becomes NaN. GUARDED takes big * big alone where that is not finite, as if the low parts
// were zero; else all operands of the sum are finite.
template <bool GUARDED>
__device__ __forceinline__ void multiply_split(LeftFragments& left, RightFragments& right, Sums& sums) {
  unsigned left_low[BANDS][4], right_low[STRIPS][2];
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) left_low[i][e] = split<GUARDED>(left[i][e]);
#pragma unroll
  for (int j = 0; j < STRIPS; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) right_low[j][e] = split<GUARDED>(right[j][e]);

#pragma unroll
  for (int i = 0; i < BANDS; ++i) {
    float parts[STRIPS][4] = {};
    // One kind of product after another, so that neighbouring instructions do not wait for each other.
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left_low[i], right[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left[i], right_low[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left[i], right[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) {
      float big[4] = {};
      if (GUARDED) mma(big, left[i], right[j], SPEC_T());
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] += GUARDED && !is_finite(big[e]) ? big[e] : parts[j][e];
    }
  }
}

__device__ __forceinline__ void multiply_whole(LeftFragments& left, RightFragments& right, Sums& sums) {
  if (WIDE) {
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) left[i][e] = to_tf32(__uint_as_float(left[i][e]));
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) right[j][e] = to_tf32(__uint_as_float(right[j][e]));
  }
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(sums[i][j], left[i], right[j], SPEC_T());
}

template <bool GUARDED, class Left, class Right>
__device__ __forceinline__ void multiply_tiles(const SPEC_T* left_tile, const SPEC_T* right_tile, Sums& sums) {
#pragma unroll
  for (int slice = 0; slice < SLICES; ++slice) {
    LeftFragments left;
    RightFragments right;
#pragma unroll
    for (int i = 0; i < BANDS; ++i) Left::load_left(left[i], left_tile, warp_row(), 16 * i, slice);
#pragma unroll
    for (int j = 0; j < STRIPS; j += 2)
      Right::load_right(right[j], right[j + 1], right_tile, warp_column(), 8 * j, slice);
    if (SPLIT) {
      multiply_split<GUARDED>(left, right, sums);
    } else {
      multiply_whole(left, right, sums);
    }
  }
}

template <bool GUARDED, class Left, class Right>
__device__ __forceinline__ void add_up(const Left& left, const Right& right, int steps, SPEC_T* tiles, Sums& sums) {
  constexpr int LEFT = Left::Tile::ELEMENTS, STAGE = LEFT + Right::Tile::ELEMENTS;
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;

#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) {
    if (stage < steps) {
      left.copy(stage, tiles + stage * STAGE);
      right.copy(stage, tiles + stage * STAGE + LEFT);
    }
    cp_async_commit();
  }
  SPEC_T *reading = tiles, *writing = tiles + (STAGES - 1) * STAGE;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // the tile read now has come, and nobody reads any more the one written now
    if (step + STAGES - 1 < steps) {
      left.copy(step + STAGES - 1, writing);
      right.copy(step + STAGES - 1, writing + LEFT);
    }
    cp_async_commit();
    multiply_tiles<GUARDED, typename Left::Tile, typename Right::Tile>(reading, reading + LEFT, sums);
    writing = reading;
    reading = reading == tiles + (STAGES - 1) * STAGE ? tiles : reading + STAGE;
  }
}

// The whole product. An operand has `Tile`, an OperandTile, and copy(step, tile), which starts the copies of all this
// thread's chunks of its tile number `step`. All threads of the block call together; `tiles` is the dynamic shared
// memory.
template <class Left, class Right>
__device__ __forceinline__ void multiply(const Left& left, const Right& right, int steps, SPEC_T* tiles, Sums& sums) {
  add_up<false>(left, right, steps, tiles, sums);
  if (!SPLIT) return;
  bool spoiled = false;
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) spoiled = spoiled || is_nan(sums[i][j][e]);
  // Once more with care, where an operand that is not finite may have spoiled sums; the others get the same bits.
  if (__syncthreads_or(spoiled)) add_up<true>(left, right, steps, tiles, sums);
}

// Four neighbouring sums of a row: lanes in pairs exchange the halves of strips j and j + 1. The lane gets those of
// strip j + lane % 2, columns lane % 4 / 2 * 4 and on.
__device__ __forceinline__ void gather_four(float (&four)[4], const Sums& sums, int i, int half, int j) {
  const bool odd = lane() % 2;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float left = sums[i][j][2 * half + e], right = sums[i][j + 1][2 * half + e];
    const float other = __shfl_xor_sync(0xffffffffu, odd ? left : right, 1);
    four[e] = odd ? other : left;
    four[2 + e] = odd ? right : other;
  }
}

// Call use(row, column, values) for every WIDTH (4 or 8) neighbouring sums of a row, until the warp's lanes have used
// them all; row and column count from the tile's first. All lanes of a warp call together.
template <int WIDTH, class Use>
__device__ __forceinline__ void for_each_pack(const Sums& sums, Use use) {
  static_assert(WIDTH == 4 || WIDTH == 8, "packs of 4 sums from 2 strips, or of 8 from 4");
  const int t = lane() % 4;
#pragma unroll
  for (int i = 0; i < BANDS; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row() + 16 * i + 8 * half + lane() / 4;
#pragma unroll
      for (int j = 0; j < STRIPS; j += WIDTH / 2) {
        float values[WIDTH], four[4];
        gather_four(four, sums, i, half, j);
        if (WIDTH == 4) {
#pragma unroll
          for (int v = 0; v < 4; ++v) values[v] = four[v];
          use(row, warp_column() + 8 * (j + t % 2) + t / 2 * 4, values);
        } else {
          // Lanes two apart hold the halves of the same strips.
          float next[4];
          gather_four(next, sums, i, half, j + 2);
          const bool upper = t / 2;
#pragma unroll
          for (int v = 0; v < 4; ++v) {
            const float other = __shfl_xor_sync(0xffffffffu, upper ? four[v] : next[v], 2);
            values[v] = upper ? other : four[v];
            values[WIDTH - 4 + v] = upper ? next[v] : other;
          }
          use(row, warp_column() + 8 * (j + t), values);
        }
      }
    }
  }
}
