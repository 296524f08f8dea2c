// Tasks shared out over torch's threads, and scratch memory that each thread keeps.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

// With AddressSanitizer the pieces of a thread's scratch memory are told apart, with a gap behind each.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define EMBPRESS_GAP 64
#else
#define ASAN_POISON_MEMORY_REGION(from, bytes) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(from, bytes) ((void)0)
#define EMBPRESS_GAP 0
#endif

namespace embpress {

// Calls f(task) for each of `tasks`, on torch's threads where `worth_it`. A thread takes the next task when it is done
// with one, so tasks may differ in size; results must not depend on which thread ran what.
template <class F>
void for_each_task(int64_t tasks, bool worth_it, F f) {
  const int64_t threads = worth_it ? std::min<int64_t>(tasks, torch::stable::get_num_threads()) : 1;
  if (threads <= 1) {
    for (int64_t task = 0; task < tasks; ++task) f(task);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin)
      for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) f(task);
  });
}

// Memory of one thread, aligned to cache lines, kept from call to call and never shrunk. Memory that is freed and
// allocated anew in every step goes back to the system in between, and comes back as page faults.
class Scratch {
 public:
  // What all threads hold, in bytes.
  static std::atomic<int64_t>& held() {
    static std::atomic<int64_t> bytes{0};
    return bytes;
  }

  // Forgets what was taken and makes room for `bytes`, the sum of the pieces' `rounded` sizes.
  void reserve(int64_t bytes) {
    const int64_t now = age().load(std::memory_order_relaxed);
    if (bytes > size_ || age_ != now) {
      release();
      age_ = now;
      size_ = (bytes + 4095) / 4096 * 4096;
      memory_ = static_cast<char*>(std::aligned_alloc(64, size_));
      if (!memory_) {
        size_ = 0;
        throw std::bad_alloc();
      }
      held() += size_;
    }
    used_ = 0;
    ASAN_POISON_MEMORY_REGION(memory_, size_);
  }

  // After a change each thread frees what it holds before it takes anything new.
  static std::atomic<int64_t>& age() {
    static std::atomic<int64_t> number{0};
    return number;
  }

  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(memory_ + used_);
    used_ += rounded<T>(count);
    ASAN_UNPOISON_MEMORY_REGION(piece, count * sizeof(T));
    return piece;
  }

  template <class T>
  static int64_t rounded(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64 + EMBPRESS_GAP;
  }

  ~Scratch() { release(); }

  // For one task at a time: a megabyte or so.
  static Scratch& mine() {
    static thread_local Scratch scratch;
    return scratch;
  }

  // For a whole call, O(lookups): its intermediate rows, and its plan where nobody keeps it.
  static Scratch& of_rows() {
    static thread_local Scratch scratch;
    return scratch;
  }
  static Scratch& of_plan() {
    static thread_local Scratch scratch;
    return scratch;
  }

 private:
  void release() {
    ASAN_UNPOISON_MEMORY_REGION(memory_, size_);
    std::free(memory_);
    held() -= size_;
    size_ = 0;
    memory_ = nullptr;
  }

  char* memory_ = nullptr;
  int64_t size_ = 0, used_ = 0, age_ = 0;
};

}  // namespace embpress
