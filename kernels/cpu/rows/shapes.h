// What the inner loops over rows are told of a call. Nothing of the standard library but sizes of integers.
#pragma once

#include <cstdint>

#include "../common/divide.h"

namespace embpress {

// Rows cut from one array, see kernels/ops/robe.py.
struct RobeShape {
  int64_t dim, z, chunks;
  uint32_t slots;  // chunks start below it
  uint64_t r1, r3;
  const uint32_t* step;  // (chunks): j R2 mod P
  uint64_t s1, s3;
  const uint32_t* sign_step;  // (dim), or null without signs
  bool far;                   // the array is larger than a core's cache
};

// Rows put together from `parts` rows of width `width`, see kernels/ops/compositional.py.
enum class Combine : int64_t { concat = 0, add = 1, mult = 2 };

struct PartsShape {
  Combine combine;
  int64_t parts, width;
  bool far;  // see RobeShape

  int64_t dim() const { return combine == Combine::concat ? parts * width : width; }
};

// What says which row a part takes, for one lookup or for each of several: a hash's four coefficients, or the three
// numbers of a Remainder31 that divides; then those of one that takes the remainder; and where the part's rows start.
constexpr int64_t kPartFields = 7;
struct PartNumbers {
  const uint32_t* field[kPartFields];
  const int64_t* base;
};

// Gradients of lookups: rows that lie `step` apart, what each counts for (or null), and which row is whose (or null
// where they are in the order of the lookups).
template <class T>
struct PartsFlow {
  const T* grad;
  int64_t step;
  const T* scale = nullptr;
  const int32_t* row = nullptr;
};

// One step on rows of width `width`, see kernels/ops/update_rows.py.
struct UpdateShape {
  int64_t width;
  double learning_rate, eps;
  bool rowwise;
};

// Rows of a matrix that one task may write: every row r with (r >> shift) mod tasks == task.
struct Owned {
  int shift = 0;
  uint32_t task = 0;
  Divisor tasks;

  bool has(int64_t row) const {
    return tasks.by == 1 || tasks.remainder(static_cast<uint32_t>(row >> shift)) == task;
  }
};

}  // namespace embpress
