// pad2d.cu -- padding of images with a value, or by mirroring, repeating or wrapping them.
//
// Computes  y[n,i,j,c] = x[n, source(i - top, H), source(j - left, W), c], where source(h, H) for h outside 0..H-1 is
//           constant   none: y = value          reflect    mirrored without the edge: -h, or 2(H-1) - h
//           replicate  the edge: 0 or H-1       circular   wrapped: h + H, or h - H
//           dx[n,h,w,c] = sum of dy over the pixels that copy (h, w)
// Layout    x, dx (N, H, W, C); y, dy (N, H + top + bottom, W + left + right, C); C-contiguous
// Compiled  SPEC_*: Pad2dSpec, SPEC_MODE 0 constant, 1 reflect, 2 replicate, 3 circular; run-time: N, value
// Launch    grid ceil(outputs / 256), block 256; a thread owns one element of y (of dx)
// Assumes   one padded image has less than 2^31 elements; reflect pads by less than the image's size, circular by at most that
// Writes    every element once; a sum adds the copies in row-major order
// Cost      x read and y written once: memory-bound
// Tested    tests/operations/test_pad2d.py
// Source    the definition of the modes; PyTorch's torch.nn.functional.pad has the same four
#include "common.cuh"

constexpr int CONSTANT = 0, REFLECT = 1, REPLICATE = 2, CIRCULAR = 3, MODE = SPEC_MODE;
constexpr int H = SPEC_H, W = SPEC_W, C = SPEC_C;
constexpr int TOP = SPEC_PAD_TOP, BOTTOM = SPEC_PAD_BOTTOM, LEFT = SPEC_PAD_LEFT, RIGHT = SPEC_PAD_RIGHT;
constexpr int ROWS = TOP + H + BOTTOM, COLUMNS = LEFT + W + RIGHT;
constexpr int IMAGE_X = H * W * C, IMAGE_Y = ROWS * COLUMNS * C;

static_assert(MODE >= CONSTANT && MODE <= CIRCULAR, "unknown mode");
static_assert(((long long)TOP + H + BOTTOM) * ((long long)LEFT + W + RIGHT) * C < 1LL << 31, "int indices within an image");
static_assert(MODE != REFLECT || (TOP < H && BOTTOM < H && LEFT < W && RIGHT < W), "one reflection reaches every pixel");
static_assert(MODE != CIRCULAR || (TOP <= H && BOTTOM <= H && LEFT <= W && RIGHT <= W), "one turn reaches every pixel");

// The pixel that a padded axis shows at `place`, counted from the image's first; outside the image only with CONSTANT.
__device__ __forceinline__ int source(int place, int size) {
  if (MODE == REFLECT) return place < 0 ? -place : place >= size ? 2 * (size - 1) - place : place;
  if (MODE == REPLICATE) return place < 0 ? 0 : place >= size ? size - 1 : place;
  if (MODE == CIRCULAR) return place < 0 ? place + size : place >= size ? place - size : place;
  return place;
}

GPUCNN_KERNEL __launch_bounds__(256)
    pad2d_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, SPEC_ACC value, int N) {
  const long long thread = global_thread(), image = thread / IMAGE_Y;
  if (image >= N) return;
  const int rest = (int)(thread - image * IMAGE_Y), c = rest % C, pixel = rest / C;
  const int h = source(pixel / COLUMNS - TOP, H), w = source(pixel % COLUMNS - LEFT, W);
  const bool real = h >= 0 && h < H && w >= 0 && w < W;
  y[thread] = real ? x[image * IMAGE_X + (h * W + w) * C + c] : from_acc<SPEC_T>(value);
}

// The places of a padded axis that show one pixel, ascending: three ranges, of which the outer two may be empty.
struct Copies {
  int first[3], last[3];

  __device__ __forceinline__ Copies(int pixel, int before, int size, int after) {
    for (int side = 0; side < 3; ++side) {
      first[side] = 0;
      last[side] = -1;
    }
    first[1] = last[1] = before + pixel;
    if (MODE == REFLECT) {
      if (pixel > 0 && pixel <= before) first[0] = last[0] = before - pixel;
      if (pixel < size - 1 && size - 1 - pixel <= after) first[2] = last[2] = before + 2 * (size - 1) - pixel;
    }
    if (MODE == REPLICATE) {
      if (pixel == 0) last[0] = before - 1;
      if (pixel == size - 1) {
        first[2] = before + size;
        last[2] = before + size + after - 1;
      }
    }
    if (MODE == CIRCULAR) {
      if (pixel >= size - before) first[0] = last[0] = before + pixel - size;
      if (pixel < after) first[2] = last[2] = before + pixel + size;
    }
  }
};

GPUCNN_KERNEL __launch_bounds__(256) pad2d_backward_input_direct(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, int N) {
  const long long thread = global_thread(), image = thread / IMAGE_X;
  if (image >= N) return;
  const int rest = (int)(thread - image * IMAGE_X), c = rest % C, pixel = rest / C;
  const Copies rows(pixel / W, TOP, H, BOTTOM), columns(pixel % W, LEFT, W, RIGHT);
  SPEC_ACC sum = 0;
#pragma unroll
  for (int a = 0; a < 3; ++a)
    for (int i = rows.first[a]; i <= rows.last[a]; ++i)
#pragma unroll
      for (int b = 0; b < 3; ++b)
        for (int j = columns.first[b]; j <= columns.last[b]; ++j) sum += to_acc(dy[image * IMAGE_Y + (i * COLUMNS + j) * C + c]);
  dx[thread] = from_acc<SPEC_T>(sum);
}
