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
//           mma.cuh lays an accumulator out. Which row of the warp's is which of a band OperandTile says: floats that
//           are contiguous along the extent, which ldmatrix cannot transpose, are loaded in runs of neighbours
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
//           fast enough. The loop of a part of 64 x 64 has 2.1 to 3.3 instructions for each mma of 16 bits, 3.1 to 4.6
//           of tf32, that of 64 x 32 with SPLIT 4.0 to 4.5 (sm_90a; tests/kernels/test_main_loops.py)
// Source    PTX ISA, "mma" and "ldmatrix"; H. Ootomo, R. Yokota, "Recovering single precision accuracy from tensor
//           cores while surpassing the FP32 theoretical peak performance", IJHPCA 36(4), 2022: low parts, and why sums
//           are kept outside; NVIDIA CUTLASS, "Efficient GEMM in CUDA" (documentation): a slice's fragments are loaded
//           while the one before is multiplied
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
constexpr bool WIDE = sizeof(SPEC_T) == 4;
// Neighbours that one load brings along an extent of floats. Rounded in place they would have to be moved before mma,
// which takes two in neighbouring registers, on the left from the same line; splitting writes to other registers anyway.
constexpr int ROW_RUN = SPLIT ? 4 : 2, COLUMN_RUN = SPLIT ? 4 : 1;

static_assert(sizeof(SPEC_T) == 2 || sizeof(SPEC_T) == 4, "float16, bfloat16 or float");
static_assert(!SPLIT || WIDE, "only float has low parts");
static_assert(ROWS % WARP_ROWS == 0 && COLUMNS % WARP_COLUMNS == 0 && THREADS <= 1024, "warps fill the tile");
static_assert(WARP_ROWS % 32 == 0 && WARP_COLUMNS % 32 == 0, "runs of 4 neighbours for each of 8 lanes");
static_assert(SLICES * SLICE == DEPTH && SLICES % 2 == 0, "slices take turns in two sets of fragments");
static_assert(STAGES >= 2, "one tile is multiplied while others are copied");

typedef float Sums[BANDS][STRIPS][4];

__device__ __forceinline__ unsigned bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ unsigned bits_of(float16 value) { return value.bits; }
__device__ __forceinline__ unsigned bits_of(bfloat16 value) { return value.bits; }

__device__ __forceinline__ int lane() { return (int)threadIdx.x % 32; }
__device__ __forceinline__ int warp_row() { return (int)threadIdx.x / 32 / WARPS_ACROSS * WARP_ROWS; }
__device__ __forceinline__ int warp_column() { return (int)threadIdx.x / 32 % WARPS_ACROSS * WARP_COLUMNS; }

// What a warp multiplies at a time: a slice of the depth.
struct Fragments {
  unsigned left[BANDS][4], right[STRIPS][2];
};

// An operand's tile of EXTENT rows (or columns), and the chunks of it that one thread copies: all at the same offset
// in their lines.
template <int EXTENT, bool ALONG_DEPTH>
struct OperandTile {
  static constexpr int LENGTH = ALONG_DEPTH ? DEPTH : EXTENT, LINES = ALONG_DEPTH ? EXTENT : DEPTH;
  static constexpr int CHUNKS = LENGTH / VECTOR, ELEMENTS = LINES * LENGTH;
  static constexpr int STEP = THREADS / CHUNKS;  // lines that the block copies at a time
  static constexpr int COUNT = ceil_div(LINES, STEP);
  static constexpr bool SPREAD = WIDE && !ALONG_DEPTH;  // ldmatrix transposes 16 bits only
  static_assert(CHUNKS * VECTOR == LENGTH && THREADS % CHUNKS == 0, "the block copies whole lines");
  static_assert(CHUNKS % 8 == 0 || (CHUNKS == 4 && !SPREAD), "lines of 64 bytes or whole 128");
  static_assert(STEP % (SPREAD ? 4 : 8) == 0, "the lines that a thread copies have the same twist");

