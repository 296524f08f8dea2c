// Gradients, grouped as the products are: no atomics, every sum in one order.
//
// Slices of the grouped core: a block sums over its segment; groups of several segments are added up afterwards. The
// other cores' gradients are first made for each row and then summed over the rows with one digit (ends.cuh).
#pragma once

#include "group.cuh"

namespace embpress::cuda {

// What the gradient of a row comes from: those of its lookups' bags.
template <class T>
struct TTGradient {
  const T* grad;            // (bags, tables, dim)
  const Compute<T>* scale;  // (bags, tables), for means; else null

  // element d of what lookup i adds to its row
  __device__ Compute<T> of(const TTLookups& lookups, const TTPlan& plan, int32_t i, int dim, int d) const {
    const int64_t bag = plan.bag[i];
    const Compute<T> by = (scale ? scale[bag] : Compute<T>{1}) * lookups.weight<T>(i);
    return by * widen(grad[bag * dim + d]);
  }
};

// The same as a source of segment_sum.cuh: element `column` of lookup `number`.
template <class T>
struct TTGradientSource {
  TTGradient<T> gradient;
  TTLookups lookups;
  TTPlan plan;
  int dim;

  __device__ Compute<T> operator()(uint32_t number, int64_t column) const {
    return gradient.of(lookups, plan, static_cast<int32_t>(number), dim, static_cast<int>(column));
  }
};

// The row of each sorted lookup, above all rows where it wants nothing.
static __global__ void tt_rows_of_sorted(TTPlan plan, uint32_t* rows) {
  const int64_t j = global_thread();
  if (j < plan.total) rows[j] = static_cast<uint32_t>(plan.row_of[plan.sorted[j]]);
}

// Where the gradients go that belong to rows: (rows, stride) each.
template <class C>
struct TTRowGradients {
  C* left;  // of the left operand
  int64_t left_stride;
  C* last;  // of the last core's slice
  int64_t last_stride;
};

// d_slice (depth, columns) += x^T d_product; d_left(l, i, k) is told d_product slice^T
template <class C, class DLeft>
__device__ void tt_slice_and_left(Math math, const TTStage& s, int rows, int columns, const C* x, int x_stride,
                                  const C* slice, int stride, const C* d_product, C* d_slice, DLeft d_left) {
  product<C>(
      math, s.depth, columns, rows, [&](int k, int i) { return x[i * x_stride + k]; },
      [&](int i, int j) { return d_product[i * stride + j]; },
      [&](int k, int j, C sum) { d_slice[k * stride + j] += sum; });
  product<C>(
      math, rows, s.depth, columns, [&](int i, int j) { return d_product[i * stride + j]; },
      [&](int j, int k) { return slice[k * stride + j]; }, d_left);
}

// d_rows (rows, dim): the gradients of the plan's rows. parts (segments, part_stride): those of the slices of groups
// with several segments.
template <class T, int M, int NC>
__global__ void __launch_bounds__(128, kBlocksPerSM<T>)
    tt_group_backward(const TTTable* tables, int64_t num_tables, TTPlan plan, int dim, const Compute<T>* d_rows,
                      const Compute<T>* before, int64_t before_stride, TTRowGradients<Compute<T>> to, Compute<T>* parts,
                      int64_t part_stride) {
  using C = Compute<T>;
  DYNAMIC_SHARED(C, shared);
  const TTSegment segment = TTSegment::of(plan.segment_start, plan.group_start, plan.groups, kSegment, blockIdx.x);
  if (segment.group < 0) return;
  const TTTable& table = tables[tt_table_of_group(tables, num_tables, segment.group)];
  const int g = table.grouped(), digit = segment.group - table.first_group;
  const TTStage s = TTStage::of(table, g);
  const TTTile<M, NC> tile = TTTile<M, NC>::of(s, dim, plan.math);
  const T* from = table.slice_at<T>(g, digit);
  C *x = shared, *slice = x + tile.left, *d_slice = slice + tile.slice, *partial = d_slice + tile.slice,
    *d_row = partial + tile.product;
  const TTDigits digits = TTDigits::at(d_row + tile.row);
  const int pieces = s.columns / s.rank;
  for (int n0 = 0; n0 < s.columns; n0 += NC) {
    const int columns = min(NC, s.columns - n0);
    tt_load_slice<T, C, NC>(s, from, n0, columns, slice, tile.stride);
    for (int e = threadIdx.x; e < s.depth * tile.stride; e += blockDim.x) d_slice[e] = 0;
    for (int32_t first = segment.begin; first < segment.end; first += tile.lookups) {
      const int count = min(tile.lookups, segment.end - first), rows = count * s.rows;
      __syncthreads();
      digits.load(table, g, plan, first, count);
      __syncthreads();
      tt_load_left<T>(table, s, digits, first, count, before, before_stride, x, tile.x_stride);
      for (int e = threadIdx.x; e < count * dim; e += blockDim.x)
        d_row[e] = d_rows[static_cast<int64_t>(first) * dim + e];
      __syncthreads();
      if (s.last) {
        product<C>(
            plan.math, rows, columns, s.depth, [&](int i, int k) { return x[i * tile.x_stride + k]; },
            [&](int k, int j) { return slice[k * tile.stride + j]; },
            [&](int i, int j, C sum) { partial[i * tile.stride + j] = sum; });
        __syncthreads();
        // last core: element (r, j2) sums over the rows i and the pieces j1 whose column j1 rank + r is among these
        const int each = s.rank * s.last;
        for (int e = threadIdx.x; e < count * each; e += blockDim.x) {
          const int l = e / each, inside = e - l * each, r = inside / s.last, j2 = inside - r * s.last;
          const int piece = n0 > r ? (n0 - r + s.rank - 1) / s.rank : 0;
          if (piece * s.rank + r >= n0 + columns) continue;
          C* where = to.last + (first + l) * to.last_stride + inside;
          C sum = piece ? *where : C{0};
          for (int j1 = piece; j1 < pieces && j1 * s.rank + r < n0 + columns; ++j1)
            for (int i = 0; i < s.rows; ++i)
              sum += partial[(l * s.rows + i) * tile.stride + j1 * s.rank + r - n0] *
                     d_row[l * dim + (i * pieces + j1) * s.last + j2];
          *where = sum;
        }
        __syncthreads();
        // a thread stays in its column, so that it divides only once
        for (int e = threadIdx.x; e < rows * NC; e += blockDim.x) {
          const int i = e / NC, n = e % NC;
          if (n >= columns) continue;
          const int j1 = (n0 + n) / s.rank, r = n0 + n - j1 * s.rank, l = i / s.rows;
          const T* last = table.slice_at<T>(g + 1, digits.last[l]) + r * s.last;
          const C* d = d_row + l * dim + ((i - l * s.rows) * pieces + j1) * s.last;
          C sum = 0;
          for (int j2 = 0; j2 < s.last; ++j2) sum += d[j2] * widen(last[j2]);
          partial[i * tile.stride + n] = sum;
        }
      } else {
        for (int e = threadIdx.x; e < rows * NC; e += blockDim.x) {
          const int i = e / NC, n = e % NC;
          if (n < columns) partial[i * tile.stride + n] = d_row[i * s.columns + n0 + n];
        }
      }
      __syncthreads();
      tt_slice_and_left<C>(plan.math, s, rows, columns, x, tile.x_stride, slice, tile.stride, partial, d_slice,
                           [&](int i, int k, C sum) {
                             const int l = i / s.rows;
                             C* where = to.left + (first + l) * to.left_stride + (i - l * s.rows) * s.depth + k;
                             *where = n0 ? *where + sum : sum;
                           });
    }
    __syncthreads();
    for (int e = threadIdx.x; e < s.depth * NC; e += blockDim.x) {
      const int k = e / NC, n = e % NC;
      if (n >= columns) continue;
      const C sum = d_slice[k * tile.stride + n];
      const int64_t at = static_cast<int64_t>(k) * s.columns + n0 + n;
      if (segment.only)
        static_cast<T*>(table.grad[g])[static_cast<int64_t>(digit) * table.slice(g) + at] = narrow<T>(sum);
      else
        parts[blockIdx.x * part_stride + at] = sum;
    }
    __syncthreads();
  }
}

// The grouped core's gradients of groups with no segment (zero) or several (their sum); a block each.
template <class T>
__global__ void tt_sum_slices(const TTTable* tables, int64_t num_tables, TTPlan plan, const Compute<T>* parts,
                              int64_t part_stride) {
  const auto group = static_cast<int32_t>(blockIdx.x);
  const int32_t begin = plan.segment_start[group], end = plan.segment_start[group + 1];
  if (end - begin == 1) return;
  const TTTable& table = tables[tt_table_of_group(tables, num_tables, group)];
  const int g = table.grouped(), size = table.slice(g);
  T* to = static_cast<T*>(table.grad[g]) + static_cast<int64_t>(group - table.first_group) * size;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    Compute<T> sum = 0;
#pragma unroll 4
    for (int32_t part = begin; part < end; ++part) sum += parts[part * part_stride + e];
    to[e] = narrow<T>(sum);
  }
}

