// pool2d.cu -- 2-D maximum, minimum and average pooling, forward and backward.
//
// Computes  y[n,p,q,c] = max, min or average over r, s of x[n, p*stride - pad + r*dilation, q*stride - pad + s*dilation, c]
//           argmax[n,p,q,c] = r*S + s of the chosen pixel (max and min)
//           dx[n,h,w,c] = sum of dy[n,p,q,c] over the windows that chose the pixel (max, min),
//                         or of dy[n,p,q,c] / divisor[p,q] over the windows that cover it (average)
//           Pixels outside the image are never chosen and add nothing. A window wholly outside it gives -inf (max) or +inf
//           (min), and argmax 0, which is no pixel. Average divides by the window clipped to the padded image
//           (count_include_pad), else by its pixels inside the image.
// Layout    x, dx (N, H, W, C); y, dy, argmax (N, P, Q, C); C-contiguous; TUNE_WIDTH > 1: every array 16-byte aligned
// Compiled  SPEC_*: Pool2dSpec, SPEC_KIND 0 max, 1 min, 2 average; TUNE_WIDTH: channels of a thread, 1 or 16 bytes' worth;
//           TUNE_ROWS, TUNE_COLUMNS: pixels of dx of a thread, divisors of the strides;
//           TUNE_CHANNELS, TUNE_LANES: the block of *_block_reduce, powers of two; run-time: N (of *_block_reduce only in the grid)
// Launch    forward_direct: grid ceil(outputs / (WIDTH * 256)), block 256; a thread owns WIDTH channels of a pixel of y;
//           backward_input_direct: the same over N * DOWN * ACROSS cells of ROWS x COLUMNS pixels, of which a thread owns WIDTH
//           channels. Cells begin where the padded image's row is a multiple of ROWS, and columns alike, so that all pixels of a
//           cell are covered by the same windows, or by fewer of them; a cell of stride x stride belongs to one window alone
//           where windows do not overlap.
//           Up to 64 registers, else NVRTC 13 spills in unrolled windows to save a few
//           *_block_reduce: grid N*P*Q*ceil(C/CHANNELS), block (CHANNELS, LANES); a block owns CHANNELS channels of a y pixel,
//           lane l of a channel takes pixels l, l + LANES, … of the window
// Assumes   one image of x or y has less than 2^31 elements; WIDTH divides C; CHANNELS and LANES are powers of two
// Writes    every element once. Ties go to the first pixel in row-major order, as does NaN, which beats every number.
//           Sums: the window's pixels, or the covering windows, in row-major order; *_block_reduce: each lane in row-major
//           order, then a tree over lanes whose upper half is added to the lower
// Cost      forward N*P*Q*C*R*S comparisons or additions; x read once (overlaps from cache), y and argmax written; backward
//           the reverse, a window read once for each cell that it may cover: memory-bound
// Tested    tests/operations/test_pool2d.py
// Source    the definition; argmax as a window offset instead of PyTorch's 64-bit position in the image saves 7 bytes a pixel
#include "common.cuh"
#include "mathematics.cuh"
#include "pack.cuh"

constexpr int MAXIMUM = 0, MINIMUM = 1, AVERAGE = 2, KIND = SPEC_KIND;
constexpr int H = SPEC_H, W = SPEC_W, C = SPEC_C, R = SPEC_R, S = SPEC_S, P = SPEC_P, Q = SPEC_Q;
constexpr int STRIDE_H = SPEC_STRIDE_H, STRIDE_W = SPEC_STRIDE_W, DILATION_H = SPEC_DILATION_H, DILATION_W = SPEC_DILATION_W;
constexpr int PAD_TOP = SPEC_PAD_TOP, PAD_BOTTOM = SPEC_PAD_BOTTOM, PAD_LEFT = SPEC_PAD_LEFT, PAD_RIGHT = SPEC_PAD_RIGHT;
constexpr bool COUNT_INCLUDE_PAD = SPEC_COUNT_INCLUDE_PAD;

constexpr int SPAN_H = DILATION_H * (R - 1), SPAN_W = DILATION_W * (S - 1);  // from a window's first pixel to its last
constexpr bool INSIDE = PAD_TOP == 0 && PAD_LEFT == 0 && (P - 1) * STRIDE_H + SPAN_H < H && (Q - 1) * STRIDE_W + SPAN_W < W;
constexpr int IMAGE_X = H * W * C, IMAGE_Y = P * Q * C;

