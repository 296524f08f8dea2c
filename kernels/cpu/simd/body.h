// Included once for each instruction set, in a namespace of its own, between the pragmas that select it. The macros
// EMBPRESS_VECTOR_BYTES and EMBPRESS_REGISTERS say how wide and how many its vectors are. No header of the standard
// library is included here: what its templates make must stay code that every processor runs.
#include "vector.h"
#include "gemm.h"
#include "transpose.h"
#include "../tt/last.h"
#include "../rows/hash.h"
#include "../rows/robe.h"
#include "../rows/parts.h"

EMBPRESS_INLINE float root_of(float x) { return __builtin_sqrtf(x); }
EMBPRESS_INLINE double root_of(double x) { return __builtin_sqrt(x); }
#include "../rows/update.h"
#include "../rows/decode.h"
#include "../rows/index.h"
#include "../rows/stores.h"
#include "../rows/cores.h"

template <class T>
constexpr Kernels<T> table = {EMBPRESS_VECTOR_BYTES / sizeof(T),
                              gemm<T>,
                              transpose<T>,
                              last_forward<T>,
                              last_backward<T>,
                              sum_rows<T>,
                              scale<T>,
                              add_scaled<T>,
                              dot<T>,
                              robe_backward<T>,
                              robe_pool<T>,
                              robe_dots<T>,
                              combine_parts<T>,
                              pool_parts<T>,
                              dot_parts<T>,
                              scatter_parts<T>,
                              gather_parts<T>,
                              update_row<T>};

constexpr Copies copies_table = {robe_forward<uint16_t>, robe_forward<uint32_t>, robe_forward<uint64_t>,
                                 decode_row,
                                 part_rows,
                                 digit_rows,
                                 hash_rows,
                                 take_rows,
                                 take_chunks,
                                 take_cores};
