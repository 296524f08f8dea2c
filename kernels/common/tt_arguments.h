// The arguments of the tensor-train ops and what their shapes must fulfil, on every device alike.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <vector>

#include "in_one_piece.h"

namespace embpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Arguments {
  std::vector<Tensor> cores, caches;
  Tensor indices;
  std::optional<Tensor> offsets, weights;
  std::vector<int64_t> num_embeddings, padding_idx;
  int64_t num_cores;
  bool mean, include_last_offset;
};

// One table: `prod p` rows of width `dim = prod q`.
struct TableShape {
  int num_cores;
  int64_t num_embeddings, padding_idx, dim;
  int64_t p[4], q[4], rank[5];

  int64_t slice(int k) const { return rank[k] * q[k] * rank[k + 1]; }
};

inline std::vector<TableShape> shapes_of(const Arguments& a) {
  const int64_t d = a.num_cores, count = static_cast<int64_t>(a.num_embeddings.size());
  STD_TORCH_CHECK(d >= 2 && d <= 4, "tt_embedding_bag: 2 to 4 cores, got ", d);
  STD_TORCH_CHECK(static_cast<int64_t>(a.cores.size()) == count * d, "tt_embedding_bag: ", count, " tables of ", d,
                  " cores, got ", a.cores.size(), " tensors");
  STD_TORCH_CHECK(a.padding_idx.empty() || static_cast<int64_t>(a.padding_idx.size()) == count,
                  "tt_embedding_bag: ", a.padding_idx.size(), " padding rows for ", count, " tables");
  std::vector<TableShape> tables(count);
  for (int64_t t = 0; t < count; ++t) {
    TableShape& table = tables[t];
    table.num_cores = static_cast<int>(d);
    table.num_embeddings = a.num_embeddings[t];
    table.padding_idx = a.padding_idx.empty() ? -1 : a.padding_idx[t];
    table.dim = 1;
    double held = 1;
    for (int k = 0; k < d; ++k) {
      const Tensor& core = a.cores[t * d + k];
      STD_TORCH_CHECK(core.dim() == 4 && core.scalar_type() == a.cores[0].scalar_type(),
                      "tt_embedding_bag: cores must be (p, R, q, R') of one dtype");
      table.p[k] = core.size(0);
      table.q[k] = core.size(2);
      table.dim *= core.size(2);
      if (k == 0) table.rank[0] = core.size(1);
      STD_TORCH_CHECK(core.size(1) == table.rank[k], "tt_embedding_bag: core ", k, " of table ", t, " takes rank ",
                      core.size(1), " after rank ", table.rank[k]);
      table.rank[k + 1] = core.size(3);
      STD_TORCH_CHECK(core.numel() > 0, "tt_embedding_bag: core ", k, " of table ", t, " is empty");
      held *= static_cast<double>(table.p[k]);
    }
    STD_TORCH_CHECK(table.rank[0] == 1 && table.rank[d] == 1, "tt_embedding_bag: the outer ranks of table ", t,
                    " must be 1");
    STD_TORCH_CHECK(held >= static_cast<double>(table.num_embeddings), "tt_embedding_bag: the cores of table ", t,
                    " hold ", held, " rows, not ", table.num_embeddings);
    STD_TORCH_CHECK(table.dim == tables[0].dim, "tt_embedding_bag: tables of widths ", tables[0].dim, " and ",
                    table.dim);
  }
  return tables;
}

// Whether table t has a cache: index (int32), ids (int64) and values; tensors without elements for one without.
inline bool has_cache(const Arguments& a, int64_t t, int64_t dim) {
  if (a.caches.empty()) return false;
  STD_TORCH_CHECK(a.caches.size() == 3 * a.num_embeddings.size(),
                  "tt_embedding_bag: a cache is three tensors a table, got ", a.caches.size());
  const Tensor &index = a.caches[3 * t], &ids = a.caches[3 * t + 1], &values = a.caches[3 * t + 2];
  const int64_t slots = index.numel();
  if (slots == 0) {
    STD_TORCH_CHECK(values.numel() == 0, "tt_embedding_bag: the cache of table ", t, " has values but no index");
    return false;
  }
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Int && ids.scalar_type() == ScalarType::Long &&
                      values.scalar_type() == a.cores[0].scalar_type() && values.dim() == 2 &&
                      values.size(0) == ids.numel() && values.size(1) == dim && (slots & (slots - 1)) == 0 &&
                      slots > ids.numel(),
                  "tt_embedding_bag: the cache of table ", t, " does not fit together");
  return true;
}

// Bags of the lookups. `per_bag` is theirs where there are no offsets; with offsets there are `bounds` of them, the
// last one included.
struct LookupShape {
  int64_t tables, bags, per_bag, total, bounds;
  bool wide, wide_offsets;  // int64 rather than int32
};

inline bool is_wide(const Tensor& t, const char* name) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Int || type == ScalarType::Long, "tt_embedding_bag: ", name,
                  " must be int32 or int64");
  return type == ScalarType::Long;
}

inline LookupShape lookups_of(const Arguments& a) {
  LookupShape l{};
  l.tables = static_cast<int64_t>(a.num_embeddings.size());
  l.total = a.indices.numel();
  STD_TORCH_CHECK(l.total < INT32_MAX, "tt_embedding_bag: more than 2^31 lookups in one call");
  l.wide = is_wide(a.indices, "indices");
  if (a.weights) {
    STD_TORCH_CHECK(a.weights->dim() == a.indices.dim() && a.weights->numel() == l.total, "tt_embedding_bag: ",
                    a.weights->numel(), " weights for ", l.total, " lookups");
    STD_TORCH_CHECK(a.weights->scalar_type() == a.cores[0].scalar_type(),
                    "tt_embedding_bag: the weights must have the cores' dtype");
  }
  if (!a.offsets) {
    STD_TORCH_CHECK(a.indices.dim() == 2 && a.indices.size(1) % l.tables == 0,
                    "tt_embedding_bag: indices without offsets must be (B, ", l.tables, " * L), got ", a.indices.dim(),
                    " dimensions and ", l.total, " ids");
    l.bags = a.indices.size(0);
    l.per_bag = a.indices.size(1) / l.tables;
    return l;
  }
  STD_TORCH_CHECK(a.indices.dim() == 1, "tt_embedding_bag: indices with offsets must be 1-D, got ", a.indices.dim(),
                  " dimensions");
  STD_TORCH_CHECK(a.offsets->dim() == 1, "tt_embedding_bag: offsets must be 1-D, got ", a.offsets->dim(),
                  " dimensions");
  l.wide_offsets = is_wide(*a.offsets, "offsets");
  l.bounds = a.offsets->numel() + (a.include_last_offset ? 0 : 1);
  STD_TORCH_CHECK(l.bounds > 0 && (l.bounds - 1) % l.tables == 0, "tt_embedding_bag: ", l.bounds,
                  " bounds of bags do not fit ", l.tables, " tables");
  l.bags = (l.bounds - 1) / l.tables;
  return l;
}

}  // namespace embpress
