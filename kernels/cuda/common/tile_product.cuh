// Products of small matrices by one block.
#pragma once

#include "tensor_core.cuh"

namespace embpress::cuda {

// Blocks that a multiprocessor is to hold at once, which leaves a thread of 128 its registers without spilling any.
template <class T>
constexpr int kBlocksPerSM = sizeof(Compute<T>) == 8 ? 2 : 3;

// The distance between the rows of a matrix of `columns` in shared memory. For the CUDA cores it is odd, so that
// neighbouring rows as well as neighbouring columns lie in different banks; for tensor cores, whose operands are read
// in pieces of 8 by 4, it is 4 more than a multiple of 8.
__host__ __device__ __forceinline__ int bank_stride(Math math, int columns) {
  return math == Math::kFloat ? columns | 1 : (columns + 7) / 8 * 8 + 4;
}

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

// The same on tensor cores: a warp makes 16 x (8 * ACROSS) elements at a time, whole warps of the block together.
template <int ACROSS, bool SPLIT, class A, class B, class Store>
__device__ __forceinline__ void product_warps(int m, int n, int depth, A a, B b, Store store) {
  const int lane = threadIdx.x % 32, group = lane / 4, within = lane % 4;
  const int across = (n + 8 * ACROSS - 1) / (8 * ACROSS), down = (m + 15) / 16;
  for (int tile = threadIdx.x / 32; tile < across * down; tile += blockDim.x / 32) {
    const int row = tile / across * 16 + group, column = tile % across * 8 * ACROSS;
    float sum[ACROSS][4] = {};
    for (int k = 0; k < depth; k += 8) {
      TF32Pair<SPLIT> left[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {  // (group, within), then 8 rows below, then both 4 columns on
        const int i = row + e % 2 * 8, j = k + within + e / 2 * 4;
        left[e] = TF32Pair<SPLIT>(i < m && j < depth ? a(i, j) : 0.f);
      }
#pragma unroll
      for (int t = 0; t < ACROSS; ++t) {
        TF32Pair<SPLIT> right[2];
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int i = k + within + e * 4, j = column + t * 8 + group;
          right[e] = TF32Pair<SPLIT>(i < depth && j < n ? b(i, j) : 0.f);
        }
        multiply_add<SPLIT>(sum[t], left, right);
      }
    }
#pragma unroll
    for (int t = 0; t < ACROSS; ++t)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = row + e / 2 * 8, j = column + t * 8 + within * 2 + e % 2;
        if (i < m && j < n) store(i, j, sum[t][e]);
      }
  }
}

// store(i, j, sum over k of a(i, k) b(k, j)) for i < m, j < n. The caller puts barriers around it. Only products in
// float know of `math`; tensor cores want whole warps.
template <class C, class A, class B, class Store>
__device__ __forceinline__ void product(Math math, int m, int n, int depth, A a, B b, Store store) {
  if constexpr (sizeof(C) == 4) {
    if (math == Math::kTF32) return product_warps<2, false>(m, n, depth, a, b, store);
    if (math == Math::kSplitTF32) return product_warps<2, true>(m, n, depth, a, b, store);
  }
  // the larger tiles read less for each operation, but must leave something for every thread
  if (((m + 7) / 8) * ((n + 3) / 4) >= static_cast<int>(blockDim.x))
    product_tiles<8, 4, C>(m, n, depth, a, b, store);
  else
    product_tiles<4, 4, C>(m, n, depth, a, b, store);
}

}  // namespace embpress::cuda
