// embpress::robe_lookup and its gradient on the CPU; schemas and meanings stand in kernels/ops/robe.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

#include "common/lookups.h"
#include "common/parallel.h"
#include "robe/call.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

template <class U>
void look_up(const Robe& robe, const IdLookups& l, Copies::RobeForward<U> forward, const void* memory, void* out) {
  const int64_t dim = robe.shape.dim, block = robe.block(), blocks = (l.count + block - 1) / block;
  // several blocks to a task, so that tasks are worth a thread's time
  const int64_t run = std::max<int64_t>(1, kRobeWorthThreads / (2 * block * dim));
  std::atomic<bool> wrong{false};
  for_each_task((blocks + run - 1) / run, l.count * dim > kRobeWorthThreads, [&](int64_t task) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<int64_t>(block) + Scratch::rounded<uint32_t>(robe.room()));
    int64_t* x = scratch.take<int64_t>(block);
    uint32_t* room = scratch.take<uint32_t>(robe.room());
    for (int64_t b = task * run; b < std::min(blocks, (task + 1) * run); ++b) {
      const int64_t begin = b * block, size = std::min(block, l.count - begin);
      if (!l.rows_at(begin, size, x)) wrong.store(true, std::memory_order_relaxed);  // and yet a chunk of the array
      forward(robe.shape, size, x, static_cast<const U*>(memory), static_cast<U*>(out) + begin * dim, room);
    }
  });
  if (wrong) l.refuse();
}

Tensor robe_lookup(Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t z,
                   int64_t dim) {
  STD_TORCH_CHECK(memory.dim() == 1, "robe_lookup: memory must be 1-D, got ", memory.dim(), " dimensions");
  const ScalarType type = memory.scalar_type();
  const bool half = type == ScalarType::Half || type == ScalarType::BFloat16;
  STD_TORCH_CHECK(half || type == ScalarType::Float || type == ScalarType::Double,
                  "robe_lookup: the memory must be float16, bfloat16, float32 or float64");
  const int64_t itemsize = half ? 2 : type == ScalarType::Float ? 4 : 8;
  const Robe robe(coefficients, memory.numel(), z, dim, itemsize);
  const IdLookups l = read_id_lookups(ids, row_offsets, rows, "robe_lookup", false);
  const Tensor array = in_one_piece(memory);
  Tensor out = torch::stable::new_empty(memory, {l.samples, l.tables, dim});
  if (l.count == 0) return out;
  const void* from = array.const_data_ptr();
  void* to = out.mutable_data_ptr();
  const Copies& moves = copies();
  if (half)
    look_up<uint16_t>(robe, l, moves.robe_forward16, from, to);
  else if (type == ScalarType::Float)
    look_up<uint32_t>(robe, l, moves.robe_forward32, from, to);
  else
    look_up<uint64_t>(robe, l, moves.robe_forward64, from, to);
  return out;
}

Tensor robe_lookup_train(Tensor memory, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t z,
                         int64_t dim, bool) {
  return robe_lookup(memory, ids, row_offsets, rows, coefficients, z, dim);
}

template <class T>
Tensor sum_up(const Tensor& grad, const IdLookups& l, const Robe& robe, int64_t size) {
  const T* flow = grad.const_data_ptr<T>();
  return robe_gradient<T>(grad, robe, l.count, size, [&](int64_t begin, int64_t count, int64_t* x, int64_t*, T*) {
    l.rows_at(begin, count, x);  // a chunk of the array, whatever the ids hold by now
    return RobeSource<T>{nullptr, nullptr, flow + begin * robe.shape.dim};
  });
}

Tensor robe_lookup_backward(Tensor grad, Tensor ids, Tensor row_offsets, Tensor rows, Tensor coefficients, int64_t size,
                            int64_t z, bool) {
  STD_TORCH_CHECK(grad.dim() == 3 && ids.dim() == 2 && grad.size(0) == ids.size(0) && grad.size(1) == ids.size(1),
                  "robe_lookup: the gradient must be (N, T, D), got ", grad.dim(), " dimensions");
  const Robe robe(coefficients, size, z, grad.size(2), 4);
  const IdLookups l = read_id_lookups(ids, row_offsets, rows, "robe_lookup", false);
  const ScalarType type = grad.scalar_type();
  if (type == ScalarType::Double) return sum_up<double>(in_one_piece(grad), l, robe, size);
  if (type == ScalarType::Float) return sum_up<float>(in_one_piece(grad), l, robe, size);
  const Tensor wide = in_one_piece(torch::stable::to(grad, ScalarType::Float));
  return torch::stable::to(sum_up<float>(wide, l, robe, size), type);
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("robe_lookup", TORCH_BOX(&embpress::robe_lookup));
  m.impl("robe_lookup_train", TORCH_BOX(&embpress::robe_lookup_train));
  m.impl("robe_lookup_backward", TORCH_BOX(&embpress::robe_lookup_backward));
}
