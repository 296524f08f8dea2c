// embpress::compositional_lookup and its gradient on the CPU; schemas and meanings stand in
// kernels/ops/compositional.py.
//
// The rows that parts take are found in both directions, so that no index is stored. Each task of the backward owns rows
// of the weight and goes through all lookups: rows are summed in the order of the lookups, whatever the threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "common/lookups.h"
#include "common/owned.h"
#include "common/parallel.h"
#include "common/pool.h"
#include "common/widened.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

constexpr const char* kOp = "compositional_lookup";
constexpr int64_t kBlock = 256;             // rows whose indices a task computes at a time
constexpr int64_t kFar = 512 << 10;         // bytes of a weight that does not lie in a core's cache
constexpr int64_t kWorthThreads = 1 << 15;  // elements of rows

// Which row one part of a table's lookup takes.
struct Part {
  bool hashed, small;  // small: ids below 2^32
  const int64_t* coefficients;
  int64_t parts;  // from one coefficient of this part to the next
  Divisor stride, size;
  int64_t wide_stride, wide_size, base;

  int64_t row(int64_t id) const {
    if (hashed) return base + (wide_size > UINT32_MAX ? hash(id) : size.remainder(hash(id)));
    if (!small) return base + id / wide_stride % wide_size;
    const uint32_t digit = wide_stride > UINT32_MAX ? 0 : stride.quotient(static_cast<uint32_t>(id));
    return base + (wide_size > UINT32_MAX ? digit : size.remainder(digit));
  }
  uint32_t hash(int64_t id) const { return part_hash(id, coefficients, parts); }
};

struct Parts {
  PartsShape shape{};
  IdLookups lookups;
  std::vector<Part> part;  // (tables, parts)
  int64_t held;            // rows of the weight

  Parts(const Tensor& weight, const Tensor& ids, const Tensor& row_offsets, const Tensor& rows,
        const Tensor& coefficients, const Tensor& base, const Tensor& sizes, int64_t combine, bool checked = true)
      : lookups(read_id_lookups(ids, row_offsets, rows, kOp, checked)) {
    STD_TORCH_CHECK(weight.dim() == 2 && base.dim() == 2 && coefficients.dim() == 3 && sizes.dim() == 2,
                    "compositional_lookup: weight, base and sizes must be 2-D, coefficients 3-D");
    STD_TORCH_CHECK(combine >= 0 && combine <= 2, "compositional_lookup: combine must be 0, 1 or 2, got ", combine);
    const int64_t tables = lookups.tables, parts = base.size(1), of_hash = coefficients.size(1);
    STD_TORCH_CHECK(parts >= 1 && base.size(0) == tables && coefficients.size(0) == tables &&
                        coefficients.size(2) == parts && sizes.size(0) == tables &&
                        (sizes.size(1) == 1 || sizes.size(1) == parts) && (of_hash == 1 || of_hash == 4),
                    "compositional_lookup: coefficients, base and sizes must be those of one number of parts");
    shape.combine = static_cast<Combine>(combine);
    shape.parts = parts;
    shape.width = weight.size(1);
    shape.far = weight.numel() * 4 > kFar;
    held = weight.size(0);
    const int64_t *c = longs(coefficients, "coefficients"), *b = longs(base, "base"), *s = longs(sizes, "sizes");
    part.resize(tables * parts);
    for (int64_t t = 0; t < tables; ++t)
      for (int64_t j = 0; j < parts; ++j) {
        Part& p = part[t * parts + j];
        const int64_t size = s[t * sizes.size(1) + (sizes.size(1) == 1 ? 0 : j)];
        p.hashed = of_hash == 4;
        p.small = lookups.rows[t] <= int64_t{UINT32_MAX} + 1;
        p.coefficients = c + t * of_hash * parts + j;
        p.parts = parts;
        p.wide_stride = p.hashed ? 1 : *p.coefficients;
        p.wide_size = size;
        p.base = lookups.row_offsets[t] + b[t * parts + j];
        STD_TORCH_CHECK(p.wide_stride >= 1 && size >= 1 && p.base >= 0 && p.base <= held - size,
                        "compositional_lookup: part ", j, " of table ", t, " has rows ", p.base, " to ", p.base + size,
                        " of ", held);
        p.stride = Divisor(static_cast<uint32_t>(std::min<int64_t>(p.wide_stride, UINT32_MAX)));
        p.size = Divisor(static_cast<uint32_t>(std::min<int64_t>(size, UINT32_MAX)));
      }
  }

  // to (size, parts) = the rows of the weight that lookups from `begin` on take.
  void index(int64_t begin, int64_t size, int64_t* to) const {
    const int64_t parts = shape.parts;
    lookups.by_width([&](const auto* id) {
      int64_t t = begin % lookups.tables;
      for (int64_t i = 0; i < size; ++i) {
        for (int64_t j = 0; j < parts; ++j) *to++ = part[t * parts + j].row(id[begin + i]);
        if (++t == lookups.tables) t = 0;
      }
    });
  }
};

