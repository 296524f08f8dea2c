// Gradients of the cores that are not grouped: sums over the rows that have one digit, of what each row gave.
//
// Rows are sorted by these digits once for all cores. Of the ends' digits (first and last cores) a block sums at most
// kEndRows rows, so that a digit that most rows share holds nobody up; a second pass adds a digit's sums.
#pragma once

#include "backward.cuh"

namespace embpress::cuda {

constexpr int kEndRows = 64;

// Lists of digits: the first core's, the last core's (where there is one behind the grouped core), and with four cores
// the second core's. A table's digits of list l are numbered from its first_end[l]; those of the third list come last.
struct TTEnds {
  int32_t* rows;           // lists * total: rows, sorted by digit
  int32_t* start;          // digits + 1
  int32_t* segment_start;  // ends + 1
  int32_t lists, ends, digits;
};

__host__ __device__ inline int tt_end_core(const TTTable& table, int list) {
  return list == 0 ? 0 : list == 1 ? table.num_cores - 1 : 1;
}

static __global__ void tt_end_keys(const TTTable* tables, int64_t num_tables, TTPlan plan, TTEnds ends, uint32_t* keys,
                                   int32_t* rows) {
  const int64_t e = global_thread();
  if (e >= ends.lists * plan.total) return;
  const int list = static_cast<int>(e / plan.total);
  const auto row = static_cast<int32_t>(e - list * plan.total);
  uint32_t key = ends.digits;
  if (row < plan.group_start[plan.groups]) {
    const TTRow at = tt_row(tables, num_tables, plan, plan.row_key[row]);
    key = tables[at.table].first_end[list] + at.digit[tt_end_core(tables[at.table], list)];
  }
  keys[e] = key;
  rows[e] = row;
}

static __global__ void tt_end_starts(TTPlan plan, TTEnds ends, const uint32_t* keys) {
  const int64_t digit = global_thread();
  if (digit <= ends.digits)
    ends.start[digit] = static_cast<int32_t>(last_start(keys, ends.lists * plan.total, digit - 1) + 1);
}

// The table and list of an end's digit.
struct TTEnd {
  int table, list, core, digit;

  __device__ static TTEnd of(const TTTable* tables, int64_t num_tables, int lists, int32_t number) {
    int low = 0, high = static_cast<int>(num_tables);  // numbers ascend table after table
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (tables[middle].first_end[0] <= number ? low : high) = middle;
    }
    const int list = lists > 1 && tables[low].first_end[1] <= number ? 1 : 0;
    return {low, list, tt_end_core(tables[low], list), number - tables[low].first_end[list]};
  }
};

// The sum of element e over the rows that are listed from `begin` to `end`.
template <class C>
__device__ C tt_sum_rows(const TTEnds& ends, int32_t begin, int32_t end, const C* from, int64_t stride, int e) {
  C sum = 0;
#pragma unroll 8
  for (int32_t j = begin; j < end; ++j) sum += from[ends.rows[j] * stride + e];
  return sum;
}

// parts (segments, part_stride): sums of digits with several segments
template <class T>
__global__ void tt_end_sums(const TTTable* tables, int64_t num_tables, TTEnds ends, TTRowGradients<Compute<T>> rows,
                            Compute<T>* parts, int64_t part_stride) {
  const TTSegment segment = TTSegment::of(ends.segment_start, ends.start, ends.ends, kEndRows, blockIdx.x);
  if (segment.group < 0) return;
  const TTEnd end = TTEnd::of(tables, num_tables, ends.lists < 2 ? ends.lists : 2, segment.group);
  const TTTable& table = tables[end.table];
  const int size = table.slice(end.core);
  T* to = static_cast<T*>(table.grad[end.core]) + static_cast<int64_t>(end.digit) * size;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    const Compute<T> sum = end.list == 0
                               ? tt_sum_rows(ends, segment.begin, segment.end, rows.left, rows.left_stride, e)
                               : tt_sum_rows(ends, segment.begin, segment.end, rows.last, rows.last_stride, e);
    if (segment.only)
      to[e] = narrow<T>(sum);
    else
      parts[blockIdx.x * part_stride + e] = sum;
  }
}

