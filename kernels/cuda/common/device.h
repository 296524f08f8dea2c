// The host's side of one op call on a GPU: launches on the current stream, memory for the length of the call, sorting.
//
// Nothing here waits for the GPU but `read`, so that an op made of these can be captured in a CUDA graph. The same ops
// are compiled for the CPU with EMBPRESS_CUDA_ON_CPU, where tests/tools/cuda_on_cpu/ stands in for the GPU.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <vector>

#include "../../common/in_one_piece.h"

#ifdef EMBPRESS_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#define EMBPRESS_CUDA_KEY CPU
#else
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/c/shim.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#define EMBPRESS_CUDA_KEY CUDA
#endif

namespace embpress::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Bits that hold every number below `n`.
inline int bits_for(uint64_t n) {
  int bits = 1;
  while (bits < 64 && n > uint64_t{1} << bits) ++bits;
  return bits;
}

class Device {
 public:
  // The device of `like` is current until the end of this object's life.
  explicit Device(const Tensor& like);

  // Threads of a block, where nothing speaks for another number.
#ifdef EMBPRESS_CUDA_ON_CPU
  static constexpr int kThreads = 64;
#else
  static constexpr int kThreads = 256;
#endif

  // Blocks of kThreads for one thread an element.
  static unsigned blocks(int64_t elements) {
    return static_cast<unsigned>(std::min<int64_t>(std::max<int64_t>(1, divide_up(elements, kThreads)), 1 << 30));
  }

  template <class... P, class... A>
  void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A... args);

  // One thread an element, in blocks of kThreads; nothing is launched for no elements.
  template <class... P, class... A>
  void launch_for(int64_t elements, void (*kernel)(P...), A... args) {
    if (elements > 0) launch(kernel, dim3(blocks(elements)), dim3(kThreads), 0, args...);
  }

  // That these are where the op runs: a kernel that reads another device's memory ends the process.
  void check_here(std::initializer_list<Tensor> tensors) const;

  // An uninitialised tensor on the device.
  Tensor empty(torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) const;

  // Uninitialised memory that lives as long as this object; torch's allocator takes it back in the stream's order.
  template <class T>
  T* scratch(int64_t elements) {
    const int64_t bytes = std::max<int64_t>(16, elements * static_cast<int64_t>(sizeof(T)));
    keep_.push_back(empty({bytes}, ScalarType::Byte));
    return reinterpret_cast<T*>(keep_.back().template mutable_data_ptr<uint8_t>());
  }

  void fill(void* to, int byte, int64_t bytes);
  void zero(void* to, int64_t bytes) { fill(to, 0, bytes); }

  // Sorts by the lowest `bits` bits of unsigned keys; equal keys keep their order. `in` and `out` must not overlap.
  template <class K, class V>
  void sort_pairs(const K* keys_in, K* keys_out, const V* values_in, V* values_out, int64_t n, int bits);

  // out[i] = in[0] + … + in[i]
  void running_sums(const int32_t* in, int32_t* out, int64_t n);

  // Waits for the GPU. Only for checks that were asked for.
  template <class T>
  T read(const T* from);

  // Whether ids and offsets are to be checked, which waits for the GPU: EMBPRESS_CHECK=1.
  static bool checks();

  int64_t shared_limit() const;  // bytes of shared memory that a block can have
  int64_t multiprocessors() const;

 private:
  Tensor like_;
  std::vector<Tensor> keep_;
#ifndef EMBPRESS_CUDA_ON_CPU
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
#endif
};

#ifdef EMBPRESS_CUDA_ON_CPU

inline Device::Device(const Tensor& like) : like_(like) {}

template <class... P, class... A>
void Device::launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A... args) {
  STD_TORCH_CHECK(static_cast<int64_t>(shared_bytes) <= shared_limit(), "more shared memory than a block can have");
  cuda_on_cpu::launch(kernel, grid, block, shared_bytes, args...);
}

inline Tensor Device::empty(torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) const {
  Tensor made = torch::stable::new_empty(like_, sizes, type);
  if (made.numel()) std::memset(made.mutable_data_ptr(), cuda_on_cpu::kPoison, made.numel() * made.element_size());
  return made;
}

inline void Device::fill(void* to, int byte, int64_t bytes) {
  if (bytes > 0) std::memset(to, byte, bytes);
}