  __device__ __forceinline__ static int offset() { return (int)threadIdx.x % CHUNKS * VECTOR; }
  __device__ __forceinline__ static int line(int i) { return (int)threadIdx.x / CHUNKS + i * STEP; }
  __device__ __forceinline__ static bool copies(int i) { return LINES % STEP == 0 || line(i) < LINES; }

  // Of lines 8 apart (SPREAD: 4) the places lie as far apart as the lines: what is constant stands outside of place().
  __device__ __forceinline__ static int place(int line, int chunk) {
    // SPREAD: the 8 lanes that read at a time take 2 chunks of each of 4 lines.
    const int twist = SPREAD ? line % 4 * 2 : CHUNKS == 4 ? line / 2 % 4 : line % 8;
    return (line * CHUNKS + (chunk ^ twist)) * VECTOR;
  }

  // Start the copy of this thread's i-th chunk where `wanted`; zeros where not `valid`.
  __device__ __forceinline__ static void copy(SPEC_T* tile, int i, const SPEC_T* source, bool valid, bool wanted) {
    cp_async_16_if(wanted, tile + place(line(0), offset() / VECTOR) + i * STEP * LENGTH, source, valid);
  }

  // RUN neighbours in one line of a tile that is SPREAD, of the 8 * RUN that begin with `first`.
  template <int RUN>
  __device__ __forceinline__ static void load_run(unsigned (&run)[RUN], const SPEC_T* tile, int first, int depth) {
    const int within = lane() / 4 * RUN, start = place(lane() % 4, first / VECTOR + within / VECTOR);
    const Pack<SPEC_T, RUN> pack = load_pack<RUN>(tile + depth * LENGTH + start + within % VECTOR);
#pragma unroll
    for (int v = 0; v < RUN; ++v) run[v] = bits_of(pack.values[v]);
  }

  // The rows of a warp that begin with `first`, one slice of the depth.
  __device__ __forceinline__ static void load_left(unsigned (&left)[BANDS][4], const SPEC_T* tile, int first,
                                                   int slice) {
    const int l = lane();
#pragma unroll
    for (int i = 0; i < BANDS; ++i) {
      if (ALONG_DEPTH) {
        ldmatrix_x4(left[i], tile + 16 * i * LENGTH + place(first + l % 16, 2 * slice + l / 16));
      } else if (!WIDE) {
        const int chunk = (first + 16 * i) / VECTOR + l / 8 % 2;
        ldmatrix_x4_trans(left[i], tile + slice * SLICE * LENGTH + place(l / 16 * 8 + l % 8, chunk));
      } else if (i % (ROW_RUN / 2) == 0) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned rows[ROW_RUN];
          load_run<ROW_RUN>(rows, tile, first + 16 * i, slice * SLICE + 4 * half);
#pragma unroll
          for (int v = 0; v < ROW_RUN; ++v) left[i + v / 2][2 * half + v % 2] = rows[v];
        }
      }
    }
  }
  // Where sums[i][.][2 * half + .] of this thread stand, counted from the warp's first row.
  __device__ __forceinline__ static int row(int i, int half) {
    const int g = lane() / 4, bands = ROW_RUN / 2;
    return SPREAD ? i / bands * 16 * bands + ROW_RUN * g + i % bands * 2 + half : 16 * i + 8 * half + g;
  }

  // The columns of a warp that begin with `first`, one slice of the depth.
  __device__ __forceinline__ static void load_right(unsigned (&right)[STRIPS][2], const SPEC_T* tile, int first,
                                                    int slice) {
    const int l = lane();
#pragma unroll
    for (int j = 0; j < STRIPS; j += SPREAD ? COLUMN_RUN : 2) {
      if (!SPREAD) {
        unsigned two[4];
        if (ALONG_DEPTH) {
          const int line = first + l / 16 * 8 + l % 8;
          ldmatrix_x4(two, tile + 8 * j * LENGTH + place(line, 2 * slice + l / 8 % 2));
        } else {
          const int chunk = (first + 8 * j) / VECTOR + l / 16;
          ldmatrix_x4_trans(two, tile + slice * SLICE * LENGTH + place(l % 16, chunk));
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) right[j + e / 2][e % 2] = two[e];
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned columns[COLUMN_RUN];
          load_run<COLUMN_RUN>(columns, tile, first + 8 * j, slice * SLICE + 4 * half);
#pragma unroll
          for (int v = 0; v < COLUMN_RUN; ++v) right[j + v][half] = columns[v];
        }
      }
    }
  }
  // Where sums[.][j][e] of this thread stand, counted from the warp's first column; also sums[.][j][2 + e].
  __device__ __forceinline__ static int column(int j, int e) {
    const int run = SPREAD ? COLUMN_RUN : 1, place_of_sum = 2 * (lane() % 4) + e;
    return j / run * 8 * run + place_of_sum * run + j % run;
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
  bits = to_tf32(__uint_as_float(all));
  // The largest floats round to infinity: cut them off instead.
  if (GUARDED && (bits & 0x7fffffffu) == 0x7f800000u) bits = all & 0xffffe000u;
  return __float_as_uint(__uint_as_float(all) - __uint_as_float(bits));
}

