// A tensor's elements in memory one after another, without a call where they are already.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace embpress {

// A call of torch's own takes the better part of a microsecond, also where there is nothing to do.
inline torch::stable::Tensor in_one_piece(const torch::stable::Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

}  // namespace embpress
