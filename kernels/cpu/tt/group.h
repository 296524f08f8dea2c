// The products of one group of lookups: they share a slice of the big core, so that each product of the chain with that
// core, and both of its gradients, is one matrix product for the whole group.
#pragma once

#include <cstring>

#include "plan.h"

namespace embpress {

// A slice of a core as the matrix (depth, columns) of a stage, padded where the stage is.
template <class T>
struct SliceMatrix {
  const T* data;
  int64_t stride;

  static int64_t scratch(const Stage& s) { return s.depth * s.stride; }

  // The slice itself where its layout fits, else a copy in `room`. Many rows a power of two apart would share few sets
  // of the first-level cache: `reused` slices are copied then too.
  SliceMatrix(const Stage& s, const T* slice, bool reused, T* room) : data(slice), stride(s.per_block * s.rank) {
    const bool crowded = reused && s.depth >= 32 && stride * sizeof(T) % 1024 == 0;
    if (s.rank == s.padded && !crowded) return;
    for (int64_t i = 0; i < s.depth; ++i)
      for (int64_t b = 0; b < s.per_block; ++b) {
        T* to = room + i * s.stride + b * s.padded;
        std::memcpy(to, slice + (i * s.per_block + b) * s.rank, s.rank * sizeof(T));
        std::memset(to + s.rank, 0, (s.padded - s.rank) * sizeof(T));
      }
    data = room;
    stride = s.stride;
  }
};

// Lookups that are worked on at a time: their partial products and gradients stay in the second-level cache.
template <class T>
int64_t chunk_of(const Stage& s) {
  return std::max<int64_t>(1, (int64_t{256} << 10) / static_cast<int64_t>(2 * s.size() * sizeof(T)));
}

// Memory of a whole call for one table: so many elements for each row of the plan, null where it is not needed.
template <class T>
struct RowMemory {
  T* before = nullptr;    // before.size(): products of the first two cores of four
  T* partial = nullptr;   // grouped.size(): products of all cores but the last
  T* d_before = nullptr;  // before.size(): gradient of `before`
  T* d_first = nullptr;   // first_size(): gradients of the first core's slices
  T* d_last = nullptr;    // last_size(): gradients of the last core's slices, transposed

  // The last core with every slice transposed, last_size() elements each; null where a slice has too few lookups.
  const T* last_t = nullptr;
};

// One matrix product for many lookups with one slice, and its gradients.
template <class T>
struct GroupProduct {
  const Table<T>& table;
  const Stage& stage;
  const int64_t x_stride;  // between the rows of the left operand

  // product (count * rows, columns) = x (count * rows, depth) slice (depth, columns)
  void forward(int64_t count, const T* x, const SliceMatrix<T>& slice, T* product) const {
    table.kernels->gemm(count * stage.rows, stage.columns(), stage.depth, x, x_stride, 1, slice.data, slice.stride,
                        product, stage.stride, false);
  }

  // d_slice (depth, columns) (+)= x^T d_product
  void d_slice(int64_t count, const T* x, const T* d_product, T* to, int64_t stride, bool add) const {
    table.kernels->gemm(stage.depth, stage.columns(), count * stage.rows, x, 1, x_stride, d_product, stage.stride, to,
                        stride, add);
  }

  // d_x (count * rows, depth padded) = d_product slice^T
  void d_x(int64_t count, const T* d_product, const T* transposed, T* to) const {
    const int64_t depth = round_up(stage.depth, table.kernels->lanes);
    table.kernels->gemm(count * stage.rows, depth, stage.columns(), d_product, stage.stride, 1, transposed, depth, to,
                        depth, false);
  }

  int64_t transposed_size() const { return stage.columns() * round_up(stage.depth, table.kernels->lanes); }

  // (columns, depth padded), zeros behind the depth
  void transpose(const SliceMatrix<T>& slice, T* to) const {
    const int64_t depth = round_up(stage.depth, table.kernels->lanes);
    table.kernels->transpose(stage.depth, stage.columns(), slice.data, slice.stride, to, depth);
    for (int64_t i = 0; stage.depth < depth && i < stage.columns(); ++i)
      std::memset(to + i * depth + stage.depth, 0, (depth - stage.depth) * sizeof(T));
  }
};

// A gradient of a slice, summed in a padded matrix and written to the core's gradient when it is complete.
template <class T>
struct SliceGradient {
  const Stage& stage;
  T* grad;
  T* sum;
  int64_t stride;

  static int64_t scratch(const Stage& s) { return s.rank == s.padded ? 0 : s.depth * s.columns(); }

