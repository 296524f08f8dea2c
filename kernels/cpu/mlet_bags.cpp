// embpress::mlet_bags and its gradients on the CPU; schemas and meanings stand in kernels/ops/mlet_bags.py. Inner rows
// are summed before they are projected: a product a bag, not a lookup.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "common/bags.h"
#include "mlet/products.h"

namespace embpress {
namespace {

// Bags of ids, as mlet/products.h takes them.
struct Bags {
  static constexpr bool plain = false;
  IdBags bags;
  int64_t count, apart = 1;

  Bags(const Tensor& table, const Tensor& ids, const Tensor& offsets, const std::optional<Tensor>& weights,
       const Tensor& row_offsets, const Tensor& rows, bool mean)
      : bags(read_id_bags(ids, offsets, weights, row_offsets, rows, mean,
                          table.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float,
                          "mlet_bags")),
        count(bags.count) {
    STD_TORCH_CHECK(!weights || weights->scalar_type() == table.scalar_type(),
                    "mlet_bags: weights must have the dtype of the table");
  }

  int64_t out(int64_t t, int64_t bag) const { return t * bags.each + bag; }

  template <class T, class N>
  void gather(int64_t t, int64_t begin, int64_t samples, int64_t first, int64_t columns, const N* from, int64_t k,
              T* to, T* row) const {
    constexpr int64_t ahead = 4;
    const int64_t offset = bags.row_offsets[t], last = bags.begin(out(t, begin + samples));
    const T* weights = bags.weight<T>();
    const Kernels<T>& kernels = best<T>(columns);
    bags.by_width([&](const auto* id) {
      for (int64_t b = 0; b < samples; ++b, to += columns) {
        const int64_t bag = out(t, begin + b), end = bags.offsets[bag + 1];
        const T share = bags.share<T>(bag);
        std::fill(to, to + columns, T{0});
        for (int64_t i = bags.offsets[bag]; i < end; ++i) {
          if (i + ahead < last) {
            const N* next = from + (id[i + ahead] + offset) * k + first;
            for (int64_t c = 0; c < columns; c += 64 / static_cast<int64_t>(sizeof(N))) __builtin_prefetch(next + c);
          }
          const N* own = from + (id[i] + offset) * k + first;
          const T* x = row;
          if constexpr (sizeof(T) == sizeof(N))
            x = own;
          else
            widen(columns, own, row);
          kernels.add_scaled(columns, weights ? weights[i] : share, x, to);
        }
      }
    });
  }

  template <class T, class F>
  void for_each(F f) const {
    const T* weights = bags.weight<T>();
    bags.by_width([&](const auto* id) {
      for (int64_t t = 0, bag = 0; t < bags.tables; ++t)
        for (int64_t b = 0; b < bags.each; ++b, ++bag) {
          const T share = bags.share<T>(bag);
          for (int64_t i = bags.offsets[bag]; i < bags.offsets[bag + 1]; ++i)
            f(i, id[i] + bags.row_offsets[t], bag, weights ? weights[i] : share);
        }
    });
  }
};

// A call: what is looked up, and all tensors but the table in the type that is computed with.
struct Call {
  Bags source;
  ProductShape shape;
  ScalarType type;
  Tensor table, projections;

  Call(const Tensor& table, const Tensor& projections, const Tensor& ids, const Tensor& offsets,
       const std::optional<Tensor>& weights, const Tensor& row_offsets, const Tensor& rows, bool mean)
      : source(table, ids, offsets, weights, row_offsets, rows, mean),
        shape(table, projections, source.bags.tables, source.bags.each, source.bags.rows, source.bags.row_offsets),
        type(table.scalar_type()),
        table(in_one_piece(table)),
        projections(computed_with(projections, type)) {}

  Tensor flow(const Tensor& grad) const {
    STD_TORCH_CHECK(grad.numel() == source.bags.bags * shape.dim, "mlet_bags: the gradient must be (T B, D), got ",
                    grad.numel(), " elements");
    return computed_with(grad, type);
  }
  Tensor narrowed(const Tensor& made) const {
    return made.scalar_type() == type ? made : torch::stable::to(made, type);
  }

