// embpress::compositional_bags and its gradients on the CPU; schemas and meanings stand in
// kernels/ops/compositional_bags.py. No row of a lookup is kept in either direction.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "common/bags.h"
#include "common/widened.h"
#include "parts/gradient.h"
#include "parts/tables.h"

namespace embpress {
namespace {

constexpr const char* kOp = "compositional_bags";

// What sums are taken in.
ScalarType wide_type(const Tensor& weight) {
  const ScalarType type = weight.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Half || type == ScalarType::BFloat16 || type == ScalarType::Float ||
                      type == ScalarType::Double,
                  kOp, ": the weight must be float16, bfloat16, float32 or float64");
  return type == ScalarType::Double ? type : ScalarType::Float;
}

// Bags, as parts/gradient.h takes them.
struct Bags {
  IdBags bags;
  PartTables tables;
  int64_t count, block = kPartsBlock;

  Bags(const Tensor& weight, const Tensor& ids, const Tensor& offsets, const std::optional<Tensor>& weights,
       const Tensor& row_offsets, const Tensor& rows, const Tensor& coefficients, const Tensor& base,
       const Tensor& sizes, int64_t combine, bool mean)
      : bags(read_id_bags(ids, offsets, weights, row_offsets, rows, mean, wide_type(weight), kOp)),
        tables(weight, coefficients, base, sizes, combine, bags.tables, bags.row_offsets, bags.rows),
        count(bags.count) {}

  // to (parts, apart) = the rows of the weight that lookups from `begin` on take.
  void index(int64_t begin, int64_t size, uint32_t* x, int64_t* to, int64_t apart) const {
    bags.by_width([&](const auto* id) {
      for (int64_t at = begin, end = begin + size; at < end;) {
        const int64_t t = bags.table(std::upper_bound(bags.offsets, bags.offsets + bags.bags + 1, at) - bags.offsets - 1);
        const int64_t own = std::min(end, bags.offsets[(t + 1) * bags.each]) - at;
        tables.of_table(t, own, id + at, x, to + (at - begin), apart);
        at += own;
      }
    });
  }

  // What each of `size` lookups counts for; null where all count for one.
  template <class T>
  const T* scales(int64_t begin, int64_t size, T* room) const {
    if (bags.weights) return bags.weight<T>() + begin;
    if (!bags.mean) return nullptr;
    bags.for_each_piece(begin, begin + size, size, [&](int64_t bag, int64_t, int64_t first, int64_t n) {
      std::fill(room + (first - begin), room + (first - begin) + n, bags.share<T>(bag));
    });
    return room;
  }

  template <class T, class F>
  void for_each_flow(const T* grad, int64_t begin, int64_t size, T* room, F f) const {
    const T* scale = scales(begin, size, room);
    bags.for_each_piece(begin, begin + size, size, [&](int64_t bag, int64_t, int64_t first, int64_t n) {
      f(first - begin, n, PartsFlow<T>{grad + bag * tables.shape.dim(), 0, scale ? scale + (first - begin) : nullptr});
    });
  }
  template <class T>
  PartsFlow<T> flow(const T* grad, T* room, int32_t* row) const {
    bags.for_each_piece(0, count, count, [&](int64_t bag, int64_t, int64_t first, int64_t n) {
      std::fill(row + first, row + first + n, static_cast<int32_t>(bag));
    });
    return {grad, tables.shape.dim(), scales(0, count, room), row};
  }

  bool worth_it() const { return count * tables.shape.dim() > kPartsWorthThreads; }

