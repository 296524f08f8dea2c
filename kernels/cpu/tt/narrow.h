// float16 and bfloat16: arguments of the tensor-train op widened to the float32 that is computed with.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <utility>
#include <vector>

#include "call.h"

namespace embpress {

inline bool is_narrow(ScalarType type) { return type == ScalarType::Half || type == ScalarType::BFloat16; }

inline Tensor narrowed(const Tensor& made, ScalarType type) {
  return made.scalar_type() == type ? made : torch::stable::to(made, type);
}

// Whole cores, values of caches and weights; all of one type, or the call is refused.
inline void widen(Arguments& a) {
  const ScalarType type = a.cores[0].scalar_type();
  const auto wide = [type](Tensor& t) {
    STD_TORCH_CHECK(t.scalar_type() == type, "tt_embedding_bag: cores, values and weights must have one dtype");
    t = torch::stable::to(t, ScalarType::Float);
  };
  for (Tensor& core : a.cores) wide(core);
  for (size_t i = 2; i < a.caches.size(); i += 3) wide(a.caches[i]);
  if (a.weights) wide(*a.weights);
}

template <class N>
void widen_slices(const Tensor& core, const std::vector<int64_t>& digits, float* to) {
  const int64_t size = core.numel() / core.size(0);
  const N* from = static_cast<const N*>(core.const_data_ptr());
  for (const int64_t digit : digits)
    for (int64_t i = 0; i < size; ++i) *to++ = static_cast<float>(from[digit * size + i]);
}

// Slices (D, R, q, R') of these digits, in their order.
inline Tensor slices_of(const Tensor& core, const std::vector<int64_t>& digits) {
  const Tensor whole = in_one_piece(core);
  const Tensor made = torch::stable::new_empty(
      core, {static_cast<int64_t>(digits.size()), core.size(1), core.size(2), core.size(3)}, ScalarType::Float);
  float* to = made.mutable_data_ptr<float>();
  if (core.scalar_type() == ScalarType::Half)
    widen_slices<torch::headeronly::Half>(whole, digits, to);
  else
    widen_slices<torch::headeronly::BFloat16>(whole, digits, to);
  return made;
}

// The same lookups in smaller trains that have nothing but the slices these lookups need, numbered as they are met.
// Where that is less work than to widen all; rows come out as the same bits.
inline bool widen_what_is_needed(Arguments& a) {
  if (!a.caches.empty()) return false;  // they know rows by their ids
  const std::vector<TableShape> shapes = shapes_of(a);
  std::vector<Tensor> keep;
  const Lookups lookups = read_lookups(a, keep);
  int64_t needed = 0, held = 0;
  for (size_t t = 0; t < shapes.size(); ++t)
    for (int k = 0; k < shapes[t].num_cores; ++k) {
      needed += lookups.count(t) * shapes[t].slice(k);
      held += shapes[t].p[k] * shapes[t].slice(k);
    }
  if (2 * needed > held) return false;
  const Tensor indices = torch::stable::new_empty(a.indices, a.indices.sizes(), ScalarType::Long);
  int64_t* to = indices.mutable_data_ptr<int64_t>();
  std::vector<Tensor> cores;
  for (size_t t = 0; t < shapes.size(); ++t) {
    const TableShape& shape = shapes[t];
    const int d = shape.num_cores;
    std::vector<std::vector<int64_t>> digits(d), number(d);  // slices in their new order; digit → its place there + 1
    for (int k = 0; k < d; ++k) number[k].assign(shape.p[k], 0);
    const auto place = [&](int k, int64_t digit) {
      int64_t& found = number[k][digit];
      if (!found) {
        digits[k].push_back(digit);
        found = static_cast<int64_t>(digits[k].size());
      }
      return found - 1;
    };
    const int64_t count = lookups.count(t);
    std::vector<int64_t> places(count * d);
    for (int64_t j = 0; j < count; ++j) {
      int64_t id = lookups.id(t, j);
      if (id < 0 || id >= shape.num_embeddings) refuse_id(id, t, shape.num_embeddings);
      for (int k = d - 1; k >= 0; id /= shape.p[k--]) places[j * d + k] = place(k, id % shape.p[k]);
    }
    int64_t padding = -1;
    for (int k = 0; k < d; ++k)
      if (digits[k].empty()) digits[k].push_back(0);  // a table without lookups
    const auto row = [&](const int64_t* places) {
      int64_t row = 0;
      for (int k = 0; k < d; ++k) row = row * static_cast<int64_t>(digits[k].size()) + places[k];
      return row;
    };
    for (int64_t j = 0; j < count; ++j) {
      const int64_t made = row(&places[j * d]);
      if (lookups.id(t, j) == shape.padding_idx) padding = made;
      to[lookups.at(t, j)] = made;
    }
    a.num_embeddings[t] = 1;
    for (int k = 0; k < d; ++k) {
      cores.push_back(slices_of(a.cores[t * d + k], digits[k]));
      a.num_embeddings[t] *= static_cast<int64_t>(digits[k].size());
    }
    if (!a.padding_idx.empty()) a.padding_idx[t] = padding;
  }
  a.cores = std::move(cores);
  a.indices = indices;
  if (a.weights) a.weights = torch::stable::to(*a.weights, ScalarType::Float);
  return true;
}

}  // namespace embpress
