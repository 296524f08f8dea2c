// A call of ROBE's ops on the CPU, and the gradient of its array.
//
// Hashes are computed in both directions, so that no index is stored.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "../../common/id_arguments.h"
#include "../common/parallel.h"
#include "../common/pool.h"
#include "../simd/kernels.h"

namespace embpress {

constexpr int64_t kRobeWorthThreads = 1 << 15;  // elements of rows

// The shape of a call, with what it points to.
struct Robe {
  RobeShape shape{};
  std::vector<uint32_t> steps;

  Robe(const torch::stable::Tensor& coefficients, int64_t size, int64_t z, int64_t dim, int64_t itemsize) {
    STD_TORCH_CHECK(dim >= 1 && z >= 1 && z <= dim, "robe: z = ", z, " must lie between 1 and the width ", dim);
    STD_TORCH_CHECK(size >= z, "robe: ", size, " elements are fewer than the chunk size ", z);
    const int64_t* r = list_of_longs(coefficients, "coefficients");
    const int64_t known = coefficients.numel(), chunks = (dim + z - 1) / z;
    STD_TORCH_CHECK(known == 3 || known == 6, "robe: coefficients must be 3 numbers or 6, got ", known);
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
    constexpr int64_t far = 16 << 20;  // bytes of an array that lies in no cache
    shape.far = size * itemsize > far;
  }

  // Rows of a block, and what is needed for their starts.
  int64_t block() const { return std::clamp<int64_t>(8192 / shape.chunks, 16, 256); }
  int64_t room() const { return block() * (1 + shape.chunks); }
};

// Of lookup i of a block the row of what flows back, and what scales it; null: row i of the block, and nothing.
template <class T>
struct RobeSource {
  const int64_t* bag = nullptr;
  const T* scale = nullptr;
  const T* grad = nullptr;
};

// The kernels for chunks, which choose among vectors themselves: those of the widest.
template <class T>
const Kernels<T>& robe_kernels() {
  return best<T>(64);
}

// The gradient of an array of `size` elements, of the dtype of `like`. `read(begin, count, x, bag, scale)` fills in the
// rows x of a block of lookups, returns its RobeSource and may use the room at `bag` and `scale` for it. Each task owns
// a part of the array and goes through all lookups: elements are summed in the order of the lookups, whatever the
// threads.
template <class T, class Read>
torch::stable::Tensor robe_gradient(const torch::stable::Tensor& like, const Robe& robe, int64_t lookups, int64_t size,
                                    Read read) {
  const RobeShape& s = robe.shape;
  torch::stable::Tensor out = pooled_empty<T>(like, {size});
  T* sum = out.mutable_data_ptr<T>();
  const bool worth_it = lookups * s.dim > kRobeWorthThreads || size > 8 * kRobeWorthThreads;
  const int64_t tasks = worth_it ? std::min<int64_t>(torch::stable::get_num_threads(), size) : 1;
  const int64_t block = robe.block(), starts = block * (1 + 4 * s.chunks), whole = (size / tasks + 15) / 16 * 16;
  for_each_task(tasks, worth_it, [&](int64_t task) {
    const int64_t begin = std::min(size, task * whole), end = task + 1 == tasks ? size : std::min(size, begin + whole);
    std::memset(sum + begin, 0, (end - begin) * sizeof(T));
    Scratch& scratch = Scratch::mine();
    scratch.reserve(2 * Scratch::rounded<int64_t>(block) + Scratch::rounded<T>(block) +
                    Scratch::rounded<uint32_t>(starts) + Scratch::rounded<T>(2 * s.z));
    int64_t *x = scratch.take<int64_t>(block), *bag = scratch.take<int64_t>(block);
    T* scale = scratch.take<T>(block);
    uint32_t* room = scratch.take<uint32_t>(starts);
    T* signs = scratch.take<T>(2 * s.z);
    for (int64_t i = 0; i < lookups; i += block) {
      const int64_t count = std::min(block, lookups - i);
      const RobeSource<T> from = read(i, count, x, bag, scale);
      robe_kernels<T>().robe_backward(s, count, x, from.grad, from.bag, from.scale, tasks > 1, begin, end, sum, room,
                                      signs);
    }
  });
  return out;
}

}  // namespace embpress
