// confusion.cu -- how often each class was taken for which.
//
// Computes  counts[labels[r], predicted[r]] += 1 for every row r whose label and prediction are classes, 0 .. CLASSES-1
// Layout    counts: (CLASSES, CLASSES) int; labels, predicted: (ROWS) int; contiguous
// Compiled  TUNE_BLOCK: threads a block;  run time: ROWS, CLASSES
// Launch    block (TUNE_BLOCK), grid (CLASSES): a block owns the counts of one label, a thread every TUNE_BLOCK-th of them
// Writes    counts, after reading them, each by one thread; counting integers
// Cost      CLASSES * ROWS comparisons of labels, CLASSES of them for every row that has the label: latency bound
// Tested    tests/operations/test_confusion.py
#include "common.cuh"

GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK)
confusion_update(GPUCNN_INOUT int* __restrict__ counts, const int* __restrict__ labels, const int* __restrict__ predicted, int ROWS,
                 int CLASSES) {
  const int label = (int)blockIdx.x;
  for (int c = (int)threadIdx.x; c < CLASSES; c += TUNE_BLOCK) {
    int found = 0;
    for (int row = 0; row < ROWS; ++row) found += labels[row] == label && predicted[row] == c;
    counts[(long long)label * CLASSES + c] += found;
  }
}
