// What ops find wrong with ids, offsets and tables of ids, as kernels/errors.py reads it out of the message: a mark and
// fields. The sentences are there, since a compiled op can raise no other exception than RuntimeError.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace embpress {

inline void refuse_id(int64_t id, int64_t table, int64_t rows) {
  STD_TORCH_CHECK(false, "embpress: id out of range (id=", id, " table=", table, " rows=", rows, ")");
}

// Offsets run from 0 to `size` and do not decrease.
inline void check_offsets(int64_t first, int64_t last, int64_t size, bool decrease) {
  STD_TORCH_CHECK(first == 0, "embpress: offsets start wrong (got=", first, ")");
  STD_TORCH_CHECK(last == size, "embpress: offsets end wrong (size=", size, " got=", last, ")");
  STD_TORCH_CHECK(!decrease, "embpress: offsets decrease ()");
}

// The index of a cache is not one of its ids.
inline void refuse_cache(int64_t table) {
  STD_TORCH_CHECK(false, "embpress: corrupt cache (table=", table, ")");
}

// A table of counts has no free slot, or says so many are taken as it does not have.
inline void refuse_counts(int64_t used, int64_t slots) {
  STD_TORCH_CHECK(false, "embpress: corrupt counts (used=", used, " slots=", slots, ")");
}

}  // namespace embpress
