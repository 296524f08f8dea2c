// The inner loops behind the ops, once for each instruction set; `best` chooses at run time.
#pragma once

#include <cstdint>
#include <utility>

#include "../rows/shapes.h"

namespace embpress {

enum class Isa { plain = 0, avx2 = 1, avx512 = 2 };

// See tt/last.h.
struct LastShape {
  int64_t rows, per_block, stride, rank, padded, q;
};

template <class T>
struct Kernels {
  int64_t lanes;  // elements of a vector; widths handed to the kernels are multiples of it
  void (*gemm)(int64_t m, int64_t n, int64_t depth, const T* a, int64_t row, int64_t column, const T* b, int64_t ldb,
               T* c, int64_t ldc, bool accumulate);
  void (*transpose)(int64_t rows, int64_t columns, const T* from, int64_t ldf, T* to, int64_t ldt);
  void (*last_forward)(const LastShape& shape, const T* partial, const T* slice, T* out);
  void (*last_backward)(const LastShape& shape, const T* d_out, const T* partial, const T* slice_t, T* d_partial,
                        T* d_slice_t);
  void (*sum_rows)(int64_t n, int64_t count, const int32_t* order, const T* rows, int64_t stride, T* to);
  void (*scale)(int64_t n, T by, const T* x, T* y);
  void (*add_scaled)(int64_t n, T scale, const T* x, T* y);
  T (*dot)(int64_t n, const T* x, const T* y);
  void (*robe_backward)(const RobeShape& s, int64_t count, const int64_t* x, const T* grad, const int64_t* bag,
                        const T* scale, bool some, int64_t begin, int64_t end, T* sum, uint32_t* room, T* signs);
  void (*robe_pool)(const RobeShape& s, int64_t count, const int64_t* x, const int64_t* bag, const T* scale,
                    const T* memory, T* out, uint32_t* room, T* row);
  void (*robe_dots)(const RobeShape& s, int64_t count, const int64_t* x, const int64_t* bag, const T* grad,
                    const T* memory, T* to, uint32_t* room, T* row);
  void (*combine_parts)(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                        T* out);
  void (*pool_parts)(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                     const T* scale, T* out, T* room);
  void (*dot_parts)(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart, const T* weight,
                    const T* grad, T* out, T* room);
  void (*scatter_parts)(const PartsShape& s, int64_t count, const int64_t* index, int64_t apart,
                        const PartsFlow<T>& flow, const T* weight, const Owned& owned, T* sum, T* room);
  void (*gather_parts)(const PartsShape& s, int64_t count, const int32_t* order, const int64_t* index, int64_t apart,
                       const PartsFlow<T>& flow, const T* weight, T* to, T* room);
  void (*update_row)(const UpdateShape& s, int64_t count, const int32_t* order, const T* grads, T* total, T* row,
                     T* sum);
};

// What is no arithmetic of one type: elements of so many bits moved, and codes decoded.
struct Copies {
  template <class U>
  using RobeForward = void (*)(const RobeShape& s, int64_t count, const int64_t* x, const U* memory, U* out,
                               uint32_t* room);
  RobeForward<uint16_t> robe_forward16;
  RobeForward<uint32_t> robe_forward32;
  RobeForward<uint64_t> robe_forward64;
  void (*decode_row)(int bits, int64_t width, const uint8_t* codes, int64_t first, const float* lo, const float* step,
                     bool common, uint8_t* room, float* out);
  void (*part_rows)(bool hashed, bool common, int64_t count, const uint32_t* x, const PartNumbers& n, int64_t* to);
  void (*digit_rows)(int64_t count, const int64_t* id, int64_t stride, int64_t size, int64_t first, int64_t* to);
  void (*hash_rows)(int64_t count, const int64_t* id, const uint32_t* coefficients, const Remainder31& size,
                    int64_t first, uint32_t* room, int64_t* to);
  void (*take_rows)(const StoreView& s, int64_t count, const int64_t* index, float* const* to, int64_t at, Into into,
                    const float* scale);
  void (*take_chunks)(const StoreView& s, const RobeShape& robe, int64_t count, const int64_t* x, float* const* to,
                      uint32_t* room);
  void (*take_cores)(const CoresView& v, int64_t count, const int64_t* x, float* const* to, int64_t* digits,
                     float* products, float* slices);
};

// The widest instruction set that this processor has, or the one that EMBPRESS_ISA (plain, avx2, avx512) asks for.
Isa isa();

// The kernels for rows of `width` elements: the widest vectors that do not waste over a quarter of their lanes.
template <class T>
const Kernels<T>& best(int64_t width);

// Of the widest instruction set.
const Copies& copies();

}  // namespace embpress
