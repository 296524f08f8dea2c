// embpress::compositional_lookup and its gradients on the CPU; schemas and meanings stand in
// kernels/ops/compositional.py.
//
// The rows that parts take are found in both directions, so that no index is stored. Sums have the order of the
// lookups, whatever the threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "common/lookups.h"
#include "common/parallel.h"
#include "common/widened.h"
#include "parts/gradient.h"
#include "parts/tables.h"

namespace embpress {
namespace {

constexpr const char* kOp = kCompositional;

// Lookups of one id a table, as parts/gradient.h takes them.
struct Parts {
  IdLookups lookups;
  PartTables tables;
  int64_t count, block;

  Parts(const Tensor& weight, const Tensor& ids, const Tensor& row_offsets, const Tensor& rows,
        const Tensor& coefficients, const Tensor& base, const Tensor& sizes, int64_t combine)
      : lookups(read_id_lookups(ids, row_offsets, rows, kOp)),
        tables(weight, coefficients, base, sizes, combine, lookups.tables, lookups.row_offsets, lookups.rows),
        count(lookups.count) {
    // whole samples, so that a block begins with the first table
    block = std::max<int64_t>(1, std::min(count, std::max<int64_t>(1, kPartsBlock / std::max<int64_t>(1, lookups.tables)) *
                                                     lookups.tables));
    if (lookups.tables > 1) tables.expand(block);
  }

  // to (parts, apart) = the rows of the weight that lookups from `begin` on take; it is a multiple of the block.
  void index(int64_t begin, int64_t size, uint32_t* x, int64_t* to, int64_t apart) const {
    lookups.by_width([&](const auto* id) { tables.of_all(size, id + begin, x, to, apart); });
  }

  template <class T, class F>
  void for_each_flow(const T* grad, int64_t begin, int64_t size, T*, F f) const {
    const int64_t dim = tables.shape.dim();
    f(0, size, PartsFlow<T>{grad + begin * dim, dim});
  }
  template <class T>
  PartsFlow<T> flow(const T* grad, T*, int32_t*) const {
    return {grad, tables.shape.dim()};
  }
};

// Rows in float16 or bfloat16, put together in float32: only those that are looked up are widened.
template <class N>
void combine_narrow(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const N* weight, N* out) {
  const int64_t width = s.width, parts = s.parts;
  for (int64_t i = 0; i < count; ++i, ++index, out += s.dim()) {
    if (s.combine == Combine::concat || parts == 1) {
      for (int64_t j = 0; j < parts; ++j)
        std::memcpy(out + j * width, weight + index[j * apart] * width, width * sizeof(N));
      continue;
    }
    for (int64_t c = 0; c < width; ++c) {
      float made = static_cast<float>(weight[index[0] * width + c]);
      for (int64_t j = 1; j < parts; ++j) {
        const float next = static_cast<float>(weight[index[j * apart] * width + c]);
        made = s.combine == Combine::add ? made + next : made * next;
      }
      out[c] = static_cast<N>(made);
    }
  }
}

template <class T>
Tensor combined(const Parts& p, const Tensor& weight) {
  const PartsShape& s = p.tables.shape;
  const int64_t dim = s.dim(), count = p.count, block = p.block;
  Tensor out = torch::stable::new_empty(weight, {p.lookups.samples, p.lookups.tables, dim});
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const T* from = static_cast<const T*>(weight.const_data_ptr());
  for_each_task((count + block - 1) / block, count * dim > kPartsWorthThreads, [&](int64_t task) {
    const int64_t begin = task * block, size = std::min(block, count - begin);
    Scratch& scratch = Scratch::mine();
    scratch.reserve(IndexRoom::bytes(block, s.parts));
    const IndexRoom own(scratch, block, s.parts);
    p.index(begin, size, own.x, own.index, block);
    if constexpr (sizeof(T) < 4)
      combine_narrow(s, size, own.index, block, from, to + begin * dim);
    else
      best<T>(s.width).combine_parts(s, size, own.index, block, from, to + begin * dim);
  });
  return out;
}

Tensor look_up(const Parts& p, const Tensor& weight) {
  const Tensor whole = in_one_piece(weight);
  switch (weight.scalar_type()) {
    case ScalarType::Float:
      return combined<float>(p, whole);
    case ScalarType::Double:
      return combined<double>(p, whole);
    case ScalarType::Half:
      return combined<torch::headeronly::Half>(p, whole);
    case ScalarType::BFloat16:
      return combined<torch::headeronly::BFloat16>(p, whole);
    default:
      STD_TORCH_CHECK(false, kOp, ": the weight must be float16, bfloat16, float32 or float64");
  }
}

Tensor compositional_lookup(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients,
                            Tensor base, Tensor sizes, int64_t combine) {
  return look_up(Parts(weight, ids, row_offsets, rows, coefficients, base, sizes, combine), weight);
}

std::tuple<Tensor, Tensor> compositional_lookup_train(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows,
                                                      Tensor coefficients, Tensor base, Tensor sizes, int64_t combine,
                                                      bool) {
  return {compositional_lookup(weight, ids, row_offsets, rows, coefficients, base, sizes, combine),
          torch::stable::new_empty(base, {0})};
}

void check_grad(const Parts& p, const Tensor& grad) {
  STD_TORCH_CHECK(grad.numel() == p.count * p.tables.shape.dim(),
                  "compositional_lookup: the gradient must be (N, T, D), got ", grad.numel(), " elements");
}

Tensor compositional_lookup_backward(Tensor grad, Tensor weight, Tensor, Tensor ids, Tensor row_offsets, Tensor rows,
                                     Tensor coefficients, Tensor base, Tensor sizes, int64_t combine) {
  const Parts p(weight, ids, row_offsets, rows, coefficients, base, sizes, combine);
  check_grad(p, grad);
  return widened(weight, kOp, [&](const Tensor& wide) {
    const Tensor flow = in_one_piece(torch::stable::to(grad, wide.scalar_type()));
    return wide.scalar_type() == ScalarType::Float ? scattered(p, flow.const_data_ptr<float>(), wide)
                                                   : scattered(p, flow.const_data_ptr<double>(), wide);
  });
}

std::tuple<Tensor, Tensor> compositional_lookup_rows_backward(Tensor grad, Tensor weight, Tensor, Tensor ids,
                                                              Tensor row_offsets, Tensor rows, Tensor coefficients,
                                                              Tensor base, Tensor sizes, int64_t combine) {
  const Parts p(weight, ids, row_offsets, rows, coefficients, base, sizes, combine);
  check_grad(p, grad);
  return rows_of_gradient(p, grad, in_one_piece(weight), kOp);
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("compositional_lookup", TORCH_BOX(&embpress::compositional_lookup));
  m.impl("compositional_lookup_train", TORCH_BOX(&embpress::compositional_lookup_train));
  m.impl("compositional_lookup_backward", TORCH_BOX(&embpress::compositional_lookup_backward));
  m.impl("compositional_lookup_rows_backward", TORCH_BOX(&embpress::compositional_lookup_rows_backward));
}
