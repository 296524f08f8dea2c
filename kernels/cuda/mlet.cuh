// MLET on the GPU: gathered inner rows times their table's projection, and the two gradients, as tiled products.
#pragma once

#include "common/distinct.cuh"
#include "common/gathered_product.cuh"

namespace embpress::cuda {

// Inner rows of each table: the distinct ones that a batch takes, or those of its lookups as they come.
struct InnerRows {
  Lookups lookups;
  const uint32_t* rows;  // distinct rows, null for lookups as they come
  const uint32_t* ranges;

  __device__ __forceinline__ int64_t count(int64_t t) const {
    return rows ? ranges[2 * t + 1] - ranges[2 * t] : lookups.count / lookups.tables.by;
  }
  // where row i of table t has its result
  __device__ __forceinline__ int64_t place(int64_t t, int64_t i) const {
    return rows ? ranges[2 * t] + i : i * lookups.tables.by + t;
  }
  // -1 for a lookup out of range
  __device__ __forceinline__ int64_t row(int64_t t, int64_t i) const {
    return rows ? rows[place(t, i)] : lookups.row(place(t, i));
  }
};

// out[place] = table[row] @ projections[t]; a batch is a table.
template <class T>
struct Projected {
  using A = T;
  using B = T;
  using C = Compute<T>;
  static constexpr bool kAAlongDepth = true, kBAlongDepth = false;
  InnerRows inner;
  const T* table;
  const T* projections;
  T* out;
  int64_t k, dim;
  bool a_packs, b_packs;

  __device__ int64_t rows(int64_t t) const { return inner.count(t); }
  __device__ int64_t columns() const { return dim; }
  __device__ int64_t depth_begin(int64_t) const { return 0; }
  __device__ int64_t depth_end(int64_t) const { return k; }
  __device__ const T* a(int64_t t, int64_t i, int64_t d) const {
    const int64_t row = inner.row(t, i);
    return row < 0 ? nullptr : table + row * k + d;
  }
  __device__ const T* b(int64_t t, int64_t j, int64_t d) const { return projections + (t * k + d) * dim + j; }
  __device__ void store(int64_t t, int64_t i, int64_t j, C sum) const {
    out[inner.place(t, i) * dim + j] = narrow<T>(sum);
  }
};

// table_grad[row] = sums[u] @ projections[t]^T, for the distinct rows u; a batch is a table.
template <class T>
struct TableGradient {
  using A = Compute<T>;
  using B = T;
  using C = Compute<T>;
  static constexpr bool kAAlongDepth = true, kBAlongDepth = true;
  InnerRows inner;
  const C* sums;
  const T* projections;
  T* out;
  int64_t k, dim;
  bool a_packs, b_packs;

  __device__ int64_t rows(int64_t t) const { return inner.count(t); }
  __device__ int64_t columns() const { return k; }
  __device__ int64_t depth_begin(int64_t) const { return 0; }
  __device__ int64_t depth_end(int64_t) const { return dim; }
  __device__ const C* a(int64_t t, int64_t i, int64_t d) const { return sums + inner.place(t, i) * dim + d; }
  __device__ const T* b(int64_t t, int64_t j, int64_t d) const { return projections + (t * k + j) * dim + d; }
  __device__ void store(int64_t t, int64_t i, int64_t j, C sum) const { out[inner.row(t, i) * k + j] = narrow<T>(sum); }
};

// parts[t, p] = sum over the distinct rows u of part p of table[row]^T sums[u]; a batch is a part of a table's rows.
template <class T>
struct ProjectionGradient {
  using A = T;
  using B = Compute<T>;
  using C = Compute<T>;
  static constexpr bool kAAlongDepth = false, kBAlongDepth = false;
  InnerRows inner;
  const T* table;
  const C* sums;
  C* out;
  int64_t k, dim, parts;
  bool a_packs, b_packs;

  __device__ int64_t rows(int64_t) const { return k; }
  __device__ int64_t columns() const { return dim; }
  __device__ int64_t depth_begin(int64_t batch) const { return inner.count(batch / parts) * (batch % parts) / parts; }
  __device__ int64_t depth_end(int64_t batch) const { return inner.count(batch / parts) * (batch % parts + 1) / parts; }
  __device__ const T* a(int64_t batch, int64_t i, int64_t d) const {
    return table + inner.row(batch / parts, d) * k + i;
  }
  __device__ const C* b(int64_t batch, int64_t j, int64_t d) const {
    return sums + inner.place(batch / parts, d) * dim + j;
  }
  __device__ void store(int64_t batch, int64_t i, int64_t j, C sum) const { out[(batch * k + i) * dim + j] = sum; }
};

// Adds up the parts of each table's projection gradient, `size` elements each.
template <class T>
__global__ void add_parts_kernel(const Compute<T>* from, int64_t tables, int64_t parts, int64_t size, T* out) {
  const int64_t element = global_thread();
  if (element >= tables * size) return;
  const int64_t t = element / size, place = element % size;
  Compute<T> total = 0;
#pragma unroll 4
  for (int64_t p = 0; p < parts; ++p) total += from[(t * parts + p) * size + place];
  out[element] = narrow<T>(total);
}

// Gives every lookup the result of its distinct row; blockDim (columns / V, sorted lookups).
template <class T, int V>
__global__ void spread_kernel(const T* from, const uint32_t* numbers, const uint32_t* lookups, int64_t count, int dim,
                              T* out) {
  const int64_t e = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  if (e >= count) return;
  const uint32_t number = numbers[e], lookup = lookups[e];
  for (int column = threadIdx.x * V; column < dim; column += blockDim.x * V) {
    Pack<T, V> values;
    if (number == kNone) {
      for (int k = 0; k < V; ++k) values.v[k] = narrow<T>(0);
    } else {
      values = *reinterpret_cast<const Pack<T, V>*>(from + static_cast<int64_t>(number) * dim + column);
    }
    *reinterpret_cast<Pack<T, V>*>(out + static_cast<int64_t>(lookup) * dim + column) = values;
  }
}

// What a lookup adds to the gradient of its row of the product.
template <class T>
struct RowGradient {
  const T* grad;
  int64_t dim;

  __device__ __forceinline__ Compute<T> operator()(uint32_t lookup, int64_t column) const {
    return widen(grad[lookup * dim + column]);
  }
};

}  // namespace embpress::cuda
