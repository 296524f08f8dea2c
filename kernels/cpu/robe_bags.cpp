// embpress::robe_bags and its gradients on the CPU; schemas and meanings stand in kernels/ops/robe_bags.py.
//
// Bags are summed where they come to lie, a row at a time. Each task of the forward owns bags, each of the backward a
// part of the array: sums have the order of the lookups, whatever the threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "common/bags.h"
#include "common/parallel.h"
#include "robe/call.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr const char* kOp = "robe_bags";

// x[i] = the row of lookup `begin` + i among those of all tables, bag[i] = its bag, counted from `first`.
void read_block(const IdBags& b, int64_t begin, int64_t size, int64_t first, int64_t* x, int64_t* bag) {
  b.by_width([&](const auto* id) {
    b.for_each_piece(begin, begin + size, size, [&](int64_t number, int64_t table, int64_t from, int64_t lookups) {
      const int64_t offset = b.row_offsets[table], at = from - begin;
      for (int64_t i = 0; i < lookups; ++i) {
        x[at + i] = static_cast<int64_t>(static_cast<uint64_t>(id[from + i]) + static_cast<uint64_t>(offset));
        bag[at + i] = number - first;
      }
    });
  });
}

// Rows of the array of narrow numbers, widened: float16 and bfloat16 are computed with in float32.
template <class N>
void widened_rows(const Robe& robe, int64_t count, const int64_t* x, const N* memory, uint16_t* narrow, float* rows,
                  uint32_t* room) {
  copies().robe_forward16(robe.shape, count, x, reinterpret_cast<const uint16_t*>(memory), narrow, room);
  for (int64_t e = 0; e < count * robe.shape.dim; ++e) {
    N each;
    std::memcpy(&each, narrow + e, sizeof each);
    rows[e] = static_cast<float>(each);
  }
}

// What a task needs for a block of lookups in an array of N, computed with in T.
template <class T, class N>
struct BlockRoom {
  int64_t *x, *bag;
  uint32_t* starts;
  uint16_t* narrow;
  T* rows;  // one, or a block of them where N is narrow

  BlockRoom(Scratch& scratch, const Robe& robe) {
    const int64_t block = block_of(robe), dim = robe.shape.dim, wide = sizeof(N) < 4 ? block * dim : dim;
    const int64_t copied = sizeof(N) < 4 ? block * dim : 0;
    scratch.reserve(2 * Scratch::rounded<int64_t>(block) + Scratch::rounded<uint32_t>(robe.room()) +
                    Scratch::rounded<uint16_t>(copied) + Scratch::rounded<T>(wide));
    x = scratch.take<int64_t>(block);
    bag = scratch.take<int64_t>(block);
    starts = scratch.take<uint32_t>(robe.room());
    narrow = scratch.take<uint16_t>(copied);
    rows = scratch.take<T>(wide);
  }

  // Rows that are written down are few, so that they stay in a core's cache.
  static int64_t block_of(const Robe& robe) {
    return sizeof(N) < 4 ? std::clamp<int64_t>((1 << 14) / robe.shape.dim, 1, robe.block()) : robe.block();
  }
};

// The bags from `first` to `last`, zeros at first, in the array's own type.
template <class T>
void pool_wide(const Robe& robe, const IdBags& b, int64_t first, int64_t last, const T* memory, T* out) {
  const BlockRoom<T, T> room(Scratch::mine(), robe);
  const T* weights = b.weight<T>();
  const int64_t dim = robe.shape.dim, end = b.offsets[last], block = robe.block();
  for (int64_t i = b.offsets[first]; i < end; i += block) {
    const int64_t size = std::min(block, end - i);
    read_block(b, i, size, first, room.x, room.bag);
    robe_kernels<T>().robe_pool(robe.shape, size, room.x, room.bag, weights ? weights + i : nullptr, memory, out,
                                room.starts, room.rows);
  }
  for (int64_t bag = first; b.mean && bag < last; ++bag, out += dim)
    if (b.size(bag) > 1)
      for (int64_t e = 0; e < dim; ++e) out[e] /= static_cast<T>(b.size(bag));
}