// Gradients of the cached rows; a block each.
template <class T>
__global__ void tt_cache_backward(const TTTable* tables, int64_t num_tables, TTPlan plan, int dim,
                                  const Compute<T>* d_rows) {
  const auto slot = static_cast<int32_t>(blockIdx.x);
  int t = 0;
  while (t + 1 < num_tables && tables[t + 1].first_cached <= slot) ++t;
  const int32_t row = plan.group_start[plan.groups + slot];
  const bool wanted = plan.group_start[plan.groups + slot + 1] > row;
  T* to = static_cast<T*>(tables[t].cache_grad) + static_cast<int64_t>(slot - tables[t].first_cached) * dim;
  for (int d = threadIdx.x; d < dim; d += blockDim.x)
    to[d] = narrow<T>(wanted ? d_rows[static_cast<int64_t>(row) * dim + d] : Compute<T>{0});
}

// weight_grad[position] = the lookup's row times its bag's gradient; a warp each. values: as of tt_group_forward.
template <class T>
__global__ void tt_weight_backward(const TTTable* tables, TTLookups lookups, TTPlan plan, int dim, const T* grad,
                                   const Compute<T>* scale, const Compute<T>* values, T* weight_grad) {
  const int64_t i = global_thread() / 32;
  const int lane = threadIdx.x % 32;
  if (i >= plan.total) return;
  const int32_t row = plan.row_of[i];
  const int64_t bag = plan.bag[i];
  Compute<T> sum = 0;
  if (row >= 0) {
    const int64_t t = bag % lookups.tables;
    const T* from = grad + bag * dim;
    const bool cached = row >= plan.group_start[plan.groups];
    const int64_t slot = plan.group(plan.row_key[row]) - plan.groups - tables[t].first_cached;
    for (int d = lane; d < dim; d += 32)
      sum += widen(from[d]) * (cached ? widen(static_cast<const T*>(tables[t].cache_values)[slot * dim + d])
                                      : values[static_cast<int64_t>(row) * dim + d]);
    if (scale) sum *= scale[bag];
  }
  for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
  if (lane == 0) weight_grad[lookups.position(i)] = narrow<T>(sum);
}

}  // namespace embpress::cuda
