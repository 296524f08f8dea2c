// Large batches: a block takes rows of one group, which share a slice of the big core, so that every product with that
// slice and both of its gradients are matrix products of many lookups. Partial products never leave the chip.
#pragma once

#include "../common/tile_product.cuh"
#include "plan.cuh"

namespace embpress::cuda {

// The product that a group shares: (rows, depth) of each lookup x a slice (depth, columns).
struct TTStage {
  int core, rows, depth, columns;
  int rank, last;  // columns = pieces of `rank`; each times the last core's slice (rank, last). No last core: last = 0.

  __host__ __device__ static TTStage of(const TTTable& table, int core) {
    const bool has_last = core == table.grouped() && table.has_last();
    return {core,
            table.rows(core),
            table.rank[core],
            table.columns(core),
            table.rank[core + 1],
            has_last ? table.q[core + 1] : 0};
  }
};

// Shared memory of a block: M rows of left operands at a time, NC columns of the slice at a time.
template <int M, int NC>
struct TTTile {
  int lookups, rows;              // at a time; rows = lookups * stage.rows
  int x_stride, stride;           // between rows: of left operands, of slices and products
  int left, slice, product, row;  // elements

  __host__ __device__ static TTTile of(const TTStage& s, int dim, Math math) {
    constexpr int kMaxRowElements = 64 * M;
    int lookups = s.rows > M ? 1 : M / s.rows;
    const int fit = kMaxRowElements / dim < 1 ? 1 : kMaxRowElements / dim;
    lookups = fit < lookups ? fit : lookups;
    const int rows = lookups * s.rows;
    const int x_stride = bank_stride(math, s.depth), stride = bank_stride(math, NC);
    return {lookups, rows, x_stride, stride, rows * x_stride, s.depth * stride, rows * stride, lookups * dim};
  }
  __host__ __device__ int forward_elements() const { return left + slice + product + row; }
  __host__ __device__ int backward_elements() const { return left + 2 * slice + product + row; }
};

// Digits of a tile's lookups beside that of the group: of the cores before it, as one number, and of the last one.
struct TTDigits {
  int *before, *last;

  static constexpr size_t kBytes = 2 * 64 * sizeof(int);  // of shared memory; a tile has at most 64 lookups

  // behind the tile's own memory
  template <class C>
  __device__ static TTDigits at(C* end) {
    int* const room = reinterpret_cast<int*>(end);
    return {room, room + 64};
  }