// Digits with no segment (zero) or several (their sum); a block each.
template <class T>
__global__ void tt_sum_ends(const TTTable* tables, int64_t num_tables, TTEnds ends, const Compute<T>* parts,
                            int64_t part_stride) {
  const auto number = static_cast<int32_t>(blockIdx.x);
  const int32_t begin = ends.segment_start[number], last = ends.segment_start[number + 1];
  if (last - begin == 1) return;
  const TTEnd end = TTEnd::of(tables, num_tables, ends.lists < 2 ? ends.lists : 2, number);
  const TTTable& table = tables[end.table];
  const int size = table.slice(end.core);
  T* to = static_cast<T*>(table.grad[end.core]) + static_cast<int64_t>(end.digit) * size;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    Compute<T> sum = 0;
#pragma unroll 4
    for (int32_t part = begin; part < last; ++part) sum += parts[part * part_stride + e];
    to[e] = narrow<T>(sum);
  }
}

// With four cores: the second core's slice of one digit, a block each, from the gradients of `before` (d_before); and
// what each row gives to the first core (d_first).
template <class T, int M, int NC>
__global__ void __launch_bounds__(128, kBlocksPerSM<T>)
    tt_before_backward(const TTTable* tables, int64_t num_tables, TTPlan plan, TTEnds ends, const Compute<T>* d_before,
                       int64_t before_stride, Compute<T>* d_first, int64_t first_stride) {
  using C = Compute<T>;
  DYNAMIC_SHARED(C, shared);
  const int32_t number = ends.ends + static_cast<int32_t>(blockIdx.x);
  int t = 0;
  while (t + 1 < num_tables && tables[t + 1].first_end[2] <= number) ++t;
  const TTTable& table = tables[t];
  const int digit = number - table.first_end[2];
  const TTStage s = TTStage::of(table, 1);
  const TTTile<M, NC> tile = TTTile<M, NC>::of(s, 1, plan.math);
  const T* from = table.slice_at<T>(1, digit);
  T* to = static_cast<T*>(table.grad[1]) + static_cast<int64_t>(digit) * table.slice(1);
  C *x = shared, *slice = x + tile.left, *d_slice = slice + tile.slice, *d_product = d_slice + tile.slice;
  const TTDigits digits = TTDigits::at(d_product + tile.product);
  const int32_t begin = ends.start[number], end = ends.start[number + 1];
  for (int n0 = 0; n0 < s.columns; n0 += NC) {
    const int columns = min(NC, s.columns - n0);
    tt_load_slice<T, C, NC>(s, from, n0, columns, slice, tile.stride);
    for (int e = threadIdx.x; e < s.depth * tile.stride; e += blockDim.x) d_slice[e] = 0;
    for (int32_t first = begin; first < end; first += tile.lookups) {
      const int count = min(tile.lookups, end - first), rows = count * s.rows, size = s.rows * s.depth;
      __syncthreads();
      for (int l = threadIdx.x; l < count; l += blockDim.x)
        digits.before[l] = tt_row(tables, num_tables, plan, plan.row_key[ends.rows[first + l]]).digit[0];
      __syncthreads();
      for (int e = threadIdx.x; e < count * size; e += blockDim.x) {
        const int l = e / size, inside = e - l * size, i = inside / s.depth;
        x[(l * s.rows + i) * tile.x_stride + inside - i * s.depth] =
            widen(table.slice_at<T>(0, digits.before[l])[inside]);
      }
      for (int e = threadIdx.x; e < rows * NC; e += blockDim.x) {
        const int i = e / NC, n = e % NC, l = i / s.rows;
        if (n < columns)
          d_product[i * tile.stride + n] =
              d_before[ends.rows[first + l] * before_stride + (i - l * s.rows) * s.columns + n0 + n];
      }
      __syncthreads();
      tt_slice_and_left<C>(plan.math, s, rows, columns, x, tile.x_stride, slice, tile.stride, d_product, d_slice,
                           [&](int i, int k, C sum) {
                             const int l = i / s.rows;
                             C* where = d_first + ends.rows[first + l] * first_stride + (i - l * s.rows) * s.depth + k;
                             *where = n0 ? *where + sum : sum;
                           });
    }
    __syncthreads();
    for (int e = threadIdx.x; e < s.depth * NC; e += blockDim.x) {
      const int k = e / NC, n = e % NC;
      if (n < columns) to[static_cast<int64_t>(k) * s.columns + n0 + n] = narrow<T>(d_slice[k * tile.stride + n]);
    }
    __syncthreads();
  }
}

}  // namespace embpress::cuda
