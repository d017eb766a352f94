// augment.cu -- training images moved, mirrored, cut out, partly erased or turned, each by random numbers of its own.
//
// Computes  y[n, i, j, c] from image n and its words w0 .. w7, which are Philox4x32-10 of key (state[0], state[1]) and counters
//           (2n + 0 and 1 as 64 bits, stream, state[2]); draw(w, m) = floor(w * m / 2^32), one of 0 .. m - 1
//           window  x[n, top + i', left + j', c], or value outside the image; top = ROW + draw(w0, ROWS), left = COLUMN +
//                   draw(w1, COLUMNS); i' = P-1-i if FLIP_ROWS and w2 >= 2^31, else i; j' = Q-1-j if FLIP_COLUMNS and
//                   w3 >= 2^31, else j
//           erase   value in a rectangle if w0 < threshold, else x; its height ROW + draw(w1, ROWS), its width COLUMN +
//                   draw(w2, COLUMNS), its corner (draw(w3, H - height + 1), draw(w4, W - width + 1))
//           rotate  x at the place that a counter-clockwise turn by draw(w0, 2 turn + 1) - turn units of 2^-30 turns about the
//                   centre brings to (i, j), bilinear between pixels, with value for those outside; see below
// Layout    x (N, H, W, C), y (N, P, Q, C), C-contiguous; state: unsigned [seed low, seed high, step]
// Compiled  SPEC_*: AugmentSpec, SPEC_KIND 0 window, 1 erase, 2 rotate;  TUNE_BLOCK: threads a block, TUNE_PER_THREAD: elements
//           a thread;  run time: N, stream, threshold, turn (2^-30 turns), value
// Launch    grid N * ceil(P*Q*C / (TUNE_BLOCK * TUNE_PER_THREAD)), block TUNE_BLOCK; a block works on one image, whose
//           numbers its first thread draws
// Assumes   one image of x and of y has less than 2^31 elements; erase and rotate keep the size; rectangles fit the image;
//           turn <= 2^30
// Writes    every element of y once; window and erase copy, whatever the values are. A turn is integer arithmetic up to its
//           weights, whose products and sums round one by one: the same bits on every machine.
// Cost      x read (rotate: up to four times, from the cache) and y written once: memory-bound
// Tested    tests/operations/test_augment.py
// Source    the definitions above
#include "random.cuh"

constexpr int WINDOW = 0, ERASE = 1, ROTATE = 2, KIND = SPEC_KIND;
constexpr int H = SPEC_H, W = SPEC_W, C = SPEC_C, P = SPEC_P, Q = SPEC_Q;
constexpr int ROW = SPEC_ROW, ROWS = SPEC_ROWS, COLUMN = SPEC_COLUMN, COLUMNS = SPEC_COLUMNS;
constexpr bool FLIP_ROWS = SPEC_FLIP_ROWS, FLIP_COLUMNS = SPEC_FLIP_COLUMNS;
constexpr int IMAGE_X = H * W * C, IMAGE_Y = P * Q * C;
constexpr int PER_THREAD = TUNE_PER_THREAD, PART = TUNE_BLOCK * PER_THREAD, PARTS = (IMAGE_Y - 1) / PART + 1;
constexpr unsigned HALF = 0x80000000u;
constexpr int BITS = 30, PLACE_BITS = 12, PLACES = 1 << PLACE_BITS;  // of sines and of places between two pixels
constexpr long long ONE = 1LL << BITS, TWO_PI = 1686629713LL;        // 2 pi times 2^28

static_assert(KIND >= WINDOW && KIND <= ROTATE, "unknown kind");
static_assert((long long)H * W * C < 1LL << 31 && (long long)P * Q * C < 1LL << 31, "int indices within an image");
static_assert((long long)H + P < 1LL << 31 && (long long)W + Q < 1LL << 31, "int places of windows");
static_assert(ROWS >= 1 && COLUMNS >= 1, "there is something to draw from");
static_assert(KIND == WINDOW || (P == H && Q == W), "the size stays");
static_assert(KIND != ERASE || (ROW >= 1 && COLUMN >= 1 && ROW + ROWS - 1 <= H && COLUMN + COLUMNS - 1 <= W), "a rectangle fits");

// What is drawn for one image: for window the corner and the mirroring, for erase a rectangle, for rotate a turn.
struct Change {
  int top, left, height, width;
  bool upside_down, mirrored;
  int sine, cosine;  // times 2^30
};

__device__ __forceinline__ int draw(unsigned word, int count) { return (int)__umulhi(word, (unsigned)count); }

__device__ __forceinline__ uint4 words(long long number, unsigned stream, const unsigned* state) {
  return philox4x32(make_uint4((unsigned)number, (unsigned)(number >> 32), stream, state[2]), make_uint2(state[0], state[1]));
}

// 1 - s/a (1 - s/b (1 - ... s/e)) times 2^30, for s of 0 .. 2^30 that stands for 0 .. 1: the series of sin(x)/x and of cos(x).
__device__ __forceinline__ long long series(long long s, int a, int b, int c, int d, int e) {
  const int divisors[] = {e, d, c, b, a};
  long long sum = ONE;
  for (int k = 0; k < 5; ++k) sum = ONE - (s * sum >> BITS) / divisors[k];
  return sum;
}

