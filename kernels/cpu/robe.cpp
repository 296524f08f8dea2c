// embpress::robe_lookup and its gradient on the CPU; schemas and meanings stand in kernels/ops/robe.py.
//
// Hashes are computed in both directions, so that no index is stored. Each task of the backward owns a part of the
// array and goes through all lookups: elements are summed in the order of the lookups, whatever the threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "common/lookups.h"
#include "common/parallel.h"
#include "common/pool.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

constexpr int64_t kBlock = 256;          // rows whose starts a task computes at a time
constexpr int64_t kStarts = 8192;        // about as many starts at most
constexpr int64_t kFar = 16 << 20;       // bytes of an array that lies in no cache
constexpr int64_t kAnyWidth = 64;        // chunks choose among vectors themselves: the widest there are
constexpr int64_t kWorthThreads = 1 << 15;  // elements of rows

// The shape of a call, with what it points to.
struct Robe {
  RobeShape shape{};
  std::vector<uint32_t> steps;

  Robe(const Tensor& coefficients, int64_t size, int64_t z, int64_t dim, int64_t itemsize) {
    STD_TORCH_CHECK(dim >= 1 && z >= 1 && z <= dim, "robe_lookup: z = ", z, " must lie between 1 and the width ", dim);
    STD_TORCH_CHECK(size >= z, "robe_lookup: ", size, " elements are fewer than the chunk size ", z);
    const int64_t* r = list_of_longs(coefficients, "coefficients");
    const int64_t known = coefficients.numel(), chunks = (dim + z - 1) / z;
    STD_TORCH_CHECK(known == 3 || known == 6, "robe_lookup: coefficients must be 3 numbers or 6, got ", known);
    const bool sign = known == 6;
    uint32_t below[6] = {};
    for (int64_t k = 0; k < known; ++k) below[k] = below_prime(r[k]);
    steps.resize(chunks + (sign ? dim : 0));
    for (int64_t j = 0; j < chunks; ++j) steps[j] = linear_hash(j, below[1], 0);
    for (int64_t i = 0; sign && i < dim; ++i) steps[chunks + i] = linear_hash(i, below[4], 0);
    shape.dim = dim;
    shape.z = z;
    shape.chunks = chunks;
    shape.slots = Remainder31(std::min<int64_t>(size - z + 1, kPrime));
    shape.r1 = below[0];
    shape.r3 = below[2];
    shape.step = steps.data();
    if (sign) {
      shape.s1 = below[3];
      shape.s3 = below[5];
      shape.sign_step = steps.data() + chunks;
    }
    shape.far = size * itemsize > kFar;
  }

  // Rows of a block, and what is needed for their starts.
  int64_t block() const { return std::clamp<int64_t>(kStarts / shape.chunks, 16, kBlock); }
  int64_t room() const { return block() * (1 + shape.chunks); }
};

template <class U>
void look_up(const Robe& robe, const IdLookups& l, Copies::RobeForward<U> forward, const void* memory, void* out) {
  const int64_t dim = robe.shape.dim, block = robe.block(), blocks = (l.count + block - 1) / block;
  // several blocks to a task, so that tasks are worth a thread's time
  const int64_t run = std::max<int64_t>(1, kWorthThreads / (2 * block * dim));
  std::atomic<bool> wrong{false};
  for_each_task((blocks + run - 1) / run, l.count * dim > kWorthThreads, [&](int64_t task) {
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
  const RobeShape& s = robe.shape;
  Tensor out = pooled_empty<T>(grad, {size});
  T* sum = out.mutable_data_ptr<T>();
  const T* flow = grad.const_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(kAnyWidth);
  const bool worth_it = l.count * s.dim > kWorthThreads || size > 8 * kWorthThreads;
  const int64_t tasks = worth_it ? std::min<int64_t>(torch::stable::get_num_threads(), size) : 1;
  const int64_t block = robe.block(), whole = (size / tasks + 15) / 16 * 16;
  for_each_task(tasks, worth_it, [&](int64_t task) {
    const int64_t begin = std::min(size, task * whole), end = task + 1 == tasks ? size : std::min(size, begin + whole);
    std::memset(sum + begin, 0, (end - begin) * sizeof(T));
    Scratch& scratch = Scratch::mine();
    const int64_t of_list = 3 * block * s.chunks;
    scratch.reserve(Scratch::rounded<int64_t>(block) + Scratch::rounded<uint32_t>(robe.room() + of_list) +
                    Scratch::rounded<T>(s.z));
    int64_t* x = scratch.take<int64_t>(block);
    uint32_t* room = scratch.take<uint32_t>(robe.room() + of_list);
    T* signs = scratch.take<T>(s.z);
    for (int64_t i = 0; i < l.count; i += block) {
      const int64_t count = std::min(block, l.count - i);
      l.rows_at(i, count, x);
      kernels.robe_backward(s, count, x, flow + i * s.dim, nullptr, nullptr, tasks > 1, begin, end, sum, room, signs);
    }
  });
  return out;
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