  // f(first bag, last bag) for tasks of whole bags.
  template <class F>
  void for_each_run(F f) const {
    bags.for_each_run(2 * block, worth_it(), f);
  }
};

// Rows that a block of lookups takes, as they are or widened: then those rows themselves, numbered as they are taken.
template <class T, class N>
const T* rows_near(const PartsShape& s, int64_t size, int64_t block, int64_t* index, const N* from, T* room) {
  if constexpr (sizeof(T) == sizeof(N)) {
    return from;
  } else {
    for (int64_t j = 0; j < s.parts; ++j)
      for (int64_t i = 0; i < size; ++i) {
        const int64_t place = j * block + i;
        for (int64_t c = 0; c < s.width; ++c)
          room[place * s.width + c] = static_cast<T>(from[index[place] * s.width + c]);
        index[place] = place;
      }
    return room;
  }
}

// Goes through the lookups of each task's bags in blocks: start(first bag, last bag), piece(bag, lookups, first of
// them, their place in the block, index, rows, room for a row), end(first bag, last bag).
template <class T, class N, class Start, class Piece, class End>
void walk(const Bags& b, const N* from, Start start, Piece piece, End end) {
  const PartsShape& s = b.tables.shape;
  const int64_t block = b.block, near = sizeof(T) == sizeof(N) ? 1 : block * s.parts * s.width;
  b.for_each_run([&](int64_t low, int64_t high) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(s.dim()) + Scratch::rounded<T>(near) + IndexRoom::bytes(block, s.parts));
    T *row = scratch.take<T>(s.dim()), *room = scratch.take<T>(near);
    const IndexRoom own(scratch, block, s.parts);
    start(low, high);
    for (int64_t begin = b.bags.begin(low), last = b.bags.begin(high); begin < last; begin += block) {
      const int64_t size = std::min(block, last - begin);
      b.index(begin, size, own.x, own.index, block);
      const T* rows = rows_near(s, size, block, own.index, from, room);
      b.bags.for_each_piece(begin, begin + size, size, [&](int64_t bag, int64_t, int64_t first, int64_t n) {
        piece(bag, n, first, own.index + (first - begin), rows, row);
      });
    }
    end(low, high);
  });
}

template <class T, class N>
Tensor pooled(const Bags& b, const Tensor& weight) {
  const PartsShape& s = b.tables.shape;
  const int64_t dim = s.dim();
  Tensor out = torch::stable::new_empty(weight, {b.bags.bags, dim}, wide_type(weight));
  T* to = out.mutable_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.width);
  const T* weights = b.bags.weight<T>();
  walk<T>(
      b, static_cast<const N*>(weight.const_data_ptr()),
      [&](int64_t low, int64_t high) { std::fill(to + low * dim, to + high * dim, T{0}); },
      [&](int64_t bag, int64_t n, int64_t first, const int64_t* index, const T* rows, T* room) {
        kernels.pool_parts(s, n, index, b.block, rows, weights ? weights + first : nullptr, to + bag * dim, room);
      },
      [&](int64_t low, int64_t high) {
        if (!b.bags.mean) return;
        for (int64_t bag = low; bag < high; ++bag)
          if (b.bags.size(bag) > 1) kernels.scale(dim, b.bags.share<T>(bag), to + bag * dim, to + bag * dim);
      });
  return sizeof(T) == sizeof(N) ? out : torch::stable::to(out, weight.scalar_type());
}

// The gradient of each lookup's weight: its row times its bag's gradient.
template <class T, class N>
void of_weights(const Bags& b, const Tensor& weight, const T* grad, T* to) {
  const PartsShape& s = b.tables.shape;
  const Kernels<T>& kernels = best<T>(s.width);
  const auto nothing = [](int64_t, int64_t) {};
  walk<T>(
      b, static_cast<const N*>(weight.const_data_ptr()), nothing,
      [&](int64_t bag, int64_t n, int64_t first, const int64_t* index, const T* rows, T* room) {
        kernels.dot_parts(s, n, index, b.block, rows, grad + bag * s.dim(), to + first, room);
      },
      nothing);
}

// f(T, N) with a value of the type that is computed with and one of the weight's own.
template <class F>
auto by_type(ScalarType type, F f) {
  switch (type) {
    case ScalarType::Float:
      return f(float{}, float{});
    case ScalarType::Double:
      return f(double{}, double{});
    case ScalarType::Half:
      return f(float{}, torch::headeronly::Half{});
    default:
      return f(float{}, torch::headeronly::BFloat16{});
  }
}