// Where an operand is not finite its low part is NaN, and where one is rounded to infinity its low part is infinite
// with the other sign: the sum becomes NaN. GUARDED takes big * big alone where that is not finite, as if the low parts
// were zero; else all operands of the sum are finite.
template <bool GUARDED>
__device__ __forceinline__ void multiply_split(Fragments& fragments, Sums& sums) {
  unsigned left_low[BANDS][4], right_low[STRIPS][2];
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) left_low[i][e] = split<GUARDED>(fragments.left[i][e]);
#pragma unroll
  for (int j = 0; j < STRIPS; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) right_low[j][e] = split<GUARDED>(fragments.right[j][e]);

#pragma unroll
  for (int i = 0; i < BANDS; ++i) {
    float parts[STRIPS][4] = {};
    // One kind of product after another, so that neighbouring instructions do not wait for each other.
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left_low[i], fragments.right[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], fragments.left[i], right_low[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(parts[j], fragments.left[i], fragments.right[j], SPEC_T());
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) {
      float big[4] = {};
      if (GUARDED) mma(big, fragments.left[i], fragments.right[j], SPEC_T());
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] += GUARDED && !is_finite(big[e]) ? big[e] : parts[j][e];
    }
  }
}

__device__ __forceinline__ void multiply_whole(Fragments& fragments, Sums& sums) {
  if (WIDE) {
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
      for (int e = 0; e < 4; ++e) fragments.left[i][e] = to_tf32(__uint_as_float(fragments.left[i][e]));
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) fragments.right[j][e] = to_tf32(__uint_as_float(fragments.right[j][e]));
  }
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j) mma(sums[i][j], fragments.left[i], fragments.right[j], SPEC_T());
}

template <class Operands>
__device__ __forceinline__ void load_slice(Fragments& fragments, const SPEC_T* tiles, int slice) {
  Operands::Left::load_left(fragments.left, tiles, warp_row(), slice);
  Operands::Right::load_right(fragments.right, tiles + Operands::Left::ELEMENTS, warp_column(), slice);
}

template <bool GUARDED>
__device__ __forceinline__ void multiply_slice(Fragments& fragments, Sums& sums) {
  if (SPLIT) {
    multiply_split<GUARDED>(fragments, sums);
  } else {
    multiply_whole(fragments, sums);
  }
}

