// embpress::tt_embedding_bag and its gradients on the CPU; schemas and meanings stand in
// kernels/ops/tt_embedding_bag.py.
//
// A call deduplicates the ids of every table, groups the distinct rows by the digit of the big core and multiplies
// group by group. Whatever threads do, each output and each slice of a gradient is written by one task in one order, so
// that results are the same bits in every run.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <tuple>
#include <vector>

#include "tt/backward.h"
#include "tt/forward.h"
#include "tt/narrow.h"

namespace embpress {
namespace {

ScalarType type_of(const Arguments& a) {
  STD_TORCH_CHECK(!a.cores.empty(), "tt_embedding_bag: no tables");
  return a.cores[0].scalar_type();
}

// Calls f(zero of the type to compute in); `a` is of that type then. `once`: there is no backward, which would want the
// same slices.
template <class F>
auto by_dtype(Arguments& a, bool once, F f) {
  const ScalarType type = type_of(a);
  if (is_narrow(type)) {
    if (!once || !widen_what_is_needed(a)) widen(a);
    return f(float{});
  }
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "tt_embedding_bag: the cores must be float16, bfloat16, float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

using Ints = std::vector<int64_t>;

// The last argument says how a GPU multiplies.

Tensor tt_embedding_bag(std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices,
                        std::optional<Tensor> offsets, std::optional<Tensor> weights, Ints num_embeddings,
                        Ints padding_idx, int64_t num_cores, bool mean, bool include_last_offset, int64_t) {
  Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
              std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  const ScalarType type = type_of(a);
  return narrowed(by_dtype(a, true, [&](auto zero) { return forward<decltype(zero)>(a, false, nullptr); }), type);
}

std::tuple<Tensor, Tensor, Tensor> tt_embedding_bag_train(std::vector<Tensor> cores, std::vector<Tensor> caches,
                                                          Tensor indices, std::optional<Tensor> offsets,
                                                          std::optional<Tensor> weights, Ints num_embeddings,
                                                          Ints padding_idx, int64_t num_cores, bool mean,
                                                          bool include_last_offset, bool store, int64_t) {
  Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
              std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  const ScalarType type = type_of(a);
  return by_dtype(a, false, [&](auto zero) {
    Kept kept;
    Tensor out = forward<decltype(zero)>(a, store, &kept);
    if (!kept.partials) kept.partials = torch::stable::new_empty(out, {0});
    return std::make_tuple(narrowed(out, type), *kept.plan, *kept.partials);
  });
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> tt_embedding_bag_backward(
    Tensor grad, std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices, std::optional<Tensor> offsets,
    std::optional<Tensor> weights, Tensor plan, Tensor partials, Ints num_embeddings, Ints padding_idx,
    int64_t num_cores, bool mean, bool include_last_offset, int64_t) {
  Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
              std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  const ScalarType type = type_of(a);
  std::vector<Tensor> grads, cache_grads;
  Tensor weight_grad = torch::stable::new_empty(a.cores[0], {0});
  by_dtype(a, false, [&](auto zero) {
    backward<decltype(zero)>(a, narrowed(grad, a.cores[0].scalar_type()), plan, partials, grads, weight_grad,
                             cache_grads);
    return 0;
  });
  for (std::vector<Tensor>* made : {&grads, &cache_grads})
    for (Tensor& one : *made) one = narrowed(one, type);
  return {grads, narrowed(weight_grad, type), cache_grads};
}

int64_t scratch_bytes() { return Scratch::held() + Pool::one().held(); }

// Returns what is still held: memory in use, and what threads free when they run next.
int64_t release_scratch() {
  ++Scratch::age();
  Pool::one().trim();
  return scratch_bytes();
}

int64_t cpu_isa() { return static_cast<int64_t>(isa()); }

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_FRAGMENT(embpress, m) {
  m.def("cpu_isa() -> int");
  m.def("scratch_bytes() -> int");
  m.def("release_scratch() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&embpress::cpu_isa));
  m.impl("scratch_bytes", TORCH_BOX(&embpress::scratch_bytes));
  m.impl("release_scratch", TORCH_BOX(&embpress::release_scratch));
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("tt_embedding_bag", TORCH_BOX(&embpress::tt_embedding_bag));
  m.impl("tt_embedding_bag_train", TORCH_BOX(&embpress::tt_embedding_bag_train));
  m.impl("tt_embedding_bag_backward", TORCH_BOX(&embpress::tt_embedding_bag_backward));
}
