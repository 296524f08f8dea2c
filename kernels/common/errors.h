// What ops find wrong with ids and offsets, as kernels/errors.py reads it out of the message: a mark and fields. The
// sentences are there, since a compiled op can raise no other exception than RuntimeError.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace embpress {

inline void refuse_id(int64_t id, int64_t table, int64_t rows) {
  STD_TORCH_CHECK(false, "embpress:id_out_of_range id=", id, " table=", table, " rows=", rows);
}

// Offsets run from 0 to `size` and do not decrease.
inline void check_offsets(int64_t first, int64_t last, int64_t size, bool decrease) {
  STD_TORCH_CHECK(first == 0, "embpress:offsets_start got=", first);
  STD_TORCH_CHECK(last == size, "embpress:offsets_end size=", size, " got=", last);
  STD_TORCH_CHECK(!decrease, "embpress:offsets_decrease");
}

}  // namespace embpress