Tensor compositional_bags(Tensor weight, Tensor ids, Tensor offsets, std::optional<Tensor> weights, Tensor row_offsets,
                          Tensor rows, Tensor coefficients, Tensor base, Tensor sizes, int64_t combine, bool mean) {
  const Bags b(weight, ids, offsets, weights, row_offsets, rows, coefficients, base, sizes, combine, mean);
  STD_TORCH_CHECK(!weights || weights->scalar_type() == weight.scalar_type(), kOp,
                  ": weights must have the dtype of the weight");
  const Tensor whole = in_one_piece(weight);
  return by_type(weight.scalar_type(), [&](auto t, auto n) { return pooled<decltype(t), decltype(n)>(b, whole); });
}

Tensor compositional_bags_train(Tensor weight, Tensor ids, Tensor offsets, std::optional<Tensor> weights,
                                Tensor row_offsets, Tensor rows, Tensor coefficients, Tensor base, Tensor sizes,
                                int64_t combine, bool mean, bool) {
  return compositional_bags(weight, ids, offsets, weights, row_offsets, rows, coefficients, base, sizes, combine, mean);
}

// The bags' gradient in the type that is computed with.
Tensor flow_of(const Bags& b, const Tensor& grad, const Tensor& weight) {
  STD_TORCH_CHECK(grad.numel() == b.bags.bags * b.tables.shape.dim(),
                  "compositional_bags: the gradient must be (T B, D), got ", grad.numel(), " elements");
  const ScalarType wide = wide_type(weight);
  return in_one_piece(grad.scalar_type() == wide ? grad : torch::stable::to(grad, wide));
}

Tensor weights_gradient(const Bags& b, const Tensor& flow, const Tensor& weight) {
  if (!b.bags.weights) return torch::stable::new_empty(weight, {0});
  Tensor out = torch::stable::new_empty(flow, {b.count});
  by_type(weight.scalar_type(), [&](auto t, auto n) {
    using T = decltype(t);
    of_weights<T, decltype(n)>(b, weight, flow.const_data_ptr<T>(), out.mutable_data_ptr<T>());
  });
  return out.scalar_type() == weight.scalar_type() ? out : torch::stable::to(out, weight.scalar_type());
}

std::tuple<Tensor, Tensor> compositional_bags_backward(Tensor grad, Tensor weight, Tensor ids, Tensor offsets,
                                                       std::optional<Tensor> weights, Tensor row_offsets, Tensor rows,
                                                       Tensor coefficients, Tensor base, Tensor sizes, int64_t combine,
                                                       bool mean) {
  const Bags b(weight, ids, offsets, weights, row_offsets, rows, coefficients, base, sizes, combine, mean);
  const Tensor flow = flow_of(b, grad, weight), whole = in_one_piece(weight);
  Tensor made = widened(whole, kOp, [&](const Tensor& wide) {
    return wide.scalar_type() == ScalarType::Float ? scattered(b, flow.const_data_ptr<float>(), wide)
                                                   : scattered(b, flow.const_data_ptr<double>(), wide);
  });
  return {made, weights_gradient(b, flow, whole)};
}

std::tuple<Tensor, Tensor, Tensor> compositional_bags_rows_backward(
    Tensor grad, Tensor weight, Tensor ids, Tensor offsets, std::optional<Tensor> weights, Tensor row_offsets,
    Tensor rows, Tensor coefficients, Tensor base, Tensor sizes, int64_t combine, bool mean) {
  const Bags b(weight, ids, offsets, weights, row_offsets, rows, coefficients, base, sizes, combine, mean);
  const Tensor flow = flow_of(b, grad, weight), whole = in_one_piece(weight);
  const auto [found, values] = rows_of_gradient(b, flow, whole, kOp);
  return {found, values, weights_gradient(b, flow, whole)};
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("compositional_bags", TORCH_BOX(&embpress::compositional_bags));
  m.impl("compositional_bags_train", TORCH_BOX(&embpress::compositional_bags_train));
  m.impl("compositional_bags_backward", TORCH_BOX(&embpress::compositional_bags_backward));
  m.impl("compositional_bags_rows_backward", TORCH_BOX(&embpress::compositional_bags_rows_backward));
}
