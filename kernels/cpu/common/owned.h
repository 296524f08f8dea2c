// Rows of a matrix shared out among tasks, each of which goes through all lookups and writes its own rows alone: sums
// then have the order of the lookups, whatever the threads.
#pragma once

#include <cstring>

#include "../rows/shapes.h"
#include "parallel.h"

namespace embpress {

// How `tasks` share out `rows` rows of so many bytes: neighbours of a few cache lines have one owner.
inline Owned shared_out(int64_t rows, int64_t row_bytes, int64_t tasks) {
  constexpr int64_t least = 256;
  Owned owned{0, 0, Divisor(static_cast<uint32_t>(tasks))};
  while (((row_bytes << owned.shift) < least && owned.shift < 8) || rows >> owned.shift > UINT32_MAX) ++owned.shift;
  return owned;
}

// Sets memory to zero, on threads where it is large.
template <class T>
void zero(T* memory, int64_t size) {
  constexpr int64_t piece = 1 << 16;
  for_each_task((size + piece - 1) / piece, size > 4 * piece, [&](int64_t task) {
    std::memset(memory + task * piece, 0, std::min(piece, size - task * piece) * sizeof(T));
  });
}

}  // namespace embpress