  SliceGradient(const Stage& s, T* grad, T* room)
      : stage(s), grad(grad), sum(s.rank == s.padded ? grad : room), stride(s.columns()) {}

  void finish() const {
    if (sum == grad) return;
    for (int64_t i = 0; i < stage.depth * stage.per_block; ++i)
      std::memcpy(grad + i * stage.rank, sum + i * stage.padded, stage.rank * sizeof(T));
  }
};

// A slice of the last core (rank, q) as (q, padded), zeros behind the rank.
template <class T>
void transpose_last(const Table<T>& table, int64_t digit, T* to) {
  const int k = table.num_cores - 1;
  const LastShape& s = table.last;
  if (s.rank < s.padded) std::memset(to, 0, table.last_size() * sizeof(T));
  table.kernels->transpose(s.rank, s.q, table.core[k] + digit * table.slice(k), s.q, to, s.padded);
}

template <class T>
void gather_first(const Table<T>& table, const TablePlan& plan, int64_t row, T* to) {
  const int64_t size = table.slice(0);
  std::memcpy(to, table.core[0] + plan.digit[0][row] * size, size * sizeof(T));
}

// --- four cores: the pass over the second core -----------------------------------------------------------------------

// before[row] = G_0[i_0] G_1[i_1] for `count` rows with one digit i_1
template <class T>
void before_forward(const Table<T>& table, const TablePlan& plan, const int32_t* rows, int64_t count, int64_t digit,
                    T* before) {
  const Stage& s = table.before;
  const GroupProduct<T> group{table, s, s.depth};
  const int64_t chunk = std::min(count, chunk_of<T>(s)), first = table.slice(0);
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<T>(SliceMatrix<T>::scratch(s)) + Scratch::rounded<T>(chunk * first) +
                  Scratch::rounded<T>(chunk * s.size()));
  const SliceMatrix<T> slice(s, table.core[1] + digit * table.slice(1), count > 8,
                             scratch.take<T>(SliceMatrix<T>::scratch(s)));
  T* x = scratch.take<T>(chunk * first);
  T* product = scratch.take<T>(chunk * s.size());
  for (int64_t c = 0; c < count; c += chunk) {
    const int64_t now = std::min(chunk, count - c);
    for (int64_t l = 0; l < now; ++l) gather_first(table, plan, rows[c + l], x + l * first);
    group.forward(now, x, slice, product);
    for (int64_t l = 0; l < now; ++l)
      std::memcpy(before + rows[c + l] * s.size(), product + l * s.size(), s.size() * sizeof(T));
  }
}

// Gradients of the second core's slice and of the first core's slices from that of `before`.
template <class T>
void before_backward(const Table<T>& table, const TablePlan& plan, const int32_t* rows, int64_t count, int64_t digit,
                     const RowMemory<T>& memory) {
  const Stage& s = table.before;
  const GroupProduct<T> group{table, s, s.depth};
  const int64_t chunk = std::min(count, chunk_of<T>(s)), first = table.slice(0), d_first = table.first_size();
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<T>(SliceMatrix<T>::scratch(s)) + Scratch::rounded<T>(group.transposed_size()) +
                  Scratch::rounded<T>(SliceGradient<T>::scratch(s)) + Scratch::rounded<T>(chunk * first) +
                  Scratch::rounded<T>(chunk * d_first) + Scratch::rounded<T>(chunk * s.size()));
  const SliceMatrix<T> slice(s, table.core[1] + digit * table.slice(1), false,
                             scratch.take<T>(SliceMatrix<T>::scratch(s)));
  T* transposed = scratch.take<T>(group.transposed_size());
  group.transpose(slice, transposed);
  const SliceGradient<T> gradient(s, table.grad[1] + digit * table.slice(1),
                                  scratch.take<T>(SliceGradient<T>::scratch(s)));
  T* x = scratch.take<T>(chunk * first);
  T* d_x = scratch.take<T>(chunk * d_first);
  T* d_product = scratch.take<T>(chunk * s.size());
  for (int64_t c = 0; c < count; c += chunk) {
    const int64_t now = std::min(chunk, count - c);
    for (int64_t l = 0; l < now; ++l) {
      gather_first(table, plan, rows[c + l], x + l * first);
      std::memcpy(d_product + l * s.size(), memory.d_before + rows[c + l] * s.size(), s.size() * sizeof(T));
    }
    group.d_slice(now, x, d_product, gradient.sum, gradient.stride, c > 0);
    group.d_x(now, d_product, transposed, d_x);
    for (int64_t l = 0; l < now; ++l)
      std::memcpy(memory.d_first + rows[c + l] * d_first, d_x + l * d_first, d_first * sizeof(T));
  }
  gradient.finish();
}

