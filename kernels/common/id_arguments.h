// Arguments of the ops on tables of ids, checked on every device alike.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "in_one_piece.h"

namespace embpress {

inline const int64_t* longs(const torch::stable::Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.scalar_type() == torch::headeronly::ScalarType::Long && t.is_contiguous(), name,
                  " must be contiguous int64");
  return t.const_data_ptr<int64_t>();
}

inline const int64_t* list_of_longs(const torch::stable::Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.dim() == 1, name, " must be 1-D, got ", t.dim(), " dimensions");
  return longs(t, name);
}

inline uint64_t mask_of(int64_t slots) {
  STD_TORCH_CHECK(slots > 0 && (slots & (slots - 1)) == 0, "a table of ids needs a power of two of slots, got ", slots);
  return static_cast<uint64_t>(slots) - 1;
}

// The table of counts: its mask. `used` is how many slots are taken, one number.
inline uint64_t check_counts(const torch::stable::Tensor& keys, const torch::stable::Tensor& counts,
                             const torch::stable::Tensor& used) {
  list_of_longs(keys, "keys");
  list_of_longs(counts, "counts");
  longs(used, "used");
  STD_TORCH_CHECK(counts.numel() == keys.numel(), "count_ids: ", counts.numel(), " counts for ", keys.numel(),
                  " slots");
  STD_TORCH_CHECK(used.numel() == 1, "count_ids: used must be one number, got ", used.numel());
  return mask_of(keys.numel());
}

// Slots that ids may take: one in eight stays free, so that searches end soon.
inline int64_t max_taken(int64_t slots) { return slots - slots / 8 - 1; }

}  // namespace embpress
