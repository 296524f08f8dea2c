// Rows put together from rows of part tables (hashing trick, QR) on the GPU: the part rows are computed in registers.
#pragma once

#include "common/hash.cuh"
#include "common/lookups.cuh"

namespace embpress::cuda {

enum class Combine { concat, add, mult };  // as numbered in kernels/reference

// Which rows of the weight a lookup takes: see `ops.compositional_lookup`.
struct Parts {
  Lookups lookups;
  const int64_t* coefficients;  // (T, 4, l) of hashes, (T, 1, l) of digits
  const int64_t* base;          // (T, l)
  const int64_t* sizes;         // (T, l), or (T, 1)
  int parts;
  bool hashed, one_size;
  Combine combine;
  int width, dim;

  // Row of part j for an id of table t.
  __device__ __forceinline__ int64_t row(int64_t id, uint32_t t, int j) const {
    const int64_t size = sizes[one_size ? t : static_cast<int64_t>(t) * parts + j];
    const int64_t* of = coefficients + static_cast<int64_t>(t) * parts * (hashed ? 4 : 1) + j;
    const uint64_t found = hashed
                               ? hash_twice(static_cast<uint32_t>(id), of[0], of[parts], of[2 * parts], of[3 * parts])
                               : quotient(static_cast<uint64_t>(id), static_cast<uint64_t>(of[0]));
    return lookups.row_offsets[t] + base[static_cast<int64_t>(t) * parts + j] +
           static_cast<int64_t>(remainder(found, static_cast<uint64_t>(size)));
  }
};

// blockDim (columns / V, lookups); V elements a thread come from one part
template <class T, int V>
__global__ void __launch_bounds__(256) compositional_lookup_kernel(const T* weight, Parts parts, T* out) {
  const int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  if (i >= parts.lookups.count) return;
  const uint32_t t = parts.lookups.table(i);
  const int64_t id = parts.lookups.id(i, t);
  const auto load = [&](int j, int column) {
    return *reinterpret_cast<const Pack<T, V>*>(weight + parts.row(id, t, j) * parts.width + column);
  };
  for (int column = threadIdx.x * V; column < parts.dim; column += blockDim.x * V) {
    Pack<T, V> values;
    if (id < 0) {
      for (int k = 0; k < V; ++k) values.v[k] = narrow<T>(0);
    } else if (parts.combine == Combine::concat) {
      const int j = column / parts.width;
      values = load(j, column - j * parts.width);
    } else {
      Compute<T> total[V];
      values = load(0, column);
#pragma unroll
      for (int k = 0; k < V; ++k) total[k] = widen(values.v[k]);
      for (int j = 1; j < parts.parts; ++j) {
        values = load(j, column);
#pragma unroll
        for (int k = 0; k < V; ++k)
          total[k] = parts.combine == Combine::add ? total[k] + widen(values.v[k]) : total[k] * widen(values.v[k]);
      }
#pragma unroll
      for (int k = 0; k < V; ++k) values.v[k] = narrow<T>(total[k]);
    }
    *reinterpret_cast<Pack<T, V>*>(out + i * parts.dim + column) = values;
  }
}

// One key a part of a lookup: the row it takes; `limit` where the id is out of range.
static __global__ void compositional_keys_kernel(Parts parts, Divisor part, uint32_t limit, uint32_t* rows,
                                                 uint32_t* sources) {
  const int64_t source = global_thread();
  if (source >= parts.lookups.count * parts.parts) return;
  const uint32_t i = part.quotient(static_cast<uint32_t>(source)), t = parts.lookups.table(i);
  const int64_t id = parts.lookups.id(i, t);
  const int j = static_cast<int>(static_cast<uint32_t>(source) - i * part.by);
  rows[source] = id < 0 ? limit : static_cast<uint32_t>(parts.row(id, t, j));
  sources[source] = static_cast<uint32_t>(source);
}

// What a part of a lookup adds to the gradient of its row; with `mult`, by the product of the other parts' rows.
template <class T>
struct PartGradient {
  const T* grad;
  const T* weight;
  Parts parts;
  Divisor part;

  __device__ __forceinline__ Compute<T> operator()(uint32_t source, int64_t column) const {
    const uint32_t i = part.quotient(source);
    const int j = static_cast<int>(source - i * part.by);
    const int64_t from = static_cast<int64_t>(i) * parts.dim + column;
    if (parts.combine == Combine::concat) return widen(grad[from + static_cast<int64_t>(j) * parts.width]);
    Compute<T> value = widen(grad[from]);
    if (parts.combine == Combine::add) return value;
    const uint32_t t = parts.lookups.table(i);
    const int64_t id = parts.lookups.id(i, t);
    for (int other = parts.parts - 1; other >= 0; --other)
      if (other != j) value *= widen(weight[parts.row(id, t, other) * parts.width + column]);
    return value;
  }
};

}  // namespace embpress::cuda
