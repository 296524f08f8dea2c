// Gradients of rows that are put together from parts, dense and of the rows of a batch, for lookups and bags alike.
//
// `Source` is what is looked up: `tables`, `count` lookups, `block` of them at a time, `index(begin, size, x, to, apart)`
// and `for_each_flow(grad, begin, size, room, f)`, which calls f(offset, lookups, flow) for lookups of one flow, and `flow(grad,
// room, room)`, that of all lookups at once.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <tuple>

#include "../common/owned.h"
#include "../common/parallel.h"
#include "../common/pool.h"
#include "../common/row_groups.h"
#include "tables.h"

namespace embpress {

// The rows that a block of lookups takes, with the room to find them.
struct IndexRoom {
  uint32_t* x;
  int64_t* index;

  static int64_t bytes(int64_t block, int64_t parts) {
    return Scratch::rounded<uint32_t>(block) + Scratch::rounded<int64_t>(block * parts);
  }
  IndexRoom(Scratch& scratch, int64_t block, int64_t parts)
      : x(scratch.take<uint32_t>(block)), index(scratch.take<int64_t>(block * parts)) {}
};

// Each task owns rows of the weight and goes through all lookups, whose rows it finds again.
template <class T, class Source>
torch::stable::Tensor scattered(const Source& source, const T* grad, const torch::stable::Tensor& weight) {
  const PartsShape& s = source.tables.shape;
  const int64_t held = source.tables.held, count = source.count, block = source.block;
  torch::stable::Tensor out = pooled_empty<T>(weight);
  T* sum = out.mutable_data_ptr<T>();
  const T* from = weight.const_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.width);
  zero(sum, held * s.width);
  const bool worth_it = count * s.dim() > kPartsWorthThreads;
  const int64_t tasks = worth_it ? torch::stable::get_num_threads() : 1;
  const Owned each = shared_out(held, s.width * sizeof(T), tasks);
  for_each_task(tasks, worth_it, [&](int64_t task) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(s.width) + Scratch::rounded<T>(block) + IndexRoom::bytes(block, s.parts));
    T *room = scratch.take<T>(s.width), *scale = scratch.take<T>(block);
    const IndexRoom own(scratch, block, s.parts);
    Owned owned = each;
    owned.task = static_cast<uint32_t>(task);
    for (int64_t begin = 0; begin < count; begin += block) {
      const int64_t size = std::min(block, count - begin);
      source.index(begin, size, own.x, own.index, block);
      source.for_each_flow(grad, begin, size, scale, [&](int64_t at, int64_t lookups, const PartsFlow<T>& flow) {
        kernels.scatter_parts(s, lookups, own.index + at, block, flow, from, owned, sum, room);
      });
    }
  });
  return out;
}

// The part rows that products need, in the type that is computed with, one for each part of each lookup.
template <class T, class N>
void widened_parts(int64_t total, int64_t width, const int64_t* index, const N* from, T* to) {
  constexpr int64_t run = 256;
  for_each_task((total + run - 1) / run, total * width > kPartsWorthThreads, [&](int64_t task) {
    for (int64_t p = task * run; p < std::min(total, (task + 1) * run); ++p)
      for (int64_t c = 0; c < width; ++c) to[p * width + c] = static_cast<T>(from[index[p] * width + c]);
  });
}

// The distinct rows that the lookups take and the sums of their gradients, in the type that is computed with. N is the
// weight's own type.
template <class T, class N, class Source>
std::tuple<torch::stable::Tensor, torch::stable::Tensor> summed_by_row(const Source& source,
                                                                       const torch::stable::Tensor& grad,
                                                                       const torch::stable::Tensor& weight) {
  const PartsShape& s = source.tables.shape;
  const int64_t count = source.count, block = source.block, total = count * s.parts;
  const bool worth_it = count * s.dim() > kPartsWorthThreads;
  const bool widen = sizeof(T) != sizeof(N) && s.combine == Combine::mult && s.parts > 1;
  Scratch& whole = Scratch::of_rows();
  whole.reserve(2 * Scratch::rounded<int64_t>(total) + Scratch::rounded<T>(count) + Scratch::rounded<int32_t>(count) +
                Scratch::rounded<T>(widen ? total * s.width : 1));
  int64_t *index = whole.take<int64_t>(total), *place = whole.take<int64_t>(total);
  T* scale = whole.take<T>(count);
  int32_t* row = whole.take<int32_t>(count);
  T* wide = whole.take<T>(widen ? total * s.width : 1);
  for_each_task((count + block - 1) / block, worth_it, [&](int64_t task) {
    const int64_t begin = task * block, size = std::min(block, count - begin);
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<uint32_t>(block));
    source.index(begin, size, scratch.take<uint32_t>(block), index + begin, count);
  });
  const RowGroups groups = grouped_by_row(total, source.tables.held, weight, [&](int64_t p) {
    return index[p % s.parts * count + p / s.parts];
  });
  PartsFlow<T> flow = source.flow(grad.const_data_ptr<T>(), scale, row);
  const T* from = static_cast<const T*>(weight.const_data_ptr());  // only read where N is T
  if (widen) {
    widened_parts(total, s.width, index, static_cast<const N*>(weight.const_data_ptr()), wide);
    for (int64_t p = 0; p < total; ++p) place[p] = p;
    from = wide;
  }
  torch::stable::Tensor values = pooled_empty<T>(grad, {groups.groups, s.width}, true);
  T* to = values.mutable_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.width);
  groups.for_each(worth_it, [&](int64_t g, int64_t size, const int32_t* order) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(s.width));
    kernels.gather_parts(s, size, order, widen ? place : index, count, flow, from, to + g * s.width,
                         scratch.take<T>(s.width));
  });
  return {groups.rows, values};
}

// The same for a weight of any floating type, the sums in that type.
template <class Source>
std::tuple<torch::stable::Tensor, torch::stable::Tensor> rows_of_gradient(const Source& source,
                                                                          const torch::stable::Tensor& grad,
                                                                          const torch::stable::Tensor& weight,
                                                                          const char* op) {
  using torch::headeronly::ScalarType;
  const ScalarType type = weight.scalar_type(), wide = type == ScalarType::Double ? type : ScalarType::Float;
  const torch::stable::Tensor flow = in_one_piece(grad.scalar_type() == wide ? grad : torch::stable::to(grad, wide));
  if (type == ScalarType::Float) return summed_by_row<float, float>(source, flow, weight);
  if (type == ScalarType::Double) return summed_by_row<double, double>(source, flow, weight);
  STD_TORCH_CHECK(type == ScalarType::Half || type == ScalarType::BFloat16, op,
                  ": parameters must be float16, bfloat16, float32 or float64");
  const auto [rows, values] = type == ScalarType::Half
                                  ? summed_by_row<float, torch::headeronly::Half>(source, flow, weight)
                                  : summed_by_row<float, torch::headeronly::BFloat16>(source, flow, weight);
  return {rows, torch::stable::to(values, type)};
}

}  // namespace embpress
