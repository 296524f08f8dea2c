// embpress::mlet_lookup and its gradients on the CPU; schemas and meanings stand in kernels/ops/mlet.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "common/lookups.h"
#include "mlet/products.h"

namespace embpress {
namespace {

// One id a table, as mlet/products.h takes it.
struct Lookups {
  static constexpr bool plain = true;
  IdLookups lookups;
  int64_t count, apart;

  Lookups(const Tensor& ids, const Tensor& row_offsets, const Tensor& rows)
      : lookups(read_id_lookups(ids, row_offsets, rows, "mlet_lookup")), count(lookups.count), apart(lookups.tables) {}

  int64_t out(int64_t t, int64_t sample) const { return sample * apart + t; }

  template <class T, class N>
  void gather(int64_t t, int64_t begin, int64_t samples, int64_t first, int64_t columns, const N* from, int64_t k,
              T* to, T*) const {
    constexpr int64_t ahead = 8;
    const int64_t offset = lookups.row_offsets[t];
    lookups.by_width([&](const auto* id) {
      for (int64_t i = 0; i < samples; ++i) {
        if (i + ahead < samples) {
          const N* next = from + (id[out(t, begin + i + ahead)] + offset) * k + first;
          for (int64_t c = 0; c < columns; c += 64 / static_cast<int64_t>(sizeof(N))) __builtin_prefetch(next + c);
        }
        widen(columns, from + (id[out(t, begin + i)] + offset) * k + first, to + i * columns);
      }
    });
  }

  template <class T, class F>
  void for_each(F f) const {
    lookups.by_width([&](const auto* id) {
      int64_t i = 0;
      for (int64_t sample = 0; sample < lookups.samples; ++sample)
        for (int64_t t = 0; t < apart; ++t, ++i) f(i, id[i] + lookups.row_offsets[t], i, T{1});
    });
  }
};

ProductShape shape_of(const Lookups& source, const Tensor& table, const Tensor& projections) {
  const IdLookups& l = source.lookups;
  return ProductShape(table, projections, l.tables, l.samples, l.rows, l.row_offsets);
}

Tensor mlet_lookup(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows) {
  const Lookups source(ids, row_offsets, rows);
  const ProductShape s = shape_of(source, table, projections);
  const Tensor whole = in_one_piece(table), right = computed_with(projections, table.scalar_type());
  return by_types(table.scalar_type(), [&](auto t, auto n) {
    Tensor out = products<decltype(t), decltype(n)>(s, source, whole, right, {s.samples, s.tables, s.dim});
    return sizeof(t) == sizeof(n) ? out : torch::stable::to(out, table.scalar_type());
  });
}

// The backward gathers the inner rows again: nothing is kept.
std::tuple<Tensor, Tensor> mlet_lookup_train(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets,
                                             Tensor rows, bool) {
  return {mlet_lookup(table, projections, ids, row_offsets, rows), torch::stable::new_empty(table, {0})};
}

// f(T, N, shape, source, grad, table, projections), all of the type that is computed with but the table.
template <class F>
auto backward(const Tensor& grad, const Tensor& table, const Tensor& projections, const Tensor& ids,
              const Tensor& row_offsets, const Tensor& rows, F f) {
  const Lookups source(ids, row_offsets, rows);
  const ProductShape s = shape_of(source, table, projections);
  STD_TORCH_CHECK(grad.numel() == source.count * s.dim, "mlet_lookup: the gradient must be (N, T, D), got ",
                  grad.numel(), " elements");
  const ScalarType type = table.scalar_type();
  const Tensor whole = in_one_piece(table), flow = computed_with(grad, type), right = computed_with(projections, type);
  return by_types(type, [&](auto t, auto n) { return f(t, n, s, source, flow, whole, right); });
}

Tensor narrowed(const Tensor& made, ScalarType type) {
  return made.scalar_type() == type ? made : torch::stable::to(made, type);
}

std::tuple<Tensor, Tensor> mlet_lookup_backward(Tensor grad, Tensor, Tensor table, Tensor projections, Tensor ids,
                                                Tensor row_offsets, Tensor rows) {
  const ScalarType type = table.scalar_type();
  return backward(grad, table, projections, ids, row_offsets, rows,
                  [&](auto t, auto n, const ProductShape& s, const Lookups& source, const Tensor& flow,
                      const Tensor& whole, const Tensor& right) -> std::tuple<Tensor, Tensor> {
                    using T = decltype(t);
                    const Tensor inner = inner_gradient<T>(s, source, flow, right);
                    return {narrowed(table_gradient<T>(s, source, inner), type),
                            narrowed(projection_gradient<T, decltype(n)>(s, source, flow, whole), type)};
                  });
}

std::tuple<Tensor, Tensor, Tensor> mlet_lookup_rows_backward(Tensor grad, Tensor, Tensor table, Tensor projections,
                                                             Tensor ids, Tensor row_offsets, Tensor rows) {
  const ScalarType type = table.scalar_type();
  return backward(grad, table, projections, ids, row_offsets, rows,
                  [&](auto t, auto n, const ProductShape& s, const Lookups& source, const Tensor& flow,
                      const Tensor& whole, const Tensor& right) -> std::tuple<Tensor, Tensor, Tensor> {
                    using T = decltype(t);
                    const auto [found, values] = table_gradient_rows<T>(s, source, flow, right);
                    return {found, narrowed(values, type),
                            narrowed(projection_gradient<T, decltype(n)>(s, source, flow, whole), type)};
                  });
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("mlet_lookup", TORCH_BOX(&embpress::mlet_lookup));
  m.impl("mlet_lookup_train", TORCH_BOX(&embpress::mlet_lookup_train));
  m.impl("mlet_lookup_backward", TORCH_BOX(&embpress::mlet_lookup_backward));
  m.impl("mlet_lookup_rows_backward", TORCH_BOX(&embpress::mlet_lookup_rows_backward));
}