template <bool GUARDED, class Operands>
__device__ __forceinline__ void add_up(const Operands& operands, int steps, SPEC_T* tiles, Sums& sums) {
  constexpr int LEFT = Operands::Left::ELEMENTS, STAGE = LEFT + Operands::Right::ELEMENTS;
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;
  if (steps == 0) return;

  auto place = operands.first();
#pragma unroll
  for (int stage = 0; stage < STAGES; ++stage) {
    operands.copy(place, tiles + stage * STAGE, tiles + stage * STAGE + LEFT, stage < steps);
    operands.advance(place);
    cp_async_commit();
  }
  Fragments fragments[2];
  SPEC_T* stage = tiles;
  cp_async_wait<STAGES - 1>();
  __syncthreads();
  if (!GUARDED) load_slice<Operands>(fragments[0], stage, 0);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    if (GUARDED) {  // rare, so it takes few registers
#pragma unroll 1
      for (int slice = 0; slice < SLICES; ++slice) {
        load_slice<Operands>(fragments[0], stage, slice);
        multiply_slice<GUARDED>(fragments[0], sums);
      }
    } else {
#pragma unroll
      for (int slice = 0; slice < SLICES - 1; ++slice) {
        load_slice<Operands>(fragments[(slice + 1) % 2], stage, slice + 1);
        multiply_slice<GUARDED>(fragments[slice % 2], sums);
      }
    }
    // While the last slice is multiplied the next tile's first is loaded, and its own tile is written anew.
    cp_async_wait<STAGES - 2>();
    __syncthreads();  // the next tile has come, and nobody reads this one any more
    operands.copy(place, stage, stage + LEFT, step + STAGES < steps);
    operands.advance(place);
    cp_async_commit();
    SPEC_T* const next = stage == tiles + (STAGES - 1) * STAGE ? tiles : stage + STAGE;
    stage = step + 1 < steps ? next : stage;
    if (!GUARDED) {
      load_slice<Operands>(fragments[0], stage, 0);
      multiply_slice<GUARDED>(fragments[(SLICES - 1) % 2], sums);
    }
  }
}

// The whole product. Operands has the types `Left` and `Right`, which are OperandTiles, and
//     first()                           this thread's place in both operands when it copies their first tiles
//     copy(place, left, right, wanted)  starts the copies of all its chunks of both tiles there, where `wanted`
//     advance(place)                    on to the next tiles, perhaps beyond the last
// All threads of the block call together; `tiles` is the dynamic shared memory.
template <class Operands>
__device__ __forceinline__ void multiply(const Operands& operands, int steps, SPEC_T* tiles, Sums& sums) {
  add_up<false>(operands, steps, tiles, sums);
  if (!SPLIT) return;
  bool spoiled = false;
#pragma unroll
  for (int i = 0; i < BANDS; ++i)
#pragma unroll
    for (int j = 0; j < STRIPS; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) spoiled = spoiled || is_nan(sums[i][j][e]);
  // Once more with care, where an operand that is not finite may have spoiled sums; the others get the same bits.
  if (__syncthreads_or(spoiled)) add_up<true>(operands, steps, tiles, sums);
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
template <int WIDTH, class Operands, class Use>
__device__ __forceinline__ void for_each_pack(const Sums& sums, Use use) {
  static_assert(WIDTH == 4 || WIDTH == 8, "packs of 4 sums from 2 strips, or of 8 from 4");
  const int t = lane() % 4;
#pragma unroll
  for (int i = 0; i < BANDS; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row() + Operands::Left::row(i, half);
#pragma unroll
      for (int j = 0; j < STRIPS; j += WIDTH / 2) {
        float values[WIDTH], four[4];
        if (Operands::Right::SPREAD && COLUMN_RUN == 4) {
          // Four strips hold 8 neighbours: of width 4 the first or the last of them.
          const int strips = j / 4 * 4, begin = j % 4 * 2;
#pragma unroll
          for (int v = 0; v < WIDTH; ++v) values[v] = sums[i][strips + v % 4][2 * half + (begin + v) / 4];
          use(row, warp_column() + 8 * (strips + t) + begin, values);
          continue;
        }
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