static_assert(KIND == MAXIMUM || KIND == MINIMUM || KIND == AVERAGE, "unknown pooling");
static_assert((long long)H * W * C < 1LL << 31 && (long long)P * Q * C < 1LL << 31, "int indices within an image");
static_assert((long long)(P - 1) * STRIDE_H + (long long)DILATION_H * (R - 1) < 1LL << 31, "int rows");
static_assert((long long)(Q - 1) * STRIDE_W + (long long)DILATION_W * (S - 1) < 1LL << 31, "int columns");
static_assert(KIND != AVERAGE || (DILATION_H == 1 && DILATION_W == 1), "an average's window is dense");
static_assert(sizeof(SPEC_ARGMAX_T) > 1 || R * S <= 256, "argmax holds R*S - 1");

__device__ __forceinline__ bool in_image(int h, int w) { return INSIDE || (h >= 0 && h < H && w >= 0 && w < W); }

__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int most(int a, int b) { return a > b ? a : b; }

// The value that every pixel beats or ties.
__device__ __forceinline__ SPEC_ACC worst() {
  const SPEC_ACC lowest = minus_infinity(SPEC_ACC(0));
  return KIND == MAXIMUM ? lowest : -lowest;
}

// Whether a pixel displaces one that comes before it in the window: ties do not, and nothing displaces NaN.
__device__ __forceinline__ bool displaces(SPEC_ACC value, SPEC_ACC chosen) {
  return !is_nan(chosen) && !(KIND == MAXIMUM ? value <= chosen : value >= chosen);
}

// The window offset of the first pixel inside the image; 0 when there is none.
__device__ __forceinline__ int first_offset(int h0, int w0) {
  if (INSIDE) return 0;
  const int r = h0 < 0 ? ceil_div(-h0, DILATION_H) : 0, s = w0 < 0 ? ceil_div(-w0, DILATION_W) : 0;
  const bool covered = r < R && s < S && h0 + r * DILATION_H < H && w0 + s * DILATION_W < W;
  return covered ? r * S + s : 0;
}

// What an average divides by: pixels of the window inside the padded image, or inside the image.
__device__ __forceinline__ SPEC_ACC divisor(int h0, int w0) {
  if (INSIDE) return SPEC_ACC(R * S);
  if (COUNT_INCLUDE_PAD) return SPEC_ACC((least(h0 + R, H + PAD_BOTTOM) - h0) * (least(w0 + S, W + PAD_RIGHT) - w0));
  return SPEC_ACC((least(h0 + R, H) - most(h0, 0)) * (least(w0 + S, W) - most(w0, 0)));
}

#ifdef TUNE_WIDTH
constexpr int WIDTH = TUNE_WIDTH, GROUPS = C / WIDTH;
static_assert(C % WIDTH == 0, "a thread's channels end with the pixel");

using Values = Pack<SPEC_T, WIDTH>;
using Offsets = Pack<SPEC_ARGMAX_T, WIDTH>;

// The pixel and first channel of a thread in images of `ROWS` x `COLUMNS` pixels. `element` is their offset in the array, kept
// as a multiple of WIDTH: from the sum of image, pixel and channel NVRTC 13 fails to see the alignment and splits the stores.
template <int ROWS, int COLUMNS>
struct Place {
  long long image, element;
  int row, column, channel;

  __device__ __forceinline__ Place() {
    constexpr long long THREADS = (long long)ROWS * COLUMNS * GROUPS;
    const long long thread = global_thread();
    image = thread / THREADS;
    element = thread * WIDTH;
    const int rest = (int)(thread - image * THREADS), pixel = rest / GROUPS;
    row = pixel / COLUMNS;
    column = pixel % COLUMNS;
    channel = rest % GROUPS * WIDTH;
  }
};