// --- the grouped core and the last one -------------------------------------------------------------------------------

template <class T>
GroupProduct<T> grouped_product(const Table<T>& table) {
  return {table, table.grouped, table.has_before ? table.before.padded : table.grouped.depth};
}

// The left operands of rows [begin, begin + count): gathered, or the pass before's as they lie.
template <class T>
const T* left_operands(const Table<T>& table, const TablePlan& plan, int64_t begin, int64_t count,
                       const RowMemory<T>& memory, T* room) {
  if (table.has_before) return memory.before + begin * table.before.size();
  for (int64_t l = 0; l < count; ++l) gather_first(table, plan, begin + l, room + l * table.slice(0));
  return room;
}

// One finished row from its partial product.
template <class T>
void finish_row(const Table<T>& table, const TablePlan& plan, int64_t row, const T* partial, T* out) {
  if (table.has_last) {
    const int k = table.num_cores - 1;
    table.kernels->last_forward(table.last, partial, table.core[k] + plan.digit[k][row] * table.slice(k), out);
    return;
  }
  const Stage& s = table.grouped;
  for (int64_t i = 0; i < s.rows; ++i) std::memcpy(out + i * s.rank, partial + i * s.stride, s.rank * sizeof(T));
}

// Has the start of a slice on its way to the second-level cache that one of the next tasks will read. A slice is met by
// few lookups where batches are small, and waiting for memory would then take longer than the products.
template <class T>
void fetch_soon(const Table<T>& table, int64_t digit) {
  constexpr int64_t kAhead = 2, kBytes = 32 << 10;
  const int k = table.grouped.core;
  if (digit + kAhead >= table.p[k]) return;
  const char* from = reinterpret_cast<const char*>(table.core[k] + (digit + kAhead) * table.slice(k));
  const int64_t bytes = std::min<int64_t>(kBytes, table.slice(k) * sizeof(T));
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
}

// The rows of one group; `sink(row, values)` gets each of them.
template <class T, class Sink>
void group_forward(const Table<T>& table, const TablePlan& plan, int64_t digit, const RowMemory<T>& memory, Sink sink) {
  const Stage& s = table.grouped;
  const GroupProduct<T> group = grouped_product(table);
  fetch_soon(table, digit);
  const int64_t begin = plan.start[digit], count = plan.rows[digit];
  const int64_t chunk = std::min(count, chunk_of<T>(s)), first = table.has_before ? 0 : table.slice(0);
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<T>(SliceMatrix<T>::scratch(s)) + Scratch::rounded<T>(chunk * first) +
                  Scratch::rounded<T>(chunk * s.size()) + Scratch::rounded<T>(table.dim));
  const SliceMatrix<T> slice(s, table.core[s.core] + digit * table.slice(s.core), count > 8,
                             scratch.take<T>(SliceMatrix<T>::scratch(s)));
  T* room = scratch.take<T>(chunk * first);
  T* product = scratch.take<T>(chunk * s.size());
  T* out = scratch.take<T>(table.dim);
  for (int64_t c = 0; c < count; c += chunk) {
    const int64_t now = std::min(chunk, count - c);
    T* partial = memory.partial ? memory.partial + (begin + c) * s.size() : product;
    group.forward(now, left_operands(table, plan, begin + c, now, memory, room), slice, partial);
    for (int64_t l = 0; l < now; ++l) {
      finish_row(table, plan, begin + c + l, partial + l * s.size(), out);
      sink(begin + c + l, out);
    }
  }
}

