// Included once for each instruction set, in a namespace of its own, between the pragmas that select it. The macros
// EMBPRESS_VECTOR_BYTES and EMBPRESS_REGISTERS say how wide and how many its vectors are. No header of the standard
// library is included here: what its templates make must stay code that every processor runs.
#include "vector.h"
#include "gemm.h"
#include "transpose.h"
#include "../tt/last.h"

template <class T>
constexpr Kernels<T> table = {EMBPRESS_VECTOR_BYTES / sizeof(T),
                              gemm<T>,
                              transpose<T>,
                              last_forward<T>,
                              last_backward<T>,
                              sum_rows<T>,
                              scale<T>,
                              add_scaled<T>,
                              dot<T>};