  // of rows [row, row + lookups): each divides once for all threads
  __device__ void load(const TTTable& table, int core, const TTPlan& plan, int32_t row, int lookups) const {
    const int64_t below = table.below(core);
    for (int l = threadIdx.x; l < lookups; l += blockDim.x) {
      const int64_t rest = plan.rest(plan.row_key[row + l]), above = rest / below;
      before[l] = static_cast<int>(above);
      last[l] = static_cast<int>(rest - above * below);
    }
  }
};

// Rows [row, row + lookups) of left operands into x: slices of the first core, or `before` (its row size `stride`).
template <class T, class C>
__device__ void tt_load_left(const TTTable& table, const TTStage& s, const TTDigits& digits, int32_t row, int lookups,
                             const C* before, int64_t stride, C* x, int x_stride) {
  const int size = s.rows * s.depth;
  for (int e = threadIdx.x; e < lookups * size; e += blockDim.x) {
    const int l = e / size, inside = e - l * size, i = inside / s.depth;
    x[(l * s.rows + i) * x_stride + inside - i * s.depth] =
        before ? before[(row + l) * stride + inside] : widen(table.slice_at<T>(0, digits.before[l])[inside]);
  }
}

// Columns [first, first + columns) of a slice.
template <class T, class C, int NC>
__device__ void tt_load_slice(const TTStage& s, const T* from, int first, int columns, C* slice, int stride) {
  for (int e = threadIdx.x; e < s.depth * NC; e += blockDim.x) {
    const int k = e / NC, n = e % NC;
    if (n < columns) slice[k * stride + n] = widen(from[static_cast<int64_t>(k) * s.columns + first + n]);
  }
}

__device__ inline int tt_table_of_group(const TTTable* tables, int64_t num_tables, int32_t group) {
  int t = 0;
  while (t + 1 < num_tables && tables[t + 1].first_group <= group) ++t;
  return t;
}

// values (rows of the plan, dim): the rows that are not cached. before: (rows, before_stride), for four cores.
template <class T, int M, int NC>
__global__ void __launch_bounds__(128, kBlocksPerSM<T>)
    tt_group_forward(const TTTable* tables, int64_t num_tables, TTPlan plan, int dim, const Compute<T>* before,
                     int64_t before_stride, Compute<T>* values) {
  using C = Compute<T>;
  DYNAMIC_SHARED(C, shared);
  const TTSegment segment = TTSegment::of(plan.segment_start, plan.group_start, plan.groups, kSegment, blockIdx.x);
  if (segment.group < 0) return;
  const TTTable& table = tables[tt_table_of_group(tables, num_tables, segment.group)];
  const int g = table.grouped();
  const TTStage s = TTStage::of(table, g);
  const TTTile<M, NC> tile = TTTile<M, NC>::of(s, dim, plan.math);
  const T* from = table.slice_at<T>(g, segment.group - table.first_group);
  C *x = shared, *slice = x + tile.left, *partial = slice + tile.slice, *row = partial + tile.product;
  const TTDigits digits = TTDigits::at(row + tile.row);
  const int pieces = s.columns / s.rank;
  for (int32_t first = segment.begin; first < segment.end; first += tile.lookups) {
    const int lookups = min(tile.lookups, segment.end - first), rows = lookups * s.rows;
    digits.load(table, g, plan, first, lookups);
    __syncthreads();
    tt_load_left<T>(table, s, digits, first, lookups, before, before_stride, x, tile.x_stride);
    for (int e = threadIdx.x; e < lookups * dim; e += blockDim.x) row[e] = 0;
    for (int n0 = 0; n0 < s.columns; n0 += NC) {
      const int columns = min(NC, s.columns - n0);
      tt_load_slice<T, C, NC>(s, from, n0, columns, slice, tile.stride);
      __syncthreads();
      product<C>(
          plan.math, rows, columns, s.depth, [&](int i, int k) { return x[i * tile.x_stride + k]; },
          [&](int k, int j) { return slice[k * tile.stride + j]; },
          [&](int i, int j, C sum) { partial[i * tile.stride + j] = sum; });
      __syncthreads();
      if (!s.last) {
        for (int e = threadIdx.x; e < rows * columns; e += blockDim.x) {
          const int i = e / columns, n = e - i * columns;
          row[i * s.columns + n0 + n] = partial[i * tile.stride + n];
        }
      } else {
        // the pieces of these columns, whole or in part, times the last core's slices
        const int piece0 = n0 / s.rank, count = (n0 + columns - 1) / s.rank - piece0 + 1;
        const int each = s.rows * count * s.last;
        for (int e = threadIdx.x; e < lookups * each; e += blockDim.x) {
          const int l = e / each, inside = e - l * each, j2 = inside % s.last, piece = inside / s.last % count;
          const int i = inside / (s.last * count), j1 = piece0 + piece;
          const int low = max(0, n0 - j1 * s.rank), high = min(s.rank, n0 + columns - j1 * s.rank);
          const T* last = table.slice_at<T>(g + 1, digits.last[l]);
          const C* left = partial + (l * s.rows + i) * tile.stride + j1 * s.rank - n0;
          C sum = 0;
          for (int r = low; r < high; ++r) sum += left[r] * widen(last[r * s.last + j2]);
          row[l * dim + (i * pieces + j1) * s.last + j2] += sum;
        }
      }
      __syncthreads();
    }
    for (int e = threadIdx.x; e < lookups * dim; e += blockDim.x)
      values[static_cast<int64_t>(first) * dim + e] = row[e];
    __syncthreads();
  }
}

// before[row] = G_0[i_0] G_1[i_1], (q_0, q_1 R_2), for four cores
template <class T>
__global__ void tt_before_forward(const TTTable* tables, int64_t num_tables, TTPlan plan, int64_t stride,
                                  Compute<T>* before) {
  const int64_t all = static_cast<int64_t>(plan.group_start[plan.groups]) * stride;
  for (int64_t e = global_thread(); e < all; e += global_threads()) {
    const int64_t row = e / stride;
    const int inside = static_cast<int>(e - row * stride);
    const TTRow at = tt_row(tables, num_tables, plan, plan.row_key[row]);
    const TTTable& table = tables[at.table];
    const int columns = table.columns(1), i = inside / columns, n = inside - i * columns;
    if (i >= table.q[0]) continue;
    const T *first = table.slice_at<T>(0, at.digit[0]), *second = table.slice_at<T>(1, at.digit[1]);
    Compute<T> sum = 0;
    for (int r = 0; r < table.rank[1]; ++r) sum += widen(first[i * table.rank[1] + r]) * widen(second[r * columns + n]);
    before[e] = sum;
  }
}

// out (bags, tables, dim): sums or means of each bag's rows
template <class T>
__global__ void tt_pool(const TTTable* tables, TTLookups lookups, TTPlan plan, int dim, const Compute<T>* values,
                        T* out) {
  const int64_t e = global_thread(), bag = e / dim;
  if (bag >= lookups.tables * lookups.bags) return;
  const int d = static_cast<int>(e - bag * dim);
  const int64_t t = bag / lookups.bags;
  const int32_t first_cached = plan.group_start[plan.groups];
  Compute<T> sum = 0;
  int64_t found = 0;
  const int64_t end = lookups.begin(bag + 1);
  for (int64_t i = lookups.begin(bag); i < end; ++i) {
    const int32_t row = plan.row_of[i];
    if (row < 0) continue;
    ++found;
    Compute<T> value;
    if (row >= first_cached) {
      const int64_t slot = plan.group(plan.row_key[row]) - plan.groups - tables[t].first_cached;
      value = widen(static_cast<const T*>(tables[t].cache_values)[slot * dim + d]);
    } else {
      value = values[static_cast<int64_t>(row) * dim + d];
    }
    sum += lookups.weight<T>(i) * value;
  }
  if (lookups.mean && found > 1) sum /= static_cast<Compute<T>>(found);
  out[lookups.out_row(bag) * dim + d] = narrow<T>(sum);
}

}  // namespace embpress::cuda
