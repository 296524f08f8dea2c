// One table as a tensor train: its shape, and the chain of products that makes a row.
#pragma once

#include <cstdint>

#include "../../common/tt_arguments.h"
#include "../common/id_table.h"
#include "../simd/kernels.h"

namespace embpress {

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// One product of the chain for one lookup: (rows, depth) x a core's slice (depth, per_block * rank). In memory a row of
// the result is `per_block` pieces of `padded` elements, zeros behind the rank, and rows are `stride` apart.
struct Stage {
  int core;
  int64_t rows, depth, per_block, rank, padded, stride;

  int64_t columns() const { return per_block * padded; }
  int64_t size() const { return rows * stride; }
};

template <class T>
struct Table : TableShape {
  const T* core[4];
  T* grad[4];
  // rows kept as they are, (cached, dim); none: cached = 0
  CacheIndex cache;
  const T* cache_values = nullptr;
  T* cache_grad = nullptr;
  int64_t cached = 0;
  const Kernels<T>* kernels;
  // Lookups are grouped by this core's digit. With 2 cores it is the last one and there is nothing after it; with 3 it
  // is the middle one; with 4 it is the third, and `before` is the second, whose products are made in a pass before.
  Stage grouped, before;
  bool has_last, has_before;
  LastShape last;

  // the width of a row of the first core's gradient, padded
  int64_t first_padded() const { return round_up(rank[1], kernels->lanes); }
  int64_t first_size() const { return q[0] * first_padded(); }
  int64_t last_size() const { return has_last ? last.q * last.padded : 0; }

  void digits(int64_t id, int32_t* digit) const {
    for (int k = num_cores - 1; k > 0; --k) {
      const int64_t rest = id / p[k];
      digit[k] = static_cast<int32_t>(id - rest * p[k]);
      id = rest;
    }
    digit[0] = static_cast<int32_t>(id);
  }

  int64_t grouped_digit(int64_t id) const {
    if (has_last) id /= p[num_cores - 1];
    return id % p[grouped.core];
  }

  // Fills what follows from the shape.
  void complete() {
    const int d = num_cores, g = d == 2 ? 1 : d - 2;
    has_last = d > 2;
    has_before = d == 4;
    const int64_t width = has_last ? rank[g + 1] : q[g];
    kernels = &best<T>(width);
    grouped.core = g;
    grouped.rows = 1;
    for (int k = 0; k < g; ++k) grouped.rows *= q[k];
    grouped.depth = rank[g];
    grouped.per_block = has_last ? q[g] : 1;
    grouped.rank = width;
    grouped.padded = round_up(width, kernels->lanes);
    grouped.stride = grouped.columns();
    // rows a power of two apart would meet in the same few sets of the first-level cache
    if (has_last && grouped.stride * sizeof(T) % 512 == 0) grouped.stride += 64 / sizeof(T);
    last = {grouped.rows * grouped.per_block, grouped.per_block, grouped.stride, width, grouped.padded, q[d - 1]};
    if (has_before) {
      // its rows, piece by piece, are the rows of the product after it: no gap between them
      const int64_t padded = round_up(rank[2], kernels->lanes);
      before = {1, q[0], rank[1], q[1], rank[2], padded, q[1] * padded};
    }
  }
};

}  // namespace embpress
