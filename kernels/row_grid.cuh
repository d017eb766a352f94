// row_grid.cuh -- which element of (rows, columns) a thread owns when a two-dimensional block covers part of it.
//
// Blocks are (columns, rows); the grid is ceil(columns / blockDim.x) * ceil(rows / blockDim.y) blocks along x, columns
// first, because only grid.x is large enough for any number of rows. One division a block replaces one an element.
#pragma once

struct RowPosition {
  long long row;
  int column;
};

__device__ __forceinline__ RowPosition row_position(int columns) {
  const unsigned tiles = ((unsigned)columns + blockDim.x - 1) / blockDim.x;
  const unsigned row_tile = blockIdx.x / tiles, column_tile = blockIdx.x - row_tile * tiles;
  return RowPosition{(long long)row_tile * blockDim.y + threadIdx.y, (int)(column_tile * blockDim.x + threadIdx.x)};
}
