// AVX-512, for processors that have it: chosen at run time in kernels.cpp.
#include "kernels.h"

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#define EMBPRESS_VECTOR_BYTES 64
#define EMBPRESS_REGISTERS 32
namespace embpress::avx512 {
#include "body.h"
extern const Kernels<float> floats;
extern const Kernels<double> doubles;
const Kernels<float> floats = table<float>;
const Kernels<double> doubles = table<double>;
extern const Copies moves;
const Copies moves = copies_table;
}  // namespace embpress::avx512
#pragma GCC pop_options
#endif