#if SPEC_KIND == 2
GPUCNN_KERNEL __launch_bounds__(256, 4) pool2d_forward_direct_average(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, int N) {
  const Place<P, Q> at;
  if (at.image >= N) return;
  const int h0 = at.row * STRIDE_H - PAD_TOP, w0 = at.column * STRIDE_W - PAD_LEFT;
  const SPEC_T* const image = x + at.image * IMAGE_X + at.channel;
  SPEC_ACC sums[WIDTH] = {};
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) {
      const int h = h0 + r, w = w0 + s;
      if (!in_image(h, w)) continue;
      const Values pixel = load_pack<WIDTH>(image + (h * W + w) * C);
      for (int v = 0; v < WIDTH; ++v) sums[v] += to_acc(pixel.values[v]);
    }
  const SPEC_ACC count = divisor(h0, w0);
  Values averages;
  for (int v = 0; v < WIDTH; ++v) averages.values[v] = from_acc<SPEC_T>(sums[v] / count);
  store_pack<WIDTH>(y + at.element, averages);
}
#else
GPUCNN_KERNEL __launch_bounds__(256, 4)
    pool2d_forward_direct(SPEC_T* __restrict__ y, SPEC_ARGMAX_T* __restrict__ argmax, const SPEC_T* __restrict__ x, int N) {
  const Place<P, Q> at;
  if (at.image >= N) return;
  const int h0 = at.row * STRIDE_H - PAD_TOP, w0 = at.column * STRIDE_W - PAD_LEFT;
  const SPEC_T* const image = x + at.image * IMAGE_X + at.channel;
  SPEC_ACC chosen[WIDTH];
  int offsets[WIDTH];
  for (int v = 0; v < WIDTH; ++v) {
    chosen[v] = worst();
    offsets[v] = first_offset(h0, w0);
  }
  for (int r = 0; r < R; ++r)
    for (int s = 0; s < S; ++s) {
      const int h = h0 + r * DILATION_H, w = w0 + s * DILATION_W;
      if (!in_image(h, w)) continue;
      const Values pixel = load_pack<WIDTH>(image + (h * W + w) * C);
      for (int v = 0; v < WIDTH; ++v) {
        const SPEC_ACC value = to_acc(pixel.values[v]);
        if (displaces(value, chosen[v])) {
          chosen[v] = value;
          offsets[v] = r * S + s;
        }
      }
    }
  Values values;
  Offsets kept;
  for (int v = 0; v < WIDTH; ++v) {
    values.values[v] = from_acc<SPEC_T>(chosen[v]);
    kept.values[v] = (SPEC_ARGMAX_T)offsets[v];
  }
  store_pack<WIDTH>(y + at.element, values);
  store_pack<WIDTH>(argmax + at.element, kept);
}
#endif

#ifdef TUNE_ROWS
constexpr int ROWS = TUNE_ROWS, COLUMNS = TUNE_COLUMNS;
constexpr int SKIPPED_H = PAD_TOP % ROWS, SKIPPED_W = PAD_LEFT % COLUMNS;  // pixels of the first cell before the image
constexpr int DOWN = ceil_div(H + SKIPPED_H, ROWS), ACROSS = ceil_div(W + SKIPPED_W, COLUMNS);
constexpr bool WHOLE = SKIPPED_H == 0 && SKIPPED_W == 0 && H % ROWS == 0 && W % COLUMNS == 0;
// How many windows can cover a pixel, along each axis.
constexpr int COVERING_H = SPAN_H / STRIDE_H + 1, COVERING_W = SPAN_W / STRIDE_W + 1;
static_assert(STRIDE_H % ROWS == 0 && STRIDE_W % COLUMNS == 0, "a cell lies within one step of the windows");

// A thread's cell and the last window that may cover it. Distances are measured from the corner of the padded image.
struct Cell {
  long long image;
  int top, left, channel;  // of its first pixel, perhaps before the image
  int p, q;
  int down, right;  // from that window's first pixel to the cell's

  __device__ __forceinline__ Cell() {
    const Place<DOWN, ACROSS> at;
    image = at.image;
    channel = at.channel;
    top = at.row * ROWS - SKIPPED_H;
    left = at.column * COLUMNS - SKIPPED_W;
    p = (top + PAD_TOP) / STRIDE_H;
    q = (left + PAD_LEFT) / STRIDE_W;
    down = ROWS == STRIDE_H ? 0 : (top + PAD_TOP) % STRIDE_H;
    right = COLUMNS == STRIDE_W ? 0 : (left + PAD_LEFT) % STRIDE_W;
  }

