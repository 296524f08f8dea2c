// embpress::update_dense on the CPU; schema and meaning stand in kernels/ops/update_dense.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <utility>
#include <vector>

#include "common/update_all.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

bool same_shape(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i < a.dim(); ++i)
    if (a.size(i) != b.size(i)) return false;
  return true;
}

bool one_a_row(const Tensor& total, const Tensor& parameter) {
  return total.dim() == 1 && parameter.dim() > 0 && total.size(0) == parameter.size(0);
}

// Tensors as the step takes them, and those that are copies and go back into what they were made of.
struct Held {
  std::vector<Tensor> tensors;
  std::vector<std::pair<Tensor, size_t>> back;

  void* memory(const Tensor& t, ScalarType wide, bool changes) {
    tensors.push_back(widened(t, wide));
    if (changes && (t.scalar_type() != wide || !t.is_contiguous())) back.emplace_back(t, tensors.size() - 1);
    return changes ? tensors.back().mutable_data_ptr() : const_cast<void*>(tensors.back().const_data_ptr());
  }
};

void update_dense(std::vector<Tensor> parameters, std::vector<Tensor> totals, std::vector<Tensor> grads,
                  double learning_rate, double eps) {
  STD_TORCH_CHECK(grads.size() == parameters.size() && (totals.empty() || totals.size() == parameters.size()),
                  "update_dense: one gradient and one total for each parameter, or no totals");
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor &one = parameters[i], &grad = grads[i];
    const ScalarType type = one.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
                        type == ScalarType::Half,
                    "update_dense: parameters must be float32, float64, bfloat16 or float16");
    STD_TORCH_CHECK(grad.scalar_type() == type && same_shape(grad, one),
                    "update_dense: gradients must be of their parameters' shape and type");
    STD_TORCH_CHECK(totals.empty() || (totals[i].scalar_type() == type &&
                                       (same_shape(totals[i], one) || one_a_row(totals[i], one))),
                    "update_dense: totals must be of their parameters' type and shape, or one number a row");
  }
  Held held;
  std::vector<Whole<float>> floats;
  std::vector<Whole<double>> doubles;
  const auto add = [&]<class T>(std::vector<Whole<T>>& steps, size_t i, ScalarType wide) {
    const Tensor& one = parameters[i];
    const bool rowwise = !totals.empty() && !same_shape(totals[i], one);
    const int64_t n = rowwise ? one.size(0) : 1, width = one.numel() / n;
    const T* from = static_cast<const T*>(held.memory(grads[i], wide, false));
    T* sums = totals.empty() ? nullptr : static_cast<T*>(held.memory(totals[i], wide, true));
    steps.push_back({{width, learning_rate, eps, rowwise}, n, from, sums,
                     static_cast<T*>(held.memory(one, wide, true))});
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!parameters[i].numel()) continue;
    if (parameters[i].scalar_type() == ScalarType::Double)
      add(doubles, i, ScalarType::Double);
    else
      add(floats, i, ScalarType::Float);
  }
  update_all(floats);
  update_all(doubles);
  for (const auto& [to, at] : held.back) torch::stable::copy_(const_cast<Tensor&>(to), held.tensors[at]);
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) { m.impl("update_dense", TORCH_BOX(&embpress::update_dense)); }
