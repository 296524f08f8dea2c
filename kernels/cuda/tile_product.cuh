// Products of small matrices by one block, on the CUDA cores.
#pragma once

#include "common.cuh"

namespace embpress::cuda {

// Blocks that a multiprocessor is to hold at once, which leaves a thread of 128 its registers without spilling any.
template <class T>
constexpr int kBlocksPerSM = sizeof(Compute<T>) == 8 ? 2 : 3;

// A leading dimension for shared memory: odd, so that both neighbouring rows and neighbouring columns of a matrix lie
// in different banks.
__host__ __device__ __forceinline__ int odd(int n) { return n | 1; }

// Each thread makes ROWS x COLUMNS elements at a time, far enough apart that the threads of a warp stand side by side.
template <int ROWS, int COLUMNS, class C, class A, class B, class Store>
__device__ __forceinline__ void product_tiles(int m, int n, int depth, A a, B b, Store store) {
  const int across = (n + COLUMNS - 1) / COLUMNS, down = (m + ROWS - 1) / ROWS;
  for (int tile = threadIdx.x; tile < across * down; tile += blockDim.x) {
    const int row = tile / across, column = tile - row * across;
    int i[ROWS], j[COLUMNS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) i[r] = min(row + r * down, m - 1);
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) j[c] = min(column + c * across, n - 1);
    C sum[ROWS][COLUMNS] = {};
#pragma unroll 4
    for (int k = 0; k < depth; ++k) {
      C left[ROWS], right[COLUMNS];
#pragma unroll
      for (int r = 0; r < ROWS; ++r) left[r] = a(i[r], k);
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) right[c] = b(k, j[c]);
#pragma unroll
      for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) sum[r][c] += left[r] * right[c];
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c)
        if (row + r * down < m && column + c * across < n) store(row + r * down, column + c * across, sum[r][c]);
  }
}

// store(i, j, sum over k of a(i, k) b(k, j)) for i < m, j < n. The caller puts barriers around it.
template <class C, class A, class B, class Store>
__device__ __forceinline__ void product(int m, int n, int depth, A a, B b, Store store) {
  // the larger tiles read less for each operation, but must leave something for every thread
  if (((m + 7) / 8) * ((n + 3) / 4) >= static_cast<int>(blockDim.x))
    product_tiles<8, 4, C>(m, n, depth, a, b, store);
  else
    product_tiles<4, 4, C>(m, n, depth, a, b, store);
}

}  // namespace embpress::cuda