// The same in float16 or bfloat16; a bag's sum is narrowed once, at its end.
template <class N>
void pool_narrow(const Robe& robe, const IdBags& b, int64_t first, int64_t last, const N* memory, N* out) {
  const int64_t dim = robe.shape.dim, end = b.offsets[last];
  std::vector<float> sum(dim);
  const BlockRoom<float, N> room(Scratch::mine(), robe);
  const float* weights = b.weight<float>();
  const int64_t block = room.block_of(robe);
  for (int64_t i = b.offsets[first]; i < end; i += block) {
    const int64_t size = std::min(block, end - i);
    read_block(b, i, size, first, room.x, room.bag);
    widened_rows(robe, size, room.x, memory, room.narrow, room.rows, room.starts);
    b.for_each_piece(i, i + size, size, [&](int64_t bag, int64_t, int64_t from, int64_t lookups) {
      if (from == b.begin(bag)) std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t k = from; k < from + lookups; ++k) {
        const float* row = room.rows + (k - i) * dim;
        const float by = weights ? weights[k] : 1.0f;
        for (int64_t e = 0; e < dim; ++e) sum[e] += by * row[e];
      }
      if (from + lookups != b.begin(bag + 1)) return;
      const float by = b.mean ? static_cast<float>(b.size(bag)) : 1.0f;
      for (int64_t e = 0; e < dim; ++e) out[(bag - first) * dim + e] = static_cast<N>(sum[e] / by);
    });
  }
}

template <class N>
Tensor pooled(const Robe& robe, const IdBags& b, const Tensor& memory) {
  const int64_t dim = robe.shape.dim;
  Tensor out = torch::stable::new_empty(memory, {b.bags, dim});
  N* to = static_cast<N*>(out.mutable_data_ptr());
  const N* from = static_cast<const N*>(memory.const_data_ptr());
  const int64_t run = std::max<int64_t>(1, kRobeWorthThreads / (2 * dim));
  b.for_each_run(run, (b.count + b.bags) * dim > kRobeWorthThreads, [&](int64_t first, int64_t last) {
    std::memset(static_cast<void*>(to + first * dim), 0, (last - first) * dim * sizeof(N));
    if constexpr (sizeof(N) < 4)
      pool_narrow(robe, b, first, last, from, to + first * dim);
    else
      pool_wide(robe, b, first, last, from, to + first * dim);
  });
  return out;
}

// Calls f with a zero of the elements' type.
template <class F>
auto by_type(ScalarType type, F f) {
  switch (type) {
    case ScalarType::Float:
      return f(0.0f);
    case ScalarType::Double:
      return f(0.0);
    case ScalarType::Half:
      return f(Half());
    case ScalarType::BFloat16:
      return f(BFloat16());
    default:
      STD_TORCH_CHECK(false, "robe_bags: the memory must be float16, bfloat16, float32 or float64");
  }
}

void check_weights(const std::optional<Tensor>& weights, ScalarType type) {
  STD_TORCH_CHECK(!weights || weights->scalar_type() == type, "robe_bags: weights must be of the memory's dtype");
}