// The turn's sine and cosine: those of what is left within an eighth of a turn, exchanged for each quarter.
__device__ __forceinline__ void turn_by(int units, Change& change) {
  const int quarters = (units + (1 << 27)) >> 28;
  const long long x = (units - quarters * (1 << 28)) * TWO_PI >> 28, square = x * x >> BITS;
  const int sine = (int)(x * series(square, 6, 20, 42, 72, 110) >> BITS), cosine = (int)series(square, 2, 12, 30, 56, 90);
  const bool odd = quarters & 1;
  const int far_sine = odd ? cosine : sine, far_cosine = odd ? -sine : cosine;
  change.sine = quarters & 2 ? -far_sine : far_sine;
  change.cosine = quarters & 2 ? -far_cosine : far_cosine;
}

__device__ __forceinline__ Change drawn(long long image, unsigned stream, const unsigned* state, long long threshold, int turn) {
  Change change = {0, 0, 0, 0, false, false, 0, 0};
  const uint4 first = words(2 * image, stream, state);
  if (KIND == WINDOW) {
    change.top = ROW + draw(first.x, ROWS);
    change.left = COLUMN + draw(first.y, COLUMNS);
    change.upside_down = FLIP_ROWS && first.z >= HALF;
    change.mirrored = FLIP_COLUMNS && first.w >= HALF;
  }
  if (KIND == ERASE && (long long)first.x < threshold) {
    const uint4 second = words(2 * image + 1, stream, state);
    change.height = ROW + draw(first.y, ROWS);
    change.width = COLUMN + draw(first.z, COLUMNS);
    change.top = draw(first.w, H - change.height + 1);
    change.left = draw(second.x, W - change.width + 1);
  }
  if (KIND == ROTATE) turn_by((int)__umulhi(first.x, 2u * turn + 1u) - turn, change);
  return change;
}

// Rounded one by one, never contracted: the backends agree in every bit.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float sum(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double sum(double a, double b) { return __dadd_rn(a, b); }

// A pixel's part; one of no weight does not count, even if it is infinite. weight: of PLACES^2, exact in float.
__device__ __forceinline__ SPEC_ACC weighed(const SPEC_T* x, long long h, long long w, int c, int weight, SPEC_ACC value) {
  if (weight == 0) return SPEC_ACC(0);
  const bool real = h >= 0 && h < H && w >= 0 && w < W;
  return product(SPEC_ACC(weight) * (SPEC_ACC(1) / (PLACES * PLACES)), real ? to_acc(x[(h * W + w) * C + c]) : value);
}

__device__ __forceinline__ SPEC_ACC turned(const SPEC_T* x, int i, int j, int c, const Change& change, SPEC_ACC value) {
  // From the centre in half pixels, so that it is an integer; the place then in 2^-31 pixels, rounded to 1 / PLACES.
  const long long down = 2LL * i - (H - 1), right = 2LL * j - (W - 1);
  const long long h = (H - 1) * ONE + change.sine * right + change.cosine * down;
  const long long w = (W - 1) * ONE + change.cosine * right - change.sine * down;
  constexpr int DROPPED = BITS + 1 - PLACE_BITS;
  const long long place_h = (h + (1 << (DROPPED - 1))) >> DROPPED, place_w = (w + (1 << (DROPPED - 1))) >> DROPPED;
  const long long top = place_h >> PLACE_BITS, left = place_w >> PLACE_BITS;
  const int below = (int)(place_h & (PLACES - 1)), after = (int)(place_w & (PLACES - 1));
  const SPEC_ACC upper = sum(weighed(x, top, left, c, (PLACES - below) * (PLACES - after), value),
                             weighed(x, top, left + 1, c, (PLACES - below) * after, value));
  const SPEC_ACC lower = sum(weighed(x, top + 1, left, c, below * (PLACES - after), value),
                             weighed(x, top + 1, left + 1, c, below * after, value));
  return sum(upper, lower);
}

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
augment_forward_direct(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const unsigned* __restrict__ state, unsigned stream,
                       long long threshold, int turn, SPEC_ACC value, int N) {
  __shared__ Change change;
  const int image = (int)(blockIdx.x / PARTS), part = (int)(blockIdx.x % PARTS);
  if (image >= N) return;
  if (threadIdx.x == 0) change = drawn(image, stream, state, threshold, turn);
  __syncthreads();
  const SPEC_T* const from = x + (long long)image * IMAGE_X;
  SPEC_T* const to = y + (long long)image * IMAGE_Y;
#pragma unroll
  for (int k = 0; k < PER_THREAD; ++k) {
    const long long place = (long long)part * PART + k * TUNE_BLOCK + threadIdx.x;
    if (place >= IMAGE_Y) return;
    const int c = (int)(place % C), i = (int)(place / C) / Q, j = (int)(place / C) % Q;
    if (KIND == WINDOW) {
      const int h = change.top + (change.upside_down ? P - 1 - i : i), w = change.left + (change.mirrored ? Q - 1 - j : j);
      const bool real = h >= 0 && h < H && w >= 0 && w < W;
      to[place] = real ? from[(h * W + w) * C + c] : from_acc<SPEC_T>(value);
    } else if (KIND == ERASE) {
      const bool erased = i >= change.top && i < change.top + change.height && j >= change.left && j < change.left + change.width;
      to[place] = erased ? from_acc<SPEC_T>(value) : from[place];
    } else {
      to[place] = from_acc<SPEC_T>(turned(from, i, j, c, change, value));
    }
  }
}