  __device__ __forceinline__ void write(SPEC_T* dx, const SPEC_ACC (&sums)[ROWS][COLUMNS][WIDTH]) const {
    const long long first = image * IMAGE_X + (top * W + left) * C + channel;
#pragma unroll
    for (int row = 0; row < ROWS; ++row)
#pragma unroll
      for (int column = 0; column < COLUMNS; ++column) {
        const int h = top + row, w = left + column;
        if (!WHOLE && (h < 0 || h >= H || w < 0 || w >= W)) continue;
        Values gradients;
        for (int v = 0; v < WIDTH; ++v) gradients.values[v] = from_acc<SPEC_T>(sums[row][column][v]);
        store_pack<WIDTH>(dx + (first + (row * W + column) * C), gradients);
      }
  }
};

// Gather: every cell asks the windows that may cover it, so no window writes to a pixel and no order of blocks matters.
#if SPEC_KIND == 2
GPUCNN_KERNEL __launch_bounds__(256, 4)
    pool2d_backward_input_direct_average(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, int N) {
  const Cell cell;
  if (cell.image >= N) return;
  const SPEC_T* const image = dy + cell.image * IMAGE_Y + cell.channel;
  SPEC_ACC sums[ROWS][COLUMNS][WIDTH] = {};
  for (int i = COVERING_H - 1; i >= 0; --i)
    for (int j = COVERING_W - 1; j >= 0; --j) {
      const int p = cell.p - i, q = cell.q - j, down = cell.down + i * STRIDE_H, right = cell.right + j * STRIDE_W;
      if (p < 0 || p >= P || q < 0 || q >= Q || down > SPAN_H || right > SPAN_W) continue;
      const SPEC_ACC count = divisor(p * STRIDE_H - PAD_TOP, q * STRIDE_W - PAD_LEFT);
      const Values gradient = load_pack<WIDTH>(image + (p * Q + q) * C);
      SPEC_ACC shares[WIDTH];
      for (int v = 0; v < WIDTH; ++v) shares[v] = to_acc(gradient.values[v]) / count;
#pragma unroll
      for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
          if (down + row > SPAN_H || right + column > SPAN_W) continue;
          for (int v = 0; v < WIDTH; ++v) sums[row][column][v] += shares[v];
        }
    }
  cell.write(dx, sums);
}
#else
GPUCNN_KERNEL __launch_bounds__(256, 4)
    pool2d_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_ARGMAX_T* __restrict__ argmax, int N) {
  const Cell cell;
  if (cell.image >= N) return;
  const long long image = cell.image * IMAGE_Y + cell.channel;
  SPEC_ACC sums[ROWS][COLUMNS][WIDTH] = {};
  for (int i = COVERING_H - 1; i >= 0; --i)
    for (int j = COVERING_W - 1; j >= 0; --j) {
      const int p = cell.p - i, q = cell.q - j, down = cell.down + i * STRIDE_H, right = cell.right + j * STRIDE_W;
      if (p < 0 || p >= P || q < 0 || q >= Q || down > SPAN_H || right > SPAN_W) continue;
      const Offsets kept = load_pack<WIDTH>(argmax + image + (p * Q + q) * C);
      const Values gradient = load_pack<WIDTH>(dy + image + (p * Q + q) * C);
#pragma unroll
      for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
          const int r = down + row, s = right + column;
          if (r > SPAN_H || s > SPAN_W) continue;
          if (r % DILATION_H != 0 || s % DILATION_W != 0) continue;  // between the pixels of a dilated window
          const int offset = r / DILATION_H * S + s / DILATION_W;
          for (int v = 0; v < WIDTH; ++v)
            if ((int)kept.values[v] == offset) sums[row][column][v] += to_acc(gradient.values[v]);
        }
    }
  cell.write(dx, sums);
}
#endif
#endif  // TUNE_ROWS
#endif  // TUNE_WIDTH

#ifdef TUNE_LANES
constexpr int CHANNELS = TUNE_CHANNELS, LANES = TUNE_LANES, CHANNEL_BLOCKS = ceil_div(C, CHANNELS);
static_assert(CHANNELS * LANES <= 1024 && (LANES & (LANES - 1)) == 0, "the tree halves the lanes");

// The output pixel and the channel of a thread in *_block_reduce.
struct WindowPlace {
  long long image;
  int p, q, channel;

