// cross_entropy.cuh -- softmax cross-entropy of one row and its gradient: what cross_entropy.cu says, which linear_cross_entropy.cu
// shares. SPEC_WEIGHTED and SPEC_REDUCTION are CrossEntropySpec's.
#pragma once

#include "common.cuh"
#include "mathematics.cuh"
#include "team.cuh"
#include "totals.cuh"

constexpr bool WEIGHTED = SPEC_WEIGHTED;
constexpr int REDUCTION = SPEC_REDUCTION, NONE = 0, MEAN = 2;

__device__ __forceinline__ SPEC_ACC class_weight(const SPEC_T* weight, int c) { return WEIGHTED ? to_acc(weight[c]) : SPEC_ACC(1); }

// What a row's loss counts for in the whole.
__device__ __forceinline__ SPEC_ACC share_of_row(const SPEC_ACC* factor, int rows) {
  if (REDUCTION != MEAN) return SPEC_ACC(1);
  return WEIGHTED ? factor[0] : SPEC_ACC(1) / SPEC_ACC(rows);
}

// One row, worked on by a team of threads: z is its logits. Threads outside the last row come with classes = 0.
template <class Team>
struct Row {
  const Team& team;
  const SPEC_T* z;
  const SPEC_T* weight;
  int classes, label;
  bool known;
  SPEC_ACC largest, sum, distance, weights, hit, spread;

  __device__ __forceinline__ Row(const Team& members, const SPEC_T* logits, const int* labels, const SPEC_T* factors, long long row, int rows,
                                 int columns, SPEC_ACC smoothing)
      : team(members), z(logits), weight(factors), classes(row < rows ? columns : 0), label(row < rows ? labels[row] : -1) {
    known = label >= 0 && label < classes;
    largest = minus_infinity(SPEC_ACC(0));
    for (int c = team.rank; c < classes; c += team.size) largest = larger(largest, to_acc(z[c]));
    largest = team.largest(largest);
    sum = distance = weights = SPEC_ACC(0);
    for (int c = team.rank; c < classes; c += team.size) {
      const SPEC_ACC below = to_acc(z[c]) - largest, w = class_weight(weight, c);
      sum += exponential(below);
      distance += w * below;
      weights += w;
    }
    sum = team.sum(sum);
    if (smoothing > SPEC_ACC(0)) {  // otherwise 0 * -inf of an impossible class would be NaN
      distance = team.sum(distance);
      weights = team.sum(weights);
    } else {
      distance = weights = SPEC_ACC(0);
    }
    const SPEC_ACC label_weight = known ? class_weight(weight, label) : quiet_nan(SPEC_ACC(0));
    hit = (SPEC_ACC(1) - smoothing) * label_weight;
    spread = smoothing / SPEC_ACC(classes);
  }

  // gradient[c] = slope of the row's loss * share * dy
  __device__ __forceinline__ void write_gradient(SPEC_T* gradient, SPEC_ACC share, SPEC_ACC dy) const {
    for (int c = team.rank; c < classes; c += team.size) {
      const SPEC_ACC p = exponential(to_acc(z[c]) - largest) / sum;
      const SPEC_ACC towards_label = hit * (p - SPEC_ACC(c == label)), towards_all = spread * (p * weights - class_weight(weight, c));
      gradient[c] = from_acc<SPEC_T>((towards_label + towards_all) * share * dy);
    }
  }

  __device__ __forceinline__ SPEC_ACC loss() const {
    const SPEC_ACC log_sum = logarithm(sum), log_p = known ? (to_acc(z[label]) - largest) - log_sum : quiet_nan(SPEC_ACC(0));
    return -hit * log_p - spread * (distance - log_sum * weights);
  }

  // Whether the first largest logit stands at the label; every thread of the team must ask.
  __device__ __forceinline__ bool correct() const {
    const SPEC_ACC at_label = known ? to_acc(z[label]) : SPEC_ACC(0);
    SPEC_ACC before = 0;
    for (int c = team.rank; c < classes; c += team.size) {
      const SPEC_ACC logit = to_acc(z[c]);
      if (is_nan(logit) || logit > at_label || (logit == at_label && c < label)) before = 1;
    }
    return team.sum(before) == SPEC_ACC(0) && known;
  }
};
