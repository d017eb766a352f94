// linear_cross_entropy.cu -- a classifier's last dense layer together with its mean cross-entropy.
//
// Computes  z[r,c] = bias[c] + sum over f of x[r,f] * weight[c,f];  loss = mean over r of -log softmax(z[r])[labels[r]];
//           dlogits = its gradient with respect to z;  totals += [loss * ROWS, correct rows, ROWS], as in cross_entropy.cu
// Layout    x: (ROWS, FEATURES), weight: (CLASSES, FEATURES), bias: (CLASSES) or null, logits (z), dlogits: (ROWS, CLASSES), loss: 1,
//           all SPEC_T; labels: (ROWS) int; totals: 3 double; workspace: row losses (ROWS), then with totals 1 for each
//           correct row, else 0 (ROWS), SPEC_ACC; contiguous
// Compiled  SPEC_*: LinearCrossEntropySpec;  TUNE_BLOCK: threads a block;  TUNE_LANES: lanes a row;  TUNE_LOGITS: logits a lane;
//           TUNE_CHUNK: features in shared memory at a time;  TUNE_ONE_LAUNCH: which entries;  run time: ROWS, CLASSES, FEATURES
// Launch    block (TUNE_LANES, TUNE_BLOCK / TUNE_LANES rows); lane l of a row owns its logits l, l + TUNE_LANES, ...
//           one_launch: grid (1), the block walks over all rows; linear_cross_entropy_one_launch_update also adds to the totals;
//           rows: grid (ceil(ROWS / rows)); linear_cross_entropy_forward_and_count_rows also leaves which rows are correct;
//           then cross_entropy.cu's total of the rows. Static shared memory: (rows + TUNE_LANES * TUNE_LOGITS) * TUNE_CHUNK SPEC_T
// Assumes   CLASSES at most TUNE_LANES * TUNE_LOGITS [plan]
// Writes    every output element exactly once. A logit starts at 0 and adds f = 0, 1, 2, ... with one multiply_add each, then 0 * 0
//           and the bias, as gemm.cu does, so that its bits do not depend on the batch or the plan; then a row's lanes add its
//           exponentials, each its own first, and the rows are added as in cross_entropy.cu's one or two launches
// Cost      2*ROWS*CLASSES*FEATURES flops. A block copies the rows' and the classes' features to shared memory, all of a chunk in
//           flight, 16 bytes at a time where rows begin on 16 bytes; a warp then reads 16 bytes of each of its rows and of
//           TUNE_LANES classes for so many products: bound by shared memory in one launch, by latency in two
// Tested    tests/operations/test_linear_cross_entropy.py
// Source    see cross_entropy.cu
#include "common.cuh"
#include "cross_entropy.cuh"
#include "mma.cuh"
#include "pack.cuh"

constexpr bool BIAS = SPEC_BIAS;
constexpr int THREADS = TUNE_BLOCK, LANES = TUNE_LANES, LOGITS = TUNE_LOGITS, CHUNK = TUNE_CHUNK;
constexpr int TEAMS = THREADS / LANES, WIDTH = 16 / sizeof(SPEC_T);
constexpr int COPIERS = 8;  // neighbouring threads that copy 128 bytes of a row

static_assert(32 % LANES == 0 && THREADS % 32 == 0, "a row's lanes belong to one warp");
static_assert(CHUNK % WIDTH == 0 && CHUNK * sizeof(SPEC_T) % 32 == 16, "rows start in different banks");
static_assert(LANES * LOGITS <= CHUNK, "the logits take their row's place");

struct Staged {
  __align__(16) SPEC_T samples[TEAMS][CHUNK];
  __align__(16) SPEC_T factors[LANES * LOGITS][CHUNK];
};

// target[i][f] = matrix[i][begin + f] for i < lines, f < terms, then 0 up to whole loads; complete after cp_async_wait and a barrier
template <int LINES>
__device__ __forceinline__ void stage(SPEC_T (&target)[LINES][CHUNK], const SPEC_T* __restrict__ matrix, int lines, int features, int begin,
                                      int terms) {
  const int thread = (int)(threadIdx.y * LANES + threadIdx.x);
  if (features % WIDTH == 0 && reinterpret_cast<unsigned long long>(matrix) % 16 == 0) {
    for (int line = thread / COPIERS; line < lines; line += THREADS / COPIERS)
      for (int f = thread % COPIERS * WIDTH; f < terms; f += COPIERS * WIDTH)
        cp_async_16(&target[line][f], matrix + (long long)line * features + begin + f, true);
  } else {
    const int whole = ceil_div(terms, WIDTH) * WIDTH;
    for (int line = thread / 32; line < lines; line += THREADS / 32)
      for (int f = thread % 32; f < whole; f += 32)
        target[line][f] = f < terms ? matrix[(long long)line * features + begin + f] : from_acc<SPEC_T>(SPEC_ACC(0));
  }
}

