// totals.cuh -- running totals of a training epoch in device memory: double [sum of loss * rows, correct rows, rows].
#pragma once

template <class Loss>
__device__ __forceinline__ void add_totals(double* totals, Loss loss, double correct, int rows) {
  totals[0] += (double)loss * (double)rows;
  totals[1] += correct;
  totals[2] += (double)rows;
}