ScalarType computed_in(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

Tensor robe_bags(Tensor memory, Tensor ids, Tensor offsets, std::optional<Tensor> weights, Tensor row_offsets,
                 Tensor rows, Tensor coefficients, int64_t z, int64_t dim, bool mean) {
  STD_TORCH_CHECK(memory.dim() == 1, "robe_bags: memory must be 1-D, got ", memory.dim(), " dimensions");
  const ScalarType type = memory.scalar_type();
  check_weights(weights, type);
  return by_type(type, [&](auto zero) {
    const Robe robe(coefficients, memory.numel(), z, dim, sizeof zero);
    const IdBags b = read_id_bags(ids, offsets, weights, row_offsets, rows, mean, computed_in(type), kOp);
    return pooled<decltype(zero)>(robe, b, in_one_piece(memory));
  });
}

Tensor robe_bags_train(Tensor memory, Tensor ids, Tensor offsets, std::optional<Tensor> weights, Tensor row_offsets,
                       Tensor rows, Tensor coefficients, int64_t z, int64_t dim, bool mean, bool) {
  return robe_bags(memory, ids, offsets, weights, row_offsets, rows, coefficients, z, dim, mean);
}

template <class T>
Tensor of_memory(const Tensor& grad, const IdBags& b, const Robe& robe, int64_t size) {
  const T *flow = grad.const_data_ptr<T>(), *weights = b.weight<T>();
  return robe_gradient<T>(grad, robe, b.count, size,
                          [&](int64_t begin, int64_t count, int64_t* x, int64_t* bag, T* scale) {
                            read_block(b, begin, count, 0, x, bag);
                            for (int64_t i = 0; b.mean && i < count; ++i) scale[i] = b.share<T>(bag[i]);
                            const T* by = weights ? weights + begin : b.mean ? scale : nullptr;
                            return RobeSource<T>{bag, by, flow};
                          });
}

// For each lookup the row in the array times the gradient of its bag.
template <class T, class N>
Tensor of_weights(const Tensor& grad, const IdBags& b, const Robe& robe, const Tensor& memory) {
  Tensor out = torch::stable::new_empty(grad, {b.count});
  T* to = out.mutable_data_ptr<T>();
  const T* flow = grad.const_data_ptr<T>();
  const N* from = static_cast<const N*>(memory.const_data_ptr());
  const int64_t dim = robe.shape.dim, block = BlockRoom<T, N>::block_of(robe);
  for_each_task((b.count + block - 1) / block, b.count * dim > kRobeWorthThreads, [&](int64_t task) {
    const int64_t begin = task * block, size = std::min(block, b.count - begin);
    const BlockRoom<T, N> room(Scratch::mine(), robe);
    read_block(b, begin, size, 0, room.x, room.bag);
    if constexpr (sizeof(N) < 4) {
      widened_rows(robe, size, room.x, from, room.narrow, room.rows, room.starts);
      for (int64_t i = 0; i < size; ++i)
        to[begin + i] = robe_kernels<T>().dot(dim, flow + room.bag[i] * dim, room.rows + i * dim);
    } else {
      robe_kernels<T>().robe_dots(robe.shape, size, room.x, room.bag, flow, from, to + begin, room.starts, room.rows);
    }
  });
  return out;
}

std::tuple<Tensor, Tensor> robe_bags_backward(Tensor grad, std::optional<Tensor> memory, Tensor ids, Tensor offsets,
                                              std::optional<Tensor> weights, Tensor row_offsets, Tensor rows,
                                              Tensor coefficients, int64_t size, int64_t z, bool mean, bool) {
  const ScalarType type = grad.scalar_type(), wide = computed_in(type);
  STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == offsets.numel() - 1,
                  "robe_bags: the gradient must be (T B, D), got ", grad.dim(), " dimensions");
  check_weights(weights, type);
  const IdBags b = read_id_bags(ids, offsets, weights, row_offsets, rows, mean, wide, kOp);
  const Robe robe(coefficients, size, z, grad.size(1), 4);
  const Tensor flow = in_one_piece(type == wide ? grad : torch::stable::to(grad, wide));
  const auto own = [&](const Tensor& made) { return type == wide ? made : torch::stable::to(made, type); };
  const Tensor made = own(wide == ScalarType::Float ? of_memory<float>(flow, b, robe, size)
                                                    : of_memory<double>(flow, b, robe, size));
  if (!weights) return {made, torch::stable::new_empty(grad, {0})};
  STD_TORCH_CHECK(memory && memory->dim() == 1 && memory->numel() == size && memory->scalar_type() == type,
                  "robe_bags: the gradient of weights needs the memory, of the gradient's dtype");
  const Tensor array = in_one_piece(*memory);
  return {made, own(by_type(type, [&](auto zero) {
            using N = decltype(zero);
            using T = std::conditional_t<sizeof(N) == 8, double, float>;
            return of_weights<T, N>(flow, b, robe, array);
          }))};
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("robe_bags", TORCH_BOX(&embpress::robe_bags));
  m.impl("robe_bags_train", TORCH_BOX(&embpress::robe_bags_train));
  m.impl("robe_bags_backward", TORCH_BOX(&embpress::robe_bags_backward));
}
