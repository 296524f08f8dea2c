// One tiled product of matrices whose rows may lie anywhere: both operands pass through shared memory, 8 x 4 sums stay
// in a thread's registers. Any shape; what is multiplied and where it goes a `Problem` says.
#pragma once

#include "lookups.cuh"

namespace embpress::cuda {

constexpr int kDepth = 16;                          // of a step through shared memory
constexpr int kRowsEach = 8, kColumnsEach = 4;      // sums of a thread
constexpr int kProductThreads = 128, kPadding = 4;  // elements after a row in shared memory, against bank conflicts

// The tile of a block: wide for wide products, else long.
struct ProductTile {
  int rows, columns;

  __host__ __device__ explicit ProductTile(int64_t width) : rows(0), columns(width <= 16 ? 16 : width <= 32 ? 32 : 64) {
    rows = kProductThreads * kColumnsEach / columns * kRowsEach;
  }
  __host__ __device__ int64_t shared() const { return kDepth * (rows + columns + 2 * kPadding); }
};

template <class C>
struct alignas(16) Four {
  C v[4];
};

// Brings `extent` by kDepth elements to `tile`, depth by depth; zeros where there are none. `at(i, d)` points to an
// element, or is null; V elements that follow each other along the depth, or along i, are read at once.
template <int V, bool kAlongDepth, class E, class C, class At>
__device__ __forceinline__ void load_tile(C* tile, int extent, int64_t first, int64_t count, int64_t depth, int64_t end,
                                          const At& at) {
  const int stride = extent + kPadding;
  for (int unit = threadIdx.x; unit < extent * kDepth / V; unit += kProductThreads) {
    const int i = kAlongDepth ? unit / (kDepth / V) : unit % (extent / V) * V;
    const int d = kAlongDepth ? unit % (kDepth / V) * V : unit / (extent / V);
    const E* from = first + i < count && depth + d < end ? at(first + i, depth + d) : nullptr;
    Pack<E, V> values;
    if (from) {
      values = *reinterpret_cast<const Pack<E, V>*>(from);
    } else {
#pragma unroll
      for (int k = 0; k < V; ++k) values.v[k] = narrow<E>(0);
    }
#pragma unroll
    for (int k = 0; k < V; ++k)
      tile[kAlongDepth ? (d + k) * stride + i : d * stride + i + k] = static_cast<C>(widen(values.v[k]));
  }
}

template <bool kAlongDepth, class E, class C, class At>
__device__ __forceinline__ void load_tile(bool packs, C* tile, int extent, int64_t first, int64_t count, int64_t depth,
                                          int64_t end, const At& at) {
  if (packs)
    load_tile<kPack<E>, kAlongDepth, E>(tile, extent, first, count, depth, end, at);
  else
    load_tile<1, kAlongDepth, E>(tile, extent, first, count, depth, end, at);
}

// A Problem has the types A and B of the operands' elements and C of the sums; whether they lie along the depth
// (kAAlongDepth, kBAlongDepth) and can be read 16 bytes at a time (a_packs, b_packs: what lies together is then a
// multiple of that); `rows(batch)`, `columns()`, `depth_begin(batch)`, `depth_end(batch)`; `a(batch, i, d)` and
// `b(batch, j, d)`, pointers to elements; `store(batch, i, j, sum)`. A block is a tile of a batch.
template <class Problem>
__global__ void __launch_bounds__(kProductThreads, 3)
    gathered_product_kernel(Problem problem, ProductTile tile, int64_t row_tiles, int64_t column_tiles) {
  using C = typename Problem::C;
  DYNAMIC_SHARED(C, left);
  C* right = left + kDepth * (tile.rows + kPadding);
  const int64_t batch = blockIdx.x / (row_tiles * column_tiles), place = blockIdx.x % (row_tiles * column_tiles);
  const int64_t row = place / column_tiles * tile.rows, column = place % column_tiles * tile.columns;
  const int64_t rows = problem.rows(batch), columns = problem.columns(), end = problem.depth_end(batch);
  if (row >= rows) return;
  const int m = threadIdx.x / (tile.columns / kColumnsEach) * kRowsEach;
  const int n = threadIdx.x % (tile.columns / kColumnsEach) * kColumnsEach;
  C sum[kRowsEach][kColumnsEach] = {};
  for (int64_t depth = problem.depth_begin(batch); depth < end; depth += kDepth) {
    load_tile<Problem::kAAlongDepth, typename Problem::A>(problem.a_packs, left, tile.rows, row, rows, depth, end,
                                                          [&](int64_t i, int64_t d) { return problem.a(batch, i, d); });
    load_tile<Problem::kBAlongDepth, typename Problem::B>(problem.b_packs, right, tile.columns, column, columns, depth,
                                                          end,
                                                          [&](int64_t j, int64_t d) { return problem.b(batch, j, d); });
    __syncthreads();
#pragma unroll 4
    for (int d = 0; d < kDepth; ++d) {
      const C* from = left + d * (tile.rows + kPadding) + m;
      const Four<C> low = *reinterpret_cast<const Four<C>*>(from), high = *reinterpret_cast<const Four<C>*>(from + 4);
      const Four<C> b = *reinterpret_cast<const Four<C>*>(right + d * (tile.columns + kPadding) + n);
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < kColumnsEach; ++c) {
          sum[r][c] += low.v[r] * b.v[c];
          sum[r + 4][c] += high.v[r] * b.v[c];
        }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kRowsEach; ++r)
#pragma unroll
    for (int c = 0; c < kColumnsEach; ++c)
      if (row + m + r < rows && column + n + c < columns) problem.store(batch, row + m + r, column + n + c, sum[r][c]);
}

}  // namespace embpress::cuda