// Gradients of one group. `source(row, d_out)` fills in a row's gradient; `weights(row, values)` is called with each
// row's values where `wants_rows`. Partial products are taken from `memory.partial`, or made anew without it.
template <class T, class Source, class Weights>
void group_backward(const Table<T>& table, const TablePlan& plan, int64_t digit, const RowMemory<T>& memory,
                    bool wants_rows, Source source, Weights weights) {
  const Stage& s = table.grouped;
  const GroupProduct<T> group = grouped_product(table);
  fetch_soon(table, digit);
  const int k = table.num_cores - 1;
  const int64_t begin = plan.start[digit], count = plan.rows[digit];
  const int64_t chunk = std::min(count, chunk_of<T>(s)), first = table.has_before ? 0 : table.slice(0);
  const bool makes_partial = !memory.partial && (table.has_last || wants_rows);
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<T>(SliceMatrix<T>::scratch(s)) + Scratch::rounded<T>(group.transposed_size()) +
                  Scratch::rounded<T>(SliceGradient<T>::scratch(s)) + Scratch::rounded<T>(chunk * first) +
                  Scratch::rounded<T>(makes_partial ? chunk * s.size() : 0) + Scratch::rounded<T>(chunk * s.size()) +
                  Scratch::rounded<T>(chunk * table.dim) + Scratch::rounded<T>(table.dim) +
                  Scratch::rounded<T>(table.last_size()));
  const SliceMatrix<T> slice(s, table.core[s.core] + digit * table.slice(s.core), count > 8,
                             scratch.take<T>(SliceMatrix<T>::scratch(s)));
  T* transposed = scratch.take<T>(group.transposed_size());
  group.transpose(slice, transposed);
  const SliceGradient<T> gradient(s, table.grad[s.core] + digit * table.slice(s.core),
                                  scratch.take<T>(SliceGradient<T>::scratch(s)));
  T* room = scratch.take<T>(chunk * first);
  T* product = scratch.take<T>(makes_partial ? chunk * s.size() : 0);
  T* d_product = scratch.take<T>(chunk * s.size());
  T* d_outs = scratch.take<T>(chunk * table.dim);
  T* out = scratch.take<T>(table.dim);
  T* room_t = scratch.take<T>(table.last_size());
  for (int64_t c = 0; c < count; c += chunk) {
    const int64_t now = std::min(chunk, count - c);
    const T* x = left_operands(table, plan, begin + c, now, memory, room);
    const T* partial = memory.partial ? memory.partial + (begin + c) * s.size() : product;
    if (makes_partial) group.forward(now, x, slice, product);
    // all at once: they lie anywhere in memory, and the processor waits for several of them at a time
    for (int64_t l = 0; l < now; ++l) source(begin + c + l, d_outs + l * table.dim);
    for (int64_t l = 0; l < now; ++l) {
      const int64_t row = begin + c + l;
      const T* d_out = d_outs + l * table.dim;
      if (wants_rows) {
        finish_row(table, plan, row, partial + l * s.size(), out);
        weights(row, out);
      }
      T* d = d_product + l * s.size();
      if (table.has_last) {
        const int64_t digit_k = plan.digit[k][row];
        if (!memory.last_t) transpose_last(table, digit_k, room_t);
        table.kernels->last_backward(table.last, d_out, partial + l * s.size(),
                                     memory.last_t ? memory.last_t + digit_k * table.last_size() : room_t, d,
                                     memory.d_last + row * table.last_size());
      } else {
        for (int64_t i = 0; i < s.rows; ++i) {
          std::memcpy(d + i * s.stride, d_out + i * s.rank, s.rank * sizeof(T));
          std::memset(d + i * s.stride + s.rank, 0, (s.padded - s.rank) * sizeof(T));
        }
      }
    }
    group.d_slice(now, x, d_product, gradient.sum, gradient.stride, c > 0);
    // with four cores a row of the result is the padded piece of a row of `before`
    group.d_x(now, d_product, transposed,
              table.has_before ? memory.d_before + (begin + c) * table.before.size()
                               : memory.d_first + (begin + c) * table.first_size());
  }
  gradient.finish();
}

// --- the first and the last core's gradients -------------------------------------------------------------------------

// One slice of the first core's gradient: the sum over the rows with its digit, in the order of the plan.
template <class T>
void first_gradient(const Table<T>& table, const ByDigit& rows, int64_t digit, const T* d_first) {
  const int64_t padded = table.first_padded(), size = table.first_size(), rank = table.rank[1];
  const int32_t* order = rows.order.data() + rows.begin[digit];
  const int64_t count = rows.begin[digit + 1] - rows.begin[digit];
  T* to = table.grad[0] + digit * table.slice(0);
  if (rank == padded) {
    table.kernels->sum_rows(size, count, order, d_first, size, to);
    return;
  }
  for (int64_t a = 0; a < table.q[0]; ++a)
    table.kernels->sum_rows(rank, count, order, d_first + a * padded, size, to + a * rank);
}

template <class T>
void last_gradient(const Table<T>& table, const ByDigit& rows, int64_t digit, const T* d_last) {
  const int k = table.num_cores - 1;
  const int64_t size = table.last_size();
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<T>(size));
  T* sum = scratch.take<T>(size);
  table.kernels->sum_rows(size, rows.begin[digit + 1] - rows.begin[digit], rows.order.data() + rows.begin[digit],
                          d_last, size, sum);
  table.kernels->transpose(table.last.q, table.last.rank, sum, table.last.padded,
                           table.grad[k] + digit * table.slice(k), table.last.q);
}

}  // namespace embpress