template <class K, class V>
void Device::sort_pairs(const K* keys_in, K* keys_out, const V* values_in, V* values_out, int64_t n, int bits) {
  const K mask = bits >= static_cast<int>(8 * sizeof(K)) ? ~K{0} : (K{1} << bits) - 1;
  std::vector<int64_t> order(n);
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys_in[a] & mask) < (keys_in[b] & mask); });
  for (int64_t i = 0; i < n; ++i) {
    keys_out[i] = keys_in[order[i]];
    values_out[i] = values_in[order[i]];
  }
}

inline void Device::running_sums(const int32_t* in, int32_t* out, int64_t n) {
  for (int64_t i = 0, sum = 0; i < n; ++i) out[i] = static_cast<int32_t>(sum += in[i]);
}

template <class T>
T Device::read(const T* from) {
  return *from;
}

inline void Device::check_here(std::initializer_list<Tensor>) const {}

// whatever is not forbidden: what ids do where nobody checks them is tested too
inline bool Device::checks() {
  const char* asked = std::getenv("EMBPRESS_CHECK");
  return !asked || std::string(asked) != "0";
}

// EMBPRESS_SHARED_BYTES lets tests drive the tilings that little shared memory forces
inline int64_t Device::shared_limit() const {
  const char* given = std::getenv("EMBPRESS_SHARED_BYTES");
  return given ? std::atoll(given) : 163 * 1024;
}

inline int64_t Device::multiprocessors() const { return 4; }

#else

inline void check(cudaError_t error, const char* what) {
  STD_TORCH_CHECK(error == cudaSuccess, "embpress: ", what, ": ", cudaGetErrorString(error));
}

inline Device::Device(const Tensor& like) : like_(like), guard_(like.is_cuda() ? like.get_device_index() : 0) {
  STD_TORCH_CHECK(like.is_cuda(), "embpress: every tensor must be on the same device, one is not on the GPU");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
  stream_ = static_cast<cudaStream_t>(stream);
}

template <class... P, class... A>
void Device::launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, A... args) {
  if (shared_bytes > 48 * 1024)  // always the same value: it is the kernel's, whichever thread launches
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_limit())),
          "shared memory");
  // clang-format off
  kernel<<<grid, block, shared_bytes, stream_>>>(static_cast<P>(args)...);
  // clang-format on
  check(cudaGetLastError(), "launch");
}

inline Tensor Device::empty(torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) const {
  return torch::stable::new_empty(like_, sizes, type);
}

inline void Device::fill(void* to, int byte, int64_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(to, byte, bytes, stream_), "memset");
}

template <class K, class V>
void Device::sort_pairs(const K* keys_in, K* keys_out, const V* values_in, V* values_out, int64_t n, int bits) {
  if (n == 0) return;
  size_t bytes = 0;
  check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys_in, keys_out, values_in, values_out, n, 0, bits, stream_),
        "sort");
  void* room = scratch<uint8_t>(static_cast<int64_t>(bytes));
  check(cub::DeviceRadixSort::SortPairs(room, bytes, keys_in, keys_out, values_in, values_out, n, 0, bits, stream_),
        "sort");
}

inline void Device::running_sums(const int32_t* in, int32_t* out, int64_t n) {
  if (n == 0) return;
  size_t bytes = 0;
  check(cub::DeviceScan::InclusiveSum(nullptr, bytes, in, out, n, stream_), "scan");
  void* room = scratch<uint8_t>(static_cast<int64_t>(bytes));
  check(cub::DeviceScan::InclusiveSum(room, bytes, in, out, n, stream_), "scan");
}

template <class T>
T Device::read(const T* from) {
  T value;
  check(cudaMemcpyAsync(&value, from, sizeof(T), cudaMemcpyDeviceToHost, stream_), "copy");
  check(cudaStreamSynchronize(stream_), "kernel");
  return value;
}

inline void Device::check_here(std::initializer_list<Tensor> tensors) const {
  for (const Tensor& t : tensors)
    STD_TORCH_CHECK(t.is_cuda() && t.get_device_index() == like_.get_device_index(),
                    "embpress: every tensor must be on the same device, cuda:", like_.get_device_index(),
                    ", one is on ",
                    t.is_cuda() ? "cuda:" + std::to_string(t.get_device_index()) : std::string("another"));
}

inline bool Device::checks() {
  const char* asked = std::getenv("EMBPRESS_CHECK");  // looked up each time: tests turn it on and off
  return asked && std::string(asked) == "1";
}

inline int64_t Device::shared_limit() const {
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, like_.get_device_index()), "device");
  return bytes;
}

inline int64_t Device::multiprocessors() const {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, like_.get_device_index()), "device");
  return count;
}

#endif

}  // namespace embpress::cuda
