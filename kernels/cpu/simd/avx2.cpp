// AVX2 with FMA, for processors that have them: chosen at run time in kernels.cpp.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define EMBPRESS_VECTOR_BYTES 32
#define EMBPRESS_REGISTERS 16
namespace embpress::avx2 {
#include "body.h"
extern const Kernels<float> floats;
extern const Kernels<double> doubles;
const Kernels<float> floats = table<float>;
const Kernels<double> doubles = table<double>;
extern const Copies moves;
const Copies moves = copies_table;
}  // namespace embpress::avx2
#pragma GCC pop_options
#endif
