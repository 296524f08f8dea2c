// Memory of gradients, kept for the next step's. A training loop frees the gradients of all cores between two steps; of
// blocks this large the allocator gives the pages back to the system, and the next backward waits for them one by one.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace embpress {

class Pool {
 public:
  static constexpr int64_t kLeast = int64_t{128} << 10;      // smaller blocks are the allocator's business
  static constexpr int64_t kMaxUnused = int64_t{256} << 20;  // bytes kept unused

  // It is never destroyed: tensors may outlive everything else at the end of the process.
  static Pool& one() {
    static Pool* pool = new Pool;
    return *pool;
  }

  void* take(int64_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::vector<void*>& blocks = free_[bytes];
      if (!blocks.empty()) {
        void* block = blocks.back();
        blocks.pop_back();
        unused_ -= bytes;
        return block;
      }
    }
    void* block = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!block) throw std::bad_alloc();
    const std::lock_guard<std::mutex> lock(mutex_);
    size_[block] = bytes;
    held_ += bytes;
    return block;
  }

  void give(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t bytes = size_[block];
    if (unused_ + bytes <= kMaxUnused) {
      free_[bytes].push_back(block);
      unused_ += bytes;
      return;
    }
    size_.erase(block);
    held_ -= bytes;
    std::free(block);
  }

  // Frees what is not in use.
  void trim() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [bytes, blocks] : free_)
      for (void* block : blocks) {
        size_.erase(block);
        held_ -= bytes;
        std::free(block);
      }
    free_.clear();
    unused_ = 0;
  }

  // All bytes, in use or not.
  int64_t held() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, std::vector<void*>> free_;
  std::unordered_map<void*, int64_t> size_;
  int64_t held_ = 0, unused_ = 0;
};

// Bytes rounded up by an eighth at most, so that blocks whose sizes differ little from step to step are found again.
inline int64_t rounded_up(int64_t bytes) {
  int64_t grain = 1;
  while (16 * grain <= bytes) grain *= 2;
  return (bytes + grain - 1) / grain * grain;
}

// A contiguous tensor of these sizes, with the dtype and device of a CPU tensor of T, its elements undefined. `varies`:
// its sizes are others in each step.
template <class T>
torch::stable::Tensor pooled_empty(const torch::stable::Tensor& like, const std::vector<int64_t>& sizes,
                                   bool varies = false) {
  int64_t bytes = sizeof(T);
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 0; bytes *= sizes[i])
    if (i + 1 < sizes.size()) strides[i] = strides[i + 1] * sizes[i + 1];
  if (bytes < Pool::kLeast) return torch::stable::new_empty(like, sizes);
  return torch::stable::from_blob(
      Pool::one().take(varies ? rounded_up(bytes) : bytes), sizes, strides, like.device(), like.scalar_type(),
      +[](void* block) { Pool::one().give(block); });
}

// The same of the shape of the tensor.
template <class T>
torch::stable::Tensor pooled_empty(const torch::stable::Tensor& like) {
  std::vector<int64_t> sizes(like.dim());
  for (int64_t i = 0; i < like.dim(); ++i) sizes[i] = like.size(i);
  return pooled_empty<T>(like, sizes);
}

}  // namespace embpress