  __device__ __forceinline__ WindowPlace() {
    constexpr int BLOCKS = P * Q * CHANNEL_BLOCKS;
    image = blockIdx.x / BLOCKS;
    const int rest = blockIdx.x % BLOCKS, pixel = rest / CHANNEL_BLOCKS;
    p = pixel / Q;
    q = pixel % Q;
    channel = rest % CHANNEL_BLOCKS * CHANNELS + threadIdx.x;
  }
};

#if SPEC_KIND == 2
GPUCNN_KERNEL __launch_bounds__(CHANNELS * LANES)
    pool2d_forward_block_reduce_average(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x) {
  __shared__ SPEC_ACC sums[LANES][CHANNELS];
  const WindowPlace at;
  const int h0 = at.p * STRIDE_H - PAD_TOP, w0 = at.q * STRIDE_W - PAD_LEFT, lane = threadIdx.y;
  const bool real = at.channel < C;
  SPEC_ACC sum = 0;
  for (int offset = lane; offset < R * S; offset += LANES) {
    const int h = h0 + offset / S, w = w0 + offset % S;
    if (real && in_image(h, w)) sum += to_acc(x[at.image * IMAGE_X + (h * W + w) * C + at.channel]);
  }
  sums[lane][threadIdx.x] = sum;
  __syncthreads();
  for (int half = LANES / 2; half > 0; half /= 2) {
    if (lane < half) sums[lane][threadIdx.x] += sums[lane + half][threadIdx.x];
    __syncthreads();
  }
  if (real && lane == 0)
    y[at.image * IMAGE_Y + (at.p * Q + at.q) * C + at.channel] = from_acc<SPEC_T>(sums[0][threadIdx.x] / divisor(h0, w0));
}
#else
// Whether the second of two candidates, met in any order, is the window's choice: displaces() with the row-major order put
// into numbers, hence associative and commutative.
__device__ __forceinline__ bool wins(SPEC_ACC value, int offset, SPEC_ACC rival, int rival_offset) {
  if (is_nan(value) || is_nan(rival)) return is_nan(value) && (!is_nan(rival) || offset < rival_offset);
  return value == rival ? offset < rival_offset : displaces(value, rival);
}

GPUCNN_KERNEL __launch_bounds__(CHANNELS * LANES)
    pool2d_forward_block_reduce(SPEC_T* __restrict__ y, SPEC_ARGMAX_T* __restrict__ argmax, const SPEC_T* __restrict__ x) {
  __shared__ SPEC_ACC values[LANES][CHANNELS];
  __shared__ int offsets[LANES][CHANNELS];
  const WindowPlace at;
  const int h0 = at.p * STRIDE_H - PAD_TOP, w0 = at.q * STRIDE_W - PAD_LEFT, lane = threadIdx.y, column = threadIdx.x;
  const bool real = at.channel < C;
  SPEC_ACC chosen = worst();
  int chosen_offset = R * S;  // after every pixel, so that a lane without pixels never wins a tie
  for (int offset = lane; offset < R * S; offset += LANES) {
    const int h = h0 + offset / S * DILATION_H, w = w0 + offset % S * DILATION_W;
    if (!real || !in_image(h, w)) continue;
    const SPEC_ACC value = to_acc(x[at.image * IMAGE_X + (h * W + w) * C + at.channel]);
    if (wins(value, offset, chosen, chosen_offset)) {
      chosen = value;
      chosen_offset = offset;
    }
  }
  values[lane][column] = chosen;
  offsets[lane][column] = chosen_offset;
  __syncthreads();
  for (int half = LANES / 2; half > 0; half /= 2) {
    if (lane < half && wins(values[lane + half][column], offsets[lane + half][column], values[lane][column], offsets[lane][column])) {
      values[lane][column] = values[lane + half][column];
      offsets[lane][column] = offsets[lane + half][column];
    }
    __syncthreads();
  }
  if (real && lane == 0) {
    const long long target = at.image * IMAGE_Y + (at.p * Q + at.q) * C + at.channel;
    y[target] = from_acc<SPEC_T>(values[0][column]);
    argmax[target] = (SPEC_ARGMAX_T)(offsets[0][column] < R * S ? offsets[0][column] : 0);
  }
}
#endif
#endif  // TUNE_LANES
