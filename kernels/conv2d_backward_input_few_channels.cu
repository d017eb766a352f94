// conv2d_backward_input_few_channels.cu -- gradient of the input of a 2-D convolution of images of few channels: gradients and
// filters in shared memory, sums in registers.
//
// Computes  dx[n,h,w,c] = sum over r,s,k of dy[n,p,q,k] * weight[k,r,s,c], over the taps for which h + PAD_TOP -
//           r*DILATION_H = p*STRIDE_H and w + PAD_LEFT - s*DILATION_W = q*STRIDE_W have solutions p, q inside the
//           output; with FLIP the filter is mirrored
// Cells     the image is cut into cells of STRIDE_H x STRIDE_W pixels. All cells meet their outputs alike: pixel u of cell a
//           pairs by tap r with output p = a + (u + PAD_TOP - r*DILATION_H) / STRIDE_H where that divides, which is known
//           at compile time, and along the other axis alike. For STRIDE 2, PAD 1, R 3: p = a: taps 1 of u 0 and 2 of
//           u 1; p = a + 1: tap 0 of u 1
// Layout    channels-last, see conv2d.cuh
//           shared memory, in SPEC_ACC: outputs [SLICES][TILE_P][TILE_Q][4], a plane for each four filters, so that
//           neighbouring threads read neighbouring 16 bytes; weights [SLICES][R*S*C][4], which the threads of a warp read
//           together; at the end the slices' sums [CELL][THREADS] in the place of outputs, for a row of cells at a time
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CELLS, TUNE_LINES, TUNE_COLUMNS: a tile is CELLS * LINES rows of
//           COLUMNS cells; TUNE_SLICES: threads that share the filters of a cell; TUNE_VECTOR: elements per access where
//           K, or rows of x and of tiles, divide by it, 1 or 4; TUNE_THREADS: block size; run time: the batch, as grid
// Launch    grid = N * DOWN * ACROSS, block = THREADS; a thread owns CELLS cells below each other, all channels, for every
//           SLICES-th four filters; neighbouring threads own neighbouring columns
// Assumes   one group; VECTOR 4 needs arrays aligned to 16 bytes
// Writes    every dx once, also where no window reaches. Slice i adds the filters 4*i .. 4*i + 3, then those 4*SLICES further
//           on and so forth, each four in the order s, r, k with one fused multiply-add each; then the slices are added
//           in order. Outputs beyond the border enter as zeros, which differ from taps left out only where a weight is not finite
// Cost      2*N*P*Q*K*R*S*C flops, for R taps C*R + CELLS + R loads of 16 bytes from shared memory and 4*CELLS*C*R
//           multiply-adds (stride 1); dy is read once and at the edges of tiles twice, dx written once: bound by arithmetic
// Tested    tests/operations/test_conv2d.py
// Source    the transpose of the definition
#include "conv2d.cuh"
#include "pack.cuh"

constexpr int THREADS = TUNE_THREADS, CELLS = TUNE_CELLS, LINES = TUNE_LINES, COLUMNS = TUNE_COLUMNS, SLICES = TUNE_SLICES;
constexpr int CELL_ROW = STRIDE_W * C, CELL = STRIDE_H * CELL_ROW, RUN = COLUMNS * CELL_ROW;  // elements; RUN is a tile's row
constexpr int VECTOR_K = K % TUNE_VECTOR == 0 ? TUNE_VECTOR : 1;
constexpr int VECTOR_RUN = W * C % TUNE_VECTOR == 0 && RUN % TUNE_VECTOR == 0 ? TUNE_VECTOR : 1;
constexpr int FOUR = 4;  // filters that one access of shared memory brings
constexpr int LANES = LINES * COLUMNS, ROWS = CELLS * LINES;
constexpr int DOWN = ceil_div(ceil_div(H, STRIDE_H), ROWS), ACROSS = ceil_div(ceil_div(W, STRIDE_W), COLUMNS);