// The rows from `first` on, one for each team of lanes: writes their logits and gradients, then calls use(Row, row).
template <class Use>
__device__ __forceinline__ void classify(Staged& staged, long long first, SPEC_T* dlogits, SPEC_T* logits, const SPEC_T* __restrict__ x,
                                         const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias, const int* labels, int rows,
                                         int classes, int features, Use use) {
  const LaneTeam team;
  const long long row = first + threadIdx.y;
  const int here = rows - first < TEAMS ? (int)(rows - first) : TEAMS;
  SPEC_T* const own = staged.samples[threadIdx.y];
  SPEC_ACC sum[LOGITS];
  const SPEC_T* factors[LOGITS];
#pragma unroll
  for (int j = 0; j < LOGITS; ++j) {
    const int c = team.rank + LANES * j;
    sum[j] = 0;
    factors[j] = staged.factors[c < classes ? c : 0];
  }
  for (int begin = 0; begin < features; begin += CHUNK) {
    const int terms = features - begin < CHUNK ? features - begin : CHUNK;
    __syncthreads();  // nobody reads what was staged before any more
    stage(staged.samples, x + first * features, here, features, begin, terms);
    stage(staged.factors, weight, classes, features, begin, terms);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();  // this chunk is complete
    if (row >= rows) continue;
#pragma unroll 4
    for (int f = 0; f < terms; f += WIDTH) {
      const Pack<SPEC_T, WIDTH> sample = load_pack<WIDTH>(own + f);
#pragma unroll
      for (int j = 0; j < LOGITS; ++j) {
        const Pack<SPEC_T, WIDTH> factor = load_pack<WIDTH>(factors[j] + f);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum[j] = multiply_add(SPEC_ACC(to_acc(sample.values[i])), SPEC_ACC(to_acc(factor.values[i])), sum[j]);
      }
    }
  }
  __syncwarp();  // the row's features have been read by all its lanes
#pragma unroll
  for (int j = 0; j < LOGITS; ++j) {
    const int c = team.rank + LANES * j;
    sum[j] = multiply_add(SPEC_ACC(0), SPEC_ACC(0), sum[j]);
    if (row < rows && c < classes) {
      const SPEC_T z = from_acc<SPEC_T>(BIAS ? sum[j] + to_acc(bias[c]) : sum[j]);
      own[c] = z;
      logits[row * classes + c] = z;
    }
  }
  __syncwarp();  // the row's logits are complete
  const Row<LaneTeam> result(team, own, labels, nullptr, row, rows, classes, SPEC_ACC(0));
  result.write_gradient(dlogits + row * classes, share_of_row(nullptr, rows), SPEC_ACC(1));
  use(result, row);
}

#if TUNE_ONE_LAUNCH
template <bool TOTALS>
__device__ __forceinline__ void walk_over_rows(double* totals, SPEC_T* loss, SPEC_T* dlogits, SPEC_T* logits, const SPEC_T* __restrict__ x,
                                               const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias, const int* labels,
                                               int rows, int classes, int features) {
  __shared__ Staged staged;
  __shared__ SPEC_ACC scratch[THREADS / 32];
  __shared__ int counts[THREADS / 32];
  SPEC_ACC sum = 0;
  int correct = 0;
  for (long long first = 0; first < rows; first += TEAMS) {  // the same turns for all: lanes exchange
    classify(staged, first, dlogits, logits, x, weight, bias, labels, rows, classes, features, [&](const Row<LaneTeam>& result, long long row) {
      const bool right = TOTALS && result.correct();
      if (row >= rows || result.team.rank != 0) return;
      correct += right;
      sum += result.loss();
    });
  }
  const BlockTeam<SPEC_ACC, THREADS> block(scratch);
  sum = block.sum(sum);
  if (TOTALS) correct = BlockTeam<int, THREADS>(counts).sum(correct);
  if (block.rank == 0) {
    const SPEC_T total = from_acc<SPEC_T>(sum * share_of_row(nullptr, rows));
    loss[0] = total;
    if (TOTALS) add_totals(totals, to_acc(total), (double)correct, rows);
  }
}

GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
linear_cross_entropy_forward_one_launch(SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits, SPEC_T* __restrict__ logits,
                                        const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias,
                                        const int* __restrict__ labels, int ROWS, int CLASSES, int FEATURES) {
  walk_over_rows<false>(nullptr, loss, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}

GPUCNN_KERNEL __launch_bounds__(THREADS, 1)
linear_cross_entropy_one_launch_update(GPUCNN_INOUT double* __restrict__ totals, SPEC_T* __restrict__ loss, SPEC_T* __restrict__ dlogits,
                                       SPEC_T* __restrict__ logits, const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                                       const SPEC_T* __restrict__ bias, const int* __restrict__ labels, int ROWS, int CLASSES,
                                       int FEATURES) {
  walk_over_rows<true>(totals, loss, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}
#else
template <bool TOTALS>
__device__ __forceinline__ void rows_of_block(SPEC_ACC* workspace, SPEC_T* dlogits, SPEC_T* logits, const SPEC_T* __restrict__ x,
                                              const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias, const int* labels,
                                              int rows, int classes, int features) {
  __shared__ Staged staged;
  const long long first = (long long)blockIdx.x * TEAMS;
  classify(staged, first, dlogits, logits, x, weight, bias, labels, rows, classes, features, [&](const Row<LaneTeam>& result, long long row) {
    const bool right = TOTALS && result.correct();
    if (row >= rows || result.team.rank != 0) return;
    workspace[row] = result.loss();
    if (TOTALS) workspace[rows + row] = SPEC_ACC(right);
  });
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
linear_cross_entropy_forward_rows(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, SPEC_T* __restrict__ logits,
                                  const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight, const SPEC_T* __restrict__ bias,
                                  const int* __restrict__ labels, int ROWS, int CLASSES, int FEATURES) {
  rows_of_block<false>(workspace, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}

GPUCNN_KERNEL __launch_bounds__(THREADS)
linear_cross_entropy_forward_and_count_rows(SPEC_ACC* __restrict__ workspace, SPEC_T* __restrict__ dlogits, SPEC_T* __restrict__ logits,
                                            const SPEC_T* __restrict__ x, const SPEC_T* __restrict__ weight,
                                            const SPEC_T* __restrict__ bias, const int* __restrict__ labels, int ROWS, int CLASSES,
                                            int FEATURES) {
  rows_of_block<true>(workspace, dlogits, logits, x, weight, bias, labels, ROWS, CLASSES, FEATURES);
}
#endif
