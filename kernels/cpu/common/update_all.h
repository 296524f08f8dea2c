// An optimizer's step on all rows of many parameters, each row with its gradient.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../common/in_one_piece.h"
#include "../simd/kernels.h"
#include "parallel.h"

namespace embpress {

constexpr int64_t kNumbersWorthThreads = 1 << 16;  // below, threads that sleep take as long to wake

// One parameter of `n` rows.
template <class T>
struct Whole {
  UpdateShape shape;
  int64_t n;
  const T* grads;
  T* total;  // null: SGD
  T* parameter;

  int64_t size() const { return n * shape.width; }
};

// Where no number is a whole row's, rows do not matter: pieces of any length.
template <class T>
void update_all(const std::vector<Whole<T>>& parameters) {
  constexpr int64_t piece = 4096;
  const auto run = [](const Whole<T>& one) { return std::max<int64_t>(1, piece / one.shape.width); };
  std::vector<int64_t> first{0};  // parameter → its first piece
  int64_t size = 0;
  for (const Whole<T>& one : parameters) {
    const int64_t whole = one.shape.rowwise ? one.n : one.size(), part = one.shape.rowwise ? run(one) : piece;
    first.push_back(first.back() + (whole + part - 1) / part);
    size += one.size();
  }
  for_each_task(first.back(), size > kNumbersWorthThreads, [&](int64_t task) {
    const size_t at = std::upper_bound(first.begin(), first.end(), task) - first.begin() - 1;
    const Whole<T>& one = parameters[at];
    const Kernels<T>& kernels = best<T>(std::max<int64_t>(64, one.shape.width));
    const int32_t own = 0;
    task -= first[at];
    if (one.shape.rowwise) {
      const int64_t rows = run(one), width = one.shape.width;
      for (int64_t i = task * rows; i < std::min(one.n, (task + 1) * rows); ++i)
        kernels.update_row(one.shape, 1, &own, one.grads + i * width, one.total + i, one.parameter + i * width, nullptr);
      return;
    }
    UpdateShape part = one.shape;
    const int64_t begin = task * piece;
    part.width = std::min(piece, one.size() - begin);
    kernels.update_row(part, 1, &own, one.grads + begin, one.total ? one.total + begin : nullptr,
                       one.parameter + begin, nullptr);
  });
}

// What is not float32 or float64 in one piece is changed by way of a copy that is.
inline torch::stable::Tensor widened(const torch::stable::Tensor& t, torch::headeronly::ScalarType wide) {
  return in_one_piece(t.scalar_type() == wide ? t : torch::stable::to(t, wide));
}

}  // namespace embpress