// The outputs that a cell meets along one axis: SPAN of them, the nearest to the image's end LAST beyond the cell's own number.
template <int STRIDE, int PAD, int TAPS, int DILATION>
struct Reach {
  static constexpr int FARTHEST = (TAPS - 1) * DILATION, LAST = (STRIDE - 1 + PAD) / STRIDE;
  static constexpr int FIRST = PAD > FARTHEST ? ceil_div(PAD - FARTHEST, STRIDE) : -((FARTHEST - PAD) / STRIDE);
  static constexpr int SPAN = LAST - FIRST + 1;

  // The tap that pairs a pixel of a cell with output LAST - i, or -1. Both i and the pixel raise it.
  __host__ __device__ static constexpr int tap(int i, int pixel) {
    const int distance = pixel + PAD - (LAST - i) * STRIDE;
    return distance >= 0 && distance <= FARTHEST && distance % DILATION == 0 ? distance / DILATION : -1;
  }
};
typedef Reach<STRIDE_H, PAD_TOP, R, DILATION_H> Vertical;
typedef Reach<STRIDE_W, PAD_LEFT, S, DILATION_W> Horizontal;

constexpr int TILE_P = ROWS + Vertical::SPAN - 1, TILE_Q = COLUMNS + Horizontal::SPAN - 1;
constexpr int STAGED = THREADS / SLICES;                      // places of a tile that the block brings at a time
constexpr int COUNT = ceil_div(TILE_P * TILE_Q, STAGED);
constexpr int PLANE = (TILE_P * TILE_Q + 7) / 8 * 8 + 8 / SLICES;  // spreads the slices' stores over the banks
constexpr int OUTPUTS = SLICES * PLANE * FOUR, PARTIAL = CELL * THREADS;
// 0 leaves the registers of a thread to ptxas, which then makes room for more blocks; without float32 it spills some.
constexpr int RESIDENT_BLOCKS = sizeof(SPEC_T) != 4;
static_assert(GROUPS == 1, "one group");
static_assert(LANES * SLICES <= THREADS && SLICES <= 8, "a thread for every column, line and slice");

