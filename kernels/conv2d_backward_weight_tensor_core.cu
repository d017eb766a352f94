// conv2d_backward_weight_tensor_core.cu -- gradient of a 2-D convolution's weight on tensor cores, first of two
// launches: matrix products over chunks of output positions.
//
// Computes  workspace[chunk][k,r,s,c] = sum over the CHUNK positions (n,p,q) of a chunk of dy[n,p,q,k] * x[n,
//           p*STRIDE_H - PAD_TOP + r*DILATION_H, q*STRIDE_W - PAD_LEFT + s*DILATION_W, c], c over the channels of k's
//           group, x zero outside the image; conv2d_backward_weight_sum adds the chunks. As products, one for each
//           group: rows k, columns (r,s,c), depth (n,p,q)
// Layout    channels-last, see conv2d.cuh; workspace (ceil(N*P*Q / CHUNK), K, R, S, C/GROUPS) in float; dy is
//           contiguous along rows, x along columns
// Compiled  SPEC_*: Conv2dSpec without its epilogue; TUNE_CHUNK: positions per chunk, a multiple of DEPTH, never a
//           function of N; TUNE_*: see tensor_core_tile.cuh; run time: N
// Launch    grid = chunks * groups * row tiles * column tiles, columns first; one block owns ROWS filters x COLUMNS
//           weights of one chunk and group
// Assumes   C/GROUPS and K/GROUPS multiples of the elements in 16 bytes; arrays aligned to 16 bytes; see
//           tensor_core_tile.cuh
// Writes    every element of the workspace once, in 16-byte stores; sums in the order n, p, q, see
//           tensor_core_tile.cuh. The padding enters as zeros, which differ from taps left out only where dy is not
//           finite
// Cost      2*N*P*Q*K*R*S*C/GROUPS flops, rounded up to whole tiles, three times that with SPLIT; dy is copied
//           R*S*C/COLUMNS times, x K/ROWS * R*S times from cache, WEIGHTS * chunks sums are written: bound by the
//           tensor cores when K and R*S*C are not small, else by memory: dy and x once, the workspace
// Tested    tests/operations/test_conv2d_tensor_core.py
// Source    see conv2d_forward_tensor_core.cu
#include "conv2d_pixels.cuh"
#include "tensor_core_tile.cuh"

constexpr int CHUNK = TUNE_CHUNK;
constexpr int COLUMN_TILES = ceil_div(FILTER, COLUMNS), ROW_TILES = ceil_div(GROUP_K, ROWS);
constexpr int WIDTH = 4;  // sums in 16 bytes

static_assert(CHUNK % DEPTH == 0, "TUNE_CHUNK is a multiple of TUNE_DEPTH");
static_assert(GROUP_C % VECTOR == 0 && GROUP_K % VECTOR == 0, "a chunk lies within one tap, and within one group");

typedef PixelWalk<DEPTH> Pixel;

struct Operands {
  typedef OperandTile<ROWS, false> Left;
  typedef OperandTile<COLUMNS, false> Right;
  struct Place {
    int left, right;  // positions of the chunk from this thread's first on
    const SPEC_T* dy;
    Pixel pixels[SAME_PIXELS ? 1 : Right::COUNT];
  };
  const SPEC_T* dy;  // at this thread's filter
  const SPEC_T* x;   // at this thread's channel
  TapOffset tap;
  bool used_filter, used_weight;
  unsigned begin;
  int positions;

  __device__ __forceinline__ Operands(const SPEC_T* gradient, const SPEC_T* image, int first_row, int first_column,
                                      unsigned chunk_begin, unsigned chunk_end)
      : dy(gradient + first_row + Left::offset()),
        used_filter(GROUP_K % ROWS == 0 || first_row + Left::offset() < GROUP_K),
        begin(chunk_begin),
        positions((int)(chunk_end - chunk_begin)) {
    const int column = first_column + Right::offset();
    used_weight = FILTER % COLUMNS == 0 || column < FILTER;
    tap = TapOffset(column);
    x = image + tap.channel;
  }
  __device__ __forceinline__ Place first() const {
    Place place = {positions - Left::line(0), positions - Right::line(0), dy + (long long)(begin + Left::line(0)) * K};
#pragma unroll
    for (int i = 0; i < (SAME_PIXELS ? 1 : Right::COUNT); ++i) place.pixels[i] = Pixel::of(x, tap, begin + Right::line(i));
    return place;
  }
  __device__ __forceinline__ void copy(const Place& place, SPEC_T* left, SPEC_T* right, bool wanted) const {
#pragma unroll
    for (int i = 0; i < Left::COUNT; ++i)
      if (Left::copies(i)) {
        const SPEC_T* const source = place.dy + (long long)i * Left::STEP * K;
        Left::copy(left, i, source, used_filter & (i * Left::STEP < place.left), wanted);
      }
#pragma unroll
    for (int i = 0; i < Right::COUNT; ++i)
      if (Right::copies(i)) {
        const Pixel& pixel = place.pixels[SAME_PIXELS ? 0 : i];
        const SPEC_T* const source = SAME_PIXELS ? pixel.source + (long long)i * Right::STEP * C : pixel.source;
        // The operator & leaves no branches.
        const bool valid = used_weight & (i * Right::STEP < place.right);
        Right::copy(right, i, source, valid & (SAME_PIXELS || pixel.in_image()), wanted);
      }
  }
  __device__ __forceinline__ void advance(Place& place) const {
    place.left -= DEPTH;
    place.right -= DEPTH;
    place.dy += (long long)DEPTH * K;
    if (SAME_PIXELS) place.pixels[0].source += (long long)DEPTH * C;
#pragma unroll
    for (int i = 0; i < (SAME_PIXELS ? 0 : Right::COUNT); ++i) place.pixels[i].advance(tap);
  }
};

GPUCNN_KERNEL __launch_bounds__(THREADS)
conv2d_backward_weight_tensor_core(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy,
                                   const SPEC_T* __restrict__ x, int N) {
  extern __shared__ __align__(128) SPEC_T tiles[];
  const unsigned tile = blockIdx.x % (COLUMN_TILES * ROW_TILES), product = blockIdx.x / (COLUMN_TILES * ROW_TILES);
  const int first_column = (int)(tile % COLUMN_TILES) * COLUMNS, first_row = (int)(tile / COLUMN_TILES) * ROWS;
  const int group = (int)(product % GROUPS);
  const unsigned positions = (unsigned)N * P * Q, chunk = product / GROUPS;
  const unsigned begin = chunk * CHUNK, end = min(begin + CHUNK, positions);

  const Operands operands(dy + group * GROUP_K, x + group * GROUP_C, first_row, first_column, begin, end);
  Sums sums;
  multiply(operands, (int)ceil_div<unsigned>(end - begin, DEPTH), tiles, sums);

  SPEC_ACC* chunk_sums = workspace + ((long long)chunk * WEIGHTS + group * GROUP_K * FILTER);
  for_each_pack<WIDTH, Operands>(sums, [=](int row, int column, const float(&values)[WIDTH]) {
    const int k = first_row + row, weight = first_column + column;
    if (k >= GROUP_K || weight >= FILTER) return;
    Pack<SPEC_ACC, WIDTH> pack;
#pragma unroll
    for (int v = 0; v < WIDTH; ++v) pack.values[v] = values[v];
    // Unsigned, because NVRTC splits the 16-byte store where the address needs a sign extension.
    store_pack<WIDTH>(chunk_sums + (unsigned)(k * FILTER + weight), pack);
  });
}
