// Small batches: a block makes a bag, every lookup by itself. No product leaves the chip and nothing is sorted.
#pragma once

#include "table.cuh"

namespace embpress::cuda {

// Elements of shared memory: two products of the chain, one after the other, and the bag's sum.
__host__ __device__ inline int tt_bag_widest(const TTTable& table) {
  int widest = 0, rows = 1;
  for (int k = 0; k < table.num_cores; ++k) {
    rows *= table.q[k];
    const int size = rows * table.rank[k + 1];
    widest = size > widest ? size : widest;
  }
  return widest;
}

// out (bags, tables, dim). widest: the largest tt_bag_widest of the tables.
template <class T>
__global__ void tt_bag_forward(const TTTable* tables, TTLookups lookups, int dim, int widest, T* out) {
  using C = Compute<T>;
  DYNAMIC_SHARED(C, shared);
  C* sum = shared + 2 * widest;
  const int64_t bag = blockIdx.x, t = bag / lookups.bags;
  const TTTable& table = tables[t];
  for (int d = threadIdx.x; d < dim; d += blockDim.x) sum[d] = 0;
  int64_t found = 0;
  const int64_t end = lookups.begin(bag + 1);
  for (int64_t i = lookups.begin(bag); i < end; ++i) {
    const TTWanted wanted = tt_wanted(table, lookups, i);
    if (wanted.nothing) continue;
    ++found;
    const C weight = lookups.weight<T>(i);
    if (wanted.cached >= 0) {
      const T* row = static_cast<const T*>(table.cache_values) + static_cast<int64_t>(wanted.cached) * dim;
      for (int d = threadIdx.x; d < dim; d += blockDim.x) sum[d] += weight * widen(row[d]);
      continue;
    }
    int digit[kTTCores];
    tt_digits(table, wanted.id, digit);
    C *from = shared, *to = shared + widest;
    const T* first = table.slice_at<T>(0, digit[0]);
    for (int e = threadIdx.x; e < table.slice(0); e += blockDim.x) from[e] = widen(first[e]);
    int rows = table.q[0];
    for (int k = 1; k < table.num_cores; ++k) {
      __syncthreads();
      const T* slice = table.slice_at<T>(k, digit[k]);
      const int depth = table.rank[k], columns = table.columns(k);
      // neighbours take neighbouring columns, so that the slice is read in whole lines
      for (int e = threadIdx.x; e < rows * columns; e += blockDim.x) {
        const int row = e / columns, column = e - row * columns;
        C value = 0;
        for (int r = 0; r < depth; ++r) value += from[row * depth + r] * widen(slice[r * columns + column]);
        to[e] = value;
      }
      rows *= table.q[k];
      C* const other = from;
      from = to;
      to = other;
    }
    __syncthreads();
    for (int d = threadIdx.x; d < dim; d += blockDim.x) sum[d] += weight * from[d];
    __syncthreads();  // the next lookup writes here
  }
  const C scale = lookups.mean && found > 1 ? C{1} / static_cast<C>(found) : C{1};
  T* row = out + lookups.out_row(bag) * dim;
  for (int d = threadIdx.x; d < dim; d += blockDim.x) row[d] = narrow<T>(scale * sum[d]);
}

}  // namespace embpress::cuda
