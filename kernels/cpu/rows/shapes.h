// What the inner loops over rows are told of a call. Nothing of the standard library but sizes of integers.
#pragma once

#include <cstdint>

#include "../common/divide.h"

namespace embpress {

// Rows cut from one array, see kernels/ops/robe.py; coefficients below P.
struct RobeShape {
  int64_t dim, z, chunks;
  Remainder31 slots;  // chunks start below their number
  uint32_t r1, r3;
  const uint32_t* step;  // (chunks): j R2 mod P
  uint32_t s1, s3;
  const uint32_t* sign_step;  // (dim), or null without signs
  bool far;                   // the array lies in no cache
};

// Rows put together from `parts` rows of width `width`, see kernels/ops/compositional.py.
enum class Combine : int64_t { concat = 0, add = 1, mult = 2 };

struct PartsShape {
  Combine combine;
  int64_t parts, width;
  bool far;  // the weight is larger than a core's cache

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

// What served tables take rows from, see kernels/ops/recipe_lookup.py.
enum class Form : int64_t { floats = 0, bfloat16 = 1, columns = 2, rows = 3, blocks = 4 };

struct StoreView {
  Form form;
  int64_t bits;   // of an element
  int64_t width;  // elements of a row
  const uint8_t* memory;
  int64_t bytes;
  int64_t row_bytes;       // 0 where rows share bytes: each begins with the bit behind the one before
  const float *lo, *step;  // of columns
  const uint16_t* ranges;  // lo and step of rows or blocks, bfloat16
  bool far;                // larger than a core's cache
};

// One core of a row that is a product: of each digit of the id `each` rows of the store, a matrix of the rank before and
// of `columns` times the rank behind.
struct CoreView {
  StoreView store;
  int64_t first, each, digits, columns, rank;
};

constexpr int kMostCores = 4;

struct CoresView {
  int64_t count;
  CoreView core[kMostCores];
  int64_t widest, largest;  // elements of a product on the way, and of a slice
  int64_t decoded;          // the core whose slices are the most work to decode, -1 where nothing is
};

enum class Into { set, add, multiply };

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
