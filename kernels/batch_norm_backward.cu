// batch_norm_backward.cu -- the gradients of batch normalisation by its input, scale and shift.
//
// Computes  with d[c] = 1 / sqrt(variance[c] + epsilon) and h[r, c] = (x[r, c] - mean[c]) * d[c]:
//           dbeta[c] = sum over r of dy[r, c];    dgamma[c] = sum over r of dy[r, c] * h[r, c]
//           dx[r, c] = d[c] * gamma[c] * (dy[r, c] - (dbeta[c] + h[r, c] * dgamma[c]) / ROWS)   SPEC_BATCH_STATISTICS
//           dx[r, c] = d[c] * gamma[c] * dy[r, c]      otherwise: mean and variance are constants
// Layout    x, dx, dy: (ROWS, CHANNELS) SPEC_T, contiguous; everything of one channel (CHANNELS,) SPEC_ACC; gamma may be null
//           for 1; workspace (chunks, 2, CHANNELS): a chunk's parts of dbeta and dgamma
// Compiled  SPEC_*: BatchNormGradientSpec; TUNE_*: see batch_norm.cuh; run time: ROWS, CHANNELS, epsilon
// Launch    batch_norm_backward_operands_chunks, _total, then _input, as those of batch_norm_forward.cu; the first two or the
//           last are left out where nothing needs them
// Assumes   ROWS and CHANNELS at least 1
// Writes    every output element exactly once; sums in the order of batch_norm_forward.cu
// Cost      x and dy read twice, dx written once: memory bound
// Tested    tests/operations/test_batch_norm.py
// Source    Ioffe & Szegedy, arXiv:1502.03167
#include "batch_norm.cuh"

constexpr bool BATCH_STATISTICS = SPEC_BATCH_STATISTICS;

GPUCNN_KERNEL __launch_bounds__(BLOCK)
batch_norm_backward_operands_chunks(SPEC_ACC* __restrict__ workspace, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ x,
                                    const SPEC_ACC* __restrict__ mean, const SPEC_ACC* __restrict__ variance, int ROWS, int CHANNELS,
                                    SPEC_ACC epsilon) {
  const ChunkOfChannels own(ROWS, CHANNELS);
  const SPEC_ACC centre = own.inside ? mean[own.channel] : SPEC_ACC(0);
  SPEC_ACC shift = 0, scale = 0;
  own.each(CHANNELS, [&](long long i) {
    const SPEC_ACC slope = to_acc(dy[i]);
    shift += slope;
    scale = multiply_add(slope, to_acc(x[i]) - centre, scale);
  });
  shift = column_sum<BLOCK>(shift);
  scale = column_sum<BLOCK>(scale);
  if (own.inside && threadIdx.y == 0) {
    SPEC_ACC* place = workspace + 2LL * own.chunk * CHANNELS + own.channel;
    place[0] = shift;
    place[CHANNELS] = scale * inverse_deviation(variance[own.channel], epsilon);
  }
}

GPUCNN_KERNEL __launch_bounds__(MAX_THREADS)
batch_norm_backward_operands_total(SPEC_ACC* __restrict__ dgamma, SPEC_ACC* __restrict__ dbeta, const SPEC_ACC* __restrict__ workspace,
                                   int ROWS, int CHANNELS) {
  const int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x), chunks = ceil_div(ROWS, rows_of_a_chunk());
  const bool inside = channel < CHANNELS;
  SPEC_ACC shift = 0, scale = 0;
  for (int chunk = (int)threadIdx.y; inside && chunk < chunks; chunk += (int)blockDim.y) {
    const SPEC_ACC* place = workspace + 2LL * chunk * CHANNELS + channel;
    shift += place[0];
    scale += place[CHANNELS];
  }
  shift = column_sum<MAX_THREADS>(shift);
  scale = column_sum<MAX_THREADS>(scale);
  if (!inside || threadIdx.y != 0) return;
  dgamma[channel] = scale;
  dbeta[channel] = shift;
}

GPUCNN_KERNEL __launch_bounds__(BLOCK)
batch_norm_backward_operands_input(SPEC_T* __restrict__ dx, const SPEC_T* __restrict__ dy, const SPEC_T* __restrict__ x,
                                   const SPEC_ACC* __restrict__ mean, const SPEC_ACC* __restrict__ variance,
                                   const SPEC_ACC* __restrict__ gamma, const SPEC_ACC* __restrict__ dgamma,
                                   const SPEC_ACC* __restrict__ dbeta, int ROWS, int CHANNELS, SPEC_ACC epsilon) {
  const ChunkOfChannels own(ROWS, CHANNELS);
  if (!own.inside) return;
  const SPEC_ACC inverse = inverse_deviation(variance[own.channel], epsilon);
  const SPEC_ACC factor = inverse * (gamma ? gamma[own.channel] : SPEC_ACC(1));
  if (BATCH_STATISTICS) {
    const SPEC_ACC centre = mean[own.channel], shift = dbeta[own.channel] / SPEC_ACC(ROWS);
    const SPEC_ACC scale = inverse * dgamma[own.channel] / SPEC_ACC(ROWS);
    own.each(CHANNELS, [&](long long i) {
      const SPEC_ACC through = to_acc(dy[i]) - shift - (to_acc(x[i]) - centre) * scale;
      dx[i] = from_acc<SPEC_T>(factor * through);
    });
  } else {
    own.each(CHANNELS, [&](long long i) { dx[i] = from_acc<SPEC_T>(factor * to_acc(dy[i])); });
  }
}