GPUCNN_KERNEL __launch_bounds__(THREADS, RESIDENT_BLOCKS)
conv2d_backward_input_few_channels(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ weight) {
  __shared__ __align__(16) SPEC_ACC outputs[OUTPUTS > PARTIAL ? OUTPUTS : PARTIAL];
  __shared__ __align__(16) SPEC_ACC weights[SLICES * FILTER * FOUR];
  const int first_column = (int)(blockIdx.x % ACROSS) * COLUMNS, first_row = (int)(blockIdx.x / ACROSS % DOWN) * ROWS;
  const long long n = blockIdx.x / (ACROSS * DOWN);
  const int slice = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES;
  const int column = lane % COLUMNS, line = lane / COLUMNS * CELLS;

  // The places that this thread brings to shared memory, a plane's worth of filters each.
  const int plane = (int)threadIdx.x % SLICES, start = (int)threadIdx.x / SLICES;
  int places[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    const int place = start + i * STAGED, row = place / TILE_Q;
    const int p = first_row + Vertical::FIRST + row, q = first_column + Horizontal::FIRST + place % TILE_Q;
    places[i] = row < TILE_P && inside(p, P) && inside(q, Q) ? (p * Q + q) * K : -1;
  }

  SPEC_ACC sums[CELLS][STRIDE_H][STRIDE_W][C] = {};
  for (int first = 0; first < K; first += SLICES * FOUR) {
    __syncthreads();
    const SPEC_T* gradients = dy + n * P * Q * K + first + plane * FOUR;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      if (start >= STAGED || start + i * STAGED >= TILE_P * TILE_Q) continue;
      Pack<SPEC_ACC, FOUR> pack = {};
#pragma unroll
      for (int v = 0; v < FOUR; v += VECTOR_K) {
        if (places[i] < 0 || first + plane * FOUR + v >= K) continue;
        const Pack<SPEC_T, VECTOR_K> loaded = load_pack<VECTOR_K>(gradients + places[i] + v);
#pragma unroll
        for (int k = 0; k < VECTOR_K; ++k) pack.values[v + k] = to_acc(loaded.values[k]);
      }
      store_pack_in_shared<FOUR>(outputs + (plane * PLANE + start + i * STAGED) * FOUR, pack);
    }
    for (int e = (int)threadIdx.x; e < SLICES * FOUR * FILTER; e += THREADS) {
      const int k = e / FILTER, tap = e % FILTER;
      const bool real = first + k < K;
      weights[(k / FOUR * FILTER + tap) * FOUR + k % FOUR] = real ? to_acc(weight[first * FILTER + e]) : SPEC_ACC(0);
    }
    __syncthreads();
    if (slice >= SLICES) continue;

    const SPEC_ACC* filters = weights + slice * FILTER * FOUR;
    const SPEC_ACC* seen = outputs + (slice * PLANE + line * TILE_Q + column + Horizontal::SPAN - 1) * FOUR;
#pragma unroll 1
    for (int j = 0; j < Horizontal::SPAN; ++j) {
      Pack<SPEC_ACC, FOUR> gradient[CELLS + Vertical::SPAN - 1];
#pragma unroll
      for (int i = 0; i < CELLS + Vertical::SPAN - 1; ++i) gradient[i] = load_pack<FOUR>(seen + (i * TILE_Q - j) * FOUR);
#pragma unroll
      for (int v = 0; v < STRIDE_W; ++v) {
        const int s = Horizontal::tap(j, v);
        if (s < 0) continue;
#pragma unroll
        for (int i = 0; i < Vertical::SPAN; ++i)
#pragma unroll
          for (int u = 0; u < STRIDE_H; ++u) {
            const int r = Vertical::tap(i, u);
            if (r < 0) continue;
#pragma unroll
            for (int c = 0; c < C; ++c) {
              const Pack<SPEC_ACC, FOUR> tap = load_pack<FOUR>(filters + (stored_tap(r, s) * C + c) * FOUR);
#pragma unroll
              for (int k = 0; k < FOUR; ++k)
#pragma unroll
                for (int a = 0; a < CELLS; ++a)
                  sums[a][u][v][c] = multiply_add(gradient[a + Vertical::SPAN - 1 - i].values[k], tap.values[k], sums[a][u][v][c]);
            }
          }
      }
    }
  }

  // A row of cells at a time, so that neighbouring threads write neighbouring packs.
#pragma unroll
  for (int a = 0; a < CELLS; ++a) {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < CELL; ++e) outputs[e * THREADS + (int)threadIdx.x] = sums[a][e / CELL_ROW][e / C % STRIDE_W][e % C];
    __syncthreads();
    for (int e = (int)threadIdx.x; e < LINES * STRIDE_H * RUN / VECTOR_RUN; e += THREADS) {
      const int place = e % (RUN / VECTOR_RUN) * VECTOR_RUN, row = e / (RUN / VECTOR_RUN), u = row % STRIDE_H;
      const int h = (first_row + row / STRIDE_H * CELLS + a) * STRIDE_H + u, element = first_column * CELL_ROW + place;
      if (h >= H || element >= W * C) continue;
      Pack<SPEC_T, VECTOR_RUN> pack;
#pragma unroll
      for (int i = 0; i < VECTOR_RUN; ++i) {
        const int cell = row / STRIDE_H * COLUMNS + (place + i) / CELL_ROW, within = u * CELL_ROW + (place + i) % CELL_ROW;
        SPEC_ACC sum = outputs[within * THREADS + cell];
#pragma unroll
        for (int other = 1; other < SLICES; ++other) sum += outputs[within * THREADS + other * LANES + cell];
        pack.values[i] = from_acc<SPEC_T>(sum);
      }
      store_pack<VECTOR_RUN>(dx + n * IMAGE + (unsigned)(h * W * C + element), pack);
    }
  }
}