// Rows in float16 or bfloat16, put together in float32: only those that are looked up are widened.
template <class N>
void combine_narrow(const PartsShape& s, int64_t count, const int64_t* index, const N* weight, N* out) {
  const int64_t width = s.width, parts = s.parts;
  for (int64_t i = 0; i < count; ++i, index += parts, out += s.dim()) {
    if (s.combine == Combine::concat || parts == 1) {
      for (int64_t j = 0; j < parts; ++j)
        std::memcpy(out + j * width, weight + index[j] * width, width * sizeof(N));
      continue;
    }
    for (int64_t c = 0; c < width; ++c) {
      float made = static_cast<float>(weight[index[0] * width + c]);
      for (int64_t j = 1; j < parts; ++j) {
        const float next = static_cast<float>(weight[index[j] * width + c]);
        made = s.combine == Combine::add ? made + next : made * next;
      }
      out[c] = static_cast<N>(made);
    }
  }
}

template <class T>
Tensor combined(const Parts& p, const Tensor& weight) {
  const int64_t dim = p.shape.dim(), parts = p.shape.parts, count = p.lookups.count;
  Tensor out = torch::stable::new_empty(weight, {p.lookups.samples, p.lookups.tables, dim});
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const T* from = static_cast<const T*>(weight.const_data_ptr());
  for_each_task((count + kBlock - 1) / kBlock, count * dim > kWorthThreads, [&](int64_t task) {
    const int64_t begin = task * kBlock, size = std::min(kBlock, count - begin);
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<int64_t>(size * parts));
    int64_t* index = scratch.take<int64_t>(size * parts);
    p.index(begin, size, index);
    if constexpr (sizeof(T) < 4)
      combine_narrow(p.shape, size, index, from, to + begin * dim);
    else
      best<T>(p.shape.width).combine_parts(p.shape, size, index, from, to + begin * dim);
  });
  return out;
}

Tensor look_up(const Parts& p, const Tensor& weight) {
  const Tensor whole = in_one_piece(weight);
  switch (weight.scalar_type()) {
    case ScalarType::Float:
      return combined<float>(p, whole);
    case ScalarType::Double:
      return combined<double>(p, whole);
    case ScalarType::Half:
      return combined<torch::headeronly::Half>(p, whole);
    case ScalarType::BFloat16:
      return combined<torch::headeronly::BFloat16>(p, whole);
    default:
      STD_TORCH_CHECK(false, kOp, ": the weight must be float16, bfloat16, float32 or float64");
  }
}

Tensor compositional_lookup(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients,
                            Tensor base, Tensor sizes, int64_t combine) {
  return look_up(Parts(weight, ids, row_offsets, rows, coefficients, base, sizes, combine), weight);
}

std::tuple<Tensor, Tensor> compositional_lookup_train(Tensor weight, Tensor ids, Tensor row_offsets, Tensor rows,
                                                      Tensor coefficients, Tensor base, Tensor sizes,
                                                      int64_t combine) {
  return {compositional_lookup(weight, ids, row_offsets, rows, coefficients, base, sizes, combine),
          torch::stable::new_empty(base, {0})};
}

template <class T>
Tensor scattered(const Parts& p, const Tensor& grad, const Tensor& weight) {
  const PartsShape& s = p.shape;
  const int64_t rows = weight.size(0), size = rows * s.width, count = p.lookups.count;
  Tensor out = pooled_empty<T>(weight);
  T* sum = out.mutable_data_ptr<T>();
  const T *flow = grad.const_data_ptr<T>(), *from = weight.const_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.width);
  zero(sum, size);
  const bool worth_it = count * s.dim() > kWorthThreads;
  const int64_t tasks = worth_it ? torch::stable::get_num_threads() : 1;
  const Owned each = shared_out(rows, s.width * sizeof(T), tasks);
  for_each_task(tasks, worth_it, [&](int64_t task) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(s.width) + Scratch::rounded<int64_t>(kBlock * s.parts));
    T* room = scratch.take<T>(s.width);
    int64_t* index = scratch.take<int64_t>(kBlock * s.parts);
    Owned owned = each;
    owned.task = static_cast<uint32_t>(task);
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      const int64_t block = std::min(kBlock, count - begin);
      p.index(begin, block, index);
      kernels.scatter_parts(s, block, index, flow + begin * s.dim(), from, owned, sum, room);
    }
  });
  return out;
}

Tensor compositional_lookup_backward(Tensor grad, Tensor weight, Tensor, Tensor ids, Tensor row_offsets, Tensor rows,
                                     Tensor coefficients, Tensor base, Tensor sizes, int64_t combine) {
  const Parts p(weight, ids, row_offsets, rows, coefficients, base, sizes, combine, false);
  STD_TORCH_CHECK(grad.numel() == p.lookups.count * p.shape.dim(),
                  "compositional_lookup: the gradient must be (N, T, D), got ", grad.numel(), " elements");
  return widened(weight, kOp, [&](const Tensor& wide) {
    const Tensor flow = in_one_piece(torch::stable::to(grad, wide.scalar_type()));
    return wide.scalar_type() == ScalarType::Float ? scattered<float>(p, flow, wide) : scattered<double>(p, flow, wide);
  });
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("compositional_lookup", TORCH_BOX(&embpress::compositional_lookup));
  m.impl("compositional_lookup_train", TORCH_BOX(&embpress::compositional_lookup_train));
  m.impl("compositional_lookup_backward", TORCH_BOX(&embpress::compositional_lookup_backward));
}