  // The gradient of each lookup's weight: its inner row times what flows into its bag's.
  template <class T, class N>
  Tensor of_weights(const Tensor& inner_grad) const {
    if (!source.bags.weights) return torch::stable::new_empty(inner_grad, {0});
    Tensor out = torch::stable::new_empty(inner_grad, {source.count});
    T* to = out.mutable_data_ptr<T>();
    const T* inner = inner_grad.const_data_ptr<T>();
    const N* from = static_cast<const N*>(table.const_data_ptr());
    const Kernels<T>& kernels = best<T>(shape.k);
    const IdBags& bags = source.bags;
    bags.for_each_run(256, shape.worth_it(), [&](int64_t low, int64_t high) {
      Scratch& scratch = Scratch::mine();
      scratch.reserve(Scratch::rounded<T>(shape.k));
      T* row = scratch.take<T>(shape.k);
      bags.by_width([&](const auto* id) {
        for (int64_t bag = low; bag < high; ++bag)
          for (int64_t i = bags.begin(bag); i < bags.begin(bag + 1); ++i) {
            widen(shape.k, from + (id[i] + bags.row_offsets[bags.table(bag)]) * shape.k, row);
            to[i] = kernels.dot(shape.k, inner + bag * shape.k, row);
          }
      });
    });
    return out;
  }
};

Tensor mlet_bags(Tensor table, Tensor projections, Tensor ids, Tensor offsets, std::optional<Tensor> weights,
                 Tensor row_offsets, Tensor rows, bool mean) {
  const Call c(table, projections, ids, offsets, weights, row_offsets, rows, mean);
  return by_types(c.type, [&](auto t, auto n) {
    return c.narrowed(products<decltype(t), decltype(n)>(c.shape, c.source, c.table, c.projections,
                                                         {c.source.bags.bags, c.shape.dim}));
  });
}

Tensor mlet_bags_train(Tensor table, Tensor projections, Tensor ids, Tensor offsets, std::optional<Tensor> weights,
                       Tensor row_offsets, Tensor rows, bool mean, bool) {
  return mlet_bags(table, projections, ids, offsets, weights, row_offsets, rows, mean);
}

// Without what flows into the inner rows where there are no weights that need it.
template <class T, class N>
Tensor weights_gradient(const Call& c, const Tensor& flow) {
  if (!c.source.bags.weights) return torch::stable::new_empty(flow, {0});
  return c.of_weights<T, N>(inner_gradient<T>(c.shape, c.source, flow, c.projections));
}

std::tuple<Tensor, Tensor, Tensor> mlet_bags_backward(Tensor grad, Tensor table, Tensor projections, Tensor ids,
                                                      Tensor offsets, std::optional<Tensor> weights,
                                                      Tensor row_offsets, Tensor rows, bool mean) {
  const Call c(table, projections, ids, offsets, weights, row_offsets, rows, mean);
  const Tensor flow = c.flow(grad);
  return by_types(c.type, [&](auto t, auto n) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(t);
    using N = decltype(n);
    const Tensor inner = inner_gradient<T>(c.shape, c.source, flow, c.projections);
    return {c.narrowed(table_gradient<T>(c.shape, c.source, inner)),
            c.narrowed(projection_gradient<T, N>(c.shape, c.source, flow, c.table)),
            c.narrowed(c.of_weights<T, N>(inner))};
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> mlet_bags_rows_backward(Tensor grad, Tensor table, Tensor projections,
                                                                   Tensor ids, Tensor offsets,
                                                                   std::optional<Tensor> weights, Tensor row_offsets,
                                                                   Tensor rows, bool mean) {
  const Call c(table, projections, ids, offsets, weights, row_offsets, rows, mean);
  const Tensor flow = c.flow(grad);
  return by_types(c.type, [&](auto t, auto n) -> std::tuple<Tensor, Tensor, Tensor, Tensor> {
    using T = decltype(t);
    using N = decltype(n);
    const auto [found, values] = table_gradient_rows<T>(c.shape, c.source, flow, c.projections);
    return {found, c.narrowed(values), c.narrowed(projection_gradient<T, N>(c.shape, c.source, flow, c.table)),
            c.narrowed(weights_gradient<T, N>(c, flow))};
  });
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("mlet_bags", TORCH_BOX(&embpress::mlet_bags));
  m.impl("mlet_bags_train", TORCH_BOX(&embpress::mlet_bags_train));
  m.impl("mlet_bags_backward", TORCH_BOX(&embpress::mlet_bags_backward));
  m.impl("mlet_bags_rows_backward", TORCH_BOX(&embpress::mlet_bags_rows_backward));
}
