// float16 and bfloat16 parameters widened to the float32 that is computed with, and results narrowed again.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "../../common/in_one_piece.h"

namespace embpress {

// What f makes of the parameter in float32 or float64 and in one piece, in the parameter's own type.
template <class F>
torch::stable::Tensor widened(const torch::stable::Tensor& parameter, const char* op, F f) {
  using torch::headeronly::ScalarType;
  const ScalarType type = parameter.scalar_type();
  if (type == ScalarType::Float || type == ScalarType::Double) return f(in_one_piece(parameter));
  STD_TORCH_CHECK(type == ScalarType::Half || type == ScalarType::BFloat16, op,
                  ": parameters must be float16, bfloat16, float32 or float64");
  return torch::stable::to(f(in_one_piece(torch::stable::to(parameter, ScalarType::Float))), type);
}

}  // namespace embpress
