// Arguments that the ops of several tables have in common, checked.
#pragma once

#include "device.h"
#include "lookups.cuh"

namespace embpress::cuda {

constexpr int64_t kMaxSorted = int64_t{1} << 31;  // sorted things are numbered by 32 bits

// Calls `f` with a value of the parameters' element type.
template <class F>
auto by_type(ScalarType type, const char* op, F f) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16, op,
                  ": parameters must be float32, float64 or bfloat16");
  if (type == ScalarType::Double) return f(double{});
  return type == ScalarType::Float ? f(float{}) : f(BFloat16{});
}

template <class T>
const T* pointer(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* writable(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

inline const int64_t* longs(const Tensor& t, int64_t count, const char* op, const char* name) {
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Long && t.is_contiguous() && t.numel() == count, op, ": ", name,
                  " must be ", count, " contiguous int64, got ", t.numel(), " elements");
  return t.const_data_ptr<int64_t>();
}

// `ids` in one piece; the tensors must outlive the result.
inline Lookups lookups_of(const Tensor& ids, const Tensor& row_offsets, const Tensor& rows, const char* op) {
  STD_TORCH_CHECK(ids.dim() == 2 && ids.size(1) > 0, op, ": ids must be (N, T), got ", ids.dim(), " dimensions");
  const bool wide = ids.scalar_type() == ScalarType::Long;
  STD_TORCH_CHECK(wide || ids.scalar_type() == ScalarType::Int, op, ": ids must be int32 or int64");
  const int64_t tables = ids.size(1);
  return {Integers{ids.const_data_ptr(), wide}, longs(row_offsets, tables, op, "row_offsets"),
          longs(rows, tables, op, "rows"), ids.numel(), Divisor(static_cast<uint32_t>(tables))};
}

// Whether rows of `width` elements from `address` on can be read 16 bytes at a time.
template <class T>
bool in_packs(const void* address, int64_t width) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0 && width % kPack<T> == 0;
}

// Blocks for rows of `columns` threads each: up to 128 threads a row, as many rows as fill kThreads.
struct RowGrid {
  dim3 grid, block;

  RowGrid(int64_t rows, int64_t columns) {
    unsigned x = 1;
    while (x < columns && x < 128 && x < static_cast<unsigned>(Device::kThreads)) x *= 2;
    block = dim3(x, Device::kThreads / x);
    const int64_t blocks = divide_up(rows, block.y);
    STD_TORCH_CHECK(blocks < kMaxSorted, "embpress: more rows in one call than a GPU's grid holds");
    grid = dim3(static_cast<unsigned>(blocks));
  }
};

}  // namespace embpress::cuda
