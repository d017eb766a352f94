// batch_norm_forward.cu -- batch normalisation: statistics of each channel, their moving averages, the normalised output.
//
// Computes  mean[c] = sum over r of x[r, c] / ROWS;    variance[c] = sum over r of (x[r, c] - mean[c])^2 / ROWS
//           y[r, c] = (x[r, c] - mean[c]) * gamma[c] / sqrt(variance[c] + epsilon) + beta[c]
//           moving += rate * (statistic - moving), for the mean and the variance
// Layout    x, y: (ROWS, CHANNELS) SPEC_T, contiguous; everything of one channel (CHANNELS,) SPEC_ACC; gamma and beta may be
//           null for 1 and 0; workspace (chunks, 2, CHANNELS): a chunk's mean and its sum of squares around that mean
// Compiled  SPEC_*: BatchNormSpec; TUNE_*: see batch_norm.cuh; run time: ROWS, CHANNELS, epsilon, rate
// Launch    batch_norm_forward_chunks, then batch_norm_forward_total or batch_norm_total_update, then
//           batch_norm_forward_normalize. Of chunks and normalize see batch_norm.cuh; of the total: grid column tiles, block
//           (columns, up to 1024 / columns threads along the chunks). Shared memory: one SPEC_ACC a thread of a full block
// Assumes   ROWS and CHANNELS at least 1
// Writes    every output element exactly once, the update in place. Order of a sum: thread t of T takes rows t, t + T, ... of
//           its chunk, then a binary tree; likewise over the chunks. Two passes over a chunk, the second around its mean:
//           a mean far from zero cancels nothing
// Cost      x read from memory twice, once more from cache, y written once: memory bound
// Tested    tests/operations/test_batch_norm.py
// Source    Ioffe & Szegedy, arXiv:1502.03167; Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
//           computing sample variances", 1979
#include "batch_norm.cuh"

GPUCNN_KERNEL __launch_bounds__(BLOCK)
batch_norm_forward_chunks(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ x, int ROWS, int CHANNELS) {
  const ChunkOfChannels own(ROWS, CHANNELS);
  SPEC_ACC sum = 0, squares = 0;
  own.each(CHANNELS, [&](long long i) { sum += to_acc(x[i]); });
  const SPEC_ACC mean = column_sum<BLOCK>(sum) / SPEC_ACC(own.end - own.begin);
  own.each(CHANNELS, [&](long long i) {
    const SPEC_ACC away = to_acc(x[i]) - mean;
    squares = multiply_add(away, away, squares);
  });
  squares = column_sum<BLOCK>(squares);
  if (own.inside && threadIdx.y == 0) {
    SPEC_ACC* place = workspace + 2LL * own.chunk * CHANNELS + own.channel;
    place[0] = mean;
    place[CHANNELS] = squares;
  }
}

struct Moments {
  SPEC_ACC mean, variance;
};

// The moments of a channel from those of its chunks, in every thread of its column.
__device__ __forceinline__ Moments combined(const SPEC_ACC* __restrict__ workspace, int channel, int rows, int channels) {
  const int each = rows_of_a_chunk(), chunks = ceil_div(rows, each);
  const bool inside = channel < channels;
  SPEC_ACC sum = 0, squares = 0;
  for (int chunk = (int)threadIdx.y; inside && chunk < chunks; chunk += (int)blockDim.y) {
    const int count = rows - chunk * each < each ? rows - chunk * each : each;
    sum = multiply_add(SPEC_ACC(count), workspace[2LL * chunk * channels + channel], sum);
  }
  const SPEC_ACC mean = column_sum<MAX_THREADS>(sum) / SPEC_ACC(rows);
  for (int chunk = (int)threadIdx.y; inside && chunk < chunks; chunk += (int)blockDim.y) {
    const int count = rows - chunk * each < each ? rows - chunk * each : each;
    const SPEC_ACC* place = workspace + 2LL * chunk * channels + channel;
    const SPEC_ACC away = place[0] - mean;
    squares += multiply_add(SPEC_ACC(count) * away, away, place[channels]);
  }
  return Moments{mean, column_sum<MAX_THREADS>(squares) / SPEC_ACC(rows)};
}

GPUCNN_KERNEL __launch_bounds__(MAX_THREADS)
batch_norm_forward_total(SPEC_ACC* __restrict__ mean, SPEC_ACC* __restrict__ variance, const SPEC_ACC* __restrict__ workspace, int ROWS,
                         int CHANNELS) {
  const int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const Moments found = combined(workspace, channel, ROWS, CHANNELS);
  if (channel >= CHANNELS || threadIdx.y != 0) return;
  mean[channel] = found.mean;
  variance[channel] = found.variance;
}

GPUCNN_KERNEL __launch_bounds__(MAX_THREADS)
batch_norm_total_update(GPUCNN_INOUT SPEC_ACC* __restrict__ moving_mean, GPUCNN_INOUT SPEC_ACC* __restrict__ moving_variance,
                        SPEC_ACC* __restrict__ mean, SPEC_ACC* __restrict__ variance, const SPEC_ACC* __restrict__ workspace, int ROWS,
                        int CHANNELS, SPEC_ACC rate) {
  const int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const Moments found = combined(workspace, channel, ROWS, CHANNELS);
  if (channel >= CHANNELS || threadIdx.y != 0) return;
  mean[channel] = found.mean;
  variance[channel] = found.variance;
  moving_mean[channel] += rate * (found.mean - moving_mean[channel]);
  moving_variance[channel] += rate * (found.variance - moving_variance[channel]);
}

GPUCNN_KERNEL __launch_bounds__(BLOCK)
batch_norm_forward_normalize(SPEC_T* __restrict__ y, const SPEC_T* __restrict__ x, const SPEC_ACC* __restrict__ mean,
                             const SPEC_ACC* __restrict__ variance, const SPEC_ACC* __restrict__ gamma,
                             const SPEC_ACC* __restrict__ beta, int ROWS, int CHANNELS, SPEC_ACC epsilon) {
  const ChunkOfChannels own(ROWS, CHANNELS);
  if (!own.inside) return;
  const SPEC_ACC centre = mean[own.channel], shift = beta ? beta[own.channel] : SPEC_ACC(0);
  const SPEC_ACC factor = inverse_deviation(variance[own.channel], epsilon) * (gamma ? gamma[own.channel] : SPEC_ACC(1));
  own.each(CHANNELS, [&](long long i) { y[i] = from_acc<SPEC_T>(multiply_add(to_acc(x[i]) - centre, factor, shift)); });
}
