// Lookups put in groups of one row each: what a gradient of the rows of a batch is summed by.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "pool.h"

namespace embpress {

// The distinct ones of `count` rows, ascending, and the lookups of each in their order: those of row g are `order` from
// starts[g] to starts[g + 1]. What they point to lies in Scratch::of_plan().
struct RowGroups {
  torch::stable::Tensor rows;  // (groups) int64
  int64_t groups;
  const int32_t *order, *starts;

  // Calls f(g, lookups, first of them) on threads where `worth_it`.
  template <class F>
  void for_each(bool worth_it, F f) const {
    constexpr int64_t run = 64;
    for_each_task((groups + run - 1) / run, worth_it, [&](int64_t task) {
      for (int64_t g = task * run; g < std::min(groups, (task + 1) * run); ++g)
        f(g, starts[g + 1] - starts[g], order + starts[g]);
    });
  }
};

// Sorts by digits of 11 bits, from the lowest: lookups of one row stay in their order. `row(i)` is below `held`.
template <class F>
RowGroups grouped_by_row(int64_t count, int64_t held, const torch::stable::Tensor& like, F row) {
  STD_TORCH_CHECK(count < INT32_MAX, "more than 2^31 rows are looked up in one call");
  constexpr int kBits = 11;
  constexpr int64_t kDigits = 1 << kBits;
  Scratch& scratch = Scratch::of_plan();
  scratch.reserve(2 * Scratch::rounded<uint64_t>(count) + 2 * Scratch::rounded<int32_t>(count) +
                  Scratch::rounded<int32_t>(count + 1) + Scratch::rounded<int32_t>(kDigits));
  uint64_t *key = scratch.take<uint64_t>(count), *next_key = scratch.take<uint64_t>(count);
  int32_t *order = scratch.take<int32_t>(count), *next_order = scratch.take<int32_t>(count);
  int32_t *starts = scratch.take<int32_t>(count + 1), *digits = scratch.take<int32_t>(kDigits);
  for (int64_t i = 0; i < count; ++i) {
    key[i] = static_cast<uint64_t>(row(i));
    order[i] = static_cast<int32_t>(i);
  }
  for (int shift = 0; shift < 64 && static_cast<uint64_t>(std::max<int64_t>(held, 1) - 1) >> shift; shift += kBits) {
    std::fill(digits, digits + kDigits, 0);
    for (int64_t i = 0; i < count; ++i) ++digits[key[i] >> shift & (kDigits - 1)];
    for (int64_t d = 0, sum = 0; d < kDigits; ++d) {
      const int32_t own = digits[d];
      digits[d] = static_cast<int32_t>(sum);
      sum += own;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int32_t to = digits[key[i] >> shift & (kDigits - 1)]++;
      next_key[to] = key[i];
      next_order[to] = order[i];
    }
    std::swap(key, next_key);
    std::swap(order, next_order);
  }
  int64_t groups = 0;
  for (int64_t i = 0; i < count; ++i)
    if (i == 0 || key[i] != key[i - 1]) {
      next_key[groups] = key[i];
      starts[groups++] = static_cast<int32_t>(i);
    }
  starts[groups] = static_cast<int32_t>(count);
  torch::stable::Tensor rows = torch::stable::new_empty(like, {groups}, torch::headeronly::ScalarType::Long);
  if (groups) std::memcpy(rows.mutable_data_ptr<int64_t>(), next_key, groups * sizeof(int64_t));
  return {rows, groups, order, starts};
}

}  // namespace embpress
